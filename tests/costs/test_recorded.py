"""A run that was recorded against the mock: the bill of the load side, from the usage in the answers, against the mock's own account
of what it sent, summed up by DuckDB at prices that stand in the query."""

from __future__ import annotations

from pathlib import Path

import duckdb
import msgspec
import pytest

from harness.costs.fold import bill
from harness.prices import load_prices, priced
from harness.store import open_run
from harness.summary import load_run
from tests.e2e.test_run import harness

pytestmark = pytest.mark.realtime

_DEPLOYMENT = """
models:
  - name: assistant
    profile: fast.yaml
    price: {input: 3, cached_input: 0.3, written_5m: 3.75, output: 15}
stack: [exact_cache]
"""
_PROFILE = """
name: fast
kind: hosted
model: fast
summary: A hosted model that answers at once, caches prompts and thinks.
as_of: 2026-11-21
sources: [a test]
max_model_len: 32000
answer_length: {median_tokens: 60, sigma: 0.4}
latency: {floor_s: 0.01, spread_median_s: 0.005, spread_sigma: 0.3, tpot_median_s: 0.001}
"""
_WORKLOAD = """
arrivals: {rate: 40/s, for: 2s}
answer_tokens: {at_most: 120}
classes:
  - {name: asking, weight: 3, prefix: {tokens: 1500, num: 2}, questions: {num: 12, zipf: 1.0, repeats: 0.6, paraphrases: 0.0}}
  - {name: writing, weight: 1, prefix: {tokens: 2000}, prompt_tokens: {median: 300, sigma: 0.5, most: 2000}}
"""
_PRICES = (
    "assistant: {input: 300, cached_input: 30, cache_write: 375, output: 1500}\n"  # dear, so that cents say something
)
_SQL = """
SELECT
  sum((num_prompt_tokens - coalesce(num_cached_tokens, 0) - coalesce(num_cache_write_tokens, 0)) * 300
      + coalesce(num_cached_tokens, 0) * 30 + coalesce(num_cache_write_tokens, 0) * 375 + num_output_tokens * 1500) / 1e6,
  sum(num_cached_tokens) * (300 - 30) / 1e6 - sum(num_cache_write_tokens) * (375 - 300) / 1e6
FROM read_json(?, format = 'newline_delimited', columns = {
  kind: 'VARCHAR', num_prompt_tokens: 'BIGINT', num_cached_tokens: 'BIGINT', num_cache_write_tokens: 'BIGINT',
  num_output_tokens: 'BIGINT', outcome: 'VARCHAR', cache_outcome: 'VARCHAR'})
WHERE kind = 'request' AND outcome = 'ok' AND cache_outcome
"""


def test_the_bill_of_a_recorded_run_is_the_mocks_own_account_to_the_cent(tmp_path: Path) -> None:
    files = {"stack.yaml": _DEPLOYMENT, "fast.yaml": _PROFILE, "load.yaml": _WORKLOAD, "prices.yaml": _PRICES}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    out = tmp_path / "run"
    done = harness(
        "run", "scenarios/workload.py", "--mock", str(tmp_path / "stack.yaml"), "--workload", str(tmp_path / "load.yaml"),
        "--prices", str(tmp_path / "prices.yaml"), "--out", str(out),
    )  # fmt: skip
    assert out.is_dir(), done.stdout + done.stderr
    run = load_run(open_run(out))
    assert len(run.table) > 50, done.stdout + done.stderr
    assert run.table.is_outcome("ok").all()
    prices = load_prices(tmp_path / "prices.yaml")
    found = bill(run.table, msgspec.structs.replace(run.manifest, prices=priced(prices)), objectives={}, gpu=None)
    assert found is not None
    assert found.usd is not None
    savings = {each.kind: each for each in found.savings}
    ledger = str(out / "ledger.jsonl")
    paid, by_prompt_cache = _row(ledger, "= 'miss'")
    (hits, _), hit_rows = _row(ledger, "= 'hit'"), run.table.labels["cache_outcome"].is_("hit")
    assert paid > 1
    assert found.usd == pytest.approx(paid, rel=1e-12)
    assert found.num_priced == len(run.table)
    assert by_prompt_cache != 0
    assert savings["provider cache"].usd == pytest.approx(by_prompt_cache, rel=1e-9)
    assert savings["reply cache"].usd == pytest.approx(hits, rel=1e-9)
    assert savings["reply cache"].num_requests == hit_rows.sum() > 5


def _row(ledger: str, which: str) -> tuple[float, float]:
    with duckdb.connect() as database:
        row = database.execute(f"{_SQL} {which}", [ledger]).fetchone()
    assert row is not None
    return float(row[0]), float(row[1])
