"""A real vLLM run with heavy KV pressure, replayed: the one out-of-sample check of the whole engine."""

from __future__ import annotations

from pathlib import Path

from tests.accuracy.fidelity import replay_rows
from tests.accuracy.vllm_run import replay


def test_every_figure_of_the_run_is_within_5_percent(shared_data: Path) -> None:
    rows = replay_rows(shared_data)
    assert {"TTFT mean", "TTFT p90", "TTFT p99", "TPOT mean", "E2E mean"} <= {row.what for row in rows}
    for row in rows:
        assert abs(row.error) <= 0.05, row


def test_every_request_ends_and_memory_was_short(shared_data: Path) -> None:
    run = replay(shared_data)
    assert len(run.ours.done_at) == len(run.e2e_s) == 300
    assert 200 <= run.num_preemptions <= 300  # an independent simulator of this run preempts 249 times
