"""vLLM's result file, recomputed request by request as its `serve.py` does it."""

from __future__ import annotations

import json
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.exports.command import export
from harness.objectives import Objective
from harness.records import RequestRecord
from tests.exports.runs import everything, run
from tests.harness.builders import bare_record, record

# What 0.33.0 writes with --save-detailed and --metric-percentiles 50,90,95,99, for generation without probes and ramps.
KEYS = {
    "date", "endpoint_type", "backend", "label", "model_id", "tokenizer_id", "num_prompts", "request_rate", "burstiness",
    "max_concurrency", "duration", "completed", "failed", "total_input_tokens", "total_output_tokens", "request_throughput",
    "request_goodput", "output_throughput", "total_token_throughput", "input_lens", "output_lens", "ttfts", "itls", "latencies",
    "start_times", "queue_times", "generated_texts", "errors", "max_output_tokens_per_s", "max_concurrent_requests", "rtfx",
    *(f"{statistic}_{name}_ms" for name in ("ttft", "tpot", "itl", "e2el") for statistic in ("mean", "median", "std", "p50", "p90", "p95", "p99")),
}  # fmt: skip
LISTS = (
    "input_lens",
    "output_lens",
    "ttfts",
    "itls",
    "latencies",
    "start_times",
    "queue_times",
    "generated_texts",
    "errors",
)


def written(path: Path) -> dict[str, Any]:
    def refuse(word: str) -> float:
        raise AssertionError(word)

    found: dict[str, Any] = json.loads(path.read_bytes(), parse_constant=refuse)
    return found


def sent_of(items: list[RequestRecord]) -> list[RequestRecord]:
    return [
        item for item in items if item.sent_at is not None and item.outcome not in ("left", "incomplete", "refused")
    ]


def good(item: RequestRecord) -> bool:
    return item.outcome == "ok" or (item.error_kind in ("no_end", "in_band_error") and item.first_token_at is not None)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory = run(tmp_path_factory.mktemp("vllm") / "run-1", labels={"commit": "abc", "duration": "mine"})
    return written(export(directory.path, "vllm", None))


def test_the_keys_are_those_of_its_file(result: dict[str, Any]) -> None:
    assert set(result) == KEYS | {"commit"}
    assert result["commit"] == "abc"
    assert result["duration"] != "mine"  # a label does not stand in for a number


def test_one_entry_a_request_in_every_list(result: dict[str, Any]) -> None:
    items = sent_of(everything())
    assert {len(result[name]) for name in LISTS} == {len(items)} == {result["num_prompts"]}
    for row, item in enumerate(items):
        assert item.sent_at is not None
        assert result["start_times"][row] == item.sent_at
        assert result["input_lens"][row] == (item.num_prompt_tokens or item.planned_prompt_tokens or 0)
        if not good(item):
            assert (result["ttfts"][row], result["itls"][row], result["output_lens"][row]) == (0, [], 0)
            assert result["errors"][row] == item.error_kind
            continue
        assert result["errors"][row] == ""
        assert result["output_lens"][row] == item.num_output_tokens
        assert result["itls"][row] == (item.token_gaps_s or [])
        if item.first_token_at is not None and item.last_token_at is not None:
            assert result["ttfts"][row] == pytest.approx(item.first_token_at - item.sent_at, abs=1e-6)
            assert result["latencies"][row] == pytest.approx(item.last_token_at - item.sent_at, abs=1e-6)
        else:  # an answer that came as a whole
            assert item.done_at is not None
            assert result["ttfts"][row] == 0
            assert result["latencies"][row] == pytest.approx(item.done_at - item.sent_at, abs=1e-6)
    assert any(good(item) and not item.stream for item in items)


