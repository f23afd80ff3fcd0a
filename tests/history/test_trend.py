"""Series over nights, and which of their changes deserve an alarm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy import stats

from harness.errors import RunError, UsageError
from harness.history.command import run_trend
from harness.history.levels import series_over
from harness.history.nights import Night
from harness.history.trend import Trend, trend_of
from harness.history.trend_text import change_line, trend_text
from harness.streams import stream
from tests.history.past import facts, nights, past, write_past

TTFT = "ttft_p50(ok)"


def test_a_night_is_the_mean_of_its_runs() -> None:
    night = Night((past(0, {TTFT: 0.1}), past(0, {TTFT: 0.4}, seed=2), past(0, {TTFT: None}, seed=3)))
    series = series_over(TTFT, [night])
    assert series is not None
    assert series.values == (0.25,)


def test_a_change_says_levels_size_and_commits() -> None:
    series = series_over(TTFT, nights([0.2] * 10 + [0.3] * 5))
    assert series is not None
    (change,) = series.changes
    assert (change.at, change.tone, change.first_run) == (10, "worse", "run-010-1")
    assert (change.commit_before, change.commit) == ("c009", "c010")
    assert (change.before, change.after, change.change) == pytest.approx((0.2, 0.3, 0.5))
    assert series.levels == pytest.approx((*[0.2] * 10, *[0.3] * 5))


def test_where_nobody_noted_a_commit_none_is_named() -> None:
    series = series_over(TTFT, nights([0.2] * 10 + [0.3] * 5))
    assert series is not None
    (change,) = series.changes
    assert ", run-010-1, commits c009..c010, p " in change_line(series, change)
    assert ", run-010-1, p " in change_line(series, replace(change, commit_before=None, commit=None))


def test_the_level_of_a_latency_is_a_geometric_mean_and_that_of_a_share_a_mean() -> None:
    latency = series_over(TTFT, nights([0.1, 0.4, 0.1, 0.4, 0.1, 0.4]))
    share = series_over("error_rate", nights([0.0, 0.2, 0.0, 0.2, 0.0, 0.2], "error_rate"))
    assert latency is not None
    assert share is not None
    assert latency.levels[0] == pytest.approx(0.2)
    assert share.levels[0] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("measure", "values", "tone", "size"),
    [
        ("error_rate", [0.0] * 8 + [0.03] * 8, "worse", 0.03),
        ("goodput", [0.9] * 8 + [0.99] * 8, "better", 0.09),
        ("output_rate", [200.0] * 8 + [150.0] * 8, "worse", -0.25),
        ("cost_per_request", [0.0] * 8 + [0.01] * 8, "worse", None),
    ],
)
def test_worse_and_better_by_measure(measure: str, values: list[float], tone: str, size: float | None) -> None:
    series = series_over(measure, nights(values, measure))
    assert series is not None
    (change,) = series.changes
    assert change.tone == tone
    assert change.change == (None if size is None else pytest.approx(size))


def test_next_to_nothing_is_no_change() -> None:
    for values, measure in (([1.0] * 10 + [1.0009] * 10, TTFT), ([0.5] * 10 + [0.5009] * 10, "goodput")):
        series = series_over(measure, nights(values, measure))
        assert series is not None
        assert series.changes == ()
        assert len(set(series.levels)) == 1


def test_a_night_without_a_value_stands_between_the_others() -> None:
    series = series_over(TTFT, nights([0.2] * 6 + [None, None] + [0.3] * 6))
    assert series is not None
    assert [change.at for change in series.changes] == [8]
    assert series.levels[6] is None


def test_a_night_without_end_is_in_no_level_and_is_said(tmp_path: Path) -> None:
    runs = [past(number, {"ttft_p99": 0.2}) for number in range(8)]
    runs += [past(7, {"ttft_p99": None}, seed=2), *(past(number, {"ttft_p99": None}) for number in range(8, 12))]
    for run in runs:
        run.facts.measures["ttft_p99"].infinite = run.facts.measures["ttft_p99"].value is None
        write_past(tmp_path, run)
    trend = trend_of(tmp_path, ["ttft_p99"])
    assert trend.groups[0].series[0].values == (*[0.2] * 7, *[None] * 5)
    assert "ttft_p99 is +∞ in 5 nights" in trend_text(trend)


def test_a_measure_that_becomes_endless_is_an_alarm(tmp_path: Path) -> None:
    for number in range(12):
        run = past(number, {"ttft_p99": 0.2 if number < 9 else None}, commit=f"{number // 3:07x}")
        run.facts.measures["ttft_p99"].infinite = number >= 9
        write_past(tmp_path, run)
    trend = trend_of(tmp_path, ["ttft_p99"])
    ((_, series, change),) = trend.alarms(3)
    assert (series.name, series.values) == ("ttft_p99 is +∞", (*[0.0] * 9, *[1.0] * 3))
    assert (change.at, change.tone, change.change, change.commit) == (9, "worse", 1.0, "0000003")
    assert trend.alarms(2) == []


@pytest.mark.parametrize(
    ("measure", "why"),
    [
        ("tftt_p99", "is no measure"),
        ("ttft_p50(okay)", "is no measure"),
        ("goodput(ttft<1s)", r"has goodput\(ttft<1s\)"),
    ],
)
def test_a_measure_that_no_run_has_is_refused(folder: Path, measure: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        trend_of(folder, [TTFT, measure])


def test_where_nothing_is_endless_nobody_says_so(folder: Path) -> None:
    assert not [series for series in trend_of(folder).groups[0].series if "∞" in series.name]


def test_what_was_never_measured_is_no_series() -> None:
    assert series_over(TTFT, nights([None, None])) is None
    assert series_over("gpu_utilization", nights([0.2])) is None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty nights of three seeds; from the 15th on TTFT is a third higher. TPOT has noise alone."""
    noise = stream(3, "trend").standard_normal((20, 3, 2)) * 0.02
    for night in range(20):
        for seed in range(3):
            ttft = 0.4 * np.exp(noise[night, seed, 0]) * (4 / 3 if night >= 15 else 1)
            values = {TTFT: float(ttft), "tpot_p50(ok)": float(0.02 * np.exp(noise[night, seed, 1])), "error_rate": 0.0}
            write_past(tmp_path, past(night, values, seed=seed, commit=f"{night // 5:07x}"))
    return tmp_path


