"""Exact percentiles with distribution-free intervals, and how many samples a percentile needs before it may be printed."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, exp, floor, lgamma, log, log1p, sqrt
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["PERCENTILES", "Distribution", "distribution", "interval_ranks", "nearest_rank", "samples_needed"]

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
_TAIL = 0.025  # on each side of a 95 % interval

Floats = npt.NDArray[np.float64]


class Distribution(msgspec.Struct, frozen=True):
    """One metric of a run, in seconds. `percentiles` maps "50" … "99.9" to values; null where the samples are too few.

    `intervals`: of each percentile that there is, the 95 % interval between two order statistics. It needs no assumption but
    that the samples are independent, which those of an overloaded server are not.
    """

    num: int
    mean: float | None
    minimum: float | None
    maximum: float | None
    percentiles: dict[str, float | None]
    intervals: dict[str, tuple[float, float]] = {}

    def at(self, percent: float) -> float | None:
        """The percentile; None when it was not computed or the samples do not support it."""
        return self.percentiles.get(f"{percent:g}")

    def interval(self, percent: float) -> tuple[float, float] | None:
        """The 95 % interval of a percentile; None where there is no percentile."""
        return self.intervals.get(f"{percent:g}")


def samples_needed(percent: float) -> int:
    """The samples from which a distribution-free 95 % interval for this percentile exists at all.

    With q the nearer tail's complement, q**n must be at most 2.5 % (two-sided): 6 for p50, 72 for p95, 368 for p99.
    """
    q = max(percent, 100 - percent) / 100
    return ceil(log(_TAIL) / log(q))


@lru_cache(maxsize=1024)
def interval_ranks(percent: float, num: int) -> tuple[int, int] | None:
    """Ranks (from 0) of the order statistics that hold the percentile with at least 95 % confidence; None: too few samples.

    The number of samples below the true quantile is binomial (num, percent / 100); each rank cuts off at most 2.5 % of it
    (Hahn and Meeker, Statistical Intervals, 5.2).
    """
    if num < samples_needed(percent):
        return None
    p = percent / 100
    reach = 10 * sqrt(num * p * (1 - p)) + 10  # what lies further out is nothing to 1e-20
    low, high = max(0, floor(num * p - reach)), min(num, ceil(num * p + reach))
    below = chance = _binomial(low, num, p)
    while below <= _TAIL:
        chance *= (num - low) / (low + 1) * p / (1 - p)
        low += 1
        below += chance
    above = chance = _binomial(high, num, p)
    while above <= _TAIL:
        chance *= high / (num - high + 1) * (1 - p) / p
        high -= 1
        above += chance
    return max(0, low - 1), min(high, num - 1)


def _binomial(k: int, num: int, p: float) -> float:
    choose = lgamma(num + 1) - lgamma(k + 1) - lgamma(num - k + 1)
    return exp(choose + k * log(p) + (num - k) * log1p(-p))


def distribution(
    values: Floats, weights: npt.NDArray[np.integer[Any]] | None = None, *, independent: bool = True
) -> Distribution:
    """Fold samples into a distribution; NaN marks a missing sample. Percentiles are observed values (nearest rank).

    `weights` repeats each sample, as a chunk of k tokens stands for k gaps. `independent`: one sample a request; samples of one
    request resemble each other, and an interval that took them for independent would be far too narrow, so it is left out.
    """
    if weights is not None and (weights != 1).any():
        values = np.repeat(values, weights)
    ordered = np.sort(values[~np.isnan(values)])
    num = len(ordered)
    if num == 0:
        return Distribution(0, None, None, None, {f"{percent:g}": None for percent in PERCENTILES})
    there = [percent for percent in PERCENTILES if num >= samples_needed(percent)]
    percentiles: dict[str, float | None] = dict.fromkeys(f"{percent:g}" for percent in PERCENTILES)
    percentiles |= {f"{percent:g}": float(ordered[nearest_rank(percent, num)]) for percent in there}
    intervals = {f"{percent:g}": _between(ordered, percent) for percent in there if independent}
    return Distribution(num, float(ordered.mean()), float(ordered[0]), float(ordered[-1]), percentiles, intervals)


def _between(ordered: Floats, percent: float) -> tuple[float, float]:
    ranks = interval_ranks(percent, len(ordered))
    assert ranks is not None
    return float(ordered[ranks[0]]), float(ordered[ranks[1]])


def nearest_rank(percent: float, num: int) -> int:
    """Nearest rank: the smallest observed value that at least `percent` % of the samples do not exceed."""
    return max(0, ceil(round(percent / 100 * num, 9)) - 1)
