"""A sample in three numbers, in each tool's way of saying percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.quantiles import nearest_rank, samples_needed
from harness.table import Floats

__all__ = ["Spread", "linear", "nearest", "weighted"]


class Spread(NamedTuple):
    """None where there are no samples, or too few for the percentile."""

    mean: float | None
    median: float | None
    p99: float | None


_NOTHING = Spread(None, None, None)


def linear(values: Floats) -> Spread:
    """numpy's default, `(n - 1) q` with interpolation: between two samples it may say a value that nobody saw. NaN is left out."""
    there = _there(values)
    if not len(there):
        return _NOTHING
    median, p99 = np.percentile(there, [50, 99])
    return Spread(float(there.mean()), float(median), float(p99))


def nearest(values: Floats) -> Spread:
    """Ours: observed values, and only where the samples support them (`harness.quantiles`)."""
    there = _there(values)
    num = len(there)
    if not num:
        return _NOTHING
    known = [percent for percent in (50, 99) if num >= samples_needed(percent)]
    found = dict(zip(known, _ranked(there, known), strict=True))
    return Spread(float(there.mean()), found.get(50), found.get(99))


def weighted(values: Floats, weights: Floats) -> Spread:
    """Every value as often as its weight says; percentiles are the first value that as much weight reaches."""
    there = ~np.isnan(values) & (weights > 0)
    values, weights = values[there], weights[there]
    if not len(values):
        return _NOTHING
    if (weights == weights[0]).all():  # ten times as fast
        return Spread(float(values.mean()), *_ranked(values, (50, 99)))
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    median, p99 = (float(values[order[np.searchsorted(reached, q * reached[-1])]]) for q in (0.5, 0.99))
    return Spread(float(np.average(values, weights=weights)), median, p99)


def _ranked(values: Floats, percents: Sequence[int]) -> list[float]:
    ranks = [nearest_rank(percent, len(values)) for percent in percents]
    return [float(value) for value in np.partition(values, ranks)[ranks]] if ranks else []


def _there(values: Floats) -> Floats:
    missing = np.isnan(values)
    return values[~missing] if missing.any() else values
