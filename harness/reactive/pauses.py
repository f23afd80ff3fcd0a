"""Pauses between the end of one request and the next of the same client: what reactive plans have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import exp, log, log1p
from statistics import NormalDist
from typing import Literal, Protocol

from harness.errors import UsageError
from harness.plan import Arrival
from harness.records import RequestRecord
from harness.units import parse_duration

__all__ = ["LEAST_AFTER_ERROR_S", "NO_PAUSE", "Lengths", "ThinkTime", "over_at", "parse_think_time", "pause_after"]

# After an error nobody asks again at once: a client without think time would hammer a server that refuses in a millisecond.
LEAST_AFTER_ERROR_S = 1.0

_STANDARD_NORMAL = NormalDist()
_SIGMA = re.compile(r"\d+(?:\.\d+)?")


class Lengths(Protocol):
    """A law of lengths in tokens, or of counts."""

    def at(self, uniform: float) -> int: ...  # the length that a share of `uniform`, between 0 and 1, does not exceed
    def describe(self) -> str: ...


@dataclass(frozen=True, slots=True)
class ThinkTime:
    """The law of a pause, by its mean: always the same, exponential, or lognormal with `sigma` of the logarithm."""

    law: Literal["constant", "exponential", "lognormal"]
    mean_s: float
    sigma: float = 0.0

    def at(self, uniform: float) -> float:
        """The pause that a share of `uniform`, between 0 and 1, does not exceed, in seconds."""
        if self.law == "constant" or self.mean_s == 0:
            return self.mean_s
        if self.law == "exponential":
            return -self.mean_s * log1p(-uniform)
        return exp(log(self.mean_s) - self.sigma**2 / 2 + self.sigma * _STANDARD_NORMAL.inv_cdf(uniform))

    def describe(self) -> str:
        spread = f", sigma {self.sigma:g}" if self.law == "lognormal" else ""
        return f"{self.law} with mean {self.mean_s:g} s{spread}" if self.mean_s else "none"


NO_PAUSE = ThinkTime("constant", 0.0)


def parse_think_time(text: str) -> ThinkTime:
    """`none`, `2s` (always), `exponential:5s`, or `lognormal:5s:0.8` (mean, sigma of the logarithm). Raises UsageError."""
    law, *numbers = (word.strip() for word in text.split(":"))
    if law == "none" and not numbers:
        return NO_PAUSE
    if law == "exponential" and len(numbers) == 1:
        return ThinkTime("exponential", parse_duration(numbers[0]))
    if law == "lognormal" and len(numbers) == 2 and _SIGMA.fullmatch(numbers[1]):
        return ThinkTime("lognormal", parse_duration(numbers[0]), float(numbers[1]))
    if not numbers and law[:1].isdigit():
        return ThinkTime("constant", parse_duration(law))
    raise UsageError(f"{text!r} is no think time; write none, 2s, exponential:5s or lognormal:5s:0.8")


def over_at(arrival: Arrival, record: RequestRecord) -> float:
    """The instant from which a plan may go on after a request. Records are rounded to microseconds, so one is added: a
    clock that is exact has not passed it. A request that was kept back was over when it was to be sent."""
    return arrival.at_s if record.done_at is None else max(arrival.at_s, record.done_at + 1e-6)


def pause_after(record: RequestRecord, think_s: float) -> float:
    """The pause after a request: the think time, after an error at least LEAST_AFTER_ERROR_S."""
    return think_s if record.outcome == "ok" else max(think_s, LEAST_AFTER_ERROR_S)
