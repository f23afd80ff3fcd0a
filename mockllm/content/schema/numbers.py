"""Numbers within all bounds, and multiples of all divisors, that are asked for at one place."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor, gcd, lcm
from typing import Any, Final

from mockllm.content.schema.draws import Draws
from mockllm.content.schema.errors import ATTEMPTS
from mockllm.content.schema.words import usual_numbers

__all__ = ["number_within"]

_BOUNDING: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def number_within(schemas: list[dict[str, Any]], draws: Draws, name: str, *, whole: bool) -> int | float | None:
    """A number within all bounds, a multiple of every `multipleOf`; None when none of some was one."""
    asked = tuple((keyword, schema[keyword]) for schema in schemas for keyword in _BOUNDING if keyword in schema)
    grid = _grid(asked, usual_numbers(name), whole)
    start = draws.index(grid.num, "number") if grid.num > 0 else 0
    for number in range(min(grid.num, 4 * ATTEMPTS)):
        exact = (grid.first + (start + number) % grid.num) * grid.step
        value = _as_json(exact, whole)
        if value is None or not grid.allowed.holds(exact):
            continue
        if all(_divides(value, part) for keyword, part in asked if keyword == "multipleOf"):
            return value
    return None


@dataclass(slots=True)
class _Range:
    """All bounds on a number together; None where there is none."""

    low: Fraction | None = None
    high: Fraction | None = None
    without_low: bool = False
    without_high: bool = False

    def narrow(self, keyword: str, bound: Fraction) -> None:
        left_out = keyword.startswith("exclusive")
        if keyword.endswith("inimum"):
            if self.low is None or (bound, left_out) > (self.low, self.without_low):
                self.low, self.without_low = bound, left_out
        elif self.high is None or (-bound, left_out) > (-self.high, self.without_high):
            self.high, self.without_high = bound, left_out

    def window(self, usual: tuple[int, int], step: Fraction) -> tuple[Fraction, Fraction]:
        """Where to draw: the usual numbers as far as they are allowed, at least some steps wide."""
        first, last = map(Fraction, usual)
        if self.low is not None and self.high is not None:
            low, high = max(self.low, first), min(self.high, last)
            return (low, high) if low + 2 * step <= high else (self.low, self.high)
        width = max(last - first, 20 * step)
        if self.low is not None:
            return max(self.low, first), max(last, max(self.low, first) + width)
        if self.high is not None:
            return min(first, min(self.high, last) - width), min(self.high, last)
        return first, max(last, first + width)

    def holds(self, value: Fraction) -> bool:
        above = self.low is None or value > self.low or (value == self.low and not self.without_low)
        return above and (self.high is None or value < self.high or (value == self.high and not self.without_high))


@dataclass(frozen=True, slots=True)
class _Grid:
    """The numbers to draw from: `num` multiples of `step` from the `first`; those outside `allowed` are passed over."""

    allowed: _Range
    step: Fraction
    first: int
    num: int


@lru_cache(1024)
def _grid(asked: tuple[tuple[str, float], ...], usual: tuple[int, int], whole: bool) -> _Grid:
    """The grid for the bounds and divisors that are asked for, as (keyword, number)."""
    allowed = _Range()
    for keyword, bound in asked:
        if keyword != "multipleOf":
            allowed.narrow(keyword, _exact(bound))
    steps = [_exact(divisor) for keyword, divisor in asked if keyword == "multipleOf"]
    steps += [Fraction(1)] if whole else []
    if steps:
        step = _common(steps)
    else:
        low, high = allowed.window(usual, Fraction(1, 100))
        step = next((Fraction(1, 10**k) for k in range(1, 16) if (high - low) * 10**k >= 20), (high - low) / 16)
        step = step or abs(low) or Fraction(1)
    low, high = allowed.window(usual, step)
    first = ceil(low / step)
    return _Grid(allowed, step, first, floor(high / step) - first + 1)


def _exact(number: float) -> Fraction:
    return Fraction(str(number))  # 0.1 is a tenth here, as its writer meant


def _common(steps: list[Fraction]) -> Fraction:
    """The least common multiple."""
    least = steps[0]
    for step in steps[1:]:
        least = Fraction(lcm(least.numerator, step.numerator), gcd(least.denominator, step.denominator))
    return least


def _as_json(exact: Fraction, whole: bool) -> int | float | None:
    """The number as JSON libraries can carry it: integers of 64 bits, or floats; None beyond."""
    if whole:
        return exact.numerator if -(2**63) <= exact < 2**64 else None
    try:
        return float(exact)
    except OverflowError:
        return None


def _divides(value: float, step: float) -> bool:
    """Whether validators that divide floats agree that it is a multiple."""
    try:
        return float(value / step).is_integer()
    except OverflowError:
        return value % step == 0
