"""Clients that leave free what they held; clients that read slowly hold up nobody but themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from harness.conducts import Kind, MixedConduct
from harness.errors import UsageError
from harness.plan import Arrival, Conduct, Materialized
from harness.store import open_run
from harness.summary import RunData, load_run
from tests.conftest import REPOSITORY, mock_server

_SCENARIO = "scenarios/slow_readers_and_disconnects.py"
_STACK = """\
models: [{name: assistant, profile: h100-8b}]
stack: [{priority_queue: {workers: 16, length: 10000}}]
"""
_QUICK = """\
name: quick
kind: hosted
model: quick
summary: 500 tokens a second after 50 ms.
as_of: 2026-11-21
sources: [made up for the test]
max_model_len: 100000
answer_length: {median_tokens: 100, sigma: 0}
latency: {floor_s: 0.05, tpot_median_s: 0.002}
"""
_PLAN = Materialized(tuple(Arrival(n, n / 10, 10, 10) for n in range(2000)), 200.0)


def test_leavers_free_their_places(tmp_path: Path) -> None:
    """Sixteen places for 8 requests a second of 2 s and more are too few, unless half of the clients leave soon."""
    (tmp_path / "stack.yaml").write_text(_STACK)
    waited = {}
    for share in ("0", "0.5"):
        out = tmp_path / share
        words = ["-r", "8", "-t", "60s", "--slow-share", "0", "--leave-share", share, "--out", str(out)]
        command = [sys.executable, "-m", "harness.swarm.rehearsal", str(tmp_path / "stack.yaml"), "-f", _SCENARIO]
        subprocess.run([*command, *words], cwd=REPOSITORY, check=True, timeout=100)
        records = list(open_run(out).records([]))
        waited[share] = [
            record.first_token_at - record.intended_at
            for record in records
            if record.class_name == "reads on" and record.first_token_at is not None
        ]
        left = [record for record in records if record.outcome == "left"]
        assert len(left) == pytest.approx(float(share) * len(records), rel=0.15)
        assert all(record.num_chunks is None or record.num_chunks <= 20 for record in left)
    assert np.percentile(waited["0"], 95) > 10 * np.percentile(waited["0.5"], 95)
    assert np.percentile(waited["0"], 95) > 2.0


@pytest.mark.realtime
@pytest.mark.alone
def test_over_http(tmp_path: Path) -> None:
    """The model writes about 125 kB/s; slow readers take 30 kB/s of that, others leave after ten chunks."""
    (tmp_path / "quick.yaml").write_text(_QUICK)
    ledger, out = tmp_path / "ledger.jsonl", tmp_path / "run"
    words = ["-r", "15", "-t", "4s", "--slow-share", "0.3", "--slow-bytes", "30000", "--leave-share", "0.3"]
    with mock_server(str(tmp_path / "quick.yaml"), "--ledger", str(ledger)) as url:
        command = [sys.executable, "-m", "locust", "-f", _SCENARIO, "--headless", "--only-summary", "--host", url]
        command += [*words, "--leave-tokens", "10", "--out", str(out)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    run = load_run(open_run(out))
    outcomes = Counter(zip(run.table.labels["class_name"].texts(), np.array(run.table.outcome), strict=True))
    assert len(outcomes) == 3, "each class has one outcome"
    assert run.table.is_outcome("left").sum() > 5

    entries = {entry["client_request_id"]: entry for entry in map(json.loads, ledger.read_text().splitlines()[1:])}
    for record in run.directory.records([]):
        entry = entries[record.request_id]
        if record.outcome == "left":
            assert entry["outcome"] == "cancelled"
            assert 10 <= sum(entry["num_tokens"]) <= 40  # the server stopped soon after its client
            assert record.num_chunks is not None
            assert 10 <= record.num_chunks <= 12
        else:
            assert (record.outcome, entry["outcome"]) == ("ok", "ok")
    pace = _seconds_a_token(run, "reads on")
    assert pace == pytest.approx(0.002, rel=0.1)  # slow neighbours do not slow them
    assert _seconds_a_token(run, "reads slowly") > 2 * pace


def _seconds_a_token(run: RunData, class_name: str) -> float:
    table = run.table
    spans = (table["last_token_at"] - table["first_token_at"]) / (table["num_output_tokens"] - 1)
    mine = table.labels["class_name"].is_(class_name) & (table["num_output_tokens"] > 100)
    assert mine.sum() >= 5
    return float(np.median(spans[mine]))


def test_who_is_what_is_a_matter_of_the_request_alone() -> None:
    leaves, slow = Conduct(leave_after_s=1.0), Conduct(read_bytes_per_s=100.0)
    few = list(MixedConduct(_PLAN, [Kind("leaves", 0.1, leaves)], 7).arrivals())
    many = list(MixedConduct(_PLAN, [Kind("leaves", 0.3, leaves), Kind("slow", 0.2, slow)], 7).arrivals())
    assert Counter(arrival.class_name for arrival in many) == {
        "leaves": pytest.approx(600, abs=62),  # three standard deviations of a binomial
        "slow": pytest.approx(400, abs=54),
        "reads on": pytest.approx(1000, abs=67),
    }
    assert {a.key for a in few if a.class_name == "leaves"} < {a.key for a in many if a.class_name == "leaves"}
    assert [(a.at_s, a.num_output_tokens) for a in many] == [(a.at_s, a.num_output_tokens) for a in _PLAN.arrivals()]
    assert {a.class_name: a.conduct for a in many} == {"leaves": leaves, "slow": slow, "reads on": None}


@pytest.mark.parametrize("shares", [(0.7, 0.4), (-0.1, 0.5), (1.1,)])
def test_shares_that_are_none(shares: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="must lie between 0 and 1"):
        MixedConduct(_PLAN, [Kind(f"k{n}", share, Conduct()) for n, share in enumerate(shares)], 1)
