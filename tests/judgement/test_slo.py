"""`slo.yaml`: what it may say, and what is an error, with the line on which it stands."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError, WorkloadError
from harness.judgement import slo as slo_module
from harness.judgement.limits import parse_limit
from harness.judgement.measures import Unit
from harness.judgement.quantities import parse_quantity, parse_share, shown
from harness.judgement.slo import Slo, load_slo, slo_of
from harness.judgement.slo_keys import CapacityKeys, CostSpikeKeys, ErrorRateKeys, LatencyKeys
from tests.harness.builders import LAW

_FILE = """\
objectives:
  - ttft_p99 < 800 ms
  - goodput(ttft < 1 s, tpot < 60 ms) > 95 %
  - cost_per_1k < $4
  - error_rate <= 0.5 %
  - {class: chat, require: [ttft_p95 < 500 ms, e2e_p99 < 20 s]}
  - {class: chat, require: [tpot_p50 < 40ms]}
budgets:
  - {of: ttft, at: p95, stages: {send_lag: 5 ms, connect: 20 ms, first_byte: 400 ms, first_content: 100 ms}}
alerts:
  - {kind: latency_degradation, measure: ttft_p95, factor: 1.5, window: 30s}
  - {kind: cost_spike, factor: 2, window: 60s, baseline: 3m}
  - {kind: capacity, in_flight: 80 %}
  - {kind: error_rate, above: 2 %, window: 30s, fail: true}
gate:
  allowed: {default: 5 %, ttft_p99: 10 %, error_rate: 0.1 %}
  measures: [ttft_p50, ttft_p99(ok), tpot_p50 (ok), output_rate, error_rate, cost_per_request]
