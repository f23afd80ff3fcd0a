"""The nearest of many questions by the cosine of their vectors: exact search, least recently used goes first.

Each context has a matrix of its own, with unit vectors as rows, so a search reads what it may find and nothing else. The
matrix doubles when it is full and halves when a quarter of it is used: the memory is within 4 times that of the entries.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from math import inf

import numpy as np
from numpy.typing import NDArray

from mockllm.content.embeddings import Vectors
from mockllm.stack.answers import Kept

__all__ = ["Neighbour", "Neighbours"]

Vector = NDArray[np.float32]

_FEWEST_ROWS = 4


class Neighbour:
    """A question that was answered: where its vector stands, and the answer."""

    __slots__ = ("kept", "name", "row", "shelf")

    def __init__(self, name: Hashable, shelf: _Shelf, row: int, kept: Kept) -> None:
        self.name, self.shelf, self.row, self.kept = name, shelf, row, kept


class _Shelf:
    """The questions of one context; `vectors[n]` and `kept_at[n]` are of `entries[n]`."""

    def __init__(self, context: Hashable, size: int) -> None:
        self.context = context
        self.entries: list[Neighbour] = []
        self.vectors: Vectors = np.empty((_FEWEST_ROWS, size), dtype=np.float32)
        self.kept_at = np.empty(_FEWEST_ROWS)

    def add(self, name: Hashable, vector: Vector, kept: Kept) -> Neighbour:
        row = len(self.entries)
        if row == len(self.vectors):
            self._resize(2 * row)
        entry = Neighbour(name, self, row, kept)
        self.entries.append(entry)
        self.vectors[row], self.kept_at[row] = vector, kept.at
        return entry

    def remove(self, entry: Neighbour) -> None:
        """The last row takes the place of the one that goes."""
        last = self.entries.pop()
        if last is not entry:
            self.entries[entry.row] = last
            self.vectors[entry.row], self.kept_at[entry.row] = self.vectors[last.row], self.kept_at[last.row]
            last.row = entry.row
        if _FEWEST_ROWS <= len(self.entries) <= len(self.vectors) // 4:
            self._resize(len(self.vectors) // 2)

    def nearest(self, vector: Vector, now: float, ttl_s: float) -> tuple[Neighbour, float] | None:
        num = len(self.entries)
        cosines = self.vectors[:num] @ vector
        if ttl_s < inf:
            cosines[now - self.kept_at[:num] >= ttl_s] = -inf
        best = int(cosines.argmax())
        cosine = float(cosines[best])
        return None if cosine == -inf else (self.entries[best], cosine)

    def _resize(self, num: int) -> None:
        used = len(self.entries)
        vectors, kept_at = np.empty((num, self.vectors.shape[1]), dtype=np.float32), np.empty(num)
        vectors[:used], kept_at[:used] = self.vectors[:used], self.kept_at[:used]
        self.vectors, self.kept_at = vectors, kept_at


class Neighbours:
    """At most `capacity` answered questions."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.num_stored = self.num_evicted = 0
        self._entries: OrderedDict[Hashable, Neighbour] = OrderedDict()  # by name, the longest unused first
        self._shelves: dict[Hashable, _Shelf] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def num_bytes(self) -> int:
        """Of the vectors."""
        return sum(shelf.vectors.nbytes for shelf in self._shelves.values())

    def nearest(
        self, context: Hashable, vector: Vector, now: float = 0.0, ttl_s: float = inf
    ) -> tuple[Neighbour, float] | None:
        """The nearest question of this context that was answered less than `ttl_s` ago, with its cosine."""
        shelf = self._shelves.get(context)
        return None if shelf is None else shelf.nearest(vector, now, ttl_s)

    def use(self, entry: Neighbour) -> Kept:
        """Its answer."""
        self._entries.move_to_end(entry.name)
        return entry.kept

    def put(self, name: Hashable, context: Hashable, vector: Vector, kept: Kept) -> None:
        """Keep an answer, in the place of the one whose question has this name."""
        self.num_stored += 1
        if (old := self._entries.pop(name, None)) is not None:
            self._remove(old)
        elif len(self._entries) == self.capacity:
            self._remove(self._entries.popitem(last=False)[1])
            self.num_evicted += 1
        shelf = self._shelves.get(context)
        if shelf is None:
            shelf = self._shelves[context] = _Shelf(context, len(vector))
        self._entries[name] = shelf.add(name, vector, kept)

    def _remove(self, entry: Neighbour) -> None:
        entry.shelf.remove(entry)
        if not entry.shelf.entries:
            del self._shelves[entry.shelf.context]
