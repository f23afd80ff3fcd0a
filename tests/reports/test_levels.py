"""Levels of load, and the knee of latency over them: against queues whose law is known and runs counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from harness.quantiles import distribution
from harness.table import tabulate
from reports.buckets import Buckets
from reports.levels import Level, knee, levels, windows
from tests.harness.builders import record


def _level(rate: float, latency_s: float) -> Level:
    metric = distribution(np.full(100, latency_s))
    return Level(f"{rate:g}/s", rate, 100, 1.0, {"ttft": metric, "tpot": metric, "e2e": metric})


def test_the_knee_of_a_queue_lies_where_kneedle_puts_it() -> None:
    # Mean wait of M/D/1 at rate r and service time 1: rho / (2 (1 - rho)). The point furthest below the diagonal of the
    # scaled curve, worked out by hand: the wait at 0.95 is 9.5, at 0.1 0.0556; scaled difference is largest at 0.8.
    rates = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    waits = [rho / (2 * (1 - rho)) for rho in rates]
    below = [(r - 0.1) / 0.85 - (w - waits[0]) / (waits[-1] - waits[0]) for r, w in zip(rates, waits, strict=True)]
    assert rates[below.index(max(below))] == 0.8
    found = knee([_level(r, w) for r, w in zip(rates, waits, strict=True)], "ttft", 95)
    assert found is not None
    assert found.rate == 0.8


@pytest.mark.parametrize(
    ("rates", "latencies"),
    [
        ([1, 2, 3], [1, 1, 9]),  # three levels show no curve
        ([1, 2, 3, 4], [1, 2, 3, 4]),  # a straight line
        ([1, 2, 3, 4], [5, 5, 5, 5]),  # it does not grow
        ([2, 2, 2, 2], [1, 2, 3, 4]),  # one rate
        ([1, 2, 3, 4], [1, 1.9, 2.9, 4]),  # it bends less than a step between two rates
        ([1, 2, 3, 4, 5], [1, 6, 8, 9, 9.5]),  # it grows ever less
    ],
)
def test_a_curve_without_a_knee_has_none(rates: list[float], latencies: list[float]) -> None:
    assert knee([_level(r, v) for r, v in zip(rates, latencies, strict=True)], "ttft", 50) is None


def test_the_knee_does_not_depend_on_the_order_of_the_levels() -> None:
    found = [_level(r, v) for r, v in ((8, 0.3), (1, 0.1), (16, 5.0), (4, 0.15), (2, 0.1))]
    at = knee(found, "ttft", 50)
    assert at is not None
    assert at.rate == 8
    assert knee(found[::-1], "ttft", 50) is at


def test_phases_are_levels_and_their_rate_is_that_of_the_sends() -> None:
    # 1/s for 40 s, 4/s for 10 s, then 1/s again for 40 s; the settling of a probe counts for nothing.
    records = [record(n, intended_at=float(n), phase="low") for n in range(40)]
    records += [record(100 + n, intended_at=40 + n / 4, phase="high") for n in range(40)]
    records += [record(200 + n, intended_at=50.0 + n, phase="low") for n in range(40)]
    records += [record(300 + n, intended_at=100 + n / 10, phase="settle 2, 10/s") for n in range(60)]
    records += [record(400 + n, intended_at=120.0 + n, phase="few") for n in range(5)]
    records[3].outcome = "failed"
    low, high = levels(tabulate(records))
    assert (low.name, low.num, low.share_ok) == ("low", 80, 79 / 80)
    assert low.rate == pytest.approx(78 / 78)
    assert (high.name, high.num) == ("high", 40)
    assert high.rate == pytest.approx(4.0)
    assert low.metrics["ttft"].num == 79
    assert low.metrics["ttft"].at(50) == pytest.approx(0.1)


def test_phases_that_alternate_are_no_levels() -> None:
    assert levels(tabulate(record(n, phase=("a", "b")[n % 2]) for n in range(200))) == []
    assert levels(tabulate(record(n) for n in range(200))) == []
    assert levels(tabulate([])) == []


def test_windows_lie_within_the_time_that_was_to_be_loaded() -> None:
    table = tabulate(record(n, intended_at=n / 2) for n in range(50))
    found = windows(table, Buckets(0.0, 5.0, 6), 0.0, 25.0)
    assert [level.rate for level in found] == [2.0] * 5
    assert [level.num for level in found] == [10] * 5


def test_a_window_that_the_warm_up_cuts_is_no_level() -> None:
    table = tabulate(record(n, intended_at=7.0 + n / 2) for n in range(36))
    found = windows(table, Buckets(0.0, 5.0, 6), 7.0, 25.0)
    assert [(level.name, level.rate) for level in found] == [("10 s", 2.0), ("15 s", 2.0), ("20 s", 2.0)]
