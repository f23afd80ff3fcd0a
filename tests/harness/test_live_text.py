"""The line of progress: it fits, and says what matters most first."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.live.report import Course, LiveReport, live_report
from harness.live.series import LiveSeries
from harness.live.stats import LiveStats
from harness.live.text import progress_line, remaining
from harness.objectives import parse_objective
from harness.store import Sample
from tests.harness.builders import LAW, bare_record, record


def _course(**changes: Any) -> Course:
    fields: dict[str, Any] = {
        "run_id": "burst-1", "scenario": "burst", "target": "http://127.0.0.1:8000", "model": "m", "directory": "runs/burst-1",
        "num_planned": 1_365, "duration_s": 60.0, "drain_s": 30.0,
    }  # fmt: skip
    return Course(**(fields | changes))


def _report(now: float = 12.0, *, num: int = 400, bad: dict[str, int] | None = None, **more: Any) -> LiveReport:
    stats, series = LiveStats(objectives={"": parse_objective("ttft<1s,tpot<60ms")}), LiveSeries()
    for number in range(num):
        stats.add(record(number, intended_at=number * 0.02, cost_usd=0.0001))
    for outcome, count in (bad or {}).items():
        for number in range(count):
            stats.add(bare_record(10_000 + number, outcome=outcome))
    stats.note_sample(Sample(at=11.0, cpu=more.pop("cpu", 0.2), loop_lag_s=0.001, num_in_flight=9))
    if now > 0:
        series.note(min(now, 10.0), stats)
    return live_report(more.pop("course", _course()), stats, series, now, **more)


_BAD = st.dictionaries(
    st.sampled_from(["failed", "cut", "throttled", "refused", "incomplete", "left"]), st.integers(1, 50)
)


@LAW
@given(st.floats(-5, 100), st.integers(0, 400), _BAD, st.integers(1, 250), st.booleans())
def test_it_never_wraps(now: float, num: int, bad: dict[str, int], width: int, colour: bool) -> None:
    line = progress_line(_report(now, num=num, bad=bad), width, colour=colour)
    assert len(re.sub(r"\x1b\[\d*m", "", line)) <= width
    assert "\n" not in line


def test_a_wide_terminal_shows_everything() -> None:
    line = progress_line(_report(bad={"failed": 2, "throttled": 3}), 200)
    assert line == (
        "▕████▊                   ▏ 12/60 s  48 s left  405/1,365  2 failed  3 throttled  9 in flight  "
        "TTFT 100 p99 100 ms  ITL 10.0 ms  400 tok/s  good 99%  $0.0400  VALID"
    )


def test_eighty_columns_keep_what_matters() -> None:
    line = progress_line(_report(bad={"failed": 2}), 79)
    for part in ("12/60 s", "402/1,365", "2 failed", "TTFT 100 p99 100 ms", "good 100%"):
        assert part in line


@pytest.mark.parametrize(
    ("now", "words"),
    [(float("-inf"), "starting"), (-1.0, "starting"), (0.0, "0/60 s"), (59.6, "60/60 s"), (75.0, "draining ≤ 15 s")],
)
def test_it_says_where_the_run_is(now: float, words: str) -> None:
    assert words in progress_line(_report(now), 200)


def test_doubts_lost_workers_and_failures_are_seen_in_colour() -> None:
    report = _report(bad={"failed": 1}, cpu=0.97, lost_workers=["worker 1"], course=_course(num_workers=3))
    line = progress_line(report, 200, colour=True)
    assert "\x1b[33mDEGRADED\x1b[0m" in line
    assert "\x1b[31m1 of 3 workers lost\x1b[0m" in line
    assert "\x1b[31m1 failed\x1b[0m" in line
    assert "a load process used 97% of a core" in report.instrument.reasons


def test_a_plan_that_goes_on_from_answers_has_no_whole() -> None:
    assert "400 done" in progress_line(_report(course=_course(reactive=True)), 200)


def test_too_few_samples_print_no_p99() -> None:
    assert "TTFT 100 p90 100 ms" in progress_line(_report(num=40), 200)
    assert "TTFT ≤ 100 ms" in progress_line(_report(num=3), 200)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (48, "48 s"), (99.4, "99 s"), (125, "2:05 min"), (4320, "72:00 min"), (7320, "2:02 h")],
)
def test_a_time_to_go_is_short(seconds: float, text: str) -> None:
    assert remaining(seconds) == text


def test_the_report_says_what_the_totals_say() -> None:
    report = _report(bad={"throttled": 3, "refused": 2})
    assert (report.num_ended, report.num_in_flight, report.num_scheduled) == (405, 9, 414)
    assert report.num_sent == 409  # 400 that were answered and 9 that are open; the others of this test were never sent
    assert report.good_rate == pytest.approx(400 / 12)
    assert report.cost_usd == pytest.approx(0.04)
    assert report.objectives == ["ttft<1s, tpot<60ms"]
    assert report.left_s == 48.0
    assert report.latencies["ttft"].at(50) == pytest.approx(0.1, rel=0.005)
    assert report.instrument.reasons == ["2 requests were held back by the harness itself"]


def test_only_new_points_are_sent() -> None:
    stats, series = LiveStats(), LiveSeries()
    for second in range(1, 6):
        series.note(float(second), stats)
    report = live_report(_course(), stats, series, 5.0, after=3.0)
    assert [point.at for point in report.series] == [4.0, 5.0]
    assert len(report.series_names) == len(report.series[0].__struct_fields__)


def test_an_instrument_that_has_said_nothing_is_not_valid() -> None:
    report = live_report(_course(), LiveStats(), LiveSeries(), -1.0)
    assert report.instrument.state is None
    assert "VALID" not in progress_line(report, 200)


def test_it_is_over_when_it_is_over() -> None:
    report = _report(61.0, over=True)
    assert (report.state, report.left_s) == ("over", 0.0)
