"""A queue before a pool of workers: who goes on next, who has waited long enough, and who is turned away.

At most `workers` requests are beyond the queue at a time; each keeps its worker until it leaves. There are three classes,
from `Request.urgency`: P0 real time, P1 within seconds, P2 batch. Within a class it is first come, first served. Between
classes the one with the smallest

    arrival + class * ageing                                      class 0, 1, 2

goes first: the dynamic priorities of J. R. Jackson (1960). A class is worth `ageing` seconds of waiting: a request that
has waited so long stands beside the newcomers of the class above, so P2 cannot starve. Two requests never change their
order, so the next one is at the head of one of three lines: a constant effort, however many wait. Without `ageing` the class
alone counts (A. Cobham, 1954), and P2 may starve; with it P2 can hold up P0 once it waits for twice as long, unless its
`timeout` is shorter.

`length` bounds the whole queue, a class's own `length` that class. Who goes when one more comes (`shed`): `newest` turns
the newcomer away, `oldest` whoever waits longest, `lowest` the newest of the lowest class that waits, if that is below the
newcomer's. Nobody makes room in another class's own bound. Whoever is turned away, or has waited for `timeout`, is refused
with `retry-after`: how long the line takes at the recent pace.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from math import inf
from typing import Literal, NamedTuple

from mockllm.fields import Count, Duration, Strict, duration_text
from mockllm.passage import Urgency
from mockllm.stack.parts import Parts, StageSettings
from mockllm.stack.stage import HELD, Arrival, End, Flight, Leaving, Refusal, Release, Stage

__all__ = ["ClassSettings", "PriorityQueue", "PriorityQueueSettings"]

_CLASSES: tuple[Urgency, ...] = ("P0", "P1", "P2")
# Judgement: a person who waits for a first word, a page that loads, and the window of the providers' batches.
_TIMEOUTS_S: dict[Urgency, float] = {"P0": 5.0, "P1": 30.0, "P2": 86_400.0}
_EVENTS = ("arrived", "waited", "timed_out", "shed", "cancelled")
_RECENT = 100  # requests over which the pace of the workers is averaged


class ClassSettings(Strict):
    """One class. `timeout` None: 5 s for P0, 30 s for P1, a day for P2. `length` None: as many as the queue takes."""

    timeout: Duration | None = None
    length: Count | None = None


class PriorityQueueSettings(StageSettings):
    """`ageing` None: classes are strict. `status` is what whoever is turned away hears."""

    workers: Count
    length: Count = 1000
    shed: Literal["newest", "oldest", "lowest"] = "newest"
    ageing: Duration | None = None
    status: Literal[429, 503, 529] = 503
    P0: ClassSettings = ClassSettings()
    P1: ClassSettings = ClassSettings()
    P2: ClassSettings = ClassSettings()


class _Waiting(NamedTuple):
    """Somebody in a line; `number` counts arrivals, for those of one instant."""

    flight: Flight
    since: float
    number: int


class _Line:
    """One class: who waits in it, in the order of arrival."""

    def __init__(self, rank: int, settings: ClassSettings) -> None:
        self.urgency = _CLASSES[rank]
        self.rank = rank
        self.timeout_s = _TIMEOUTS_S[self.urgency] if settings.timeout is None else settings.timeout
        self.max_length = inf if settings.length is None else settings.length
        self.waiting: OrderedDict[str, _Waiting] = OrderedDict()  # by request id: a cancelled one is found at once

    @property
    def head(self) -> _Waiting | None:
        return next(iter(self.waiting.values()), None)

    @property
    def tail(self) -> _Waiting | None:
        return next(reversed(self.waiting.values()), None)

    @property
    def deadline(self) -> float:
        """When the first in line has waited long enough; the others came later."""
        head = self.head
        return inf if head is None else head.since + self.timeout_s


class PriorityQueue(Stage):
    """The stage. A worker is taken when a request goes on, and free again when it leaves, however it ended."""

    def __init__(self, settings: PriorityQueueSettings, parts: Parts) -> None:
        self.name = parts.name
        self._settings = settings
        self._lines = [_Line(rank, getattr(settings, urgency)) for rank, urgency in enumerate(_CLASSES)]
        self._where: dict[str, _Line] = {}
        self._busy_since: dict[str, float] = {}
        self._turned_away: list[Release] = []
        self._changed_at = inf  # when something happened that `advance` has to answer
        self._num_arrived = 0
        self._num_left = 0
        self._service_s = 0.0  # mean of the recent ones
        self._counts = {f"{urgency}_{event}": 0 for urgency in _CLASSES for event in _EVENTS}

    def arrive(self, flight: Flight, now: float) -> Arrival:
        line = self._lines[_CLASSES.index(flight.request.urgency)]
        self._note(line, "arrived")
        if self._goes_straight_on():
            self._busy_since[flight.asked.request_id] = now
            return None
        if not self._make_room(line, now):
            return self._shed(flight, line)
        self._num_arrived += 1
        line.waiting[flight.asked.request_id] = _Waiting(flight, now, self._num_arrived)
        self._where[flight.asked.request_id] = line
        return HELD

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        name = flight.asked.request_id
        since = self._busy_since.pop(name, None)
        if since is not None:
            self._num_left += 1
            self._service_s += (now - since - self._service_s) / min(self._num_left, _RECENT)
            self._changed_at = now
        elif name in self._where:
            self._note(self._where[name], "cancelled")
            self._remove(name)
        else:  # an outer stage took back whom `advance` was about to refuse
            self._turned_away = [release for release in self._turned_away if release[0] is not flight]
        return None

    def due(self) -> float:
        if self._turned_away or (self._num_free > 0 and self._where):
            return self._changed_at
        return min(line.deadline for line in self._lines) if self._where else inf

    def advance(self, now: float) -> list[Release]:
        """Whoever was turned away, then those that get a worker, then those that have waited long enough."""
        releases, self._turned_away = self._turned_away, []
        while self._num_free > 0 and (line := self._next_line()) is not None:
            releases.append((self._set_going(line, now), None))
        for line in self._lines:
            while line.deadline <= now:
                releases.append(self._time_out(line, now))
        return releases

    # -- who goes on ---------------------------------------------------------------------------------

    @property
    def _num_free(self) -> int:
        return self._settings.workers - len(self._busy_since)

    def _goes_straight_on(self) -> bool:
        """A worker is free for a newcomer: nobody who came before is about to take it."""
        return self._num_free > 0 and not self._where

    def _next_line(self) -> _Line | None:
        """The line whose head goes on next; None: nobody waits."""
        return min((line for line in self._lines if line.waiting), key=self._order, default=None)

    def _order(self, line: _Line) -> tuple[float, float, int]:
        """The smallest goes first; of equals the higher class, then the earlier arrival."""
        head = line.head
        assert head is not None
        ageing = self._settings.ageing
        if ageing is None:
            return line.rank, head.since, head.number
        return head.since + line.rank * ageing, line.rank, head.number

    def _set_going(self, line: _Line, now: float) -> Flight:
        head = line.head
        assert head is not None
        flight = head.flight
        self._remove(flight.asked.request_id)
        self._busy_since[flight.asked.request_id] = now
        self._note(line, "waited")
        flight.passage.notes.append(f"{self.name}: waited {now - head.since:.3f} s as {line.urgency}")
        return flight

    # -- who is turned away --------------------------------------------------------------------------

    def _make_room(self, line: _Line, now: float) -> bool:
        """Room for one more in this line, if need be at somebody's expense; False: it is the newcomer's."""
        if len(line.waiting) >= line.max_length:
            victim = line.head if self._settings.shed == "oldest" else None
        elif len(self._where) >= self._settings.length:
            victim = self._victim(line)
        else:
            return True
        if victim is None:
            return False
        name = victim.flight.asked.request_id
        self._turned_away.append((victim.flight, self._shed(victim.flight, self._where[name])))
        self._remove(name)
        self._changed_at = now
        return True

    def _victim(self, line: _Line) -> _Waiting | None:
        """Who goes when the whole queue is full and somebody comes to this line; None: the newcomer."""
        if self._settings.shed == "oldest":
            return min(self._heads(), key=lambda head: head.number)
        if self._settings.shed == "lowest":
            lowest = max((each for each in self._lines if each.waiting), key=lambda each: each.rank)
            return lowest.tail if lowest.rank > line.rank else None
        return None

    def _shed(self, flight: Flight, line: _Line) -> Refusal:
        self._note(line, "shed")
        flight.passage.notes.append(f"{self.name}: shed, {len(self._where)} wait")
        message = f"The queue is full: {len(self._where)} requests wait. Please try again later."
        return Refusal(self._settings.status, "queue_full", message, self._retry_after_s())

    def _time_out(self, line: _Line, now: float) -> Release:
        head = line.head
        assert head is not None
        retry_after_s = self._retry_after_s()
        self._remove(head.flight.asked.request_id)
        self._note(line, "timed_out")
        head.flight.passage.notes.append(f"{self.name}: timed out after {now - head.since:.3f} s as {line.urgency}")
        message = f"No worker was free for {duration_text(line.timeout_s)}. Please try again later."
        return head.flight, Refusal(self._settings.status, "queue_timeout", message, retry_after_s)

    def _retry_after_s(self) -> float:
        """How long those who wait will keep the workers busy at their recent pace; a second at least."""
        return max(1.0, self._service_s * len(self._where) / self._settings.workers)

    # -- books ---------------------------------------------------------------------------------------

    def _heads(self) -> Iterator[_Waiting]:
        return (line.head for line in self._lines if line.head is not None)

    def _remove(self, name: str) -> None:
        del self._where.pop(name).waiting[name]

    def _note(self, line: _Line, event: str) -> None:
        self._counts[f"{line.urgency}_{event}"] += 1

    def describe(self) -> str:
        settings = self._settings
        ageing = (
            "classes are strict"
            if settings.ageing is None
            else f"a class is worth {duration_text(settings.ageing)} of waiting"
        )
        waits = ", ".join(f"{line.urgency} {duration_text(line.timeout_s)}{_at_most(line)}" for line in self._lines)
        full = {"newest": "the newcomer goes", "oldest": "the oldest goes", "lowest": "the lowest class goes"}
        return (
            f"{settings.workers} workers; {ageing}; waits at most: {waits}; "
            f"{settings.length} may wait, then {full[settings.shed]} with status {settings.status}"
        )

    def state(self, now: float) -> dict[str, object]:
        return {
            "workers": self._settings.workers,
            "busy": len(self._busy_since),
            "waiting": {line.urgency: len(line.waiting) for line in self._lines},
            "longest_wait_s": {
                line.urgency: None if line.head is None else now - line.head.since for line in self._lines
            },
            "counts": dict(self._counts),
        }


def _at_most(line: _Line) -> str:
    return "" if line.max_length == inf else f" (at most {line.max_length:g})"
