"""The last ten seconds, counted by hand from the records that ended in them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from harness.live.histogram import RELATIVE_ERROR
from harness.live.series import KEPT_S, WINDOW_S, LivePoint, LiveSeries
from harness.live.stats import LiveBoard, LiveStats
from harness.objectives import parse_objective
from harness.records import RequestRecord
from tests.harness.builders import bare_record, record


def _watched(records: list[RequestRecord], num_seconds: int) -> LiveSeries:
    """One look at the end of each second, at everything that had ended by then."""
    series, stats, board = LiveSeries(), LiveStats(objectives={"": parse_objective("ttft<200ms")}), LiveBoard()
    board.put("", stats)
    waiting = sorted(records, key=lambda each: each.done_at or each.intended_at)
    for second in range(1, num_seconds + 1):
        while waiting and (waiting[0].done_at or waiting[0].intended_at) <= second:
            stats.add(waiting.pop(0))
        series.note(float(second), board.total())
    return series


def _load(num: int) -> list[RequestRecord]:
    draw = np.random.default_rng(5)
    answered = []
    for number in range(num):
        at, ttft = number * 0.02, float(draw.lognormal(-2, 0.8))
        fields = {"first_token_at": at + ttft, "last_token_at": at + ttft + 0.09, "done_at": at + ttft + 0.1}
        answered.append(record(number, intended_at=at, **fields))
    return answered


def test_a_window_holds_what_ended_in_it() -> None:
    records = _load(1_500)  # 30 s at 50 a second
    series = _watched(records, 30)
    inside = [each for each in records if each.done_at is not None and 20 < each.done_at <= 30]
    window = series.window
    assert window is not None
    assert window.span_s == WINDOW_S
    assert window.ok_rate == len(inside) / 10
    assert window.output_rate == 10 * len(inside) / 10
    ttft = [(each.first_token_at or 0) - each.intended_at for each in inside]
    assert window.good_rate == sum(value <= 0.2 for value in ttft) / 10
    for percent in (50, 90, 99):
        observed = float(np.percentile(ttft, percent, method="inverted_cdf"))
        assert window.ttft.at(percent) == pytest.approx(observed, rel=RELATIVE_ERROR + 1e-6)


def test_the_first_seconds_are_a_shorter_window() -> None:
    series = _watched(_load(200), 4)
    assert [point.at for point in series.points] == [1.0, 2.0, 3.0, 4.0]
    window = series.window
    assert window is not None
    assert window.span_s == 4.0
    assert series.points[0].ok_rate == pytest.approx(sum((each.done_at or 9) <= 1 for each in _load(200)), abs=0.1)


def test_a_percentile_that_ten_seconds_do_not_support_is_a_gap() -> None:
    series = _watched([record(number) for number in range(12)], 10)  # two a second
    point = series.points[-1]
    assert point.ttft_p50_s is not None
    assert point.ttft_p90_s is point.ttft_p99_s is None


def test_what_failed_is_told_apart() -> None:
    kinds = ["failed", "cut", "incomplete", "throttled", "refused"]
    records = [bare_record(number, outcome=kind, intended_at=0.5) for number, kind in enumerate(kinds)]
    window = _watched(records, 2).window
    assert window is not None
    assert (window.bad_rate, window.throttled_rate, window.refused_rate, window.ok_rate) == (1.5, 0.5, 0.5, 0.0)
    assert window.output_rate is None


def test_sent_is_counted_when_it_is_sent() -> None:
    series, stats = LiveSeries(), LiveStats(num_in_flight=30)
    series.note(3.0, stats)
    assert series.points[-1].sent_rate == 10.0
    assert series.points[-1].ok_rate == 0.0


def test_ten_minutes_are_kept_and_no_more() -> None:
    series = LiveSeries()
    for second in range(1, 2 * KEPT_S):
        series.note(float(second), LiveStats())
    assert len(series.points) == KEPT_S
    assert series.points[0].at == KEPT_S


def test_a_look_before_the_run_or_twice_at_once_is_left_out() -> None:
    series = LiveSeries()
    for at in (float("-inf"), -1.0, 0.0, 1.0, 1.0):
        series.note(at, LiveStats())
    assert [point.at for point in series.points] == [1.0]


def test_totals_that_went_back_begin_anew() -> None:
    series = _watched(_load(200), 15)
    series.note(16.0, LiveStats())  # somebody forged a snapshot, or a worker began again
    assert series.points[-1].at == 15.0
    series.note(17.0, LiveStats())
    assert series.points[-1].ok_rate == 0.0


def test_a_point_is_a_row_of_numbers_in_the_order_of_its_names() -> None:
    point = _watched(_load(1_500), 30).points[-1]
    row = msgspec.json.decode(msgspec.json.encode(point))
    assert row == [getattr(point, name) for name in LivePoint.__struct_fields__]
