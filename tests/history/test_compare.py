"""Runs side by side: values, changes, and intervals that hold what they promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from harness.errors import RunError, UsageError
from harness.history.command import run_compare
from harness.history.compare import MEASURES, Comparison, Row, compared
from harness.history.compare_text import comparison_text
from harness.history.differing import differing_fields
from harness.history.resampling import resampled
from harness.judgement.measuring import Subject, parse_measure
from harness.objectives import parse_objective
from harness.records import RequestRecord
from harness.store import RunDirectory
from harness.streams import stream
from harness.table import Floats, tabulate
from reports.compare_page import render_comparison
from tests.harness.builders import bare_record, manifest, record, write_run

NUM = 800


def latencies(seed: int, factor: float = 1.0, num: int = NUM) -> Floats:
    return factor * stream(seed, "latencies").lognormal(-1.5, 0.4, num)


def requests(seed: int, factor: float = 1.0, num: int = NUM, num_failed: int = 0) -> list[RequestRecord]:
    """Ok requests with these TTFTs, ten tokens 10 ms apart, each with a cost; then some that failed."""
    cost = stream(seed, "costs").uniform(0.001, 0.003, num)
    made = [
        record(
            number,
            intended_at=(at := number * 0.1),
            first_token_at=at + float(ttft),
            last_token_at=at + float(ttft) + 0.09,
            done_at=at + float(ttft) + 0.1,
            cost_usd=float(cost[number]),
        )
        for number, ttft in enumerate(latencies(seed, factor, num))
    ]
    made += [
        bare_record(
            num + number, intended_at=number * 0.1, sent_at=number * 0.1, outcome="failed", error_kind="http_500"
        )
        for number in range(num_failed)
    ]
    return made


def run(path: Path, seed: int, factor: float = 1.0, num_failed: int = 0, **fields: Any) -> Path:
    said: dict[str, Any] = {"run_id": path.name, "seed": seed, "duration_s": 80.0} | fields
    return write_run(path, [requests(seed, factor, num_failed=num_failed)], **said).path


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A reference, the same with another seed, and one that is a fifth slower and fails now and then."""
    folder = tmp_path_factory.mktemp("compare")
    paths = [run(folder / "old", 1), run(folder / "again", 2), run(folder / "slow", 3, 1.2, 40)]
    return compared(paths)


def row(comparison: Comparison, name: str) -> Row:
    (found,) = [each for each in comparison.rows if each.name == name]
    return found


def test_values_are_those_of_the_records(comparison: Comparison) -> None:
    values = [measured.value for measured in row(comparison, "ttft_p50(ok)").measured]
    expected = [float(np.sort(latencies(seed, factor))[399]) for seed, factor in ((1, 1), (2, 1), (3, 1.2))]
    assert values == pytest.approx(expected)


def test_a_change_is_a_part_of_the_reference(comparison: Comparison) -> None:
    found = row(comparison, "ttft_p50(ok)")
    first, second = found.deltas[1], found.deltas[2]
    assert found.deltas[0] is None
    assert first is not None
    assert second is not None
    values = [measured.value or 0 for measured in found.measured]
    assert (first.value, second.value) == pytest.approx((values[1] / values[0] - 1, values[2] / values[0] - 1))
    assert (first.tone, second.tone) == ("unclear", "worse")
    assert second.low is not None
    assert second.high is not None
    assert 0.08 < second.low < second.value < second.high < 0.32


def test_a_share_changes_by_points(comparison: Comparison) -> None:
    found = row(comparison, "error_rate").deltas[2]
    assert found is not None
    assert found.value == pytest.approx(40 / 840)
    assert found.tone == "worse"
    assert (found.low, found.high) == pytest.approx(stats.binom.ppf([0.025, 0.975], 840, 40 / 840) / 840, abs=0.002)


def test_all_that_failed_against_none_is_worse(tmp_path: Path) -> None:
    """No resample of either differs from the other, and yet nobody would call them alike."""
    failed = [
        bare_record(number, intended_at=number * 0.1, sent_at=number * 0.1, outcome="failed", error_kind="http_500")
        for number in range(NUM)
    ]
    broken = write_run(tmp_path / "b", [failed], run_id="b", seed=1, duration_s=80.0).path
    found = compared([run(tmp_path / "a", 1), broken], measures=("error_rate", "ttft_p99"))
    errors, ttft = row(found, "error_rate"), row(found, "ttft_p99")
    assert errors.deltas[1] is not None
    assert (errors.deltas[1].tone, errors.deltas[1].value) == ("worse", 1.0)
    assert ttft.measured[1].infinite
    page = render_comparison(found)
    assert "no measure differs" not in page
    assert "B against A: worse in error_rate, ttft_p99" in page


