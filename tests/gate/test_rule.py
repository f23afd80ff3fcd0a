"""What a gate looks at and allows; objectives over several runs; measures on the scale that is judged."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scipy.stats import binom

from harness.errors import UsageError
from harness.gate.objectives import agreeing_runs, over_runs
from harness.gate.rule import DEFAULT_MEASURES, Rule
from harness.gate.series import series_of
from harness.judgement.slo import load_slo
from tests.gate.builders import by_seed, judged, objective, value


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("ttft_p50(ok)", 0.05),
        ("e2e_mean", 0.05),
        ("ttft_p99(ok)", 0.10),
        ("e2e_p90", 0.10),
        ("e2e_max", 0.10),
        ("output_rate", 0.05),
        ("cost_per_request", 0.05),
        ("error_rate", 0.01),
        ("goodput(ttft<1s)", 0.01),
    ],
)
def test_what_is_allowed_by_default(name: str, allowed: float) -> None:
    assert Rule().allowed_of(name) == allowed


def test_a_file_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "slo.yaml").write_text(
        "gate:\n  measures: [ttft_p99(ok), ttft_p50, 'goodput(ttft < 1 s)', error_rate, output_rate]\n"
        "  allowed: {default: 3 %, ttft_p99: 20 %, error_rate: 0.1 %}\n"
    )
    keys = load_slo(tmp_path / "slo.yaml").gate
    rule = Rule.of(keys.measures, keys.allowed)
    assert rule.names == ("ttft_p99(ok)", "ttft_p50", "goodput(ttft<1s)", "error_rate", "output_rate")
    found = [rule.allowed_of(name) for name in rule.names]
    assert found == pytest.approx([0.2, 0.03, 0.01, 0.001, 0.03])


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="no measure"):
        Rule.of(["ttft_p99", "speed"], None)
    with pytest.raises(UsageError, match="ttft_p99 stands twice"):
        Rule.of(["ttft_p99", " ttft_p99"], None)
    with pytest.raises(UsageError, match="allowed names queue_p50, which is not looked at"):
        Rule.of([], {"queue_p50": 0.1})
    assert Rule.of([], {"ttft_p99": 0.5}).allowed_of("ttft_p99(ok)") == 0.5
    assert Rule.of([], {}).names == DEFAULT_MEASURES


# -- the scale ---------------------------------------------------------------------------------------


def test_a_change_is_a_ratio_and_of_shares_a_difference() -> None:
    candidates = by_seed("b", {"ttft_p50": [0.22], "output_rate": [90.0], "error_rate": [0.03], "goodput": [0.9]})
    baselines = by_seed("a", {"ttft_p50": [0.20], "output_rate": [100.0], "error_rate": [0.01], "goodput": [0.95]})
    for name, change, worse in (
        ("ttft_p50", 0.1, math.log(1.1)),
        ("output_rate", -0.1, -math.log(0.9)),
        ("error_rate", 0.02, 0.02),
        ("goodput", -0.05, 0.05),
    ):
        series = series_of(name, candidates, baselines)
        a, b = series.judged()
        assert a[0] - b[0] == pytest.approx(worse), name  # up is worse
        assert series.change(a[0] - b[0]) == pytest.approx(change), name
        assert series.margin(abs(change)) == pytest.approx(worse), name


def test_nothing_is_not_less_than_a_microsecond() -> None:
    candidates, baselines = by_seed("b", {"ttft_p50": [0.0]}), by_seed("a", {"ttft_p50": [0.0]})
    a, b = series_of("ttft_p50", candidates, baselines).judged()
    assert a[0] == b[0] == pytest.approx(math.log(1e-6))


def test_what_is_infinite_is_worse_than_all_that_is_not() -> None:
    infinite = judged("b1", {"ttft_p99": value("ttft_p99", None, infinite=True)}, clock="virtual", seed=1)
    candidates = [*by_seed("b", {"ttft_p99": [0.5]}), infinite]
    baselines = by_seed("a", {"ttft_p99": [0.4, 2.0]})
    series = series_of("ttft_p99", candidates, baselines)
    assert series.missing is None
    assert series.num_infinite == 1
    assert series.judged()[0][1] == pytest.approx(math.log(2000))
    assert series_of("ttft_p99", baselines, candidates).missing == "it is +∞ in 1 of 2 baseline runs"


def test_why_something_is_missing() -> None:
    candidates, baselines = by_seed("b", {"ttft_p99": [0.5, 0.5]}), by_seed("a", {"e2e_p50": [0.4, 0.4]})
    missing = series_of("ttft_p99", candidates, baselines).missing
    assert missing == "2 of 2 baseline runs have no value: it was not kept with the baseline"
    few = judged("b1", {"ttft_p99": value("ttft_p99", None, why="p99 needs 368 samples")}, clock="virtual", seed=1)
    assert series_of("ttft_p99", [candidates[0], few], candidates).missing == (
        "1 of 2 candidate runs have no value: p99 needs 368 samples"
    )
    assert series_of("queue_p50", candidates, baselines).nowhere == "it was not kept with the baseline"


@pytest.mark.parametrize(("name", "allowed"), [("output_rate", 1.0), ("error_rate", 1.0), ("ttft_p50", -0.1)])
def test_what_can_not_be_allowed(name: str, allowed: float) -> None:
    runs = by_seed("a", {name: [1.0]})
    with pytest.raises(UsageError, match=f"allowed {name}"):
        series_of(name, runs, runs).margin(allowed)


# -- objectives --------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", range(1, 41))
def test_as_many_runs_agree_as_chance_does_not_bring_together(num: int) -> None:
    needed = agreeing_runs(num)
    assert binom.sf(needed - 1, num, 0.05) <= 0.05 + 1e-9
    assert needed == 1 or binom.sf(needed - 2, num, 0.05) > 0.05


@pytest.mark.parametrize(
    ("answers", "answer"),
    [
        (["PASS"], "PASS"),
        (["FAIL"], "FAIL"),
        (["PASS", "INCONCLUSIVE"], "INCONCLUSIVE"),
        (["FAIL", "PASS", "PASS", "PASS"], "PASS"),
        (["FAIL", "FAIL", "PASS", "PASS"], "FAIL"),
        (["PASS", "PASS", *["INCONCLUSIVE"] * 6], "INCONCLUSIVE"),
        (["PASS", "PASS", "PASS", *["INCONCLUSIVE"] * 5], "PASS"),
        (["FAIL", "FAIL", "FAIL", *["PASS"] * 5], "FAIL"),
    ],
)
def test_objectives_over_runs(answers: list[str], answer: str) -> None:
    found = over_runs([[objective("ttft_p99 < 800 ms", each)] for each in answers])  # type: ignore[arg-type]
    assert [each.answer for each in found] == [answer]
    assert found[0].answers == answers


def test_objectives_of_one_text_for_two_classes_are_two() -> None:
    of_run = [objective("ttft_p99 < 800 ms", "PASS"), objective("ttft_p99 < 800 ms", "FAIL", class_name="chat")]
    assert [(each.class_name, each.answer) for each in over_runs([of_run])] == [(None, "PASS"), ("chat", "FAIL")]
    assert over_runs([]) == []
