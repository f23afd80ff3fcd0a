"""What a gate looks at, and how much worse it may get."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.errors import UsageError
from harness.judgement.measuring import parse_measure

__all__ = ["DEFAULT_MEASURES", "LEVEL", "Rule"]

LEVEL = 0.05  # of every test: one FAIL in twenty without a change, and one PASS in twenty in spite of one

DEFAULT_MEASURES = (
    "ttft_p50(ok)", "ttft_p99(ok)", "tpot_p50(ok)", "e2e_p50(ok)", "e2e_p99(ok)", "output_rate", "error_rate", "goodput",
    "cost_per_request",
)  # fmt: skip

# A tail is many times noisier than a median of the same run, and what varies by a tenth by itself cannot be held to a
# twentieth: the gate would never answer.
_ALLOWED = 0.05
_ALLOWED_OF_TAILS = 0.10
_ALLOWED_OF_SHARES = 0.01
_TAIL = re.compile(r".*_(p9\d(\.\d+)?|max)(\(ok\))?")


@dataclass(frozen=True)
class Rule:
    """`measures`: None are DEFAULT_MEASURES, of which those that no run has are left out; what is asked for by name never is.

    `allowed` by measure: how much worse it may get, as a share of its value, for measures that are shares as a difference.
    Of `ttft_p99` it holds for `ttft_p99(ok)` too. `default` is for all that are no shares. Without any: 5 %, 10 % for p90 and
    beyond, one percentage point for shares.
    """

    measures: tuple[str, ...] | None = None
    allowed: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, measures: Sequence[str] | None, allowed: Mapping[str, float] | None) -> Rule:
        """Raises UsageError for what is no measure, stands twice, or is allowed to get worse without being looked at."""
        names = tuple(parse_measure(name).name for name in measures or ())
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"gate: {', '.join(twice)} stands twice among the measures")
        given = {re.sub(r"\s+", "", name): share for name, share in (allowed or {}).items()}
        looked_at = {each for name in names or DEFAULT_MEASURES for each in (name, name.removesuffix("(ok)"))}
        if idle := sorted(given.keys() - looked_at - {"default"}):
            raise UsageError(
                f"gate: allowed names {', '.join(idle)}, which is not looked at; measures are {', '.join(names or DEFAULT_MEASURES)}"
            )
        return cls(names or None, given)

    @property
    def names(self) -> tuple[str, ...]:
        return self.measures or DEFAULT_MEASURES

    def allowed_of(self, name: str) -> float:
        """How much worse the measure of this name may get."""
        for key in (name, name.removesuffix("(ok)")):
            if key in self.allowed:
                return self.allowed[key]
        if parse_measure(name).unit == "share":
            return _ALLOWED_OF_SHARES
        return self.allowed.get("default", _ALLOWED_OF_TAILS if _TAIL.fullmatch(name) else _ALLOWED)
