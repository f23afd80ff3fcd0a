"""The load of a limit search: the plan that sends the steps of `harness.reactive.limit_search`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

import msgspec

from harness.headers import retry_after_s
from harness.plan import Arrival, Heard
from harness.reactive.limit_report import phase_of
from harness.reactive.limit_search import LimitSettings, Size, Step, StepLog, bounds_of, next_rate, num_in_step
from harness.reactive.pauses import over_at
from harness.reactive.stated_limits import StatedLimits, stated_limits
from harness.records import RequestRecord

__all__ = ["LimitPlan"]

_PAUSE_S = 0.1
_LONGEST_WAIT_S = 600.0
_UNSTATED_RATE = 0.5
_MINUTE_S = 60.0
_LEAST_REFUSALS = 2  # that are kept for the second size


@dataclass(slots=True)
class _Running:
    """The step that is under way; `open` are the keys of what is still to come back, with the instants of sending."""

    log: StepLog
    open: dict[str, float]
    cut_at: float = inf
    asked_wait_s: float | None = None


@dataclass
class LimitPlan:
    """One request, to read what the provider states; then steps of small requests, then of large ones. Each stops at its
    first 429: what was to come is withdrawn. The search ends when both bounds are near enough, when one of its caps would be
    exceeded by the next step, or when the provider asks to wait for more than ten minutes.

    One object drives one run: it remembers what it heard. It sees only the requests of its own process, so it must have
    all of them. Request `turn` is the number of the step, `phase` names size, rate and what is stated.
    """

    settings: LimitSettings
    duration_s: float
    seed: int
    stated: StatedLimits = field(default_factory=StatedLimits, init=False)
    _logs: dict[Size, list[StepLog]] = field(default_factory=lambda: {"small": [], "large": []}, init=False)
    _running: _Running | None = field(default=None, init=False)
    _num_steps: int = field(default=0, init=False)
    _next_index: int = field(default=1, init=False)
    _now: float = field(default=0.0, init=False)

    @property
    def num_arrivals(self) -> int:
        return 1

    def arrivals(self) -> Iterator[Arrival]:
        yield self._arrival(0, 0.0, "small", "first request", 0)

    def after(self, arrival: Arrival, record: RequestRecord, heard: Heard) -> Iterable[Arrival]:
        """The next step, when this was the last request of the one before."""
        self._now = max(self._now, over_at(arrival, record))
        running = self._running
        if running is None:
            if arrival.turn:
                return ()
            self.stated = stated_limits(heard.headers)
            return self._begin(self._now + _PAUSE_S)
        if arrival.turn != self._num_steps:
            return ()
        running.open.pop(arrival.key, None)
        running.log.add(record)
        if record.outcome == "throttled":
            asked_s = retry_after_s(heard.headers)
            running.asked_wait_s = max(running.asked_wait_s or 0.0, asked_s) if asked_s is not None else None
            if running.cut_at == inf:
                running.cut_at = self._now
                running.open = {key: at_s for key, at_s in running.open.items() if at_s <= self._now}
        if running.open:
            return ()
        return self._begin(self._earliest(running))

    def withdrawn(self, arrival: Arrival) -> bool:
        """Whether an arrival is no longer wanted: its step has met the limit."""
        running = self._running
        if running is None or arrival.turn < self._num_steps:
            return arrival.turn > 0
        return arrival.at_s > running.cut_at

    def describe(self) -> dict[str, object]:
        return {"arrivals": "limit search: even steps", "limits": msgspec.to_builtins(self.settings), "seed": self.seed}

    def _earliest(self, running: _Running) -> float:
        """When the next step may begin. Where a refusal does not say how long to wait, two gaps; and a minute where that was
        not enough after a refusal before."""
        log = running.log
        if not log.throttled:
            return max(self._now, min(log.end_at, self._now + _PAUSE_S))
        if running.asked_wait_s is not None:
            return self._now + running.asked_wait_s
        logs = self._logs[log.step.size]
        refused_again = len(logs) > 1 and bool(logs[-2].throttled) and not log.passed
        return self._now + (_MINUTE_S if refused_again else 2 / log.step.rate)

    def _begin(self, begin_s: float) -> list[Arrival]:
        """The requests of the next step; none when the search is over."""
        ended = self._running
        self._running = None
        if begin_s - self._now > _LONGEST_WAIT_S or (ended is not None and ended.log.is_aborted):
            return []
        step = next((step for size in self._sizes() if not self._exceeds(step := self._next(size), begin_s)), None)
        if step is None:
            return []
        self._num_steps += 1
        num = num_in_step(self.settings, step.rate)
        phase = phase_of(step, self.stated.requests if step.size == "small" else self.stated.tokens)
        arrivals = [
            self._arrival(self._next_index + place, begin_s + place / step.rate, step.size, phase, self._num_steps)
            for place in range(num)
        ]
        self._next_index += num
        self._logs[step.size].append(StepLog(step, num))
        self._running = _Running(self._logs[step.size][-1], {each.key: each.at_s for each in arrivals})
        return arrivals

    def _next(self, size: Size) -> Step:
        logs = self._logs[size]
        rate = next_rate(self.settings, self._first_rate(size), logs)
        return Step(size, len(logs) + 1, float(f"{rate:.4g}"))

    def _sizes(self) -> Iterator[Size]:
        """What is still to be searched, the next first. Small requests leave some of the refusals to the large ones."""
        settings = self.settings
        num_left = settings.most_throttled - sum(len(log.throttled) for logs in self._logs.values() for log in logs)
        small, large = bounds_of(self._logs["small"]), bounds_of(self._logs["large"])
        if not self._logs["large"] and num_left > _LEAST_REFUSALS and not small.is_near(settings.resolution):
            yield "small"
        # Large requests that pass as often as small ones do have met no limit of their own.
        as_often = small.high is not None and (large.low or 0.0) >= small.high / (1 + settings.resolution)
        if num_left > 0 and not as_often and not large.is_near(settings.resolution):
            yield "large"

    def _first_rate(self, size: Size) -> float:
        settings = self.settings
        if size == "large":
            small, stated = bounds_of(self._logs["small"]), self.stated.tokens
            rate = _UNSTATED_RATE / 2 if stated is None else stated / _MINUTE_S / 2 / settings.num_tokens("large")
            return min(rate, small.low or rate)
        if settings.first_rate is not None:
            return settings.first_rate
        return _UNSTATED_RATE if self.stated.requests is None else self.stated.requests / _MINUTE_S / 2

    def _exceeds(self, step: Step, begin_s: float) -> bool:
        """Whether a step would go beyond what may be spent."""
        settings, num = self.settings, num_in_step(self.settings, step.rate)
        sent = {size: sum(len(log.passed) + len(log.throttled) for log in logs) for size, logs in self._logs.items()}
        sent[step.size] += num
        num_tokens = sum(each * settings.num_tokens(size) for size, each in sent.items())
        too_much = sum(sent.values()) > settings.most_requests or num_tokens > settings.most_tokens
        return too_much or begin_s + num / step.rate > self.duration_s

    def _arrival(self, index: int, at_s: float, size: Size, phase: str, turn: int) -> Arrival:
        num_prompt = self.settings.small_prompt if size == "small" else self.settings.large_prompt
        return Arrival(index, at_s, num_prompt, self.settings.answer, phase, size, turn=turn)
