"""Split: traffic shared out among models by chance: weights, A-B arms, a gradual rollout, and a shadow that nobody sees.

    - split: {name: assistant, weights: {large: 90, small: 10}}
    - split: {name: assistant, arms: {control: {model: large, weight: 1}, terse: {model: small, weight: 1}}}
    - split: {rollout: {old: large, new: large-2, steps: [[0s, 0.10], [10m, 0.25], [20m, 0.50], [30m, 1.0]]}}
    - split: {weights: {large: 1}, shadow: {model: candidate, share: 0.05}}

Each user has one draw u, uniform in 0 … 1 (`by: user`, sticky; without a user each request is one of its own, as with
`by: request`). It falls into the arms in the order of the file, each as wide as its weight. In a rollout u is compared with
the share of the step that the run's clock has reached, and shares only grow: who is on the new model stays there. Without
`name` a rollout takes the requests for the old model and leaves those for the new one alone.

`shadow` sends a copy of a share of the requests, drawn one by one, to another model. The client never hears of it, and its
price is on the stack's bill only. What the client demanded of the mock for its own answer does not hold for the copy, and a
request that is tried again is not copied again. As weighted clusters and request mirroring in Envoy.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from mockllm.fields import Duration, ModelName, Name, Positive, Share, Strict, duration_text
from mockllm.model import Finished, Request
from mockllm.stack.addressing import RouterSettings
from mockllm.stack.parts import KeyPath, Parts
from mockllm.stack.stage import Arrival, End, Flight, Leaving, Mirrored, Stage

__all__ = ["Split", "SplitSettings"]

Step = Annotated[tuple[Duration, Share], Field(strict=False)]  # YAML has lists, no tuples


class Arm(Strict):
    """One arm of an A-B test."""

    model: ModelName
    weight: Positive


class Rollout(Strict):
    """From `old` to `new`: at each step's time since the run's beginning, this share is on the new model."""

    old: ModelName
    new: ModelName
    steps: Annotated[list[Step], Field(min_length=1)]

    @field_validator("steps")
    @classmethod
    def _grows(cls, steps: list[Step]) -> list[Step]:
        for (at, share), (later, more) in pairwise(steps):
            if later <= at or more < share:
                raise ValueError(
                    f"{share:g} from {duration_text(at)} and then {more:g} from {later:g} s: times must rise and shares must not fall, "
                    "so that nobody who is on the new model leaves it"
                )
        return steps

    def share_at(self, run_s: float) -> float:
        """The share of the new model so long after the run's beginning."""
        reached = bisect_right(self.steps, run_s, key=lambda step: step[0])
        return self.steps[reached - 1][1] if reached else 0.0


class Shadow(Strict):
    """A copy of this share of the requests goes to `model`."""

    model: ModelName
    share: Share


class SplitSettings(RouterSettings):
    """Who answers is said once: `weights`, `arms` or `rollout`."""

    by: Literal["user", "request"] = "user"
    weights: dict[ModelName, Positive] = Field(default_factory=dict)
    arms: dict[Name, Arm] = Field(default_factory=dict)
    rollout: Rollout | None = None
    shadow: Shadow | None = None

    @model_validator(mode="after")
    def _says_once_who_answers(self) -> Self:
        given = [key for key in ("weights", "arms", "rollout") if getattr(self, key)]
        if len(given) != 1:
            found = " and ".join(given) if given else "none of them"
            raise ValueError(
                f"needs one of weights, arms and rollout, and has {found}; all to one model is `weights: {{MODEL: 1}}`"
            )
        return self

    def choices(self) -> Sequence[tuple[KeyPath, str]]:
        weighted = [(("weights", model), model) for model in self.weights]
        arms = [(("arms", arm, "model"), each.model) for arm, each in self.arms.items()]
        old = [(("rollout", "old"), self.rollout.old)] if self.rollout else []
        return [*weighted, *arms, *old]

    def references(self) -> Iterator[tuple[KeyPath, str]]:
        yield from self.choices()
        if self.rollout is not None:
            yield ("rollout", "new"), self.rollout.new
        if self.shadow is not None:
            yield ("shadow", "model"), self.shadow.model

    def weighted_arms(self) -> dict[str, Arm]:
        """The arms of `weights` or `arms`, by name; a weight's arm is called as its model."""
        return self.arms or {model: Arm(model=model, weight=weight) for model, weight in self.weights.items()}


