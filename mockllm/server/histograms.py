"""A histogram as Prometheus counts: as many numbers as it has bounds, whatever it has seen."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client.utils import floatToGoString

__all__ = ["Histogram", "one_two_five"]


class Histogram:
    """Observations counted under upper bounds (inclusive), and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._edges = np.array(bounds, dtype=np.float64)
        self._counts = np.zeros(len(bounds) + 1, dtype=np.int64)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def observe_all(self, values: NDArray[np.float64]) -> None:
        """All of them at once: an answer has thousands of gaps, and they are counted when it ends."""
        if len(values):
            places = np.searchsorted(self._edges, values, side="left")
            self._counts += np.bincount(places, minlength=len(self._counts))
            self.sum += float(values.sum())

    def cumulative(self) -> list[tuple[str, int]]:
        """The value of label `le`, and how many observations are not above it."""
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        return list(zip(bounds, np.cumsum(self._counts).tolist(), strict=True))


def one_two_five(largest: int) -> list[int]:
    """1, 2, 5, 10, 20, 50 … up to `largest`: vLLM's bounds for numbers of tokens."""
    bounds: list[int] = []
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power > largest:
                return bounds
            bounds.append(factor * power)
        power *= 10