def test_a_folder_of_runs_is_a_trend(folder: Path) -> None:
    trend = trend_of(folder)
    (group,) = trend.groups
    assert (len(group.nights), group.num_runs) == (20, 60)
    assert [series.name for series in group.series] == [TTFT, "tpot_p50(ok)", "error_rate"]
    ((_, series, change),) = trend.alarms(20)
    assert (series.name, change.at, change.commit) == (TTFT, 15, "0000003")
    assert change.change == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize(("last", "code"), [(None, 0), (4, 0), (5, 1), (20, 1)])
def test_only_a_recent_change_fails(folder: Path, last: int | None, code: int) -> None:
    told: list[str] = []
    assert run_trend(folder, fail_on_change=last, tell=told.append) == code
    text = "\n".join(told)
    assert "TREND: 1 change to the worse of 1 change point" in text
    assert "! ttft_p50(ok)" in text
    assert "commits 0000002..0000003" in text
    assert "no change in tpot_p50(ok), error_rate" in text
    assert ("FAIL: worse since one of the last" in text) == (code == 1)


def test_a_change_to_the_better_fails_nothing(tmp_path: Path) -> None:
    for night in range(20):
        write_past(tmp_path, past(night, {TTFT: 0.4 if night < 15 else 0.2}))
    assert run_trend(tmp_path, fail_on_change=20, tell=lambda _: None) == 0
    assert [change.tone for change in trend_of(tmp_path).groups[0].series[0].changes] == ["better"]


