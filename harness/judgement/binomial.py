"""Exact intervals and tests for shares: the binomial distribution's, by the regularized incomplete beta function."""

from __future__ import annotations

from functools import lru_cache
from math import exp, lgamma, log, log1p

__all__ = ["beta_quantile", "incomplete_beta", "share_interval"]

_TINY = 1e-300
_PRECISION = 1e-14
_MOST_TERMS = 10_000


def incomplete_beta(x: float, a: float, b: float) -> float:
    """I(x; a, b), the regularized incomplete beta function: P(B >= a) of B binomial (a + b - 1, x) for whole a and b.

    Lentz's continued fraction (Press et al., Numerical Recipes, 6.4).
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):  # where the fraction converges slowly, the other tail's converges fast
        return 1 - incomplete_beta(1 - x, b, a)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            fraction *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return min(1.0, front * fraction)


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def beta_quantile(share: float, a: float, b: float) -> float:
    """The x with I(x; a, b) = share, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if incomplete_beta(middle, a, b) < share else (low, middle)
    return (low + high) / 2


@lru_cache(maxsize=4096)
def share_interval(num_over: int, num: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's exact interval of a share, of which `num_over` of `num` were seen."""
    tail = (1 - confidence) / 2
    low = 0.0 if num_over == 0 else beta_quantile(tail, num_over, num - num_over + 1)
    high = 1.0 if num_over == num else beta_quantile(1 - tail, num_over + 1, num - num_over)
    return low, high