def test_what_has_no_interval_is_not_called_worse(comparison: Comparison) -> None:
    found = row(comparison, "request_rate").deltas[1]
    assert found is not None
    assert (found.low, found.high, found.tone) == (None, None, "")
    assert row(comparison, "itl_p50").deltas[2].tone in ("", "same")  # type: ignore[union-attr]


def test_what_no_run_has_measured_is_no_row(comparison: Comparison) -> None:
    names = {each.name for each in comparison.rows}
    assert "gpu_utilization" not in names
    assert "cache_hit_rate" not in names
    assert names < set(MEASURES)


def test_the_same_runs_give_the_same_intervals(comparison: Comparison) -> None:
    again = compared([side.run.directory.path for side in comparison.sides])
    assert again.rows == comparison.rows


def subject(seed: int, num: int = NUM, num_failed: int = 0) -> Subject:
    return Subject(tabulate(requests(seed, num=num, num_failed=num_failed)), 80.0, {"": parse_objective("ttft<200ms")})


def quantile(percent: float) -> Callable[..., Floats]:
    def of(values: Floats, axis: int = -1) -> Floats:
        return np.quantile(values, percent / 100, axis=axis, method="inverted_cdf")

    return of


@pytest.mark.parametrize("percent", [50, 90, 99])
def test_a_percentile_is_resampled_as_scipy_does_it(percent: float) -> None:
    found = resampled(parse_measure(f"ttft_p{percent}(ok)"), subject(1), stream(0, "a"))
    values = latencies(1)
    drawn = stats.bootstrap(
        (values,),
        quantile(percent),
        n_resamples=4000,
        method="percentile",
        rng=np.random.Generator(np.random.Philox(1)),
    ).bootstrap_distribution
    assert found is not None
    assert np.isin(np.round(found, 9), np.round(values, 9)).all()  # resamples hold what was observed, and nothing else
    for share in (0.025, 0.25, 0.5, 0.75, 0.975):
        spread = float(drawn.std())
        assert float(np.quantile(found, share)) == pytest.approx(float(np.quantile(drawn, share)), abs=0.25 * spread)
    assert stats.ks_2samp(np.round(found, 9), np.round(drawn, 9)).statistic < 0.05


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("cost_per_request", lambda num: stream(1, "costs").uniform(0.001, 0.003, num)),
        ("ttft_mean(ok)", lambda num: latencies(1, num=num)),
        ("cost_per_mtok", lambda num: stream(1, "costs").uniform(0.001, 0.003, num) * 1e6 / 110),
    ],
)
@pytest.mark.parametrize("num", [300, 3000])
def test_a_mean_is_resampled_with_its_standard_error(name: str, values: Callable[[int], Floats], num: int) -> None:
    """Also where many requests are dealt to blocks."""
    found = resampled(parse_measure(name), subject(1, num), stream(0, "b"))
    assert found is not None
    assert float(found.mean()) == pytest.approx(float(values(num).mean()), rel=0.005)
    assert float(found.std()) == pytest.approx(float(stats.sem(values(num))), rel=0.08)


def test_a_cost_for_each_good_request_varies_with_how_many_are_good() -> None:
    """Against resampling whole requests, written out."""
    one = subject(1)
    found = resampled(parse_measure("cost_per_good"), one, stream(0, "c"))
    cost = stream(1, "costs").uniform(0.001, 0.003, NUM)
    good = latencies(1) <= 0.2
    drawn = np.random.Generator(np.random.Philox(2)).integers(0, NUM, (3000, NUM))
    expected = cost[drawn].sum(axis=1) / good[drawn].sum(axis=1)
    assert found is not None
    assert float(found.std()) == pytest.approx(float(expected.std()), rel=0.1)
    assert float(np.median(found)) == pytest.approx(float(np.median(expected)), rel=0.01)


def test_a_good_request_is_paid_for_by_classes_that_can_be_good() -> None:
    """As the value is: beside batch jobs that nobody judges, at ten times the cost, the resamples lie around a cent."""
    records = [
        record(number, class_name="chat" if number % 2 else "batch", cost_usd=0.01 if number % 2 else 0.1)
        for number in range(400)
    ]
    one = Subject(tabulate(records), 80.0, {"chat": parse_objective("ttft<1s")})
    found = resampled(parse_measure("cost_per_good"), one, stream(0, "d"))
    assert found is not None
    assert np.quantile(found, [0.0, 1.0]) == pytest.approx([0.01, 0.01])
    assert parse_measure("cost_per_good").of(one).value == pytest.approx(0.01)


