"""What is to be sent next: a plan's arrivals, merged with those that were planned since."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from math import inf

from harness.plan import Arrival

__all__ = ["Timetable"]


class Timetable:
    """`planned` is read one arrival ahead, so that a long plan is never in memory as a whole. What was planned since and
    is `withdrawn` by now is never taken."""

    def __init__(self, planned: Iterator[Arrival], withdrawn: Callable[[Arrival], bool] = lambda _: False) -> None:
        self._planned, self._withdrawn = planned, withdrawn
        self._head = next(planned, None)
        self._added: list[tuple[float, int, int, Arrival]] = []

    def next_at(self) -> float:
        """The instant of the next arrival; inf when there is none so far."""
        while self._added and self._withdrawn(self._added[0][-1]):
            heappop(self._added)
        planned = inf if self._head is None else self._head.at_s
        return min(planned, self._added[0][0] if self._added else inf)

    def take(self) -> Arrival:
        """The arrival at `next_at`; of several at one instant those of the plan first. Raises IndexError when there is none."""
        if self._head is not None and (not self._added or self._head.at_s <= self._added[0][0]):
            arrival, self._head = self._head, next(self._planned, None)
            return arrival
        return heappop(self._added)[-1]

    def add(self, arrivals: Iterable[Arrival]) -> None:
        """Arrivals that were planned since, in any order."""
        for arrival in arrivals:
            heappush(self._added, (arrival.at_s, arrival.index, arrival.turn, arrival))
