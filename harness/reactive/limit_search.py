"""Finding a provider's rate limit with a handful of 429s. The search and its answer, without a clock.

Providers limit with buckets that refill steadily and hold what comes in a minute (Anthropic: "token bucket"; OpenAI's
refusals show it), or count in windows of a minute. Either way a rate far above the limit passes for a while, so what a step
of load says depends on what was saved up before. The search therefore goes by three things that hold for both:

    any T seconds            no more than a minute's quota was saved: the limit is at least passed / (T + 60)
    T seconds after a 429    nothing was saved: it is at least passed / T
    a 429 in a step          after n requests at an even rate in t seconds: what was saved was falling, so the limit is
                             less than n / t

Between two 429s what passed is what came in, so passed / time estimates the limit; before the first it is the first of
these bounds, which is met where a minute's quota really was saved. The search rises slowly until the first
429, waits as long as it is asked to, sends a step a little below the estimate and one a little above, and goes on from the
next 429 in the same way until the bounds are near enough. Every step stops at its first 429. Steps are even, not Poisson.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, sqrt
from typing import Literal

import msgspec

from harness.errors import UsageError
from harness.records import RequestRecord

__all__ = ["Bounds", "LimitSettings", "Size", "Step", "StepLog", "bounds_of", "next_rate", "num_in_step"]

Size = Literal["small", "large"]

_MINUTE_S = 60.0
_BELOW, _ABOVE = 0.95, 1.1  # of the estimate
_LEAST_REQUESTS = 20  # of a step: one more or less is 5 %
_FAILED_SHARE = 0.1


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent, and how requests look. Small ones meet the limit on requests, large ones that on tokens.

    `first_rate` is the rate to begin with, requests a second; None: half of what the provider states, else one in two seconds.
    `most_throttled` is how many 429s may be provoked, `most_requests` and `most_tokens` how much may be sent. The bounds
    are near enough when high is at most (1 + `resolution`) times low. Raises UsageError.
    """

    first_rate: float | None = None
    factor: float = 1.5
    window_s: float = 60.0
    resolution: float = 0.25
    most_throttled: int = 5
    most_requests: int = 10_000
    most_tokens: int = 5_000_000
    small_prompt: int = 16
    large_prompt: int = 2000
    answer: int = 1

    def __post_init__(self) -> None:
        if not self.factor > 1:
            raise UsageError(f"a factor of {self.factor:g} does not rise; write more than 1")
        if self.most_throttled < 2:
            raise UsageError("a limit is found between two refusals; allow at least 2")
        if self.most_requests < 1 or self.most_tokens < self.num_tokens("large"):
            raise UsageError(
                f"{self.most_requests} requests and {self.most_tokens} tokens do not pay for one large request of "
                f"{self.num_tokens('large')} tokens; allow more"
            )
        if not self.resolution >= 0.2:
            raise UsageError(f"a resolution of {self.resolution:g} is too fine; write at least 0.2")
        if self.large_prompt < 10 * self.small_prompt:
            raise UsageError("large prompts must be ten times as long as small ones, or nothing tells the limits apart")

    def num_tokens(self, size: Size) -> int:
        """What a request is charged: its prompt and the answer that it allows."""
        return (self.small_prompt if size == "small" else self.large_prompt) + self.answer


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of load at an even rate, requests a second. `number` counts the steps of a size from 1."""

    size: Size
    number: int
    rate: float


class StepLog:
    """What came of a step: the instants at which its requests were sent, by what became of them."""

    def __init__(self, step: Step, num_planned: int) -> None:
        self.step, self.num_planned = step, num_planned
        self.passed: list[float] = []
        self.throttled: list[float] = []
        self.num_failed = self.num_lost = 0

    def add(self, record: RequestRecord) -> None:
        """A request that failed otherwise was let through by the limit. What we kept back, or left open, says nothing."""
        at_s = record.intended_at if record.sent_at is None else record.sent_at
        if record.outcome == "throttled":
            self.throttled.append(at_s)
        elif record.outcome in ("refused", "incomplete", "left") or record.error_kind == "scenario_error":
            self.num_lost += 1
        else:
            self.passed.append(at_s)
            self.num_failed += record.outcome != "ok"

    @property
    def is_aborted(self) -> bool:
        """Whether it says nothing: requests are missing, or too many failed in another way."""
        is_short = not self.throttled and len(self.passed) < self.num_planned
        return is_short or self.num_lost > 0 or self.num_failed > _FAILED_SHARE * self.num_planned

    @property
    def begun_at(self) -> float:
        return min((*self.passed, *self.throttled), default=inf)

    @property
    def throttled_at(self) -> float | None:
        """The first refusal."""
        return min(self.throttled, default=None)

    @property
    def end_at(self) -> float:
        """Where the next request would have been."""
        return self.begun_at + self.num_planned / self.step.rate


class Bounds(msgspec.Struct, frozen=True):
    """A limit in requests a second: sustained, refused, and the best guess between them. `tried` is the highest rate that was
    asked. None: not known."""

    low: float | None
    high: float | None
    estimate: float | None
    tried: float | None

    def is_near(self, resolution: float) -> bool:
        return self.low is not None and self.high is not None and self.high <= self.low * (1 + resolution)


def num_in_step(settings: LimitSettings, rate: float) -> int:
    """How many requests a step sends."""
    return max(_LEAST_REQUESTS, ceil(rate * settings.window_s))


def bounds_of(logs: Sequence[StepLog]) -> Bounds:
    """What the steps of one size say together. An aborted step is no bound."""
    low, high, estimate = 0.0, inf, None
    whole = [log for log in logs if not log.is_aborted]
    passed = sorted(at_s for log in whole for at_s in log.passed)
    for place, log in enumerate(whole):
        end_at = log.end_at if log.throttled_at is None else log.throttled_at
        refused_at = max((at_s for each in whole[:place] for at_s in each.throttled), default=None)
        with_saved = max(_passed(passed, each.begun_at, end_at, _MINUTE_S) for each in whole[: place + 1])
        low = max(low, with_saved)
        since = None if refused_at is None else _passed(passed, refused_at, end_at, 0.0)
        if log.throttled_at is None:
            if refused_at is not None:
                low = max(low, (since or 0.0) - 1 / (end_at - refused_at))  # almost one was there when it was refused
            continue
        num_before = sum(at_s < log.throttled_at for at_s in log.passed)
        if num_before:
            high = min(high, num_before / (log.throttled_at - log.begun_at))
        if refused_at is None:
            estimate = with_saved
        elif end_at - refused_at >= _MINUTE_S / 2:
            estimate = since
    if high < inf:
        high = max(high, low)  # instants of sending are not quite even
        estimate = estimate if estimate is not None and low <= estimate <= high else sqrt(low * high)
    tried = max((log.step.rate for log in whole), default=None)
    return Bounds(low or None, None if high == inf else high, estimate, tried)


def next_rate(settings: LimitSettings, first_rate: float, logs: Sequence[StepLog]) -> float:
    """The rate of the next step of a size, after these."""
    if not logs:
        return first_rate
    if not any(log.throttled for log in logs):
        return logs[-1].step.rate * settings.factor
    bounds = bounds_of(logs)
    estimate = bounds.estimate or logs[-1].step.rate / 2  # refused at once: nothing is known but that it was too soon
    num_since = next(place for place, log in enumerate(reversed(logs)) if log.throttled)
    high = inf if bounds.high is None else bounds.high
    last = logs[-1].step.rate
    rate = (
        estimate * (_BELOW, _ABOVE)[num_since] if num_since < 2 else sqrt(last * min(high, last * settings.factor**2))
    )
    return rate if rate < high else sqrt((bounds.low or high) * high)


def _passed(instants: Sequence[float], from_at: float, until_at: float, saved_s: float) -> float:
    """What passed in a stretch of time, a second, where the quota of `saved_s` may have been saved before."""
    num = bisect_left(instants, until_at) - bisect_left(instants, from_at)
    return num / (until_at - from_at + saved_s) if until_at > from_at else 0.0
