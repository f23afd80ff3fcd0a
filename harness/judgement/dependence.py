"""How many independent samples a run's samples are worth.

Requests that meet the same queue, or the same outage, share their fate: ten slow ones in a row tell about as much as one. A test
that took them for ten would be sure of what it cannot know. So samples count as `n = variance if independent / variance`, where
the variance of their mean is estimated from the samples themselves, in the order of their intended times: request by request
(gaps of one answer belong together) and, between requests, by the initial positive sequence of autocorrelations (Geyer 1992,
Practical Markov Chain Monte Carlo, 3.3). That n is the effective size of surveys (Korn and Graubard 1998). It is never more than
there are.
"""

from __future__ import annotations

import numpy as np

from harness.table import Floats

__all__ = ["autocorrelation_time", "effective_size", "variance_of_mean"]

_ROUNDING = 1e-15


def effective_size(hits: Floats, sizes: Floats) -> float:
    """Of samples of which some are hits: as many independent ones as tell as much about the share of hits.

    Each element is a request, in order of time: `hits` of its `sizes` samples are hits. All, none, or as many of each
    request: as many as requests.
    """
    num, share = float(sizes.sum()), float(hits.sum() / sizes.sum())
    if share in (0.0, 1.0):
        return float(len(sizes))
    variance = variance_of_mean(hits, sizes)
    independent = share * (1 - share)
    if variance <= _ROUNDING * independent:  # one request, or each with the same share: how they differ nobody has seen
        return float(len(sizes))
    return min(num, independent / variance)


def variance_of_mean(sums: Floats, sizes: Floats) -> float:
    """Of `sums.sum() / sizes.sum()`, by the residuals of the requests (Taylor's linearization of a ratio)."""
    residuals = sums - sizes * (sums.sum() / sizes.sum())
    return float((residuals**2).sum()) / float(sizes.sum()) ** 2 * autocorrelation_time(residuals)


def autocorrelation_time(values: Floats) -> float:
    """1 for independent values; else how many values in a row count as one. Values have mean 0."""
    num = len(values)
    if num < 4 or not values.any():
        return 1.0
    size = 1 << (2 * num - 1).bit_length()
    power = np.abs(np.fft.rfft(values, size)) ** 2
    correlations = np.fft.irfft(power, size)[: num - num % 2]
    pairs = (correlations[0::2] + correlations[1::2]) / correlations[0]
    ends = np.flatnonzero(pairs <= 0)
    return max(1.0, 2 * float(pairs[: ends[0] if len(ends) else len(pairs)].sum()) - 1)
