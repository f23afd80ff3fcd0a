"""The last seconds of a run, and how they changed: differences between snapshots that are cumulative."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from harness.live.stats import LiveStats
from harness.quantiles import Distribution

__all__ = ["KEPT_S", "WINDOW_S", "LivePoint", "LiveSeries", "LiveWindow", "window_between"]

WINDOW_S = 10.0
KEPT_S = 600

_TOO_EARLY_S = 1e-3


class LiveWindow(msgspec.Struct, kw_only=True, frozen=True):
    """What was sent, and what ended, in `span_s` seconds; rates are per second. Tokens count when their answer ends.
    `good_rate` None: nothing has an objective."""

    span_s: float
    sent_rate: float
    ok_rate: float
    throttled_rate: float
    bad_rate: float  # failed, cut or open at the end
    refused_rate: float
    good_rate: float | None
    output_rate: float | None
    ttft: Distribution
    itl: Distribution
    e2e: Distribution
    send_lag: Distribution


class LivePoint(msgspec.Struct, frozen=True, array_like=True):
    """One second of the charts: what the window that ends there says, and the gauges. A row of numbers when it travels; four
    digits are more than a chart shows."""

    at: float
    sent_rate: float
    ok_rate: float
    throttled_rate: float
    bad_rate: float
    refused_rate: float
    good_rate: float | None
    output_rate: float | None
    ttft_p50_s: float | None
    ttft_p90_s: float | None
    ttft_p99_s: float | None
    itl_p50_s: float | None
    itl_p90_s: float | None
    itl_p99_s: float | None
    e2e_p50_s: float | None
    e2e_p90_s: float | None
    e2e_p99_s: float | None
    send_lag_p90_s: float | None
    loop_lag_s: float | None
    cpu: float | None
    num_in_flight: int
    cost_usd: float | None


class LiveSeries:
    """Points of the last ten minutes, one for each look; told the time and the totals."""

    def __init__(self) -> None:
        self.points: deque[LivePoint] = deque(maxlen=KEPT_S)
        self.window: LiveWindow | None = None  # the last ten seconds; None before the first look
        self._before: deque[tuple[float, LiveStats]] = deque([(0.0, LiveStats())])

    def note(self, at: float, total: LiveStats) -> None:
        """The totals at an instant of the run; they must not change any more. An instant that was noted already, or lies
        before the run, is left out. Totals that went back (a worker began anew) begin a new window."""
        if at <= self._before[-1][0] + _TOO_EARLY_S:
            return
        while len(self._before) > 1 and self._before[1][0] <= at - WINDOW_S:
            self._before.popleft()
        since, earlier = self._before[0]
        try:
            window = window_between(earlier, total, at - since)
        except ValueError:
            self._before = deque([(at, total)])
            return
        self.window = window
        self.points.append(_point(at, window, total))
        self._before.append((at, total))


def window_between(earlier: LiveStats, later: LiveStats, span_s: float) -> LiveWindow:
    """What came to `earlier` in so many seconds until it was `later`. Raises ValueError when that is not its past."""

    def rate(*outcomes: str) -> float:
        return sum(later.outcomes.get(name, 0) - earlier.outcomes.get(name, 0) for name in outcomes) / span_s

    return LiveWindow(
        span_s=span_s,
        sent_rate=(later.num_sent + later.num_in_flight - earlier.num_sent - earlier.num_in_flight) / span_s,
        ok_rate=rate("ok"),
        throttled_rate=rate("throttled"),
        bad_rate=rate("failed", "cut", "incomplete"),
        refused_rate=rate("refused"),
        good_rate=(later.num_good - earlier.num_good) / span_s if later.num_judged else None,
        output_rate=_tokens(earlier, later, span_s),
        ttft=later.ttft.since(earlier.ttft).distribution(),
        itl=later.itl.since(earlier.itl).distribution(),
        e2e=later.e2e.since(earlier.e2e).distribution(),
        send_lag=later.send_lag.since(earlier.send_lag).distribution(),
    )


def _tokens(earlier: LiveStats, later: LiveStats, span_s: float) -> float | None:
    if later.num_output_tokens is None:
        return None
    return (later.num_output_tokens - (earlier.num_output_tokens or 0)) / span_s


def _point(at: float, window: LiveWindow, total: LiveStats) -> LivePoint:
    values: dict[str, Any] = {name: getattr(window, name) for name in _RATES}
    for metric, percents in _PERCENTS.items():
        values |= {f"{metric}_p{percent}_s": getattr(window, metric).at(percent) for percent in percents}
    values |= {name: getattr(total, name) for name in ("loop_lag_s", "cpu", "cost_usd")}
    short: dict[str, Any] = {name: None if value is None else float(f"{value:.4g}") for name, value in values.items()}
    return LivePoint(at=round(at, 2), num_in_flight=total.num_in_flight, **short)


_RATES = ("sent_rate", "ok_rate", "throttled_rate", "bad_rate", "refused_rate", "good_rate", "output_rate")
_PERCENTS = {"ttft": (50, 90, 99), "itl": (50, 90, 99), "e2e": (50, 90, 99), "send_lag": (90,)}
