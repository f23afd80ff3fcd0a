"""What a request must meet to be good: `ttft<1s,tpot<60ms,e2e<10s`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from harness.errors import UsageError
from harness.records import RequestRecord
from harness.units import parse_duration

__all__ = ["ROUNDING_S", "Objective", "objectives_of", "parse_objective", "record_is_good"]

ROUNDING_S = 1e-9  # instants are whole microseconds, their differences in floats are not


class Objective(msgspec.Struct, frozen=True):
    """Upper bounds in seconds, TTFT and E2E from the intended time; None: no bound."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that there are, by the names that they have on the command line."""
        named = {"ttft": self.ttft_s, "tpot": self.tpot_s, "e2e": self.e2e_s}
        return {name: bound for name, bound in named.items() if bound is not None}

    def judges(self, *, stream: bool) -> bool:
        """Whether such a request can be judged: of a whole answer neither TTFT nor TPOT is seen."""
        return stream or self.e2e_s is not None

    def met_by(self, *, ttft_s: float | None, tpot_s: float | None, e2e_s: float | None) -> bool:
        """Whether every bound holds. A latency that is not known (a whole answer has no TTFT) breaks no bound but E2E's;
        TPOT of one token is undefined and breaks none."""
        pairs = ((self.ttft_s, ttft_s), (self.tpot_s, tpot_s), (self.e2e_s, e2e_s))
        if self.e2e_s is not None and e2e_s is None:
            return False
        return all(bound is None or value is None or value <= bound + ROUNDING_S for bound, value in pairs)


def record_is_good(record: RequestRecord, objective: Objective) -> bool:
    """Whether a request is ok and meets its objective."""
    if record.outcome != "ok" or record.done_at is None:
        return False
    ttft = tpot = None
    if record.first_token_at is not None and record.last_token_at is not None:
        ttft = record.first_token_at - record.intended_at
        if record.num_output_tokens is not None and record.num_output_tokens > 1:
            tpot = (record.last_token_at - record.first_token_at) / (record.num_output_tokens - 1)
    return objective.met_by(ttft_s=ttft, tpot_s=tpot, e2e_s=record.done_at - record.intended_at)


def parse_objective(text: str) -> Objective:
    """`ttft<1s,tpot<60ms,e2e<10s`, any of them. Raises UsageError."""
    bounds: dict[str, float] = {}
    for part in text.replace("<=", "<").split(","):
        name, less, bound = (word.strip() for word in part.partition("<"))
        if not less or name not in ("ttft", "tpot", "e2e") or name in bounds:
            raise UsageError(f"{part.strip()!r} is no objective; write ttft<1s,tpot<60ms,e2e<10s, each at most once")
        bounds[name] = parse_duration(bound)
    return Objective(bounds.get("ttft"), bounds.get("tpot"), bounds.get("e2e"))


def objectives_of(plan: object, bounds: str) -> dict[str, Objective]:
    """By class: those that a plan has, and `bounds` from the command line for classes that have none of their own."""
    own: Mapping[str, Objective] = getattr(plan, "objectives", {})
    return {**own, **({"": parse_objective(bounds)} if bounds else {})}
