"""Empirical distributions of a run's latencies, and which of their points are drawn. Seconds."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.table import Floats, Ints

__all__ = ["Curve", "ecdf"]


@dataclass(frozen=True)
class Curve:
    """An empirical distribution: `ranks[i]` of the `num` samples do not exceed `values_s[i]`. Ascending."""

    values_s: Floats
    ranks: Ints
    num: int

    @property
    def shares(self) -> Floats:
        return self.ranks / max(1, self.num)

    def at(self, percent: float) -> float:
        """The smallest sample that `percent` % of the samples do not exceed. There must be a sample."""
        rank = ceil(round(percent / 100 * self.num, 9))
        return float(self.values_s[np.searchsorted(self.ranks, rank)])

    def thinned(self, at_most: int = 1000) -> Curve:
        """At most `at_most` points. The upper tail keeps more than its share of them: it is read most."""
        last = len(self.values_s) - 1
        if last < at_most:
            return self
        evenly = np.linspace(0, last, at_most // 2)
        tail = last + 1 - np.geomspace(1, last + 1, at_most // 2)
        kept = np.unique(np.concatenate([evenly, tail]).round().astype(np.int64))
        return Curve(self.values_s[kept], self.ranks[kept], self.num)


def ecdf(values: Floats, weights: npt.NDArray[np.integer[Any]] | None = None) -> Curve:
    """The empirical distribution of the samples that are not missing; a weight repeats its sample."""
    there = ~np.isnan(values)
    if weights is None or (weights == 1).all():
        ordered = np.sort(values[there])
        return Curve(ordered, np.arange(1, len(ordered) + 1, dtype=np.int64), len(ordered))
    order = np.argsort(values[there])
    ranks = np.cumsum(weights[there][order], dtype=np.int64)
    return Curve(values[there][order], ranks, int(ranks[-1]) if len(ranks) else 0)
