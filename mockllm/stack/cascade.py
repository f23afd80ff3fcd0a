"""Cascade: the cheapest model answers first, and a dearer one again where the answer does not seem right. All calls are paid.

    - cascade:
        name: assistant
        models: [{model: small, skill: 0.5}, {model: large, skill: 1.1}]   # cheapest first
        threshold: 0.6
        auc: 0.8

An answer that may be thrown away is held back until it has ended: only the last model's is streamed. Whether an answer is
right is `difficulty.py`'s law of the model's `skill`. Its judge sees neither question nor truth but a score, normal with
standard deviation 1 and mean +d/2 for right answers and -d/2 for wrong ones (the binormal model of signal detection), with

    d = sqrt(2) * inverse normal(auc)            confidence = 1 / (1 + exp(-d * score))

so that `auc` is the chance that a right answer scores higher than a wrong one, and the confidence is the probability of being
right at even odds. Below `threshold` the next model is asked. Xiong et al. (2024, arXiv 2306.13063) found an AUC of .52 for
LLMs that are asked how sure they are, and of .61 for their token probabilities; the default of .8, for a trained scorer as
FrugalGPT's (Chen et al. 2023, arXiv 2305.05176), is by judgement.

An answer that did not come (429, 5xx, reset, broken off, prompt too long for this model) gives no confidence: the next model
is asked. What the client did wrong is told to it at once. An answer from a cache behind the cascade is taken.

`quality` is the share of right answers among those given; `alone` what each model would have got right of the same requests.
What it saved is counted against asking the last model at once. Where nobody may look into a request (`Query` None), the last
model is asked at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, sqrt
from statistics import NormalDist
from typing import Annotated, Self

from pydantic import Field, model_validator

from mockllm.fields import ModelName, Share, Spread, Strict
from mockllm.model import Cut, Finished, Refused
from mockllm.stack.addressing import RouterSettings
from mockllm.stack.difficulty import is_right
from mockllm.stack.parts import KeyPath, Parts
from mockllm.stack.prices import Price
from mockllm.stack.stage import Again, Arrival, End, Flight, Leaving, Stage

__all__ = ["Cascade", "CascadeSettings"]

_NORMAL = NormalDist()
_NO_ANSWER = (0, 408, 429)  # and everything from 500 on


class Rung(Strict):
    """One model of the cascade; `skill`: see `difficulty.py`."""

    model: ModelName
    skill: Spread


class CascadeSettings(RouterSettings):
    """At least two models, cheapest first."""

    models: Annotated[list[Rung], Field(min_length=2)]
    threshold: Share
    auc: Annotated[float, Field(ge=0.5, lt=1)] = 0.8

    @model_validator(mode="after")
    def _different_models(self) -> Self:
        names = [rung.model for rung in self.models]
        if len(set(names)) < len(names):
            raise ValueError(f"{names}: a model stands twice; each is asked once")
        return self

    def choices(self) -> Sequence[tuple[KeyPath, str]]:
        named = [(("models", index, "model"), rung.model) for index, rung in enumerate(self.models)]
        return [named[-1], *named[:-1]]  # the last model stands for the name: it may have to take any request


@dataclass(slots=True)
class _Climb:
    """A request on its way up: the rung it stands on, and what was true before it came."""

    rung: int
    held_back: bool
    paid_usd: float


class Cascade(Stage):
    """The ladder."""

    def __init__(self, settings: CascadeSettings, parts: Parts) -> None:
        self.name = parts.name
        self._settings, self._parts, self._rungs = settings, parts, settings.models
        self._separation = sqrt(2) * _NORMAL.inv_cdf(settings.auc)
        self._climbs: dict[str, _Climb] = {}
        self._answered: Counter[str] = Counter()
        self._alone: Counter[str] = Counter()
        self._counts = Counter(
            {
                "answers": 0,
                "right": 0,
                "escalations": 0,
                "accepted but wrong": 0,
                "escalated though right": 0,
                "no answer": 0,
            }
        )

    def arrive(self, flight: Flight, now: float) -> Arrival:
        if not self._settings.concerns(flight):
            return None
        if flight.request.query is None:
            if self._settings.name is not None:
                flight.request = replace(flight.request, model=self._rungs[-1].model)
            return None
        climb = _Climb(0, flight.hold_back, flight.passage.cost_usd or 0.0)
        self._climbs[flight.asked.request_id] = climb
        self._ask(flight, climb)
        return None

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        climb = self._climbs.get(flight.asked.request_id)
        if climb is None:
            return None
        if not flight.began and flight.passage.source == "model" and self._wants_another(flight, climb, end):
            climb.rung += 1
            self._ask(flight, climb)
            return Again(now)
        del self._climbs[flight.asked.request_id]
        flight.hold_back = climb.held_back
        if isinstance(end, Finished) and flight.passage.source == "model":
            self._take(flight, climb, end)
        return None

    def describe(self) -> str:
        settings = self._settings
        ladder = ", then ".join(f"{rung.model} (skill {rung.skill:g})" for rung in self._rungs)
        return (
            f"{settings.clients()} to {ladder}, while the confidence in the answer is below {settings.threshold:g} "
            f"(AUC {settings.auc:g})"
        )

    def state(self, now: float) -> dict[str, object]:
        num = self._counts["answers"]
        return {
            "shares": {model: answered / num for model, answered in self._answered.items()},
            "quality": self._counts["right"] / num if num else None,
            "alone": {rung.model: self._alone[rung.model] / num if num else None for rung in self._rungs},
            "counts": dict(self._counts),
        }

    def _ask(self, flight: Flight, climb: _Climb) -> None:
        last = climb.rung == len(self._rungs) - 1
        flight.request = replace(flight.request, model=self._rungs[climb.rung].model)
        flight.hold_back = climb.held_back or not last

    def _wants_another(self, flight: Flight, climb: _Climb, end: End) -> bool:
        """Whether the next model is to be asked."""
        rung = self._rungs[climb.rung]
        if end is None or climb.rung == len(self._rungs) - 1:
            return False
        if not isinstance(end, Finished):
            if not _came_to_nothing(end):
                return False
            flight.passage.notes.append(f"{self.name}: no answer from {rung.model}, escalated")
            self._counts["no answer"] += 1
            return True
        right = is_right(flight.request, rung.model, rung.skill, self._parts.streams)
        confidence = self._confidence(flight, rung, right)
        escalates = confidence < self._settings.threshold
        verdict = "escalated" if escalates else "accepted"
        flight.passage.notes.append(f"{self.name}: {rung.model} {verdict} at {confidence:.2f}")
        self._counts["escalations"] += escalates
        self._counts["escalated though right"] += escalates and right
        self._counts["accepted but wrong"] += not escalates and not right
        return escalates

    def _confidence(self, flight: Flight, rung: Rung, right: bool) -> float:
        draw = self._parts.streams.uniform(f"{self.name} confidence {rung.model}", flight.request.shared_key)
        score = _NORMAL.inv_cdf(draw) + (self._separation if right else -self._separation) / 2
        return 1 / (1 + exp(-self._separation * score))

    def _take(self, flight: Flight, climb: _Climb, end: Finished) -> None:
        """An answer goes out: note who gave it, how good it is and what it saved."""
        request, streams, last = flight.request, self._parts.streams, self._rungs[-1]
        right = [is_right(request, rung.model, rung.skill, streams) for rung in self._rungs]
        if climb.rung == len(self._rungs) - 1:
            flight.passage.notes.append(f"{self.name}: {last.model} taken")
        self._answered[self._rungs[climb.rung].model] += 1
        self._counts["answers"] += 1
        self._counts["right"] += right[climb.rung]
        self._alone.update(rung.model for rung, is_so in zip(self._rungs, right, strict=True) if is_so)
        num_prompt = flight.passage.num_prompt_tokens or request.num_prompt_tokens
        price = self._parts.prices.get(last.model, Price())
        at_once = price.of(num_prompt, end.num_output_tokens, end.cache, batch=request.batch)
        paid = (flight.passage.cost_usd or 0.0) - climb.paid_usd
        flight.credit(self.name, at_once - paid)


def _came_to_nothing(end: Refused | Cut) -> bool:
    """There is no answer, and another model may have one."""
    if isinstance(end, Cut):
        return True
    return end.status in _NO_ANSWER or end.status >= 500 or end.kind == "context_length_exceeded"
