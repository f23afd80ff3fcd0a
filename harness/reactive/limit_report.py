"""The answer of a limit search, worked out from its records, and in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from harness.reactive.limit_search import Bounds, LimitSettings, Size, Step, StepLog, bounds_of, num_in_step
from harness.records import RequestRecord

__all__ = ["Limit", "Limits", "limits_of", "limits_text", "phase_of"]

_MINUTE_S = 60.0
_PHASE = re.compile(r"(small|large) (\d+), (\S+)/s(?:, stated (\S+)/min)?")


class Limit(msgspec.Struct, frozen=True):
    """A limit a minute. `low` was sustained, `high` refused, `measured` is the best estimate between them. None: not known, or not
    stated. Where something else was in the way first, `behind` says what: then only `low` is known."""

    stated: float | None
    low: float | None
    high: float | None
    measured: float | None
    behind: str | None = None


class Limits(msgspec.Struct, frozen=True):
    """What was found, and at what price. `num_aborted` steps of the search said nothing."""

    requests: Limit
    tokens: Limit
    num_requests: int
    num_tokens: int
    num_throttled: int
    num_aborted: int


def phase_of(step: Step, stated: float | None) -> str:
    """A step's name in the records: all that is needed to read it again."""
    said = "" if stated is None else f", stated {stated:.12g}/min"
    return f"{step.size} {step.number}, {step.rate:.12g}/s{said}"


def limits_of(plan: Mapping[str, Any], records: Iterable[RequestRecord]) -> Limits:
    """The answer of a search, from the plan in the run's manifest and its records alone."""
    settings = msgspec.convert(plan["limits"], LimitSettings)
    logs: dict[Size, dict[int, StepLog]] = {"small": {}, "large": {}}
    stated: dict[Size, float | None] = {"small": None, "large": None}
    num_requests = num_tokens = 0
    for record in sorted(records, key=lambda each: each.intended_at):
        if record.sent_at is not None:
            num_requests += 1
            num_tokens += (record.planned_prompt_tokens or 0) + (record.planned_output_tokens or 0)
        found = _PHASE.fullmatch(record.phase or "")
        if found is None:
            continue
        size, number, rate = cast(Size, found[1]), int(found[2]), float(found[3])
        stated[size] = float(found[4]) if found[4] else stated[size]
        step = Step(size, number, rate)
        logs[size].setdefault(number, StepLog(step, num_in_step(settings, rate))).add(record)
    small, large = list(logs["small"].values()), list(logs["large"].values())
    requests, tokens = _limits(settings, bounds_of(small), bounds_of(large), stated)
    return Limits(
        requests=requests,
        tokens=tokens,
        num_requests=num_requests,
        num_tokens=num_tokens,
        num_throttled=sum(len(log.throttled) for log in (*small, *large)),
        num_aborted=sum(log.is_aborted for log in (*small, *large)),
    )


def limits_text(limits: Limits) -> list[str]:
    """Lines for a terminal."""
    lines = ["limit                measured  stated by the provider  bounds"]
    for name, limit in (("requests", limits.requests), ("tokens", limits.tokens)):
        lines.append(
            f"{name + ' a minute':<18} {_shown(limit.measured):>10}  {_shown(limit.stated):>22}  {_bounds_text(limit)}"
        )
    cost = (
        f"{limits.num_throttled} refusals, {limits.num_requests:,} requests and {limits.num_tokens:,} tokens were spent"
    )
    aborted = f"; {limits.num_aborted} steps were broken off and count for nothing" if limits.num_aborted else ""
    return [*lines, cost + aborted]


def _limits(
    settings: LimitSettings, small: Bounds, large: Bounds, stated: Mapping[Size, float | None]
) -> tuple[Limit, Limit]:
    """Which limit is behind which bounds: what binds small and large requests at one rate counts requests, what binds them at
    one number of tokens a second counts tokens."""
    per_small, per_large = settings.num_tokens("small"), settings.num_tokens("large")
    same_rate = _overlap(small, large, 1.0, 1.0)
    same_tokens = _overlap(small, large, per_small, per_large)
    requests = _limit(stated["small"], small, 1, "tokens" if same_tokens else None)
    tokens = _limit(stated["large"], large, per_large, "requests" if same_rate else None)
    return requests, tokens


def _limit(stated: float | None, bounds: Bounds, size: int, behind: str | None) -> Limit:
    per_min = size * _MINUTE_S
    low = None if bounds.low is None else bounds.low * per_min
    if behind is not None or bounds.high is None:
        return Limit(stated, low, None, None, behind)
    estimate = None if bounds.estimate is None else bounds.estimate * per_min
    return Limit(stated, low, bounds.high * per_min, estimate)


def _overlap(small: Bounds, large: Bounds, per_small: float, per_large: float) -> bool:
    """Whether two intervals, each where a limit was met, have a point in common."""
    if small.low is None or small.high is None or large.low is None or large.high is None:
        return False
    return small.low * per_small <= large.high * per_large and large.low * per_large <= small.high * per_small


def _bounds_text(limit: Limit) -> str:
    if limit.behind is not None:
        return f"at least {_shown(limit.low)}: that on {limit.behind} comes first"
    if limit.high is None:
        return "not found" if limit.low is None else f"at least {_shown(limit.low)}: not met"
    return f"{_shown(limit.low)} to {_shown(limit.high)}"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