"""


def _load(tmp_path: Path, text: str) -> Slo:
    path = tmp_path / "slo.yaml"
    path.write_text(text)
    return load_slo(path)


def test_a_file_with_all_there_is(tmp_path: Path) -> None:
    slo = _load(tmp_path, _FILE)
    said = [(each.class_name, each.limit.measure.name, each.limit.sign, each.limit.bound) for each in slo.objectives]
    assert said == [
        (None, "ttft_p99", "<", 0.8),
        (None, "goodput(ttft<1s,tpot<60ms)", ">", 0.95),
        (None, "cost_per_1k", "<", 4.0),
        (None, "error_rate", "<=", 0.005),
        ("chat", "ttft_p95", "<", 0.5),
        ("chat", "e2e_p99", "<", 20.0),
        ("chat", "tpot_p50", "<", 0.04),
    ]
    assert slo.objectives[1].limit.text == "goodput(ttft < 1 s, tpot < 60 ms) > 95 %"
    (budget,) = slo.budgets
    assert (budget.of, budget.at, list(budget.stages.values())) == ("ttft", 95.0, [0.005, 0.02, 0.4, 0.1])
    latency, cost, capacity, errors = slo.alerts
    assert latency == LatencyKeys(kind="latency_degradation", measure="ttft_p95", factor=1.5, window="30s")  # type: ignore[arg-type]
    assert isinstance(cost, CostSpikeKeys)
    assert (cost.factor, cost.window, cost.baseline, cost.fail) == (2.0, 60.0, 180.0, False)
    assert isinstance(capacity, CapacityKeys)
    assert capacity.bounds == {"in_flight": 0.8}
    assert isinstance(errors, ErrorRateKeys)
    assert (errors.above, errors.fail) == (0.02, True)
    assert slo.gate.measures[2] == "tpot_p50(ok)"
    assert slo.gate.allowed == {"default": 0.05, "ttft_p99": 0.1, "error_rate": 0.001}


def test_the_manifest_holds_all_of_it(tmp_path: Path) -> None:
    slo = _load(tmp_path, _FILE)
    plain = msgspec.json.decode(msgspec.json.encode(slo.plain()))
    assert slo_of(plain) == slo
    assert slo_of(plain).plain() == slo.plain()


def test_every_example_of_the_docstring_is_read(tmp_path: Path) -> None:
    example = (slo_module.__doc__ or "").split("\n\n")[1]
    slo = _load(tmp_path, "\n".join(line[4:] for line in example.splitlines()))
    assert (len(slo.objectives), len(slo.budgets), len(slo.alerts)) == (4, 1, 4)


@pytest.mark.parametrize(
    ("text", "line", "key", "rule"),
    [
        ("{}", None, None, "asks for nothing; write objectives"),
        ("objectives: []\nalerts: []\n", None, None, "asks for nothing"),
        ("- ttft_p99 < 1 s\n", None, None, "must be a mapping"),
        ("objective:\n  - ttft_p99 < 1 s\n", 1, "objective", "is no key that belongs here"),
        ("objectives: ttft_p99 < 1 s\n", 1, "objectives", "valid list"),
        ("gate: {}\nobjectives:\n  - ttft_p99\n", 3, "objectives[0]", "is no objective; write MEASURE < BOUND"),
        ("objectives:\n  - 5\n", 2, "objectives[0]", "5 is no objective"),
        ("objectives:\n  - 10 % < error_rate\n", 2, "objectives[0]", "begins with its bound; write error_rate > 10 %"),
        ("objectives:\n  - $4 >= cost\n", 2, "objectives[0]", "write cost <= $4"),
        ("objectives:\n  - ttft_p99 in 1 s..2 s\n", 2, "objectives[0]", "with <, <=, > or >="),
        ("objectives:\n  - ttft_p99 = 1 s\n", 2, "objectives[0]", "with <, <=, > or >="),
        ("objectives:\n  - ttft_p99 == 1 s\n", 2, "objectives[0]", "with <, <=, > or >="),
        ("objectives:\n  - ttft_p99 => 1 s\n", 2, "objectives[0]", "with <, <=, > or >="),
        ("objectives:\n  - 1 s < ttft_p99 < 2 s\n", 2, "objectives[0]", "is no objective"),
        ("objectives:\n  - ttft_p99 <\n", 2, "objectives[0]", "has nothing on one side of <"),
        ("objectives:\n  - '< 1 s'\n", 2, "objectives[0]", "has nothing on one side of <"),
        ("objectives:\n  - speed_p99 < 1 s\n", 2, "objectives[0]", "'speed_p99' is no measure; there are"),
        ("objectives:\n  - ttft_p99 < 800\n", 2, "objectives[0]", "'800' has no unit; write 800ms or 800s"),
        ("objectives:\n  - ttft_p99 < 95 %\n", 2, "objectives[0]", "is not a duration"),
        ("objectives:\n  - ttft_p99 < -1 s\n", 2, "objectives[0]", "is not a duration"),
        ("objectives:\n  - error_rate < 5\n", 2, "objectives[0]", "'5' is more than the whole, which is 1; write 5 %"),
        ("objectives:\n  - error_rate < 1 s\n", 2, "objectives[0]", "is no share; write 95 % or 0.95"),
        ("objectives:\n  - goodput > 120 %\n", 2, "objectives[0]", "is more than 100 %"),
        ("objectives:\n  - goodput > 100 %\n", 2, "objectives[0]", "can never be met; write >="),
        ("objectives:\n  - error_rate < 0\n", 2, "objectives[0]", "can never be met; write <="),
        ("objectives:\n  - error_rate <= 100 %\n", 2, "objectives[0]", "is always met; take it away"),
        ("objectives:\n  - cost < 4\n", 2, "objectives[0]", "is no sum of money; write $4"),
        ("objectives:\n  - cost < $0\n", 2, "objectives[0]", "can never be met"),
        ("objectives:\n  - output_rate > fast\n", 2, "objectives[0]", "is not a rate"),
        ("objectives:\n  - gpu_energy_per_token < 3\n", 2, "objectives[0]", "is no energy; write 0.5 J"),
        ("objectives:\n  - ttft_p99 < 1 s\n  - ttft_p99 < 2 s\n", 3, "objectives[1]", "a second time, after 'ttft_p99 < 1 s'"),
        ("objectives:\n  - ttft_p99 < 1 s\n  - ttft_p99 > 2 s\n", 3, "objectives[1]", "contradicts 'ttft_p99 < 1 s'"),
        ("objectives:\n  - ttft_p99 <= 1 s\n  - ttft_p99 > 1000 ms\n", 3, "objectives[1]", "nothing meets both"),
        ("objectives:\n  - goodput(ttft<1s) > 0.9\n  - goodput( ttft < 1s ) > 0.8\n", 3, "objectives[1]", "a second time"),
        ("objectives:\n  - {class: chat}\n", 2, "objectives[0].require", "Field required"),
        ("objectives:\n  - {class: chat, require: []}\n", 2, "objectives[0].require", "at least 1 item"),
        ("objectives:\n  - {class: 'a\\nb', require: [ttft_p99 < 1 s]}\n", 2, "objectives[0].class", "pattern"),
        ("objectives:\n  - class: chat\n    require:\n      - ttft_p99 < 1 s\n      - ttft_p99 < 1 s\n", 5,
         "objectives[0].require[1]", "a second time"),
        ("objectives:\n  - {class: a, require: [ttft_p99 < 1 s]}\n  - {class: a, require: [ttft_p99 > 1 s]}\n", 3,
         "objectives[1].require[0]", "contradicts"),
        ("objectives:\n  - {class: a, require: [gpu_utilization > 0.5]}\n", 2, "objectives[0].require[0]", "serves all classes"),
        ("objectives:\n  - ttft_p99 < 1 s\nobjectives: []\n", 3, "objectives", "stands twice (first on line 1)"),
        ("budgets:\n  - {at: p95, stages: {}}\n", 2, "budgets[0].stages", "at least 1 item"),
        ("budgets:\n  - {at: p95, stages: {prefill: 1 s}}\n", 2, "budgets[0].stages", "'prefill' is no stage; there are send_lag"),
        ("budgets:\n  - {at: p95, stages: {connect: 20}}\n", 2, "budgets[0].stages.connect", "20 has no unit; write 20ms or 20s"),
        ("budgets:\n  - {at: 95, stages: {connect: 20 ms}}\n", 2, "budgets[0].at", "95 is no percentile; write p50"),
        ("budgets:\n  - {at: p0, stages: {connect: 20 ms}}\n", 2, "budgets[0].at", "'p0' is no percentile"),
        ("budgets:\n  - {of: tpot, at: p95, stages: {connect: 20 ms}}\n", 2, "budgets[0].of", "'ttft' or 'e2e'"),
        ("budgets:\n  - {at: p95, stages: {decode: 2 s}}\n", 2, "budgets[0]", "decode comes after the first token; write of: e2e"),
        ("alerts:\n  - {kind: fire}\n", 2, "alerts[0]", "'fire' is no kind of alert; write {kind: latency_degradation |"),
        ("alerts:\n  - latency_degradation\n", 2, "alerts[0]", "None is no kind of alert"),
        ("alerts:\n  - {kind: [capacity]}\n", 2, "alerts[0]", "is no kind of alert"),
        ("alerts:\n  - {kind: capacity}\n", 2, "alerts[0]", "capacity of what?"),
        ("alerts:\n  - {kind: capacity, in_flight: 80}\n", 2, "alerts[0].in_flight", "80 is more than the whole, which is 1; write 80 %"),
        ("alerts:\n  - {kind: error_rate}\n", 2, "alerts[0].above", "Field required"),
        ("alerts:\n  - {kind: error_rate, above: 0 %}\n", 2, "alerts[0].above", "greater than 0"),
        ("alerts:\n  - {kind: error_rate, above: true}\n", 2, "alerts[0].above", "valid number"),
        ("alerts:\n  - {kind: latency_degradation, factor: 1}\n", 2, "alerts[0].factor", "greater than 1"),
        ("alerts:\n  - {kind: latency_degradation, measure: itl_p95}\n", 2, "alerts[0]", "itl_p95 is no percentile of requests"),
        ("alerts:\n  - {kind: latency_degradation, measure: e2e_mean}\n", 2, "alerts[0]", "e2e_mean is no percentile of requests"),
        ("alerts:\n  - {kind: cost_spike, window: 60}\n", 2, "alerts[0].window", "60 has no unit"),
        ("alerts:\n  - {kind: cost_spike, window: 10ms}\n", 2, "alerts[0].window", "greater than or equal to 1"),
        ("alerts:\n  - {kind: cost_spike, window: 60s, baseline: 30s}\n", 2, "alerts[0]", "shorter than one window of 60 s"),
        ("gate: {allow: {}}\n", 1, "gate.allow", "is no key that belongs here"),
        ("gate:\n  allowed: {speed: 5 %}\n", 1, "gate", "'speed' is no measure"),
        ("gate:\n  allowed: {default: 5}\n", 2, "gate.allowed.default", "5 is more than the whole, which is 1; write 5 %"),
        ("gate:\n  allowed: {default: -5 %}\n", 2, "gate.allowed.default", "is no share"),
        ("gate:\n  allowed: {'e2e_p50 (ok)': 5 %, e2e_p50(ok): 5 %}\n", 1, "gate", "a measure stands twice"),
        ("gate:\n  measures: [ttft_p50, ttft_p50]\n", 1, "gate", "ttft_p50 stands twice"),
        ("gate:\n  measures: [ttft_p50, ttft]\n", 2, "gate.measures[1]", "'ttft' is no measure"),
        ("gate: strict\n", 1, "gate", "valid dictionary"),
    ],
)  # fmt: skip
def test_what_breaks_the_format(tmp_path: Path, text: str, line: int | None, key: str | None, rule: str) -> None:
    with pytest.raises(WorkloadError) as found:
        _load(tmp_path, text)
    assert (found.value.line, found.value.key) == (line, key)
    assert rule in found.value.rule


def test_both_sides_of_a_band_may_be_bounded(tmp_path: Path) -> None:
    slo = _load(tmp_path, "objectives:\n  - gpu_utilization > 50 %\n  - gpu_utilization < 90 %\n")
    assert [each.limit.sign for each in slo.objectives] == [">", "<"]


# -- quantities ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("800 ms", "s", 0.8),
        ("1m30s", "s", 90.0),
        ("95 %", "share", 0.95),
        ("0.5%", "share", 0.005),
        ("0.95", "share", 0.95),
        ("1", "share", 1.0),
        ("$4", "usd", 4.0),
        ("$ 0.05", "usd", 0.05),
        ("20/s", "per_s", 20.0),
        ("300 / min", "per_s", 5.0),
        ("1000", "per_s", 1000.0),
        ("300 mJ", "joule", 0.3),
        ("0.5J", "joule", 0.5),
    ],
)
def test_quantities_in_their_units(text: str, unit: Unit, value: float) -> None:
    assert parse_quantity(text, unit) == pytest.approx(value)


def test_a_share_may_be_more_than_the_whole_where_that_makes_sense() -> None:
    assert parse_share("150 %", most=10) == 1.5
    with pytest.raises(UsageError, match="more than 1000 %"):
        parse_share("1001 %", most=10)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.6123, "s", "612 ms"),
        (0.00212, "s", "2.12 ms"),
        (12.34, "s", "12.3 s"),
        (0.0, "s", "0 ms"),
        (float("inf"), "s", "+∞"),
        (0.00523, "share", "0.523 %"),
        (1.0, "share", "100 %"),
        (0.0, "share", "0 %"),
        (0.05, "share", "5 %"),
        (0.98979, "share", "98.98 %"),
        (0.99985, "share", "99.985 %"),
        (1.5, "share", "150 %"),
        (1.5e-8, "usd", "$1.5e-08"),
        (1234.5, "usd", "$1,234"),
        (1234.5, "per_s", "1,234/s"),
        (0.42, "joule", "0.42 J"),
    ],
)
def test_quantities_are_shown_with_three_digits(value: float, unit: Unit, text: str) -> None:
    assert shown(value, unit) == text


@LAW
@given(text=st.text(max_size=40))
def test_a_line_that_is_no_objective_is_an_error_and_never_a_crash(text: str) -> None:
    for line in (text, f"ttft_p99 {text} 1 s", f"ttft_p99 < {text}", f"{text} < 1 s"):
        with suppress(UsageError):
            assert parse_limit(line).bound > 0