def test_totals_and_rates(result: dict[str, Any]) -> None:
    items = sent_of(everything())
    done = [item for item in items if good(item)]
    duration = max(item.done_at or 0 for item in items) - min(item.sent_at or 0 for item in items)
    prompt, output = (sum(getattr(item, name) for item in done) for name in ("num_prompt_tokens", "num_output_tokens"))
    assert (result["completed"], result["failed"]) == (len(done), len(items) - len(done)) == (390, 4)
    assert (result["total_input_tokens"], result["total_output_tokens"]) == (prompt, output)
    assert result["duration"] == pytest.approx(duration)
    assert result["request_throughput"] == pytest.approx(len(done) / duration)
    assert result["output_throughput"] == pytest.approx(output / duration)
    assert result["total_token_throughput"] == pytest.approx((prompt + output) / duration)
    assert result["request_rate"] == pytest.approx(397 / 20)
    assert result["date"] == "20231114-221320"


def test_latencies_in_milliseconds(result: dict[str, Any]) -> None:
    """From the file's own lists, as its plots read them."""
    rows = [row for row, error in enumerate(result["errors"]) if not error and result["ttfts"][row]]
    samples = {
        "ttft": [result["ttfts"][row] for row in rows],
        "e2el": [result["latencies"][row] for row, error in enumerate(result["errors"]) if not error],
        "itl": [gap for row in rows for gap in result["itls"][row]],
        "tpot": [(result["latencies"][row] - result["ttfts"][row]) / (result["output_lens"][row] - 1) for row in rows],
    }
    for name, seconds in samples.items():
        ms = np.array(seconds) * 1e3
        assert result[f"mean_{name}_ms"] == pytest.approx(ms.mean(), rel=1e-4)
        assert result[f"std_{name}_ms"] == pytest.approx(ms.std(), rel=1e-4)
        assert result[f"median_{name}_ms"] == pytest.approx(np.median(ms), rel=1e-4)
        for percent in (50, 90, 95, 99):
            assert result[f"p{percent}_{name}_ms"] == pytest.approx(np.percentile(ms, percent), rel=1e-4)


def test_its_two_peaks(result: dict[str, Any]) -> None:
    """Bucket by bucket: chunks in each second, and requests that touch it."""
    rows = [row for row, error in enumerate(result["errors"]) if not error and result["ttfts"][row]]
    start = min(result["start_times"][row] for row in rows)
    end = max(result["start_times"][row] + result["latencies"][row] for row in rows)
    chunks, touched = [0] * (ceil(end - start) + 1), [0] * (ceil(end - start) + 1)
    for row in rows:
        at = result["start_times"][row] + result["ttfts"][row]
        for gap in [0.0, *result["itls"][row]]:
            at += gap
            chunks[int(at - start + 1e-9)] += 1
        first = result["start_times"][row] - start
        for second in range(int(first + 1e-9), int(first + result["latencies"][row] + 1e-9) + 1):
            touched[second] += 1
    assert result["max_output_tokens_per_s"] == max(chunks)
    assert result["max_concurrent_requests"] == max(touched)


def test_goodput_counts_by_the_objectives_of_the_run(tmp_path: Path) -> None:
    items = [record(0), record(1, first_token_at=0.9), record(2)]
    directory = run(tmp_path / "run-1", items, objectives={"": Objective(ttft_s=0.2)})
    found = written(export(directory.path, "vllm", None))
    assert found["request_goodput"] == pytest.approx(2 / found["duration"])


def test_requests_are_in_order_of_their_plan_and_without_the_warm_up(tmp_path: Path) -> None:
    items = [record(n) for n in (5, 1, 4, 2, 3, 0)]
    directory = run(tmp_path / "run-1", items, warmup_s=1.0)
    found = written(export(directory.path, "vllm", None))
    assert found["start_times"] == [1.0, 1.5, 2.0, 2.5]


@pytest.mark.parametrize(
    "items",
    [[], [bare_record(0, sent_at=0.0, done_at=0.1, outcome="failed", error_kind="http_500")]],
    ids=["nothing sent", "all failed"],
)
def test_nothing_succeeded(tmp_path: Path, items: list[RequestRecord]) -> None:
    """It says 0 then, and so does its file."""
    found = written(export(run(tmp_path / "run-1", items).path, "vllm", None))
    assert (found["completed"], found["mean_ttft_ms"], found["p99_itl_ms"]) == (0, 0, 0)
    assert found["failed"] == len(items)
