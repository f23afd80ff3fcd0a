"""`harness gate` over run directories: runs of the mock in virtual time, as a gate of a nightly job meets them."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from junitparser import JUnitXml

from benchmarks.gate_replays import golden_like
from harness.arrivals.curves import steady
from harness.conclude import conclude
from harness.errors import HarnessError, RunError, UsageError
from harness.gate.command import gate_runs, run_gate
from harness.gate.facts import write_facts
from harness.gate.result import GateResult
from harness.store import open_run
from harness.summary import load_run
from harness.virtual import Simulation, run_in_virtual_time
from harness.workloads.synthetic import conversations
from tests.harness.builders import record, write_run

_RUNS = 6


def _simulate(deployment: str, folder: Path) -> list[Path]:
    paths = []
    for seed in range(_RUNS):
        plan = conversations(steady(40, 10), "poisson", seed)
        path = folder / f"{Path(deployment).stem}-{seed}"
        run_in_virtual_time(
            Simulation(deployment, plan, "steady", seed=seed, num_with_gaps=0), path, lambda num, at: None
        )
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def golden(folder: Path) -> list[Path]:
    return _simulate("golden", folder)


@pytest.fixture(scope="module")
def slow(folder: Path) -> list[Path]:
    return _simulate(golden_like(folder, 0.1), folder)


def test_the_same_build_passes(golden: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = _simulate("golden", tmp_path)
    assert run_gate(again, golden, environ={}) == 0
    assert capsys.readouterr().out.startswith(
        "\nPASS: 6 candidate runs against 6 baseline runs, 6 pairs of the same seed"
    )


def test_a_slower_build_fails_with_all_that_was_asked_for(
    golden: list[Path], slow: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "summary.md").write_text("before\n")
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    junit, json = tmp_path / "gate.xml", tmp_path / "gate.json"
    assert run_gate(slow, golden, junit=junit, json=json, environ=environ) == 1
    result = msgspec.json.decode(json.read_bytes(), type=GateResult)
    changes = {each.name: each.change for each in result.measures}
    assert changes["tpot_p50(ok)"] == pytest.approx(0.1, abs=1e-4)
    assert changes["ttft_p50(ok)"] == pytest.approx(0.1, abs=1e-4)
    assert changes["error_rate"] == 0
    assert [each.name for each in result.measures if each.answer == "FAIL"] == [
        "ttft_p50(ok)", "tpot_p50(ok)", "e2e_p50(ok)", "output_rate",  # who takes longer for the last answer has a lower rate
    ]  # fmt: skip
    suite = next(iter(JUnitXml.fromfile(str(junit))))
    assert suite.failures == 5
    out = capsys.readouterr().out
    assert "\n::error title=harness gate%3A FAIL tpot_p50(ok)::+10.00%" in out
    page = (tmp_path / "summary.md").read_text()
    assert page.startswith("before\n## FAIL")


def test_a_stored_baseline_gives_the_same_answer(golden: list[Path], slow: list[Path], tmp_path: Path) -> None:
    stored = []
    for path in golden:
        copy = tmp_path / path.name
        shutil.copytree(path, copy)
        write_facts(load_run(open_run(copy)))
        for records in copy.glob("records-*.jsonl"):
            records.unlink()
        stored.append(copy)
    assert gate_runs(slow, stored) == gate_runs(slow, golden)
    (stored[0] / "facts.json").unlink()
    with pytest.raises(RunError, match="neither records nor"):
        gate_runs(slow, stored)


def test_objectives_are_judged_in_every_candidate_run(golden: list[Path], slow: list[Path], tmp_path: Path) -> None:
    slo = tmp_path / "slo.yaml"
    gate = "gate: {allowed: {default: 50 %}, measures: [tpot_p50(ok)]}\n"
    slo.write_text("objectives: [tpot_p95 < 21 ms, ttft_p50 < 1 s]\n" + gate)
    passed = gate_runs(golden, slow, slo)
    assert (passed.answer, [each.answer for each in passed.objectives]) == ("PASS", ["PASS", "PASS"])
    failed = gate_runs(slow, golden, slo)
    assert (failed.answer, [each.answer for each in failed.objectives]) == ("FAIL", ["FAIL", "PASS"])
    assert [each.answer for each in failed.measures] == ["PASS"]
    assert failed.objectives[0].answers == ["FAIL"] * _RUNS
    assert failed.objectives[0].values == pytest.approx([0.022] * _RUNS, rel=1e-3)


def test_few_runs_are_inconclusive(golden: list[Path], slow: list[Path]) -> None:
    assert run_gate(slow[:2], golden[:2], environ={}) == 3


def test_lost_records_are_invalid(golden: list[Path], slow: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(slow[0], broken)
    file = next(broken.glob("records-*.jsonl"))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:50] + lines[60:]))
    assert run_gate([broken, *slow[1:]], golden, environ={}) == 2


def test_what_makes_no_sense_is_refused(golden: list[Path], slow: list[Path], tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", [[record(number) for number in range(10)]], scenario="other")
    cases: list[tuple[list[Path], list[Path], type[HarnessError], str]] = [
        ([], golden, UsageError, "a gate needs runs"),
        (slow, [], UsageError, "something to judge them by"),
        ([tmp_path / "nowhere"], golden, RunError, "nowhere"),
        ([other.path], golden, UsageError, "they differ in clock: virtual and real; "),
        ([slow[0], slow[0]], golden, UsageError, "count twice"),
    ]
    for candidates, baselines, error, words in cases:
        with pytest.raises(error, match=words):
            run_gate(candidates, baselines, environ={})
    with pytest.raises(UsageError, match="cannot write"):
        run_gate(slow, golden, json=tmp_path / "no" / "gate.json", environ={})
    slo = tmp_path / "slo.yaml"
    slo.write_text("gate: {measures: [speed]}\n")
    with pytest.raises(HarnessError, match="speed"):
        run_gate(slow, golden, slo=slo, environ={})


def test_without_a_baseline_objectives_alone_are_judged(
    golden: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slo = tmp_path / "slo.yaml"
    slo.write_text("objectives: [e2e_p50 < 20 s, ttft_p50 < 1 ms]\n")
    code = run_gate(golden[:3], [], slo=slo, junit=tmp_path / "gate.xml", environ={})
    shown = capsys.readouterr().out
    assert code == 1
    assert "3 candidate runs, without a baseline" in shown
    result = gate_runs(golden[:3], [], slo)
    assert [(each.text, each.answer) for each in result.objectives] == [
        ("e2e_p50 < 20 s", "PASS"),
        ("ttft_p50 < 1 ms", "FAIL"),
    ]
    assert (result.measures, JUnitXml.fromfile(str(tmp_path / "gate.xml")).failures) == (
        [],
        2,
    )  # the answer, the objective
    with pytest.raises(UsageError, match="something to judge them by"):
        gate_runs(golden[:1], [])


def test_a_run_that_was_judged_by_this_very_file_is_not_read_again(tmp_path: Path) -> None:
    """Its facts say what became of the objectives, also when the records are gone; by another file they would be needed."""
    slo, other = tmp_path / "slo.yaml", tmp_path / "other.yaml"
    slo.write_text("objectives: [e2e_p50 < 20 s]\n")
    other.write_text("objectives: [e2e_p50 < 19 s]\n")
    run = _simulate("golden", tmp_path)[0]
    assert conclude(open_run(run), slo=slo) == 0
    for path in run.glob("records-*.jsonl"):
        path.unlink()
    assert gate_runs([run], [], slo).answer == "PASS"
    with pytest.raises(UsageError, match="has no records"):
        gate_runs([run], [], other)
