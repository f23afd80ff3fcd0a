"""Whether a series goes on growing or falling, or jumps to another level, although its neighbours resemble each other.

Waiting times of a queue are strongly autocorrelated, and a test that took them for independent would find a trend in nearly every
run. So the tests see ten batch means: over batches much longer than the memory of the queue they are close to independent
(Law and Carson, Operations Research 27, 1979). A slow drift shows in their order (Mann, Econometrica 13, 1945; Kendall, Rank
Correlation Methods), a jump in the split with the largest t statistic (Worsley, JASA 74, 1979). tests/metrics/test_steady.py says
how often that is right for queues whose answer is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from harness.table import Floats

__all__ = ["NUM_BATCHES", "Trend", "trend"]

NUM_BATCHES = 10
# Of the 45 pairs of ten batches so many more must go one way than the other: by chance in 0.9 % of series without a trend
# (Kendall's exact table, both sides).
_LEAST_SCORE = 29
# The largest t over all splits with two batches or more on each side: by chance in 0.5 % of series of ten independent normal
# values (found by drawing a million of them).
_LEAST_T = 5.30
_LEAST_CHANGE = 0.05  # judgement: with many requests a change that nobody minds would be significant too


@dataclass(frozen=True, slots=True)
class Trend:
    """`score`: pairs of batches of which the later is larger, less those of which it is smaller. `change`: the mean of the second half
    against that of the first, less 1. `jump_t`: the largest t statistic of a split, `jump_at`: how many batches lie before it, `jump`:
    the mean after it against that before, less 1."""

    score: int
    change: float
    jump_t: float
    jump_at: int
    jump: float

    @property
    def drifts(self) -> bool:
        return abs(self.score) >= _LEAST_SCORE and abs(self.change) >= _LEAST_CHANGE

    @property
    def jumps(self) -> bool:
        return self.jump_t >= _LEAST_T and abs(self.jump) >= _LEAST_CHANGE


def trend(values: Floats) -> Trend:
    """Of positive values in order of time, at least one a batch; a rest that fills no batch is left out at the beginning."""
    means = values[len(values) % NUM_BATCHES :].reshape(NUM_BATCHES, -1).mean(axis=1)
    later, earlier = np.tril_indices(NUM_BATCHES, -1)
    score = int(np.sign(means[later] - means[earlier]).sum())
    at = max(range(2, NUM_BATCHES - 1), key=lambda split: _t(means, split))
    return Trend(score, _change(means, NUM_BATCHES // 2), _t(means, at), at, _change(means, at))


def _change(means: Floats, split: int) -> float:
    return float(means[split:].mean() / means[:split].mean() - 1)


def _t(means: Floats, split: int) -> float:
    """Student's t of the difference between two sides with a common variance, without its sign."""
    before, after = means[:split], means[split:]
    apart = abs(float(after.mean() - before.mean()))
    variance = (split * float(before.var()) + len(after) * float(after.var())) / (len(means) - 2)
    error = sqrt(variance * (1 / split + 1 / len(after)))
    if error == 0:
        return inf if apart else 0.0
    return apart / error
