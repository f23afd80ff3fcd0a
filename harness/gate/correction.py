"""Many measures, one verdict: how often may any of them fail by chance?

FAIL says that at least one measure got worse: a union of claims, so the more measures, the more chances to be wrong. The p
values are adjusted by Westfall and Young's step-down min-P procedure (Resampling-Based Multiple Testing, 1993, algorithm
2.8; in this form Ge, Dudoit and Speed, TEST 12, 2003, box 4): every relabelling of the runs is applied to all measures at
once, and a p value counts by how many relabellings have *any* as small. The chance of a FAIL without a change is at most
the level whatever the measures have to do with each other; where they move together, as the percentiles of one run do,
nothing is paid twice. Holm's method (1979) is the case that knows nothing of that, and its adjusted p values are never
smaller but for rounding.

PASS says that no measure got worse: an intersection of claims, each of which must be proven at the level by itself. The
chance that all are proven although one does not hold is at most that of the one, so nothing is corrected (Berger,
Technometrics 24, 1982: intersection-union test).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.gate.permutation import Design
from harness.table import Floats

__all__ = ["Adjusted", "adjusted"]

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Adjusted:
    """Adjusted p values by measure. `critical`: the largest unadjusted one that is still small enough for the most promising
    measure, between level / number of measures and the level itself; 0: none is."""

    p: tuple[float, ...]
    critical: float


def adjusted(design: Design, data: Floats, level: float) -> Adjusted:
    """One-sided p values, one a column of `data`: of "its shift is at most 0", against all columns together."""
    statistics = design.statistics @ data
    p = np.stack([_p_values(column) for column in statistics.T], axis=1)
    order = np.argsort(p[0], kind="stable")
    # From the least promising measure to the most: the smallest p value among those that are still in question.
    smallest = np.minimum.accumulate(p[:, order[::-1]], axis=1)[:, ::-1]
    found = (smallest <= p[0, order] + _ROUNDING).mean(axis=0)
    result = np.empty(len(order))
    result[order] = np.maximum.accumulate(found)
    return Adjusted(tuple(float(each) for each in result), _critical(smallest[:, 0], level))


def _critical(smallest: Floats, level: float) -> float:
    """The largest p value that no more than this share of the relabellings reach with any measure."""
    values, num = np.unique(smallest, return_counts=True)
    within = values[np.cumsum(num) <= level * len(smallest) + _ROUNDING]
    return float(within[-1]) if len(within) else 0.0


def _p_values(statistics: Floats) -> Floats:
    """What the p value would be, had this relabelling been the one that was seen."""
    ordered = np.sort(statistics)
    below = np.searchsorted(ordered, statistics - _ROUNDING, side="left")
    return np.asarray((len(ordered) - below) / len(ordered))
