"""Whether a mean is below or above a bound: Student's statistic, corrected for the skewness that latencies and costs have."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np

from harness.judgement.binomial import beta_quantile
from harness.judgement.dependence import variance_of_mean
from harness.judgement.early_stopping import CONFIDENCE, MOST_NEEDED
from harness.table import Floats

__all__ = ["FEWEST", "mean_needed", "mean_statistic", "student_quantile"]

FEWEST = 100  # requests; with fewer the skewness is anybody's guess


def mean_statistic(sums: Floats, sizes: Floats, bound: float) -> float | None:
    """Standard deviations by which `sums.sum() / sizes.sum()` lies above the bound (below: negative); None: nobody can tell.

    Each element is a request, in order of time. Hall's monotone transformation (1992, On the Removal of Skewness by
    Transformation, J. R. Statist. Soc. B 54): to the right of a skewed mean lies more than Student's statistic thinks.
    """
    if len(sums) < FEWEST:
        return None
    mean = float(sums.sum() / sizes.sum())
    error = sqrt(variance_of_mean(sums, sizes))
    if error == 0:
        return None if mean == bound else np.copysign(np.inf, mean - bound)
    residuals = sums - sizes * mean
    skewness = float((residuals**3).mean() / (residuals**2).mean() ** 1.5)
    deviation = float(np.sqrt((residuals**2).mean()) / sizes.mean())
    num = (deviation / error) ** 2  # independent requests that would know the mean as well
    w = (mean - bound) / deviation
    return sqrt(num) * (w + skewness * w**2 / 3 + skewness**2 * w**3 / 27 + skewness / (6 * num))


def mean_needed(num: int, statistic: float, confidence: float = CONFIDENCE) -> int | None:
    """How many requests would decide, if the mean stays where it is; None: more than MOST_NEEDED."""
    decisive = NormalDist().inv_cdf(confidence)
    if abs(statistic) < decisive * sqrt(num / MOST_NEEDED):
        return None
    return ceil(num * (decisive / statistic) ** 2)


@lru_cache(maxsize=1024)
def student_quantile(chance: float, degrees: int) -> float:
    """What a value of Student's t with so many degrees of freedom exceeds with this chance, below one half."""
    x = beta_quantile(2 * chance, degrees / 2, 0.5)
    return sqrt(degrees * (1 - x) / x)
