"""An objective in one line: `ttft_p99 < 800 ms`, `goodput(ttft < 1 s, tpot < 60 ms) > 95 %`, `cost_per_1k < $4`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import isclose
from typing import Literal

from harness.errors import UsageError
from harness.judgement.measures import Unit
from harness.judgement.measuring import Measure, parse_measure
from harness.judgement.quantities import parse_quantity

__all__ = ["Limit", "contradiction", "parse_limit"]

Sign = Literal["<", "<=", ">", ">="]

_LIMIT = re.compile(r"((?:[^()<>=!]|\([^()]*\))*?)\s*(<=|>=|<|>)\s*([^<>=!]*)")
_MOST_CHARS = 300


@dataclass(frozen=True)
class Limit:
    """`measure sign bound`, as it stands in the file; the bound in seconds, as a share, in USD, a second, in joules."""

    text: str
    measure: Measure
    sign: Sign
    bound: float

    @property
    def is_upper(self) -> bool:
        return self.sign in ("<", "<=")

    @property
    def is_strict(self) -> bool:
        return self.sign in ("<", ">")

    def holds(self, value: float) -> bool:
        """Whether a value that is known exactly is within the limit."""
        if isclose(value, self.bound, rel_tol=1e-9):  # sums of floats
            return not self.is_strict
        return (value < self.bound) == self.is_upper


def parse_limit(text: str) -> Limit:
    """Raises UsageError, which says what to write instead."""
    text = " ".join(text.split())
    found = _LIMIT.fullmatch(text) if len(text) <= _MOST_CHARS and text.isprintable() else None
    if not found:
        rule = "write MEASURE < BOUND, as ttft_p99 < 800 ms, with <, <=, > or >="
        raise UsageError(f"{text[:_MOST_CHARS]!r} is no objective; {rule}")
    left, sign, right = found[1].strip(), found[2], found[3].strip()
    if not left or not right:
        raise UsageError(f"{text!r} has nothing on one side of {sign}; write MEASURE {sign} BOUND")
    if left[0] in "0123456789$":
        raise UsageError(f"{text!r} begins with its bound; write {right} {_TURNED[sign]} {left}")
    measure = parse_measure(left)
    try:
        bound = parse_quantity(right, measure.unit)
    except UsageError as error:
        raise UsageError(f"{text!r}: {error}") from None
    limit = Limit(text, measure, sign, bound)  # type: ignore[arg-type]
    if measure.unit in _RANGES:
        _check_range(limit, *_RANGES[measure.unit])
    return limit


_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_RANGES: dict[Unit, tuple[float, float | None]] = {"share": (0.0, 1.0), "usd": (0.0, None)}


def _check_range(limit: Limit, least: float, most: float | None) -> None:
    """What every value meets is no objective, and what none can meet is a mistake."""
    at_least, at_most = limit.bound <= least, most is not None and limit.bound >= most
    if (at_least and limit.sign == "<") or (at_most and limit.sign == ">"):
        raise UsageError(f"{limit.text!r} can never be met; write {limit.sign}=")
    if (at_least and limit.sign == ">=") or (at_most and limit.sign == "<="):
        raise UsageError(f"{limit.text!r} is always met; take it away")


def contradiction(limits: Iterable[Limit]) -> tuple[Limit, str] | None:
    """The first limit that says again, or denies, what one before it says of the same measure, and the rule that it breaks."""
    before: dict[tuple[str, bool], Limit] = {}
    for limit in limits:
        name = limit.measure.name
        if (other := before.get((name, limit.is_upper))) is not None:
            return limit, f"{limit.text!r} bounds {name} a second time, after {other.text!r}; write one of them"
        if (other := before.get((name, not limit.is_upper))) is not None:
            upper, lower = (limit, other) if limit.is_upper else (other, limit)
            if upper.bound < lower.bound or (upper.bound == lower.bound and (upper.is_strict or lower.is_strict)):
                return limit, f"{limit.text!r} contradicts {other.text!r}: nothing meets both"
        before[name, limit.is_upper] = limit
    return None
