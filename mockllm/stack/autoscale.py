"""How many replicas a pool shall have: rules that look at its load, at its future or at the clock, and what slows them.

    reactive    the load of now:  ceil(replicas * load a replica / target), as Kubernetes' HorizontalPodAutoscaler has it
    predictive  the larger of the load of now and that of `lead` from now: a line through the arrivals of the last `history`,
                times the time that an answer took lately (Little's law: requests in progress = rate * time). A replica at
                its target has shown that it serves target / time requests a second
    scheduled   a table of instants and counts, over and over with a `period`

Kubernetes (concepts/workloads/autoscaling, pkg/controller/podautoscaler): a load within `tolerance` of the target
changes nothing; replicas that start count as idle ones when more are wanted; of the wishes of the last `stabilization`
the largest holds against fewer replicas. `cooldown` (Amazon EC2 Auto Scaling): no change so long after the last one.
AWS's predictive scaling takes the larger of forecast and present load, too. Loads that are scaled on in the field: vLLM's
waiting and running requests and KV usage (vLLM production stack, KServe, GKE's guide to LLM autoscaling), requests in
progress (Knative, Ray Serve). `utilization` is near 1 under any steady load: a batch runs for one request as for many.
"""

from __future__ import annotations

from collections import deque
from math import ceil, inf
from typing import Annotated, Literal, NamedTuple, Protocol

from pydantic import Field, model_validator

from mockllm.fields import Count, Duration, Positive, Spread, Strict, duration_text
from mockllm.stack.timeline import Timeline

__all__ = [
    "MOST_REPLICAS",
    "AutoscaleSettings",
    "Autoscaler",
    "Seen",
    "Signal",
    "Wanted",
    "desired_by_load",
    "forecast",
]

Signal = Literal["requests", "running", "queue", "tokens", "kv_usage", "utilization"]
MOST_REPLICAS = 10_000  # of one model; each is simulated, so that more of them are a slip of the pen
_LEAST_POINTS = 3  # two points are always on a line

_LOAD_KEYS = ("signal", "target", "interval", "tolerance", "stabilization", "cooldown", "step_up", "step_down", "idle")
_OWN_KEYS: dict[str, tuple[str, ...]] = dict.fromkeys(_LOAD_KEYS, ("reactive", "predictive"))
_OWN_KEYS |= dict.fromkeys(("lead", "history"), ("predictive",)) | dict.fromkeys(("schedule", "period"), ("scheduled",))


class ScheduleEntry(Strict):
    """From `at` of the run, or of the period, there are `count` replicas."""

    at: Duration
    count: Annotated[int, Field(ge=0)]


