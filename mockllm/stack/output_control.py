"""Output control: answers kept short, because output tokens are what costs most money and nearly all of the time.

    - output_control:
        rules:
          - {max_tokens: 1000}                              # everybody
          - {urgency: P2, max_tokens: 400}
          - {feature: support, concise: 0.6}
          - {model: large, feature: tagging, structured: 0.3}

Every rule that fits a request applies: the smallest cap and the smallest share win, in whatever order they stand. `max_tokens`
caps what the client asked for; an answer that is cut there says `length`, and is counted: a cap saves tokens and spoils
answers. `concise` (asked to be brief) and `structured` (asked for a short form in place of prose) are the share of an answer's
words that remains. It holds for prose only (`Query.free_text`): JSON, tool calls and reasoning have the length that they have,
and so has an answer that must not end (`ignore_eos`). Being told to be concise took 49 % of the tokens off the answers of
GPT-3.5 and GPT-4 at nearly the same accuracy, but 28 % off GPT-3.5's accuracy in mathematics (Renze and Guven 2024, arXiv
2401.05618).

A rule for a model needs its place behind the stage that chooses one. The saving is the price of the tokens that would have come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from mockllm.fields import Count, ModelName, Strict
from mockllm.model import CacheUse, Finished, Request
from mockllm.passage import Urgency
from mockllm.stack.parts import KeyPath, Parts, StageSettings
from mockllm.stack.prices import Price
from mockllm.stack.stage import Arrival, End, Flight, Leaving, Stage

__all__ = ["OutputControl", "OutputControlSettings"]

Remains = Annotated[float, Field(gt=0, le=1)]


class Rule(Strict):
    """Whom it is for (all of what is said must fit) and what it does."""

    urgency: Urgency | None = None
    feature: str | None = None
    model: ModelName | None = None
    max_tokens: Count | None = None
    concise: Remains | None = None
    structured: Remains | None = None

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.max_tokens is None and self.concise is None and self.structured is None:
            raise ValueError("this rule does nothing; give it max_tokens, concise or structured")
        return self

    def fits(self, request: Request) -> bool:
        """Whether the rule is for this request."""
        return (
            self.urgency in (None, request.urgency)
            and self.feature in (None, request.tenant.feature)
            and self.model in (None, request.model)
        )

    def describe(self) -> str:
        """The rule in words."""
        whom = [
            f"{key} {value}" for key in ("urgency", "feature", "model") if (value := getattr(self, key)) is not None
        ]
        what = [f"at most {self.max_tokens:,} tokens"] if self.max_tokens is not None else []
        what += [f"{key} {value:g}" for key in ("concise", "structured") if (value := getattr(self, key)) is not None]
        return f"{' and '.join(whom) or 'everybody'}: {', '.join(what)}"


class OutputControlSettings(StageSettings):
    """The rules; their order does not matter."""

    rules: Annotated[list[Rule], Field(min_length=1)]

    def references(self) -> Iterator[tuple[KeyPath, str]]:
        for index, rule in enumerate(self.rules):
            if rule.model is not None:
                yield ("rules", index, "model"), rule.model


class OutputControl(Stage):
    """What it changes about a request on its way in, it changes back on its way out: another model may be asked next."""

    def __init__(self, settings: OutputControlSettings, parts: Parts) -> None:
        self.name = parts.name
        self._rules, self._parts = settings.rules, parts
        self._before: dict[str, Request] = {}  # as each request came that was changed, by id
        self._counts = Counter({"capped": 0, "cut by the cap": 0, "concise": 0, "structured": 0, "tokens spared": 0})

    def arrive(self, flight: Flight, now: float) -> Arrival:
        request = flight.request
        rules = [rule for rule in self._rules if rule.fits(request)]
        cap, share = self._cap(flight, request, rules), self._share(flight, request, rules)
        if (cap, share) != (request.max_tokens, request.answer_share):
            self._before[flight.asked.request_id] = request
            flight.request = replace(request, max_tokens=cap, answer_share=share)
        return None

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        before = self._before.pop(flight.asked.request_id, None)
        if before is None:
            return None
        cap = flight.request.max_tokens
        flight.request = replace(flight.request, max_tokens=before.max_tokens, answer_share=before.answer_share)
        if isinstance(end, Finished) and flight.passage.source == "model":
            if cap != before.max_tokens and end.reason == "length" and end.num_output_tokens == cap:
                self._counts["cut by the cap"] += 1
                flight.passage.notes.append(f"{self.name}: cut at {cap} tokens")
            self._spare(flight, before, end)
        return None

    def describe(self) -> str:
        return "; ".join(rule.describe() for rule in self._rules)

    def state(self, now: float) -> dict[str, object]:
        return {"counts": dict(self._counts)}

    def _cap(self, flight: Flight, request: Request, rules: list[Rule]) -> int | None:
        """The most tokens that may come."""
        caps = [rule.max_tokens for rule in rules if rule.max_tokens is not None]
        if not caps or (request.max_tokens is not None and request.max_tokens <= min(caps)):
            return request.max_tokens
        self._counts["capped"] += 1
        flight.passage.notes.append(f"{self.name}: at most {min(caps)} tokens")
        return min(caps)

    def _share(self, flight: Flight, request: Request, rules: list[Rule]) -> float:
        """The share of the answer's words that remains."""
        shares = [(rule.concise, "concise") for rule in rules if rule.concise is not None]
        shares += [(rule.structured, "structured") for rule in rules if rule.structured is not None]
        prose = request.query is not None and request.query.free_text and not request.ignore_eos
        if not prose or not shares:
            return request.answer_share
        share, how = min(shares)
        self._counts[how] += 1
        flight.passage.notes.append(f"{self.name}: {how} {share:g}")
        return min(share, request.answer_share)

    def _spare(self, flight: Flight, before: Request, end: Finished) -> None:
        """What did not come, had nobody asked: exact where the answer's length is known or drawn for the first call."""
        passage = flight.passage
        length = self._parts.engine.models[passage.model].length
        num_spared = max(0, length.plan(before, self._parts.streams).num_tokens - end.num_output_tokens)
        price = self._parts.prices.get(passage.model, Price())
        self._counts["tokens spared"] += num_spared
        flight.credit(self.name, price.of(0, num_spared, CacheUse(), batch=before.batch))
