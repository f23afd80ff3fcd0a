"""From the objectives in a manifest to the answer and the exit code of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.summary import load_run, summarize
from tests.harness.builders import record, write_run


@pytest.mark.parametrize(
    ("slo", "answer", "exit_code"),
    [
        ({"objectives": ["ttft_p95 <= 100 ms", "error_rate < 5 %"]}, "PASS", 0),
        ({"objectives": ["ttft_p95 < 100 ms"]}, "FAIL", 1),
        ({"objectives": ["ttft_p99 <= 100 ms"]}, "INCONCLUSIVE", 3),
        ({"objectives": ["ttft_p95 <= 100 ms", "cost < $1"]}, "INCONCLUSIVE", 3),
        ({"objectives": ["ttft_p99 <= 100 ms", "ttft_p50 < 1 ms"]}, "FAIL", 1),
        ({"budgets": [{"at": "p90", "stages": {"first_byte": "10 ms"}}]}, "FAIL", 1),
        ({"alerts": [{"kind": "capacity", "in_flight": "1 %"}]}, "PASS", 0),
        ({"alerts": [{"kind": "capacity", "in_flight": "1 %", "fail": True}]}, "FAIL", 1),
        ({"alerts": [{"kind": "cost_spike", "fail": True}]}, "INCONCLUSIVE", 3),
    ],
)
def test_200_requests_of_which_each_takes_100_ms(
    tmp_path: Path, slo: dict[str, Any], answer: str, exit_code: int
) -> None:
    records = [record(number, intended_at=number * 0.3) for number in range(200)]
    directory = write_run(tmp_path / "run", [records], duration_s=60.0, slo=slo, clock="virtual", max_in_flight=100)
    found = summarize(load_run(directory))
    assert (found.verdict.answer, found.verdict.exit_code) == (answer, exit_code), found.verdict.reasons
    assert len(found.objectives) + len(found.budgets) + len(found.alerts) + len(found.not_watched) > 0
