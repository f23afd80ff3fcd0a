"""Gaps between arrivals: renewal processes of rate one, by law and coefficient of variation.

    poisson        Exp(1): whoever comes knows nothing of the others
    constant       1: a metronome; it starts half a gap in
    gamma:2.5      Gamma with CV 2.5, shape 1 / CV²
    weibull:1.8    Weibull with CV 1.8

A stationary process has been running before anybody looks: the first gap is what is left of one that is under way. A
point falls into a long gap more often than into a short one (length bias, density x·f(x)), and anywhere in it, so the
first gap is U times a length-biased one (Cox, Renewal Theory, 1962, ch. 5). Only so is E[N(t)] = t from the start on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import exp, inf, isfinite, lgamma, log1p, sqrt
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.errors import UsageError

__all__ = ["Floats", "GapLaw", "Gaps", "gap_law", "parse_gaps", "unit_arrivals"]

Floats: TypeAlias = npt.NDArray[np.float64]

_LEAST_CV, _MOST_CV = 0.05, 50.0


@dataclass(frozen=True, slots=True)
class GapLaw:
    """The law of gaps with mean 1. `cv` is standard deviation over mean: 1 for poisson, 0 for constant."""

    name: Literal["poisson", "constant", "gamma", "weibull"]
    cv: float = 1.0

    def __post_init__(self) -> None:
        """Raises UsageError for a CV that the law cannot have."""
        if self.name == "constant":
            object.__setattr__(self, "cv", 0.0)
        elif self.name == "poisson":
            object.__setattr__(self, "cv", 1.0)
        elif not (isfinite(self.cv) and _LEAST_CV <= self.cv <= _MOST_CV):
            raise UsageError(
                f"CV {self.cv:g} of {self.name} gaps is not between {_LEAST_CV:g} and {_MOST_CV:g}; "
                "for even spacing write constant"
            )

    def __str__(self) -> str:
        return f"{self.name}:{self.cv:g}" if self.name in ("gamma", "weibull") else self.name

    @property
    def shape(self) -> float:
        """The shape parameter: of Gamma 1 / CV², of Weibull by its CV; 1 for poisson, inf for constant."""
        if self.name == "constant":
            return inf
        return _weibull_shape(self.cv) if self.name == "weibull" else self.cv**-2

    def cdf(self, gaps: Floats) -> Floats:
        """The share of gaps that are not longer."""
        gaps = np.maximum(gaps, 0.0)
        if self.name == "constant":
            return (gaps >= 1.0).astype(np.float64)
        if self.name == "gamma" and self.cv != 1.0:
            return _gamma_cdf(self.shape, self.shape * gaps)
        shape = self.shape if self.name == "weibull" else 1.0
        return np.asarray(-np.expm1(-((gaps / _weibull_scale(shape)) ** shape)), dtype=np.float64)


Gaps: TypeAlias = GapLaw | str  # a law, or its name as parse_gaps reads it


def gap_law(gaps: Gaps) -> GapLaw:
    """The law of what may be given as a word. Raises UsageError."""
    return gaps if isinstance(gaps, GapLaw) else parse_gaps(gaps)


def parse_gaps(text: str) -> GapLaw:
    """`poisson`, `constant`, `gamma:2.5`, `weibull:1.8`. Raises UsageError."""
    name, colon, cv = (word.strip() for word in text.partition(":"))
    try:
        if name in ("poisson", "constant") and not colon:
            return GapLaw(name)  # type: ignore[arg-type]  # one of the two, by the line above
        if name in ("gamma", "weibull") and colon:
            return GapLaw(name, float(cv))  # type: ignore[arg-type]
    except ValueError:
        pass
    raise UsageError(
        f"{text!r} is no law of gaps; write poisson, constant, gamma:CV or weibull:CV, as gamma:2.5 for bursty clients"
    )


def unit_arrivals(law: GapLaw, generator: np.random.Generator) -> Iterator[float]:
    """Instants of the stationary renewal process of rate one, without end. It starts in equilibrium, see above."""
    at, gap = _first_gap(law, generator), _drawer(law, generator)
    while True:
        yield at
        at += gap()


def _drawer(law: GapLaw, generator: np.random.Generator) -> Callable[[], float]:
    if law.name == "constant":
        return lambda: 1.0
    shape = law.shape
    if law.name == "gamma":
        return lambda: float(generator.standard_gamma(shape)) / shape
    if law.name == "weibull":
        scale, power = _weibull_scale(shape), 1 / shape
        return lambda: float(scale * float(generator.standard_exponential()) ** power)
    return lambda: float(generator.exponential())


def _first_gap(law: GapLaw, generator: np.random.Generator) -> float:
    """What is left of a gap that is under way. A length-biased Gamma(k) is Gamma(k + 1); of a length-biased Weibull
    (X / scale)^k is Gamma(1 + 1/k)."""
    if law.name == "constant":
        return 0.5
    shape = law.shape
    if law.name == "gamma":
        return float(generator.random()) * float(generator.standard_gamma(shape + 1)) / shape
    if law.name == "weibull":
        biased = float(generator.standard_gamma(1 + 1 / shape)) ** (1 / shape)
        return float(float(generator.random()) * _weibull_scale(shape) * biased)
    return float(generator.exponential())  # without memory: what is left is like a whole one


# -- laws ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _weibull_shape(cv: float) -> float:
    """The shape k with Γ(1 + 2/k) / Γ(1 + 1/k)² = 1 + CV², by bisection: the left side falls in k."""
    wanted, low, high = log1p(cv * cv), 0.05, 60.0
    for _ in range(80):
        middle = sqrt(low * high)
        if lgamma(1 + 2 / middle) - 2 * lgamma(1 + 1 / middle) > wanted:
            low = middle
        else:
            high = middle
    return sqrt(low * high)


def _weibull_scale(shape: float) -> float:
    """The scale that makes the mean 1."""
    return exp(-lgamma(1 + 1 / shape))


def _gamma_cdf(shape: float, values: Floats) -> Floats:
    """The regularized lower incomplete gamma function P(shape, x): its power series below shape + 1, the continued
    fraction of its complement above (Abramowitz and Stegun 6.5.29, 6.5.31; Lentz's method)."""
    found = np.zeros_like(values)
    near, far = (values > 0) & (values < shape + 1), values >= shape + 1
    x = values[near]
    term = np.full_like(x, 1 / shape)
    total = term.copy()
    for n in range(1, 2000):
        term = term * x / (shape + n)
        total += term
        if not (term > total * 1e-16).any():
            break
    found[near] = total * np.exp(shape * np.log(x) - x - lgamma(shape))
    finite = far & np.isfinite(values)
    found[far] = 1.0
    found[finite] = 1 - _gamma_tail(shape, values[finite])
    return found


def _gamma_tail(shape: float, x: Floats) -> Floats:
    b = x + 1 - shape
    c = np.full_like(x, 1e300)
    d = 1 / b
    h = d.copy()
    for n in range(1, 2000):
        a = -n * (n - shape)
        b = b + 2
        d = 1 / _not_zero(a * d + b)
        c = _not_zero(b + a / c)
        h = h * d * c
        if not (np.abs(d * c - 1) > 1e-15).any():
            break
    return np.asarray(h * np.exp(shape * np.log(x) - x - lgamma(shape)), dtype=np.float64)


def _not_zero(values: Floats) -> Floats:
    return np.where(np.abs(values) < 1e-300, 1e-300, values)
