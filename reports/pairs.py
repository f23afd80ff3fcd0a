"""Counting the pairs of two labels, without a loop over rows."""

from __future__ import annotations

import numpy as np

from harness.table import Ints, Labels, Mask

__all__ = ["pair_counts"]


def pair_counts(first: Labels, second: Labels, rows: Mask | None = None) -> Ints:
    """How many of the rows have each name of `first` and each of `second`: a line for each name, and a last one for none."""
    num_first, num_second = len(first.names) + 1, len(second.names) + 1
    codes = (first.codes % num_first).astype(np.int64) * num_second + second.codes % num_second  # -1 is the last
    counts = np.bincount(codes if rows is None else codes[rows], minlength=num_first * num_second)
    return counts.reshape(num_first, num_second)