class AutoscaleSettings(Strict):
    """Between `min` and `max` replicas, those that drain not counted.

    `signal` is the load: per replica, its requests (`requests`), those in the batch (`running`) or in its queue (`queue`),
    their tokens (`tokens`), the share of KV blocks in use (`kv_usage`) or of the time in which steps run (`utilization`).
    What waits for a first replica counts as requests, queue and tokens. `target` is what a replica shall have of it.
    `step_up` and `step_down`: at most so many replicas a decision. `min` 0 needs `idle`: after so long without a
    request the last replica goes; the next request starts one. `lead` None: what a start takes, and one interval.
    """

    policy: Literal["reactive", "predictive", "scheduled"] = "reactive"
    min: Annotated[int, Field(ge=0)] = 1
    max: Annotated[int, Field(ge=1, le=MOST_REPLICAS)]
    signal: Signal = "requests"
    target: Positive | None = None
    interval: Annotated[Duration, Field(gt=0)] = 15.0
    tolerance: Spread = 0.1
    stabilization: Duration = 300.0
    cooldown: Duration = 0.0
    step_up: Count | None = None
    step_down: Count | None = None
    idle: Duration | None = None
    lead: Duration | None = None
    history: Annotated[Duration, Field(gt=0)] = 600.0
    schedule: Annotated[tuple[ScheduleEntry, ...], Field(strict=False)] = ()
    period: Annotated[Duration, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _bounds(self) -> AutoscaleSettings:
        if self.min > self.max:
            raise ValueError(f"min {self.min} must not exceed max {self.max}")
        wrong = [key for key in self.model_fields_set if self.policy not in _OWN_KEYS.get(key, (self.policy,))]
        if wrong:
            key = min(wrong)
            raise ValueError(f"{key} is for the policy {' or '.join(_OWN_KEYS[key])}, and this one is {self.policy}")
        return self

    @model_validator(mode="after")
    def _load(self) -> AutoscaleSettings:
        if self.policy == "scheduled":
            return self
        if self.target is None:
            raise ValueError(f"target is missing: how much of {self.signal} one replica shall have")
        if self.signal in ("kv_usage", "utilization") and self.target > 1:
            raise ValueError(f"target {self.target:g}: {self.signal} is a share and never above 1; write 80 % as 0.8")
        if self.policy == "predictive" and self.signal not in ("requests", "running"):
            raise ValueError(f"predictive foresees requests or running, and not {self.signal}; choose one as signal")
        if self.policy == "predictive" and self.history < _LEAST_POINTS * self.interval:
            raise ValueError(f"history {self.history} s is less than {_LEAST_POINTS} intervals: no line through them")
        if (self.min == 0) != (self.idle is not None):
            raise ValueError("min 0 and idle belong together: the last replica goes after `idle` without a request")
        return self

    @model_validator(mode="after")
    def _table(self) -> AutoscaleSettings:
        if self.policy != "scheduled":
            return self
        if not self.schedule:
            raise ValueError("schedule is missing: a list of instants and counts, as `- {at: 8h, count: 6}`")
        instants = [entry.at for entry in self.schedule]
        if instants != sorted(set(instants)):
            raise ValueError(f"the instants of schedule must rise, and are {instants} s")
        if self.period is not None and instants[-1] >= self.period:
            raise ValueError(f"schedule goes to {instants[-1]} s and must end within the period of {self.period} s")
        for entry in self.schedule:
            if not self.min <= entry.count <= self.max:
                raise ValueError(
                    f"count {entry.count} at {entry.at} s is not between min {self.min} and max {self.max}"
                )
        return self


class Seen(NamedTuple):
    """A pool at the moment of a decision. `load` is the signal summed over its ready replicas, and what waits for one.

    `num_arrived` requests came since the decision before; `num_answered` were answered, which took `answering_s` together
    without their waiting. `idle_s`: since when no request is there; 0 while one is.
    """

    at: float
    desired: int
    num_ready: int
    num_starting: int
    load: float
    num_arrived: int = 0
    num_answered: int = 0
    answering_s: float = 0.0
    idle_s: float = 0.0


class Wanted(NamedTuple):
    """So many replicas, and why."""

    num: int
    why: str


def desired_by_load(load: float, target: float, tolerance: float, seen: Seen) -> int:
    """Kubernetes' formula for a load that is the sum over all ready replicas: ceil(ready * mean / target), unless it is
    near enough to the target."""
    if load == 0 and seen.num_ready == 0:
        return seen.desired
    ratio = load / (seen.num_ready * target) if seen.num_ready else inf
    if ratio > 1 and seen.num_starting:
        ratio = load / ((seen.num_ready + seen.num_starting) * target)
        if ratio < 1:
            return seen.desired
    if abs(ratio - 1) <= tolerance:
        return seen.desired
    return ceil(load / target - 1e-9)


def forecast(points: list[tuple[float, float]], at: float) -> float:
    """The value at `at` of the line through these points of (instant, value), by least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return mean_y + slope * (at - mean_x)


class _Rule(Protocol):
    def instant(self, number: int) -> float: ...  # of the decision with this number, in seconds of the run
    def wanted(self, seen: Seen, number: int) -> Wanted: ...


class _Reactive:
    def __init__(self, settings: AutoscaleSettings) -> None:
        assert settings.target is not None
        self._signal, self._target, self._tolerance = settings.signal, settings.target, settings.tolerance
        self._interval_s = settings.interval

    def instant(self, number: int) -> float:
        return (number + 1) * self._interval_s

    def wanted(self, seen: Seen, number: int) -> Wanted:
        num = desired_by_load(seen.load, self._target, self._tolerance, seen)
        return Wanted(num, f"{self._signal} {seen.load:.4g} on {seen.num_ready} replicas, target {self._target:g} each")


class _Predictive:
    def __init__(self, settings: AutoscaleSettings, lead_s: float) -> None:
        assert settings.target is not None
        self._now = _Reactive(settings)
        self._target, self._tolerance, self._interval_s = settings.target, settings.tolerance, settings.interval
        self._history_s, self._lead_s = settings.history, lead_s
        self._seen: deque[Seen] = deque()

    def instant(self, number: int) -> float:
        return self._now.instant(number)

    def wanted(self, seen: Seen, number: int) -> Wanted:
        self._seen.append(seen)
        while self._seen[0].at <= seen.at - self._history_s:
            self._seen.popleft()
        num_answered = sum(each.num_answered for each in self._seen)
        if len(self._seen) < _LEAST_POINTS or num_answered == 0:
            return self._now.wanted(seen, number)
        answer_s = sum(each.answering_s for each in self._seen) / num_answered
        points = [(each.at - self._interval_s / 2, each.num_arrived / self._interval_s) for each in self._seen]
        rate = max(0.0, forecast(points, seen.at + self._lead_s))
        if rate * answer_s <= seen.load:
            return self._now.wanted(seen, number)
        num = desired_by_load(rate * answer_s, self._target, self._tolerance, seen)
        return Wanted(
            num, f"{rate:.3g} requests/s foreseen in {self._lead_s:g} s, {answer_s:.3g} s each, target {self._target:g}"
        )


class _Scheduled:
    def __init__(self, settings: AutoscaleSettings) -> None:
        self._entries, self._period_s = settings.schedule, settings.period

    def instant(self, number: int) -> float:
        period, index = divmod(number, len(self._entries))
        if period and self._period_s is None:
            return inf
        return period * (self._period_s or 0.0) + self._entries[index].at

    def wanted(self, seen: Seen, number: int) -> Wanted:
        entry = self._entries[number % len(self._entries)]
        return Wanted(entry.count, f"the schedule has {entry.count} from {duration_text(entry.at)} on")


class _Brakes:
    """What stands between a wish and a change."""

    def __init__(self, settings: AutoscaleSettings) -> None:
        self._settings = settings
        self._wishes: deque[tuple[float, int]] = deque()
        self._changed_at = -inf

    def slowed(self, wanted: int, seen: Seen) -> int:
        """How many there shall be; what is wanted is kept in mind."""
        settings, desired = self._settings, seen.desired
        if not self._wishes:
            self._wishes.append((seen.at, desired))
        while self._wishes and self._wishes[0][0] <= seen.at - settings.stabilization:
            self._wishes.popleft()
        self._wishes.append((seen.at, wanted))
        num = wanted if wanted > desired else min(desired, max(wish for _, wish in self._wishes))
        if settings.step_up is not None:
            num = min(num, desired + settings.step_up)
        if settings.step_down is not None:
            num = max(num, desired - settings.step_down)
        num = min(max(num, settings.min, 1), settings.max)
        if num == desired or seen.at - self._changed_at < settings.cooldown:
            return desired
        self._changed_at = seen.at
        return num


class Autoscaler:
    """Decides at its instants, which count from the begin of the run. `cold_start_s`: what a start takes from
    the decision on."""

    def __init__(self, settings: AutoscaleSettings, timeline: Timeline, cold_start_s: float) -> None:
        self._settings, self._timeline = settings, timeline
        self._rule = self._rule_of(settings, cold_start_s)
        self._brakes = None if settings.policy == "scheduled" else _Brakes(settings)
        self._zero: float | None = None  # the begin of the run that `_number` decisions belong to
        self._number = 0

    @property
    def signal(self) -> Signal | None:
        """What it looks at; None when it looks at the clock."""
        return None if self._settings.policy == "scheduled" else self._settings.signal

    def due(self) -> float:
        """The next decision; inf before the run begins, and after the last."""
        zero = self._timeline.zero
        if zero is None:
            return inf
        return zero + self._rule.instant(self._number if zero == self._zero else 0)

    def decide(self, seen: Seen) -> Wanted:
        """How many replicas there shall be from now on."""
        if self._timeline.zero != self._zero:
            self._zero, self._number = self._timeline.zero, 0
        wanted = self._rule.wanted(seen, self._number)
        self._number += 1
        if self._brakes is None:
            return wanted
        if seen.desired == 0:
            return Wanted(0, "no request")
        if self._settings.idle is not None and seen.idle_s >= self._settings.idle:
            return Wanted(0, f"no request for {seen.idle_s:g} s")
        return Wanted(self._brakes.slowed(wanted.num, seen), wanted.why)

    def describe(self) -> str:
        """In words, with its numbers."""
        settings = self._settings
        span = f"{settings.min} to {settings.max} replicas, {settings.policy}"
        if settings.policy == "scheduled":
            table = ", ".join(f"{entry.count} from {duration_text(entry.at)}" for entry in settings.schedule)
            return f"{span}: {table}" + (
                f", every {duration_text(settings.period)}" if settings.period is not None else ""
            )
        words = f"{span}: {settings.target:g} {settings.signal} a replica, every {duration_text(settings.interval)}"
        return words + (
            f", none after {duration_text(settings.idle)} without a request" if settings.idle is not None else ""
        )

    @staticmethod
    def _rule_of(settings: AutoscaleSettings, cold_start_s: float) -> _Rule:
        if settings.policy == "scheduled":
            return _Scheduled(settings)
        if settings.policy == "predictive":
            lead_s = cold_start_s + settings.interval if settings.lead is None else settings.lead
            return _Predictive(settings, lead_s)
        return _Reactive(settings)
