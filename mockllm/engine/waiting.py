"""The order in which waiting requests are admitted, and which running one gives way when memory is short."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from typing import Protocol, TypeVar

__all__ = ["ByPriority", "FirstComeFirstServed", "Queued", "WaitingLine"]


class Queued(Protocol):
    """What a line must know of a request: the smallest rank goes first."""

    @property
    def rank(self) -> tuple[int, int]: ...  # (priority, order of arrival)


Item = TypeVar("Item", bound=Queued)


class WaitingLine(Protocol[Item]):
    """A queue with a head that can be looked at."""

    def __len__(self) -> int: ...
    def head(self) -> Item: ...
    def pop(self) -> Item: ...
    def join(self, item: Item) -> None: ...
    def return_preempted(self, item: Item) -> None: ...
    def leave(self, item: Item) -> bool: ...
    def victim(self, running: Iterable[Item]) -> Item: ...


class FirstComeFirstServed(WaitingLine[Item]):
    """vLLM's default: the last admitted gives way, and comes back to the front."""

    def __init__(self) -> None:
        self._line: deque[Item] = deque()

    def __len__(self) -> int:
        return len(self._line)

    def head(self) -> Item:
        return self._line[0]

    def pop(self) -> Item:
        return self._line.popleft()

    def join(self, item: Item) -> None:
        self._line.append(item)

    def return_preempted(self, item: Item) -> None:
        self._line.appendleft(item)

    def leave(self, item: Item) -> bool:
        """Take a request out of the line; False when it is not in it."""
        if item not in self._line:
            return False
        self._line.remove(item)
        return True

    def victim(self, running: Iterable[Item]) -> Item:
        *_, last = running
        return last


class ByPriority(WaitingLine[Item]):
    """vLLM's `priority` policy: the smallest priority first, then by arrival; the largest gives way."""

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[int, int], Item]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def head(self) -> Item:
        return self._heap[0][1]

    def pop(self) -> Item:
        return heapq.heappop(self._heap)[1]

    def join(self, item: Item) -> None:
        heapq.heappush(self._heap, (item.rank, item))

    def return_preempted(self, item: Item) -> None:
        self.join(item)

    def leave(self, item: Item) -> bool:
        """Take a request out of the line; False when it is not in it."""
        kept = [entry for entry in self._heap if entry[1] is not item]
        found = len(kept) < len(self._heap)
        heapq.heapify(kept)
        self._heap = kept
        return found

    def victim(self, running: Iterable[Item]) -> Item:
        return max(running, key=lambda item: item.rank)
