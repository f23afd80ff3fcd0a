"""The answers of a gate, on runs of which everything is known."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness.errors import UsageError
from harness.gate.decide import gate
from harness.gate.facts import JudgedRun
from harness.gate.result import GatedMeasure, GateResult
from harness.gate.rule import Rule
from harness.verdict import EXIT_CODES
from tests.gate.builders import by_seed, in_order, judged, objective, value

_NOISE = [1.0, 1.03, 0.98, 1.01, 0.97, 1.02, 0.99, 1.0]
_OTHER = [1.01, 1.0, 1.02, 0.98, 1.0, 0.99, 1.03, 0.97]
_E2E = Rule(("e2e_p50(ok)",))


def _one(result: GateResult) -> GatedMeasure:
    assert len(result.measures) == 1
    return result.measures[0]


def _e2e(factor: float, order: str = "ABBA" * 4, rule: Rule = _E2E) -> GateResult:
    return gate(*in_order(order, [factor * each for each in _NOISE], _OTHER), rule)


@pytest.mark.parametrize(
    ("factor", "answer"), [(1.0, "PASS"), (0.5, "PASS"), (1.2, "FAIL"), (3.0, "FAIL"), (1.05, "INCONCLUSIVE")]
)
def test_worse_than_allowed_not_worse_or_nobody_can_tell(factor: float, answer: str) -> None:
    result = _e2e(factor)
    assert result.answer == answer
    assert result.exit_code == EXIT_CODES[answer]
    measure = _one(result)
    assert measure.low is not None
    assert measure.high is not None
    assert measure.change is not None
    assert measure.low < measure.change < measure.high
    assert measure.change == pytest.approx(factor - 1, abs=0.01)
    assert result.num_relabellings == 256
    assert result.reasons


def test_figures_of_one_gate_by_hand() -> None:
    """Pairs (candidate, baseline): (2, 1) eight times, so that nothing is left to chance."""
    measure = _one(gate(*in_order("ABBA" * 4, [2.0] * 8, [1.0] * 8), Rule(("e2e_p50(ok)",), {"default": 0.25})))
    assert (measure.answer, measure.p_worse, measure.p_worse_adjusted, measure.p_not_worse) == (
        "FAIL",
        1 / 256,
        1 / 256,
        1,
    )
    assert (measure.change, measure.low, measure.high) == pytest.approx((1, 1, 1))
    assert measure.detectable == pytest.approx(0.25)
    assert measure.effect_size is None  # without noise there is no standard deviation to count in
    assert measure.why == "+100.0% (+100.0% … +100.0%), +25.0% allowed"


def test_higher_is_better_and_worse_is_lower() -> None:
    columns = {"output_rate": [100.0] * 8}
    for rate, answer in ((94.9, "FAIL"), (95.1, "PASS"), (120.0, "PASS")):
        result = gate(by_seed("b", {"output_rate": [rate] * 8}), by_seed("a", columns), Rule(("output_rate",)))
        assert result.answer == answer
        assert _one(result).change == pytest.approx(rate / 100 - 1)


@pytest.mark.parametrize(("errors", "answer"), [(0.0, "PASS"), (0.01, "PASS"), (0.011, "FAIL"), (0.5, "FAIL")])
def test_shares_are_differences_and_zero_is_a_share(errors: float, answer: str) -> None:
    result = gate(
        by_seed("b", {"error_rate": [errors] * 8}), by_seed("a", {"error_rate": [0.0] * 8}), Rule(("error_rate",))
    )
    assert result.answer == answer
    assert _one(result).change == pytest.approx(errors)


def test_the_same_runs_pass_even_where_nothing_is_allowed() -> None:
    columns = {"e2e_p50(ok)": _NOISE, "error_rate": [0.0] * 8}
    result = gate(by_seed("b", columns), by_seed("a", columns), Rule(tuple(columns), dict.fromkeys(columns, 0.0)))
    assert result.answer == "PASS"
    assert [each.change for each in result.measures] == [0.0, 0.0]


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_one_side_after_the_other_is_inconclusive_in_real_time(factor: float) -> None:
    result = _e2e(factor, "A" * 8 + "B" * 8)
    assert result.answer == "INCONCLUSIVE"
    assert "a drift of the machine cannot be told from a change" in result.reasons[0]
    assert _one(result).change == pytest.approx(factor - 1, abs=0.01)


def test_few_runs_say_what_they_would_need() -> None:
    result = gate(*in_order("ABBA", [3.0, 3.1], [1.0, 1.1]), _E2E)
    assert result.answer == "INCONCLUSIVE"
    assert result.reasons == ["e2e_p50(ok): 2 runs a side prove nothing; a PASS takes at least 5, a FAIL 5"]
    assert _one(result).detectable is None
    near = _one(_e2e(1.05))
    assert near.num_needed is None or near.num_needed > 8


def test_many_measures_are_corrected_for() -> None:
    """Fourteen times that p value of 6/256 by itself fails; one of many without a change that it is, does not."""
    candidate = [1.1, 1.09, 1.12, 1.08, 1.1, 1.11, 0.98, 0.97]
    columns = {"ttft_p50": candidate}
    alone = gate(by_seed("b", columns), by_seed("a", {"ttft_p50": [1.0] * 8}), Rule(("ttft_p50",), {"default": 0.0}))
    p = _one(alone).p_worse
    assert p is not None
    assert 2 / 256 < p <= 0.05
    assert alone.answer == "FAIL"
    names = [
        f"{name}_p50" for name in ("e2e", "tpot", "queue", "connect", "decode", "tail", "first_byte", "first_content")
    ]
    signs = [
        [1 if (seed * 7 + 3 * place) % 5 < 2 + place % 2 else -1 for seed in range(8)] for place in range(len(names))
    ]
    others = {
        name: [1 + 0.02 * sign * (1 + seed / 9) for seed, sign in enumerate(row)]
        for name, row in zip(names, signs, strict=True)
    }
    baseline = dict.fromkeys(("ttft_p50", *names), [1.0] * 8)
    rule = Rule(tuple(baseline), {"default": 0.0})
    result = gate(by_seed("b", columns | others), by_seed("a", baseline), rule)
    found = result.measures[0]
    assert found.p_worse == p
    assert found.p_worse_adjusted is not None
    assert found.p_worse_adjusted > 0.05
    assert found.answer == "INCONCLUSIVE"


def test_an_invalid_run_makes_the_gate_invalid() -> None:
    candidates, baselines = in_order("ABBA" * 4, [3.0] * 8, [1.0] * 8)
    baselines[3].facts.state, baselines[3].facts.reasons = "INVALID", ["2 requests left no record"]
    result = gate(candidates, baselines, _E2E, [[objective("ttft_p99 < 1 s", "PASS")]])
    assert (result.answer, result.exit_code) == ("INVALID", 2)
    assert result.reasons == ["A3 is INVALID: 2 requests left no record"]
    assert [each.answer for each in result.measures] == [each.answer for each in result.objectives] == ["INVALID"]


def test_overlapping_runs_are_invalid_and_degraded_ones_are_named() -> None:
    candidates, baselines = in_order("ABBA" * 4, _NOISE, _OTHER)
    candidates[0].facts.state, candidates[0].facts.reasons = "DEGRADED", ["sent late"]
    result = gate(candidates, baselines, _E2E)
    assert result.answer == "PASS"
    assert result.notes == ["B0 is DEGRADED: sent late"]
    candidates[0].manifest.ended_at = 70.0
    assert gate(candidates, baselines, _E2E).answer == "INVALID"


@pytest.mark.parametrize(
    ("answers", "answer"),
    [(["PASS", "PASS"], "PASS"), (["PASS", "FAIL"], "FAIL"), (["INCONCLUSIVE", "PASS"], "INCONCLUSIVE")],
)
def test_objectives_join_the_answer(answers: list[str], answer: str) -> None:
    candidates, baselines = by_seed("b", {"e2e_p50(ok)": _NOISE}), by_seed("a", {"e2e_p50(ok)": _NOISE})
    results = [[objective(f"e2e_p9{place} < 1 s", each) for place, each in enumerate(answers)] for _ in candidates]  # type: ignore[arg-type]
    assert gate(candidates, baselines, _E2E, results).answer == answer


def test_default_measures_that_no_run_has_are_left_out_and_named_ones_are_not() -> None:
    columns: dict[str, Any] = {
        "e2e_p50(ok)": _NOISE,
        "cost_per_request": [value("cost_per_request", None, why="no price")] * 8,
    }
    sides = by_seed("b", columns), by_seed("a", columns)
    result = gate(*sides, Rule())
    assert result.answer == "PASS"
    assert result.left_out["cost_per_request"] == "no price"
    assert [each.name for each in result.measures] == ["e2e_p50(ok)"]
    asked = gate(*sides, Rule(("e2e_p50(ok)", "cost_per_request")))
    assert asked.answer == "INCONCLUSIVE"
    assert asked.reasons == ["cost_per_request: 8 of 8 candidate runs have no value: no price"]
    others = by_seed("b", {"queue_p50": _NOISE}), by_seed("a", {"queue_p50": _NOISE})
    assert gate(*others, Rule()).answer == "INCONCLUSIVE"


def test_a_measure_of_one_side_is_inconclusive() -> None:
    candidates = by_seed("b", {"e2e_p50(ok)": _NOISE, "error_rate": [0.0] * 8})
    result = gate(candidates, by_seed("a", {"e2e_p50(ok)": _NOISE}), Rule())
    assert result.answer == "INCONCLUSIVE"
    assert result.reasons == ["error_rate: 8 of 8 baseline runs have no value: it was not kept with the baseline"]


def test_infinite_in_the_candidate_fails_without_a_figure() -> None:
    infinite = value("ttft_p99", None, infinite=True)
    candidates = [judged(f"b{seed}", {"ttft_p99": infinite}, seed=seed, clock="virtual") for seed in range(8)]
    result = gate(candidates, by_seed("a", {"ttft_p99": [0.5] * 8}), Rule(("ttft_p99",)))
    assert result.answer == "FAIL"
    assert _one(result).change is None
    assert result.reasons == ["ttft_p99: +∞ in 8 of 8 candidate runs, +10.0% allowed"]


def test_of_nothing_there_is_no_part() -> None:
    """A baseline that answered nothing is none to be as good as: the gate once passed a build that was as dead."""
    dead = {"output_rate": [0.0] * 6, "error_rate": [1.0] * 6}
    result = gate(by_seed("b", dead), by_seed("a", dead), Rule(measures=("output_rate", "error_rate")))
    assert result.answer == "INCONCLUSIVE"
    (reason,) = result.reasons
    assert reason == "output_rate: it is 0 in 6 of 6 baseline runs: of nothing there is no part"
    alive = {"output_rate": [90.0, 91.0, 92.0, 90.0, 91.0, 92.0], "error_rate": [0.0] * 6}
    assert gate(by_seed("b", dead), by_seed("a", alive), Rule(measures=("output_rate", "error_rate"))).answer == "FAIL"


def test_values_of_a_pair_stand_at_the_same_place() -> None:
    candidates, baselines = by_seed("b", {"e2e_p50(ok)": _NOISE}), by_seed("a", {"e2e_p50(ok)": _OTHER})
    result = gate(candidates, baselines[::-1], _E2E)
    assert result.paired
    assert _one(result).candidates == _NOISE
    assert _one(result).baselines == _OTHER
    assert [run.seed for run in result.runs] == [*range(8), *range(8)]


def test_runs_that_cannot_be_compared_are_refused_by_name() -> None:
    candidates, baselines = in_order("ABBA" * 4, _NOISE, _OTHER)
    candidates[5].manifest.duration_s = 99.0
    with pytest.raises(UsageError, match=r"A0 and B5 cannot be compared; they differ in duration_s: 10.0 and 99.0"):
        gate(candidates, baselines, _E2E)
    with pytest.raises(UsageError, match="at least one candidate"):
        gate([], baselines, _E2E)


def test_the_result_is_json_there_and_back() -> None:
    runs: list[JudgedRun] = by_seed("b", {"e2e_p50(ok)": _NOISE, "error_rate": [0.0] * 8})
    result = gate(runs, by_seed("a", {"e2e_p50(ok)": _OTHER, "error_rate": [0.0] * 8}), Rule())
    assert msgspec.json.decode(msgspec.json.encode(result), type=GateResult) == result