class Split(Stage):
    """The splitter. `ended` and `failed` are by arm: of those answered in full, and of those refused or broken off."""

    def __init__(self, settings: SplitSettings, parts: Parts) -> None:
        self.name = parts.name
        self._settings, self._parts = settings, parts
        self._arms = settings.weighted_arms()
        self._models = {arm: each.model for arm, each in self._arms.items()}
        *self._bounds, self._total = accumulate((arm.weight for arm in self._arms.values()), initial=0.0)
        if settings.rollout is not None:
            self._models = {"old": settings.rollout.old, "new": settings.rollout.new}
        self._in: dict[str, str] = {}  # the arm of each request that is on its way, by id
        self._sent: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._num_copies = 0

    def arrive(self, flight: Flight, now: float) -> Arrival:
        if not self._settings.concerns(flight):
            return None
        arm = self._arm(flight.request, now)
        model = self._models[arm]
        flight.request = replace(flight.request, model=model)
        flight.passage.notes.append(f"{self.name}: {_called(arm, model)}")
        self._in[flight.asked.request_id] = arm
        self._sent[arm] += 1
        return self._shadow(flight)

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        arm = self._in.pop(flight.asked.request_id, None)
        if arm is not None and end is not None:
            (self._answered if isinstance(end, Finished) else self._failed)[arm] += 1
        return None

    def describe(self) -> str:
        settings = self._settings
        if settings.rollout is not None:
            old, new = self._models.values()
            steps = ", ".join(f"{share:.0%} from {duration_text(at)}" for at, share in settings.rollout.steps)
            ways = f"from {old} to {new}: {steps}"
        else:
            ways = ", ".join(
                f"{arm.weight / self._total:.1%} {_called(name, arm.model)}" for name, arm in self._arms.items()
            )
        shadow = settings.shadow
        copies = f"; a copy of {shadow.share:.1%} to {shadow.model}" if shadow is not None else ""
        return f"{settings.clients()}, by {settings.by}: {ways}{copies}"

    def state(self, now: float) -> dict[str, object]:
        num = self._sent.total()
        shown: dict[str, object] = {"shares": {arm: self._sent[arm] / num if num else None for arm in self._models}}
        if self._settings.rollout is not None:
            shown["rollout_share"] = self._settings.rollout.share_at(self._parts.timeline.at(now))
        counts = {f"sent to {arm}": self._sent[arm] for arm in self._models}
        counts |= {f"answered by {arm}": self._answered[arm] for arm in self._models}
        counts |= {f"failed at {arm}": self._failed[arm] for arm in self._models}
        return shown | {"counts": counts | {"copies": self._num_copies}}

    def _arm(self, request: Request, now: float) -> str:
        """One draw a user, or a request, whatever the order in which they come."""
        user = request.tenant.user if self._settings.by == "user" else None
        unit = f"request {request.shared_key}" if user is None else f"user {user}"
        draw = self._parts.streams.uniform(f"{self.name} arm", unit)
        rollout = self._settings.rollout
        if rollout is not None:
            return "new" if draw < rollout.share_at(self._parts.timeline.at(now)) else "old"
        return list(self._arms)[bisect_right(self._bounds, draw * self._total) - 1]

    def _shadow(self, flight: Flight) -> Mirrored | None:
        shadow, notes = self._settings.shadow, flight.passage.notes
        if shadow is None:
            return None
        if self._parts.streams.uniform(f"{self.name} shadow", flight.request.shared_key) >= shadow.share:
            return None
        note = f"{self.name}: copy to {shadow.model}"
        if note in notes:
            return None
        notes.append(note)
        self._num_copies += 1
        return Mirrored((replace(flight.request, model=shadow.model, forced=None),))


def _called(arm: str, model: str) -> str:
    return arm if arm == model else f"{arm} ({model})"
