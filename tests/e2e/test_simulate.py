"""`harness simulate` as a person types it: a process, its words, its files and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.store import open_run
from tests.e2e.test_run import harness

pytestmark = pytest.mark.realtime

_STACK = """
models: [{name: golden, profile: golden, price: {input: 1.0, output: 10.0}}]
stack: [exact_cache]
"""
_WORKLOAD = """
arrivals: {rate: 4/s, for: 2m}
questions: {num: 20, zipf: 1.0, repeats: 0.6}
users: 50
"""

_SCENARIO = """
from pathlib import Path
from harness.workloads.mixture import mixture_plan
from harness.swarm import LLMUser
from harness.tokens import token_counter
from harness.workloads.file import read_workload

class Mixed(LLMUser):
    @classmethod
    def plan(cls, options):
        found = read_workload(Path({workload!r}))
        return mixture_plan(found, rate=None, duration_s=None, seed=options.seed, count=token_counter)
"""


def test_a_profile_needs_no_deployment_file(tmp_path: Path) -> None:
    out = tmp_path / "plain"
    done = harness("simulate", "h100-8b", "--rate", "5/s", "--for", "10m", "--seed", "3", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress where nobody looks
    assert "virtual time: no instrument" in done.stdout
    assert "stack" not in done.stdout.partition("report  ")[0]
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["clock"], manifest["seed"], manifest["ended_how"]) == ("virtual", 3, "complete")
    assert manifest["target"] == "h100-8b in virtual time"
    summary = json.loads((out / "summary.json").read_text())
    assert summary["load"]["asked_rate"] == pytest.approx(5, rel=0.1)
    assert summary["load"]["outcomes"]["ok"] == manifest["num_planned"]
    page = (out / "report.html").read_text()
    assert "virtual time: no instrument" in page
    assert 'data-state="NONE"' in page

    again = harness("report", str(out))
    assert again.returncode == 0
    assert [line for line in again.stdout.splitlines() if "TTFT" in line] == [
        line for line in done.stdout.splitlines() if "TTFT" in line
    ]


def test_a_stack_says_what_its_policies_did_and_says_it_again(tmp_path: Path) -> None:
    stack, workload, out = tmp_path / "stack.yaml", tmp_path / "work.yaml", tmp_path / "run"
    stack.write_text(_STACK)
    workload.write_text(_WORKLOAD)
    done = harness("simulate", str(stack), "--workload", str(workload), "--out", str(out))
    assert done.returncode == 0, done.stderr
    hits = json.loads((out / "stack.json").read_text())["state"]["stages"][0]["state"]["counts"]["hits"]
    assert f"hits {hits}" in done.stdout
    assert "per 1,000 requests" in done.stdout
    again = harness("report", str(out))
    assert f"hits {hits}" in again.stdout


def test_a_workload_can_be_sent_by_locust_too(tmp_path: Path) -> None:
    """A scenario that sends the workload: the same requests, so the same hits, and the labels in both records."""
    stack, workload, scenario = tmp_path / "stack.yaml", tmp_path / "work.yaml", tmp_path / "work.py"
    stack.write_text(_STACK)
    # The answers take 0.58 s and end far from any arrival: no hit hangs on a millisecond.
    workload.write_text(
        "arrivals: {gaps: constant, rate: 4/s, for: 8s}\nanswer_tokens: 20\nfeature: search\nstream: 0.5\n"
        "questions: {num: 5, zipf: 1.0, repeats: 0.7}\nusers: 5\n"
    )
    scenario.write_text(_SCENARIO.format(workload=str(workload)))
    http, virtual = tmp_path / "http", tmp_path / "virtual"
    done = harness("run", str(scenario), "--mock", str(stack), "--seed", "2", "--out", str(http))
    assert done.returncode == 0, done.stdout + done.stderr
    done = harness("simulate", str(stack), "--workload", str(workload), "--seed", "2", "--out", str(virtual))
    assert done.returncode == 0, done.stderr
    ours, theirs = ({r.request_id: r for r in open_run(path).records([])} for path in (virtual, http))
    assert ours.keys() == theirs.keys()
    assert len(ours) == 32
    lines = [json.loads(line) for line in (http / "ledger.jsonl").read_text().splitlines()]
    ledger = {line["client_request_id"]: line for line in lines if line.get("client_request_id")}
    for name, record in ours.items():
        assert record.cache_outcome == ledger[name]["cache_outcome"]
        for field in ("tenant", "feature", "model", "stream", "num_prompt_tokens", "num_output_tokens", "outcome"):
            assert getattr(record, field) == getattr(theirs[name], field), field
    assert {record.cache_outcome for record in ours.values()} == {"hit", "miss"}
    assert {record.stream for record in ours.values()} == {True, False}
    assert {record.feature for record in ours.values()} == {"search"}


def test_a_trace_is_replayed_in_virtual_time(shared_data: Path, tmp_path: Path) -> None:
    trace, out = shared_data / "azure2023" / "AzureLLMInferenceTrace_conv.csv", tmp_path / "azure"
    done = harness("simulate", "hosted", "--trace", str(trace), "--window", "120s", "--speed", "4", "--out", str(out))
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["load"]["num_planned"] == 456
    assert summary["tokens"]["num_prompt_mismatches"] == summary["tokens"]["num_output_mismatches"] == 0
    assert summary["load"]["asked_rate"] == pytest.approx(456 / 30)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("h100-9b", "--rate", "5", "--for", "10s"), "did you mean"),
        (("h100-8b",), "--rate 20/s --for 10m"),
        (("h100-8b", "--rate", "fast", "--for", "10s"), "'fast' is not a rate"),
        (("h100-8b", "--rate", "5", "--for", "soon"), "'soon' is not a duration"),
        (("h100-8b", "--workload", "none.yaml"), "none.yaml: cannot be read"),
        (("golden", "--scenario", "scenarios/trace_replay.py", "--trace", "none.csv"), "none.csv: cannot be read"),
        (("golden", "--scenario", "scenarios/cache_mix.py", "--corpus", "none.csv"), "none.csv: cannot be read"),
        (
            ("golden", "--scenario", "scenarios/capacity.py", "--for", "20s"),
            "no room for a probe: one at 1/s takes 105 s",
        ),
        (("golden", "--scenario", "scenarios/capacity.py", "--whole"), "every rate would be good"),
        (("golden", "--scenario", "scenarios/burst.py", "--for", "0s"), "a run of 0 s holds nothing"),
        (("golden", "--scenario", "scenarios/burst.py", "--protocol", "none"), "no protocol 'none'"),
        (("golden", "--scenario", "scenarios/multi_turn_agents.py", "--turns", "0"), "a median above 0"),
        (
            ("golden", "--scenario", "scenarios/multi_turn_agents.py", "--context", "0"),
            "no room beside a system prompt",
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = harness("simulate", *words, "--out", str(tmp_path / "run"))
    assert done.returncode == 2
    assert done.stderr.startswith("harness: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_failures_of_the_model_fail_the_run(tmp_path: Path) -> None:
    profile = tmp_path / "faulty.yaml"
    profile.write_text(
        "name: faulty\nkind: hosted\nmodel: faulty\nsummary: Fails.\nas_of: 2026-11-21\nsources: [a test]\nmax_model_len: 4096\n"
        "answer_length: {median_tokens: 5, sigma: 0}\nlatency: {floor_s: 0.1, tpot_median_s: 0.01}\n"
        "faultiness: {server_error_rate: 0.5}\n"
    )
    done = harness("simulate", str(profile), "--rate", "5", "--for", "20s", "--out", str(tmp_path / "run"))
    assert done.returncode == 1
    assert "failed/http_500" in done.stdout