def test_alarms_hold_the_rate_of_false_discoveries(tmp_path: Path) -> None:
    """Against scipy: of thirty series of noise, those whose point stands after the correction of Benjamini and Hochberg."""
    noise = stream(8, "many").standard_normal((30, 30)) * 0.05
    noise[0, 20:] += 0.3  # one of them is true
    for number, series in enumerate(noise):
        for night, value in enumerate(series):
            run = past(night, {TTFT: float(np.exp(value))}, labels={"series": f"s{number}"})
            write_past(tmp_path, replace(run, name=f"s{number}-{night}"))
    trend = trend_of(tmp_path)
    points = [(series, change) for group in trend.groups for series in group.series for change in series.changes]
    others = sum(not series.changes for group in trend.groups for series in group.series)
    adjusted = stats.false_discovery_control([change.p for _, change in points] + [1.0] * others)
    expected = [change.tone == "worse" and p <= 0.05 for (_, change), p in zip(points, adjusted, strict=False)]
    assert len(points) >= 2
    assert [change.alarm for _, change in points] == expected
    assert sum(expected) == 1


def test_a_run_that_says_nothing_is_left_out_and_named(tmp_path: Path) -> None:
    write_past(tmp_path, past(0, {TTFT: 0.4}))
    bad = past(1, {TTFT: 9.0})
    path = write_past(tmp_path, bad)
    (path / "facts.json").write_bytes(
        msgspec.json.encode(facts(bad.name, {TTFT: 9.0}, state="INVALID", reasons=["late"]))
    )
    (tmp_path / "empty").mkdir()
    broken = write_past(tmp_path, past(2, {}))
    (broken / "facts.json").write_text("{")
    trend = trend_of(tmp_path)
    assert [night.runs[0].name for night in trend.groups[0].nights] == ["run-000-1"]
    assert [text.partition(":")[0] for text in trend.left_out] == ["run-001-1", "run-002-1"]
    assert "INVALID: late" in trend.left_out[0]


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run that a trend can be made of: `harness keep RUN --into DIR`"):
        trend_of(tmp_path)
    with pytest.raises(RunError, match="is not a directory"):
        trend_of(tmp_path / "nowhere")
    for number in (0, 1):  # what began in the last night nobody can tell from an outlier: 1 would never fail
        with pytest.raises(UsageError, match=f"--fail-on-change {number}: must be a number of nights, 2 or more"):
            run_trend(tmp_path, fail_on_change=number)


def test_series_that_are_too_short_to_be_judged_do_not_hide_a_change(tmp_path: Path) -> None:
    draw = stream(1, "noise")
    for night in range(30):
        write_past(tmp_path, past(night, {TTFT: (0.4 if night >= 20 else 0.2) * float(draw.normal(1, 0.02))}))
    for other in range(200):
        write_past(tmp_path, past(100 + other, {TTFT: 0.2}, scenario=f"other-{other}"))
    trend = trend_of(tmp_path)
    assert trend.num_series > 200
    assert [change.at for _, _, change in trend.alarms(15)] == [20]


def test_one_change_among_many_quiet_series_is_an_alarm(tmp_path: Path) -> None:
    draw, names = (
        stream(2, "noise"),
        [f"{metric}_p{percent}(ok)" for metric in ("ttft", "e2e") for percent in range(1, 100)],
    )
    for night in range(20):
        levels = {name: 0.4 if night >= 12 and name == TTFT else 0.2 for name in names}
        write_past(tmp_path, past(night, {name: level * float(draw.normal(1, 0.02)) for name, level in levels.items()}))
    found = trend_of(tmp_path, names).alarms(20)
    assert [(series.name, change.at) for _, series, change in found] == [(TTFT, 12)]


def test_few_nights_are_shown_and_not_judged(tmp_path: Path) -> None:
    for night, value in enumerate([0.4, 0.4, 0.8, 0.8]):
        write_past(tmp_path, past(night, {TTFT: value}))
    told: list[str] = []
    run_trend(tmp_path, tell=told.append)
    assert "change points need 6 nights" in "\n".join(told)


def test_an_empty_trend_has_no_alarms() -> None:
    assert Trend("x", ()).alarms(3) == []
