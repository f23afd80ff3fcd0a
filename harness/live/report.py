"""What the pages and lines that follow a run show: totals, the last seconds, the instrument so far, the time to go."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Literal

import msgspec

from harness.instrument import CROWDED_SHARE, Instrument, doubts_of
from harness.live.series import LivePoint, LiveSeries, LiveWindow
from harness.live.stats import LATENCIES, LiveStats
from harness.quantiles import Distribution

__all__ = ["Course", "InstrumentSoFar", "LiveReport", "State", "instrument_so_far", "live_report"]

State = Literal["waiting", "running", "draining", "over"]


class Course(msgspec.Struct, kw_only=True, frozen=True):
    """What was planned. `num_planned` is what was known beforehand; where `reactive`, more follows from the answers."""

    run_id: str
    scenario: str
    target: str
    model: str | None
    directory: str
    num_planned: int
    duration_s: float
    drain_s: float
    reactive: bool = False
    num_workers: int = 1

    def state(self, now: float, *, over: bool) -> State:
        """Where the run is at an instant."""
        if over:
            return "over"
        if now < 0:
            return "waiting"
        return "running" if now < self.duration_s else "draining"

    def done_share(self, now: float) -> float:
        """How much of the plan's time is over, 0 to 1."""
        return min(1.0, max(0.0, now / self.duration_s)) if self.duration_s > 0 else 1.0

    def left_s(self, now: float) -> float:
        """Seconds until the end of the plan, or, once it is over, the most that open answers are waited for."""
        if now < self.duration_s:
            return self.duration_s - max(0.0, now)
        return max(0.0, self.duration_s + self.drain_s - now)


class InstrumentSoFar(msgspec.Struct, kw_only=True, frozen=True):
    """The load generator's health up to now; `state` None: it has said nothing yet. The verdict is only known at the end,
    because INVALID needs all records."""

    state: Literal["VALID", "DEGRADED"] | None
    reasons: list[str]
    send_lag: Distribution
    loop_lag_s: float | None
    worst_loop_lag_s: float | None
    stalled_share: float | None
    cpu: float | None
    worst_cpu: float | None
    merged_share: float | None
    num_doubted: int
    doubts: dict[str, int]


class LiveReport(msgspec.Struct, kw_only=True, frozen=True):
    """`/llm/live.json`: seconds and counts, null where nothing is known. A row of `series` is a second,
    in the order of `series_names`."""

    schema_version: int = 1
    state: State
    now_s: float
    left_s: float
    course: Course
    num_scheduled: int
    num_sent: int
    num_in_flight: int
    num_ended: int
    outcomes: dict[str, int]
    latencies: dict[str, Distribution]
    recent: LiveWindow | None
    num_prompt_tokens: int | None
    num_output_tokens: int | None
    output_rate: float | None
    objectives: list[str]
    num_good: int
    num_judged: int
    good_share: float | None
    good_rate: float | None
    num_waited: int
    throttled_s: float | None
    num_priced: int
    cost_usd: float | None
    instrument: InstrumentSoFar
    lost_workers: list[str]
    series_names: tuple[str, ...]
    series: list[LivePoint]


def live_report(
    course: Course,
    stats: LiveStats,
    series: LiveSeries,
    now: float,
    *,
    over: bool = False,
    lost_workers: Sequence[str] = (),
    after: float = -inf,
) -> LiveReport:
    """Everything that a page needs, at an instant of the run; of the series only what came `after`."""
    elapsed = min(now, course.duration_s)
    return LiveReport(
        state=course.state(now, over=over),
        now_s=round(now, 3),
        left_s=0.0 if over else round(course.left_s(now), 3),
        course=course,
        num_scheduled=stats.num_scheduled,
        num_sent=stats.num_sent + stats.num_in_flight,
        num_in_flight=stats.num_in_flight,
        num_ended=stats.num_ended,
        outcomes=stats.outcomes,
        latencies={name: getattr(stats, name).distribution() for name in LATENCIES},
        recent=series.window,
        num_prompt_tokens=stats.num_prompt_tokens,
        num_output_tokens=stats.num_output_tokens,
        output_rate=stats.output_rate,
        objectives=[objective_text(name, stats) for name in sorted(stats.objectives)],
        num_good=stats.num_good,
        num_judged=stats.num_judged,
        good_share=stats.good_share,
        good_rate=stats.num_good / elapsed if stats.num_judged and elapsed > 0 else None,
        num_waited=stats.num_waited,
        throttled_s=stats.throttled_s,
        num_priced=stats.num_priced,
        cost_usd=stats.cost_usd,
        instrument=instrument_so_far(stats),
        lost_workers=list(lost_workers),
        series_names=LivePoint.__struct_fields__,
        series=[point for point in series.points if point.at > after],
    )


def instrument_so_far(stats: LiveStats) -> InstrumentSoFar:
    """Judge the instrument by what it has said about itself up to now; the bounds are those of the end."""
    num = stats.num_samples
    found = Instrument(
        state="VALID",
        reasons=[],
        send_lag=stats.send_lag.distribution(),
        loop_lag=Distribution(num, None, None, stats.worst_loop_lag_s, {}),
        stalled_share=stats.num_stalled / num if num else None,
        cpu_mean=None,
        cpu_max=stats.worst_cpu,
        merged_share=stats.merged_share,
        num_torn_lines=0,
        max_in_flight=None,
        doubts=stats.doubts,
        doubted_share=stats.num_doubted / stats.num_sent if stats.num_sent else None,
    )
    reasons = doubts_of(found, stats.num_refused)
    if stats.num_crowded > CROWDED_SHARE * num:
        reasons.append(f"in {stats.num_crowded} of {num} seconds others used the machine's processors")
    is_known = stats.num_sent > 0 or num > 0
    return InstrumentSoFar(
        state="DEGRADED" if reasons else "VALID" if is_known else None,
        reasons=reasons,
        send_lag=found.send_lag,
        loop_lag_s=stats.loop_lag_s,
        worst_loop_lag_s=stats.worst_loop_lag_s,
        stalled_share=found.stalled_share,
        cpu=stats.cpu,
        worst_cpu=stats.worst_cpu,
        merged_share=stats.merged_share,
        num_doubted=stats.num_doubted,
        doubts=stats.doubts,
    )


def objective_text(name: str, stats: LiveStats) -> str:
    """An objective as it is written on the command line, with its class where it has one."""
    text = ", ".join(f"{metric}<{_span(bound)}" for metric, bound in stats.objectives[name].bounds.items())
    return f"{name}: {text}" if name else text


def _span(seconds: float) -> str:
    return f"{seconds * 1e3:g}ms" if seconds < 1 else f"{seconds:g}s"
