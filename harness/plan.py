"""What is to be sent, and when. A plan is pure: the same arguments give the same arrivals, on every worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from harness.asks import Ask

__all__ = ["Arrival", "LoadPlan", "Shard", "cut_at"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of the plan.

    `at_s` counts from the start of the plan. `num_output_tokens` None lets the model stop by itself.
    `prefix_blocks` are ids of leading prompt blocks of `block_tokens` tokens: equal ids, equal text. `ask` says who asks
    what; its messages are then the prompt. None: nobody in particular, in words of their own.
    """

    index: int
    at_s: float
    num_prompt_tokens: int
    num_output_tokens: int | None = None
    phase: str | None = None
    class_name: str | None = None
    prefix_blocks: tuple[int, ...] = ()
    block_tokens: int = 0
    ask: Ask | None = None


class LoadPlan(Protocol):
    """A finite list of arrivals in order of time, and words for it."""

    @property
    def duration_s(self) -> float: ...
    @property
    def num_arrivals(self) -> int: ...
    def arrivals(self) -> Iterator[Arrival]: ...
    def describe(self) -> dict[str, object]: ...


@dataclass(frozen=True, slots=True)
class Shard:
    """The share of one worker among `of`: arrivals are dealt out in turn, so every share has the plan's shape."""

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise ValueError(f"shard {self.index} of {self.of} does not exist; shards count from 0")

    def take(self, arrivals: Iterator[Arrival]) -> Iterator[Arrival]:
        return islice(arrivals, self.index, None, self.of)


@dataclass(frozen=True)
class Materialized:
    """A plan whose arrivals are a list."""

    items: tuple[Arrival, ...]
    duration_s: float
    about: dict[str, object] = field(default_factory=dict)

    @property
    def num_arrivals(self) -> int:
        return len(self.items)

    def arrivals(self) -> Iterator[Arrival]:
        return iter(self.items)

    def describe(self) -> dict[str, object]:
        return self.about


def cut_at(plan: LoadPlan, duration_s: float) -> LoadPlan:
    """The part of a plan before `duration_s`; the plan itself when it is not longer."""
    if duration_s >= plan.duration_s:
        return plan
    kept = tuple(arrival for arrival in plan.arrivals() if arrival.at_s < duration_s)
    about = {**plan.describe(), "cut_at_s": duration_s, "planned_duration_s": plan.duration_s}
    return Materialized(kept, duration_s, about)
