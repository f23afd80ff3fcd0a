"""What is to be sent, and when. A plan is pure: the same arguments give the same arrivals, on every worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol, runtime_checkable

from harness.asks import Ask
from harness.objectives import Objective, objectives_of
from harness.records import RequestRecord

__all__ = ["Arrival", "Conduct", "Heard", "LoadPlan", "ReactivePlan", "Shard", "cut_at", "withdrawn_by"]


@dataclass(frozen=True, slots=True)
class Conduct:
    """A client that does not just read its answer to the end. It leaves `leave_after_s` after sending, or once it has read
    `leave_after_tokens` chunks with content; it reads no more than `read_bytes_per_s`. None: it does not."""

    leave_after_s: float | None = None
    leave_after_tokens: int | None = None
    read_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of the plan.

    `at_s` counts from the start of the plan. `num_output_tokens` None lets the model stop by itself.
    `prefix_blocks` are ids of leading prompt blocks of `block_tokens` tokens: equal ids, equal text. `ask` says who asks
    what; its messages are then the prompt. None: nobody in particular, in words of their own. `turn` counts what was
    planned only when an earlier request of the same index had ended (a reactive plan): with the index it is the
    request's name.
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
    turn: int = 0
    conduct: Conduct | None = None

    @property
    def key(self) -> str:
        """The request's name within the plan, the same in every run of it."""
        return f"{self.index}.{self.turn}" if self.turn else str(self.index)


@dataclass(frozen=True, slots=True)
class Heard:
    """What an answer said, where somebody listened: its text, and its headers in lower case. In virtual time there is no
    text, and no header but the `retry-after` of a refusal."""

    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class LoadPlan(Protocol):
    """A finite list of arrivals in order of time, and words for it."""

    @property
    def duration_s(self) -> float: ...
    @property
    def num_arrivals(self) -> int: ...
    def arrivals(self) -> Iterator[Arrival]: ...
    def describe(self) -> dict[str, object]: ...


@runtime_checkable
class ReactivePlan(LoadPlan, Protocol):
    """A plan that goes on from answers: closed loops, conversations, searches.

    `arrivals` are those that are known beforehand; `num_arrivals` counts them. When a request has ended, was refused or
    throttled, both drivers ask `after` once for what follows from it, in any order of time and not before its end. The
    run is over when nothing is left and everything has ended, at the latest when the time to drain after `duration_s`
    is over. What a worker is asked is only about requests of its own share.
    """

    def after(self, arrival: Arrival, record: RequestRecord, heard: Heard) -> Iterable[Arrival]: ...


@runtime_checkable
class Withdrawing(ReactivePlan, Protocol):
    """A plan that may take back what it planned in `after` and what was not sent yet: a search that has seen enough."""

    def withdrawn(self, arrival: Arrival) -> bool: ...


def withdrawn_by(plan: LoadPlan) -> Callable[[Arrival], bool]:
    """What a `Timetable` asks before it lets an arrival go."""
    return plan.withdrawn if isinstance(plan, Withdrawing) else lambda _: False


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
    objectives: Mapping[str, Objective] = field(default_factory=dict)

    @property
    def models(self) -> frozenset[str]:
        """The models that the plan names."""
        return frozenset(each.ask.model for each in self.items if each.ask is not None and each.ask.model is not None)

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
    return Materialized(kept, duration_s, about, objectives_of(plan, ""))
