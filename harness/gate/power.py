"""What a gate could have seen: the smallest change that it finds nine times in ten, and how many runs an answer would take."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, comb, floor
from statistics import NormalDist

import numpy as np

from harness.gate.permutation import Design
from harness.streams import stream
from harness.table import Floats

__all__ = ["POWER", "detectable_shift", "runs_needed", "runs_to_say_anything"]

POWER = 0.9
_MOST_SAMPLES, _FEWEST_SAMPLES = 2000, 200
_NUM_LIMITS = 3_000_000
_MOST_RUNS = 1000


def detectable_shift(design: Design, sd: float, margin: float, level: float) -> float | None:
    """The smallest true shift that is proven to be more than `margin` with probability 0.9; None: no shift would be.

    `sd` is the standard deviation of the data's noise, which is taken as normal; the test is the real one. It finds a
    shift when its c-th smallest limit (`permutation`) passes the margin, c being how many relabellings the level lets do as
    well; in normal noise that limit lies below the shift by a multiple of `sd` that is found by drawing it some hundred times.
    """
    rank = floor(round(level * design.num, 9))
    return None if rank == 0 else margin - sd * float(_low_limits(design)[rank - 1])


@lru_cache(maxsize=8)
def _low_limits(design: Design) -> Floats:
    """By rank: what the limit of this rank does not fall below in nine of ten samples of unit normal noise around no shift."""
    weights = design.limits
    num_samples = min(_MOST_SAMPLES, max(_FEWEST_SAMPLES, _NUM_LIMITS // len(weights)))
    noise = stream(0, "noise of a gate's power").standard_normal((len(design.direction), num_samples))
    return np.asarray(np.quantile(np.sort(weights @ noise, axis=0), 1 - POWER, axis=1))


def runs_to_say_anything(level: float, *, paired: bool) -> int:
    """The fewest runs a side whose relabellings are so many that one in all of them is within the level."""
    num = 1
    while (2**num if paired else comb(2 * num, num)) * level < 1 - 1e-9:
        num += 1
    return num


def runs_needed(gap: float, sd: float, level: float, *, paired: bool) -> int | None:
    """About how many runs a side it takes to prove, with probability 0.9, a shift that is `gap` away from what is allowed.

    Of normal noise: ((z_level + z_0.9) * sd / gap)^2, twice that without pairs, and two more for not knowing sd. None: more
    than 1,000; the gap is too small to be proven.
    """
    least = runs_to_say_anything(level, paired=paired)
    if sd == 0:
        return least if gap else None
    normal = NormalDist()
    ratio = (normal.inv_cdf(1 - level) + normal.inv_cdf(POWER)) * sd / gap if gap else float("inf")
    num = ratio**2 * (1 if paired else 2) + 2
    return max(least, ceil(num)) if num <= _MOST_RUNS else None
