"""Where the warm-up of a series ends: MSER-5.

A start that is unlike the rest (cold caches, an empty queue, replicas that are still loading) makes the mean of what is left less
sure than leaving it out does. MSER leaves out as many as make the standard error of the rest the least (White, Simulation 69(6),
1997), over means of five (White, Cobb and Spratt, Winter Simulation Conference 2000); it did best of the methods that
need no person in Hoad, Robinson and Davies, JORS 61, 2010.
"""

from __future__ import annotations

import numpy as np

from harness.table import Floats

__all__ = ["warmup_length"]

_BATCH = 5


def warmup_length(values: Floats) -> int | None:
    """How many values of the start to leave out: a multiple of five, at most half.

    None where the least error is at that half: the series had not settled by then, or has too few values to tell.
    """
    num = len(values) // _BATCH
    if num < 2:
        return None
    means = values[: num * _BATCH].reshape(num, _BATCH).mean(axis=1)
    means = means - means.mean()  # or the difference of two large sums of squares would hold no digits
    left = np.arange(num, 0, -1)
    sums, squares = np.cumsum(means[::-1])[::-1], np.cumsum((means**2)[::-1])[::-1]
    half = num // 2
    errors = ((squares - sums**2 / left) / left**2)[: half + 1]  # the square of each standard error
    least = int(np.argmin(errors))
    return None if least == half else least * _BATCH
