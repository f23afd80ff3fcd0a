"""A queue of future events with a total order, so that equal times never leave the order to chance."""

from __future__ import annotations

import heapq
from math import inf
from typing import Generic, TypeVar

__all__ = ["EventQueue"]

T = TypeVar("T")


class EventQueue(Generic[T]):
    """Events by time; those of the same instant in the order they were pushed."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._pushed = 0

    def push(self, at: float, event: T) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at, self._pushed, event))

    def due(self) -> float:
        """The time of the next event; inf when there is none."""
        return self._heap[0][0] if self._heap else inf

    def pop(self) -> tuple[float, T]:
        """Remove and return the next event with its time. Raises IndexError when empty."""
        at, _, event = heapq.heappop(self._heap)
        return at, event

    def head(self) -> T:
        """The next event, which stays. Raises IndexError when empty."""
        return self._heap[0][2]

    def put_off(self, at: float) -> None:
        """Give the next event another time: as if it were popped and pushed, in one go."""
        self._pushed += 1
        heapq.heapreplace(self._heap, (at, self._pushed, self._heap[0][2]))

    def shift(self, seconds: float, earliest: float) -> None:
        """Put every event off by so much, none before `earliest`; their order stays, but for ties made by rounding."""
        self._heap = [(max(earliest, at + seconds), pushed, event) for at, pushed, event in self._heap]
        heapq.heapify(self._heap)

    def discard(self, event: T) -> bool:
        """Remove the event equal to this one; False when it is not queued. Linear: for cancellations only."""
        for position, entry in enumerate(self._heap):
            if entry[2] is event:
                self._heap[position] = self._heap[-1]
                self._heap.pop()
                heapq.heapify(self._heap)
                return True
        return False

    def __len__(self) -> int:
        return len(self._heap)