@pytest.mark.parametrize(
    "name",
    [
        each
        for each in MEASURES
        if not each.startswith(("itl", "gpu", "request_rate", "output_rate", "queue", "cache_hit"))
    ],
)
def test_resamples_lie_around_the_value(name: str) -> None:
    made = requests(4, num_failed=30)
    for each in made[:NUM]:
        each.num_cached_tokens = 25
    one = Subject(tabulate(made), 80.0, {"": parse_objective("ttft<200ms")})
    measure = parse_measure(name)
    value, found = measure.of(one).value, resampled(measure, one, stream(0, name))
    assert value is not None
    assert found is not None
    assert np.quantile(found, 0.025) <= value * (1 + 1e-9)
    assert np.quantile(found, 0.975) >= value * (1 - 1e-9)


@pytest.mark.parametrize("name", ["itl_p50", "ttft_max(ok)", "output_rate", "request_rate", "cost", "gpu_utilization"])
def test_of_some_measures_resampling_says_nothing(name: str) -> None:
    if name == "ttft_max(ok)":
        name = "ttft_max"
    assert resampled(parse_measure(name), subject(1), stream(0, name)) is None


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Two runs of the same law, sixty times: nineteen in twenty of the intervals hold no change, give or take."""
    from harness.history.compare import _delta

    measure = parse_measure("ttft_p90(ok)")
    held = []
    for seed in range(60):
        sides = [subject(seed * 2 + each, num=200) for each in (0, 1)]
        tries = [resampled(measure, side, stream(seed, f"{each}")) for each, side in enumerate(sides)]
        delta = _delta(measure.of(sides[0]), measure.of(sides[1]), *tries)
        assert delta is not None
        assert delta.low is not None
        assert delta.high is not None
        held.append(delta.low <= 0 <= delta.high)
    assert 0.88 <= np.mean(held) <= 1.0


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    paths = [run(tmp_path / "a", 1), run(tmp_path / "b", 1, model="large", duration_s=40.0)]
    with pytest.raises(UsageError) as caught:
        compared(paths)
    assert "B against A: duration_s: 80.0 and 40.0" in str(caught.value)
    assert "B against A: model: mock and large" in str(caught.value)
    assert "--anyway" in str(caught.value)
    found = compared(paths, anyway=True)
    assert len(found.forbidden) == 2
    assert "NOT COMPARABLE" in comparison_text(found)


@pytest.mark.parametrize("num", [1, 9])
def test_two_to_eight_runs(num: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{num} runs: a comparison takes 2 to 8"):
        compared([tmp_path] * num)


def test_a_run_without_records_says_so(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.mkdir()
    RunDirectory(path).write_manifest(manifest())
    with pytest.raises(RunError, match="has no records to compare"):
        compared([path, path])


def test_a_page_goes_into_a_file(tmp_path: Path) -> None:
    paths = [run(tmp_path / "a", 1), run(tmp_path / "b", 2)]
    with pytest.raises(UsageError, match="is a directory; name a file"):
        run_compare(paths, tmp_path)
    out = tmp_path / "new" / "page.html"
    assert run_compare(paths, out, tell=lambda _: None) == 0
    assert out.read_text().startswith("<!doctype html>")


def test_only_fields_that_differ_are_listed() -> None:
    fields = differing_fields(
        [
            manifest(seed=1, options={"rate": 5, "whole": True}, versions={"python": "3.11"}),
            manifest(seed=2, options={"rate": 6, "whole": True, "extra": "x"}, versions={"python": "3.11"}),
        ]
    )
    assert {field.name: field.values for field in fields} == {
        "seed": [1, 2],
        "options.rate": [5, 6],
        "options.extra": [None, "x"],
    }


def test_the_text_has_a_line_a_measure(comparison: Comparison) -> None:
    lines = comparison_text(comparison).splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["A", "PASS"], ["B", "PASS"], ["C", "FAIL"]]
    (ttft,) = [line for line in lines if line.startswith("  ttft_p50(ok)")]
    assert ttft.endswith("worse")
    assert "within-run uncertainty; whether a build got worse needs several runs: harness gate" in lines[-1]


def test_columns_of_the_text_do_not_touch_and_stand_under_their_letters(comparison: Comparison) -> None:
    head, *rows = comparison_text(comparison).splitlines()[5:-2]
    assert head.split() == ["A", "B", "change", "C", "change"]
    ends = [head.index(letter) + 1 for letter in "ABC"]
    for row in rows:
        assert all(row[end - 1] != " " and row[end : end + 1] in (" ", "") for end in ends), row
    (failed,) = [row for row in rows if row.startswith("  error_rate")]
    assert " points" in failed
    assert "%+" not in failed
