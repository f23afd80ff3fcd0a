"""A server that stands still for 2 s at 100 requests a second: every request that should have been answered counts.

A closed loop would send nothing meanwhile and report a handful of slow requests. On schedule, 200 of 600 wait, the k-th of
them 2 - k/100 s; 5 % of 600 are 30, so p95 is 2 - 0.30 = 1.7 s. Locust's own users report 13 ms (410 requests sent).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest

from benchmarks.replay import replay
from harness.plan import Arrival, Materialized
from harness.store import open_run
from harness.summary import load_run, summarize
from harness.virtual import Simulation, run_in_virtual_time
from tests.accuracy.idle import require_idle_machine

_P95_S = 1.7
_PROFILE = """\
name: quick
kind: hosted
model: quick
summary: No latency of its own.
as_of: 2026-11-21
sources: [made up for the test]
max_model_len: 100000
answer_length: {median_tokens: 3, sigma: 0}
latency: {floor_s: 0.001, tpot_median_s: 0.001}
"""


def test_in_virtual_time_it_is_exact(tmp_path: Path) -> None:
    (tmp_path / "quick.yaml").write_text(_PROFILE)
    deployment = tmp_path / "stalls.yaml"
    deployment.write_text(
        f"models: [{{name: quick, profile: {tmp_path / 'quick.yaml'}}}]\nfaults: [{{at: 2s, for: 2s, kind: stall}}]\n"
    )
    plan = Materialized(tuple(Arrival(n, n / 100, 10, 3) for n in range(600)), 6.0)
    simulation = Simulation(deployment=str(deployment), plan=plan, scenario="stall", seed=1)
    directory = run_in_virtual_time(simulation, tmp_path / "run", lambda *_: None)
    summary = summarize(load_run(open_run(directory.path)))
    assert summary.load.num_sent == summary.load.outcomes["ok"] == 600
    ttft, e2e = summary.metrics["ttft"], summary.metrics["e2e"]
    assert ttft.at(95) == pytest.approx(_P95_S, abs=0.015)
    assert e2e.at(95) == pytest.approx(_P95_S, abs=0.015)
    assert ttft.at(50) == pytest.approx(0.001, abs=0.0005)
    assert ttft.maximum == pytest.approx(2.0, abs=0.015)


@pytest.mark.realtime
@pytest.mark.alone
def test_over_http(tmp_path: Path) -> None:
    require_idle_machine()
    (tmp_path / "quick.yaml").write_text(_PROFILE)
    stall = json.dumps({"kind": "stall", "for": "2s"}).encode()

    def stand_still(url: str, ledger: Path) -> None:
        for _ in range(3000):
            if ledger.read_bytes().count(b'"outcome":"ok"') > 100:
                break
            time.sleep(0.01)
        with urlopen(Request(f"{url}/mock/faults", stall, {"Content-Type": "application/json"})) as answer:
            assert answer.status == 200

    played = replay(
        tmp_path,
        str(tmp_path / "quick.yaml"),
        gap_s=0.01,
        num=600,
        num_tokens=3,
        meanwhile=stand_still,
    )
    load, table = played.summary.load, played.run.table
    refused = load.outcomes["refused"]
    assert load.num_planned == load.num_sent + refused == len(table) == 600
    assert load.num_missing == 0
    assert load.outcomes["ok"] == load.num_sent
    assert refused == 0
    for name in ("ttft", "e2e"):
        assert played.summary.metrics[name].at(95) == pytest.approx(_P95_S, rel=0.05)
    assert np.nanmedian(table["first_token_at"] - table["intended_at"]) < 0.05
    # By the server's clock nobody else was slow: they waited, and were not sent late.
    assert np.nanmax(table["sent_at"] - table["intended_at"]) < 0.1
