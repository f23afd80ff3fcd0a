"""Exact percentiles, and how many samples a percentile needs before it may be printed."""

from __future__ import annotations

from math import ceil, log

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["PERCENTILES", "Distribution", "distribution", "samples_needed"]

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)

Floats = npt.NDArray[np.float64]


class Distribution(msgspec.Struct, frozen=True):
    """One metric of a run, in seconds. `percentiles` maps "50" … "99.9" to values; null where the samples are too few."""

    num: int
    mean: float | None
    minimum: float | None
    maximum: float | None
    percentiles: dict[str, float | None]

    def at(self, percent: float) -> float | None:
        """The percentile; None when it was not computed or the samples do not support it."""
        return self.percentiles.get(f"{percent:g}")


def samples_needed(percent: float) -> int:
    """The samples from which a distribution-free 95 % interval for this percentile exists at all.

    With q the nearer tail's complement, q**n must be at most 2.5 % (two-sided): 6 for p50, 72 for p95, 368 for p99.
    """
    q = max(percent, 100 - percent) / 100
    return ceil(log(0.025) / log(q))


def distribution(values: Floats, weights: npt.NDArray[np.int64] | None = None) -> Distribution:
    """Fold samples into a distribution; NaN marks a missing sample. Percentiles are observed values (nearest rank).

    `weights` repeats each sample, as a chunk of k tokens stands for k gaps.
    """
    if weights is not None:
        values = np.repeat(values, weights)
    ordered = np.sort(values[~np.isnan(values)])
    num = len(ordered)
    if num == 0:
        return Distribution(0, None, None, None, {f"{percent:g}": None for percent in PERCENTILES})
    percentiles = {
        f"{percent:g}": float(ordered[_rank(percent, num)]) if num >= samples_needed(percent) else None
        for percent in PERCENTILES
    }
    return Distribution(num, float(ordered.mean()), float(ordered[0]), float(ordered[-1]), percentiles)


def _rank(percent: float, num: int) -> int:
    """Nearest rank: the smallest observed value that at least `percent` % of the samples do not exceed."""
    return max(0, ceil(round(percent / 100 * num, 9)) - 1)
