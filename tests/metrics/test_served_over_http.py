"""A cache before a slow model, loaded by stock Locust over HTTP: hits and misses are told apart, and are two different services."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.metrics.breakdown import breakdowns
from harness.metrics.latencies import latency
from harness.store import open_run
from harness.summary import load_run
from tests.conftest import mock_server
from tests.scenarios.running import locust

pytestmark = pytest.mark.realtime

_MODEL = """
name: slow
kind: hosted
model: slow
summary: A quarter of a second until it speaks, then fast.
as_of: 2026-11-21
sources: [a test]
max_model_len: 8192
answer_length: {median_tokens: 10, sigma: 0.2}
latency: {floor_s: 0.25, spread_median_s: 0.01, spread_sigma: 0.2, tpot_median_s: 0.001, tokens_per_chunk: 2, gap_cv: 0.1}
"""
_STACK = """
models: [{name: assistant, profile: slow.yaml, price: {input: 1, output: 4}}]
stack: [{exact_cache: {ttl: 1h, tokens_per_s: 5000}}]
"""


def test_hits_and_misses_are_two_groups(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text(_MODEL)
    (tmp_path / "stack.yaml").write_text(_STACK)
    ledger = tmp_path / "ledger.jsonl"
    words = ("-r", "40", "-t", "3s", "--repeats", "0.6", "--paraphrases", "0", "--questions", "4")
    with mock_server(str(tmp_path / "stack.yaml"), "--ledger", str(ledger)) as url:
        done = locust(url, "cache_mix", tmp_path / "run", *words)
    assert (tmp_path / "run" / "manifest.json").exists(), done.stderr
    run = load_run(open_run(tmp_path / "run"))
    table = run.table
    by_cache = next(each for each in breakdowns(table) if each.dimension == "cache_outcome")
    groups = {group.name: group for group in by_cache.groups}
    said = ledger.read_text()
    assert {name: group.num for name, group in groups.items()} == {
        name: said.count(f'"cache_outcome":"{name}"') for name in ("hit", "miss")
    }
    hit, miss = groups["hit"].metrics["ttft"], groups["miss"].metrics["ttft"]
    assert min(hit.num, miss.num) > 20
    slowest_hit, fastest_miss = hit.at(90), miss.minimum
    assert slowest_hit is not None
    assert fastest_miss is not None
    assert slowest_hit < 0.15 < 0.25 <= fastest_miss
    # So the two together have an empty middle, where a median of both would lie.
    ttft = latency(table, "ttft")[table.is_outcome("ok")]
    assert np.mean((ttft > slowest_hit) & (ttft < fastest_miss)) < 0.1
    assert set(table.labels["model_served"].names) == {"assistant"}
