"""The instrument against the ledger over loopback: 50 concurrent streams with known timings.

The ground truth is what the mock wrote down. The bounds are the product's promise about its own error, not about
the machine's speed: TTFT error p50 <= 1 ms and p99 <= 5 ms, the mock's lateness p99 <= 5 ms.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.store import open_run
from harness.summary import load_run, summarize
from tests.conftest import REPOSITORY, mock_server

pytestmark = [pytest.mark.realtime, pytest.mark.alone]

# 97 a second, 0.5 s each: 50 streams at once, 15 s long, at the golden profile's known pace. The gap is no divisor of the
# pace, so that streams do not all want to be served at the same instant.
_TRACE = "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{n * 0.0103:.4f},100,16\n" for n in range(1500))


def test_measured_ttft_equals_the_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, out, ledger = tmp_path / "steady.csv", tmp_path / "run", tmp_path / "ledger.jsonl"
    trace.write_text(_TRACE)
    with mock_server("golden", "--ledger", str(ledger)) as url:
        command = [
            sys.executable,
            "-m",
            "locust",
            "-f",
            "scenarios/trace_replay.py",
            "--headless",
            "--only-summary",
        ]
        command += ["--host", url, "--trace", str(trace), "--out", str(out)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    ledger.replace(out / "ledger.jsonl")
    run = load_run(open_run(out))
    summary = summarize(run)
    truth = summary.truth
    assert truth is not None
    first = run.table["first_token_at"]
    concurrent = [int(((run.table["sent_at"] <= at) & (run.table["done_at"] > at)).sum()) for at in first]
    error, late = truth.ttft_error, truth.lateness
    with capsys.disabled():
        print(
            f"\n  {np.median(concurrent):.0f} streams at once: TTFT error p50 {_ms(error.at(50))}, p99 {_ms(error.at(99))}; "
            f"last token error p99 {_ms(truth.last_token_error.at(99))}; mock's lateness p99 {_ms(late.at(99))} ({late.num} writes)"
        )
    assert (truth.num_matched, truth.num_records_only, truth.num_ledger_only) == (1500, 0, 0)
    assert truth.num_token_mismatches == 0
    assert np.median(concurrent) >= 45
    assert abs(error.at(50) or 1) <= 0.001
    assert abs(error.at(99) or 1) <= 0.005
    assert (late.at(99) or 1) <= 0.005


def _ms(seconds: float | None) -> str:
    return "too few" if seconds is None else f"{seconds * 1e3:.2f} ms"
