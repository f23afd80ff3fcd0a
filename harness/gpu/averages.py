"""What readings at uneven instants add up to: means weighted by time, increases of counters, integrals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harness.table import Floats

__all__ = ["Amount", "increase", "integral"]


class Amount(NamedTuple):
    """An amount, and the seconds that it was measured over."""

    total: float
    covered_s: float


def integral(at: Floats, values: Floats, begin: float, end: float, longest_gap_s: float) -> Amount:
    """The area under straight lines between readings, from `begin` to `end`. Nothing is assumed where two readings lie
    further apart than `longest_gap_s`. `at` rises."""
    low, high, share_low, share_high = _clipped(at, begin, end)
    known = (high > low) & (np.diff(at) <= longest_gap_s)
    slope = np.diff(values)
    mean = values[:-1] + slope * (share_low + share_high) / 2
    return Amount(float((mean * (high - low))[known].sum()), float((high - low)[known].sum()))


def increase(at: Floats, counter: Floats, begin: float, end: float) -> Amount:
    """How far a counter went from `begin` to `end`; between two readings it is taken to have gone evenly, however long that was.

    A counter that falls began again at 0 (a driver was reloaded, a server restarted): what it shows then is what is known to have
    been added, as Prometheus' `increase` counts it.
    """
    low, high, share_low, share_high = _clipped(at, begin, end)
    inside = high > low
    steps = np.diff(counter)
    steps = np.where(steps < 0, counter[1:], steps)
    return Amount(float((steps * (share_high - share_low))[inside].sum()), float((high - low)[inside].sum()))


def _clipped(at: Floats, begin: float, end: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Of every stretch between two readings the part from `begin` to `end`: its two ends as instants, and as shares of it."""
    length = np.diff(at)
    low, high = np.clip(at[:-1], begin, end), np.clip(at[1:], begin, end)
    whole = np.where(length > 0, length, 1.0)  # two readings of one instant have nothing between them
    return low, high, (low - at[:-1]) / whole, (high - at[:-1]) / whole
