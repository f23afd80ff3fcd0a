"""`/metrics` and the ledger tell one story: every count and every sum is what DuckDB makes of the ledger's lines."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Cut, Emission, Finished, ManualClock, Refused, Request, Tokens
from mockllm.building import build_engine
from mockllm.deployment import Deployment
from mockllm.model import Began
from mockllm.profile import Profile
from mockllm.server.driver import Driver
from mockllm.server.ledger import Entry, Ledger
from mockllm.server.metrics import Metrics
from tests.laws.load import BATCHED, DRAFTED, HOSTED, TIGHT, loads
from tests.laws.test_parity import HandTimer
from tests.mockllm.exposition import Exposed, labels_of, lint

PROTOCOLS = ("openai-chat", "openai-completions", "openai-responses", "anthropic-messages", "openai-embeddings")


class Mock:
    """Engine, driver, ledger and metrics under a clock that a test moves; keeps the books as the server does."""

    def __init__(self) -> None:
        profiles: dict[str, Profile] = {"m": BATCHED, "t": TIGHT, "d": DRAFTED, "*": HOSTED}
        self.engine = build_engine(Deployment(name="law", seed=7, profiles=profiles), every_token=True)
        self.clock, self.timer = ManualClock(), HandTimer()
        self.driver = Driver(self.engine, self.clock, self.timer)
        self.ledger = Ledger(monotonic_origin=0.0)
        self.metrics = Metrics(self.engine, self.ledger)
        self.open: dict[str, Entry] = {}

    def wait_until(self, at: float) -> None:
        while self.timer.at <= at and self.timer.at < inf:
            self.clock.move_to(self.timer.at)
            self.timer.go_off()
        if at < inf:
            self.clock.move_to(at)

    def submit(self, request: Request, late_s: float, num_choices: int) -> None:
        number = int(request.request_id[1:])
        entry = Entry(
            request_id=request.request_id,
            client_request_id=None,
            protocol=PROTOCOLS[number % len(PROTOCOLS)],
            model=f"somebody's-{number % 3}" if request.model == "*" else request.model,
            stream=request.watched,
            received_at=self.clock.now(),
            num_prompt_tokens=request.num_prompt_tokens,
            num_choices=num_choices,
        )
        self.open[request.request_id] = entry
        entry.submitted_at = self.driver.submit(request, partial(self._deliver, entry, late_s))

    def go_away(self, request_id: str) -> None:
        self.driver.cancel(request_id)
        if (entry := self.open.pop(request_id, None)) is not None:
            entry.num_output_tokens = sum(entry.num_tokens)
            self._close(entry, "cancelled", None, self.clock.now())

    def _deliver(self, entry: Entry, late_s: float, emission: Emission, _more: bool) -> None:
        if isinstance(emission, Began):
            entry.num_cached_tokens = emission.cache.num_read
        elif isinstance(emission, Tokens):
            entry.planned_at.append(emission.at)
            entry.written_at.append(emission.at + late_s)
            entry.num_tokens.append(emission.num)
        else:
            del self.open[entry.request_id]
            self._end(entry, emission)

    def _end(self, entry: Entry, emission: Finished | Refused | Cut) -> None:
        if isinstance(emission, Finished):
            entry.num_cached_tokens = emission.cache.num_read
            entry.num_output_tokens = emission.num_output_tokens
            entry.finish_reason, entry.queue_s = emission.reason, emission.queue_s
            self._close(entry, "ok", 200, emission.at)
        elif isinstance(emission, Refused):
            self._close(entry, "refused", emission.status, emission.at)
        else:
            entry.num_output_tokens = emission.num_output_tokens
            self._close(entry, "cut", 200, emission.at)

    def _close(self, entry: Entry, outcome: str, status: int | None, at: float) -> None:
        entry.outcome, entry.status, entry.finished_at = outcome, status, at
        self.ledger.close(entry)


def run(
    arrivals: Sequence[tuple[float, Request]],
    victims: Sequence[int],
    late_s: Sequence[float],
    choices: Sequence[int] = (1,),
) -> Mock:
    """Everything to its end; some clients go away when the next request comes."""
    mock = Mock()
    for number, (at, request) in enumerate(arrivals):
        mock.wait_until(at)
        served = replace(request, model="*") if request.model == "h" else request
        mock.submit(served, late_s[number % len(late_s)], choices[number % len(choices)])
        if number in victims:
            mock.go_away(arrivals[number // 2][1].request_id)
    mock.wait_until(inf)
    assert not mock.open
    return mock


ENTRIES = """
CREATE TABLE entries AS
SELECT *, CASE WHEN model IN ('m', 't', 'd') THEN model ELSE '*' END AS served,
       coalesce(greatest(finished_at, written_at[-1]), finished_at) - received_at AS e2e_s,
       stream AND len(written_at) > 0 AS seen,
       stream AND len(written_at) > 0 AND num_choices = 1 AS alone,
       CASE outcome WHEN 'ok' THEN '' WHEN 'refused' THEN status::VARCHAR ELSE outcome END AS error_type,
       CASE protocol WHEN 'openai-completions' THEN 'text_completion' WHEN 'openai-embeddings' THEN 'embeddings'
                     ELSE 'chat' END AS operation,
       split_part(protocol, '-', 1) AS provider
FROM read_json(?, format = 'newline_delimited', columns = {
  'kind': 'VARCHAR', 'protocol': 'VARCHAR', 'model': 'VARCHAR', 'stream': 'BOOLEAN', 'received_at': 'DOUBLE',
  'written_at': 'DOUBLE[]', 'num_tokens': 'BIGINT[]', 'finished_at': 'DOUBLE', 'num_prompt_tokens': 'BIGINT',
  'num_cached_tokens': 'BIGINT', 'num_output_tokens': 'BIGINT', 'num_choices': 'BIGINT', 'finish_reason': 'VARCHAR',
  'queue_s': 'DOUBLE', 'status': 'BIGINT', 'outcome': 'VARCHAR'})
WHERE kind = 'request'
"""

GAPS = "unnest(list_transform(range(2, len(written_at) + 1), lambda i: written_at[i] - written_at[i - 1]))"
TPOT = "(written_at[-1] - written_at[1]) / (num_output_tokens - 1)"

# Name, the value of an entry, and which entries have one.
VLLM = (
    ("time_to_first_token_seconds", "written_at[1] - received_at", "seen AND outcome <> 'refused'"),
    ("inter_token_latency_seconds", GAPS, "alone AND outcome <> 'refused'"),
    ("time_per_output_token_seconds", GAPS, "alone AND outcome <> 'refused'"),
    ("request_time_per_output_token_seconds", TPOT, "alone AND outcome = 'ok' AND num_output_tokens > 1"),
    ("e2e_request_latency_seconds", "e2e_s", "outcome = 'ok'"),
    ("request_queue_time_seconds", "queue_s", "outcome = 'ok' AND queue_s IS NOT NULL"),
    ("request_inference_time_seconds", "e2e_s - queue_s", "outcome = 'ok' AND queue_s IS NOT NULL"),
    (
        "request_prefill_time_seconds",
        "written_at[1] - received_at - queue_s",
        "outcome = 'ok' AND seen AND queue_s IS NOT NULL",
    ),
    ("request_decode_time_seconds", "written_at[-1] - written_at[1]", "outcome = 'ok' AND alone"),
    ("request_prompt_tokens", "num_prompt_tokens", "outcome = 'ok'"),
    ("request_generation_tokens", "num_output_tokens", "outcome = 'ok'"),
)
GEN_AI = (
    ("request_duration_seconds", "e2e_s", "true"),
    ("time_to_first_token_seconds", "written_at[1] - received_at", "outcome = 'ok' AND seen"),
    ("time_per_output_token_seconds", TPOT, "outcome = 'ok' AND alone AND num_output_tokens > 1"),
)
COUNTERS = (
    ("prompt_tokens", "sum(num_prompt_tokens) FILTER (outcome <> 'refused' AND len(num_tokens) > 0)"),
    ("generation_tokens", "sum(num_output_tokens) FILTER (outcome <> 'refused')"),
)


def database(ledger: Ledger) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        path.write_bytes(b"".join(ledger.lines()))
        connection.execute(ENTRIES, [str(path)])
    return connection


def same(exposed: Exposed, name: str, labels: dict[str, str], values: list[float]) -> None:
    """One series of a histogram against the values it should have counted."""
    found = exposed.histograms(name).get(labels_of(labels))
    if found is None:
        assert not values, f"{name}{labels} is missing"
        return
    assert found.num == len(values), name
    assert found.total == pytest.approx(sum(values), rel=1e-9, abs=1e-9), name
    for bound, num in found.buckets.items():
        assert num == sum(value <= float(bound) for value in values), (name, bound)


@given(
    loads(),
    st.sets(st.integers(0, 24), max_size=6),
    st.lists(st.floats(0, 0.3), min_size=1, max_size=5),
    st.lists(st.integers(1, 2), min_size=1, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_every_series_is_a_fold_over_the_ledger(
    arrivals: list[tuple[float, Request]], victims: set[int], late_s: list[float], choices: list[int]
) -> None:
    mock = run(arrivals, sorted(victims), late_s, choices)
    exposed = Exposed(mock.metrics.exposition(mock.clock.now()))
    assert lint(exposed) == []
    with database(mock.ledger) as sql:
        for model in ("m", "t", "d", "*"):
            of_engine = {"model_name": model, "engine": "0"}
            for name, value, where in VLLM:
                rows = sql.execute(f"SELECT {value} FROM entries WHERE served = ? AND {where}", [model]).fetchall()
                same(exposed, f"vllm:{name}", of_engine, [row[0] for row in rows])
            for name, total in COUNTERS:
                row = sql.execute(f"SELECT coalesce({total}, 0) FROM entries WHERE served = ?", [model]).fetchone()
                assert row is not None
                assert exposed.value(f"vllm:{name}_total", **of_engine) == row[0]
            for reason in ("stop", "length", "abort"):
                query = "SELECT count(*) FROM entries WHERE served = ? AND outcome = 'ok' AND finish_reason = ?"
                row = sql.execute(query, [model, reason]).fetchone()
                assert row is not None
                assert exposed.value("vllm:request_success_total", **of_engine, finished_reason=reason) == row[0]
        keys = sql.execute("SELECT DISTINCT operation, provider, served, error_type FROM entries").fetchall()
        for name, value, where in GEN_AI:
            num_seen = 0.0
            for key in keys:
                query = f"""SELECT {value} FROM entries WHERE {where}
                    AND operation = ? AND provider = ? AND served = ? AND error_type = ?"""
                operation, provider, served, error_type = key
                labels = {
                    "gen_ai_operation_name": operation,
                    "gen_ai_provider_name": provider,
                    "gen_ai_request_model": served,
                    "gen_ai_response_model": served,
                } | ({"error_type": error_type} if error_type else {})
                values = [row[0] for row in sql.execute(query, list(key)).fetchall()]
                num_seen += len(values)
                same(exposed, f"gen_ai_server_{name}", labels, values)
            assert num_seen == sum(exposed.series(f"gen_ai_server_{name}_count").values()), "series nobody asked for"
        for outcome, name in (("ok", "finished"), ("refused", "refused"), ("cut", "cut"), ("cancelled", "cancelled")):
            row = sql.execute("SELECT count(*) FROM entries WHERE outcome = ?", [outcome]).fetchone()
            assert row is not None
            assert exposed.value("mock_requests_total", outcome=name) == row[0]


@given(loads())
@settings(max_examples=25, deadline=None)
def test_the_prefix_cache_counters_are_what_the_answers_reported(arrivals: list[tuple[float, Request]]) -> None:
    mock = run(arrivals, [], [0.0])
    exposed = Exposed(mock.metrics.exposition(mock.clock.now()))
    with database(mock.ledger) as sql:
        for model in ("m", "t", "d"):
            row = sql.execute(
                """SELECT coalesce(sum(num_prompt_tokens), 0), coalesce(sum(num_cached_tokens), 0)
                   FROM entries WHERE served = ? AND outcome = 'ok'""",
                [model],
            ).fetchone()
            labels = {"model_name": model, "engine": "0"}
            names = ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total")
            assert tuple(exposed.value(name, **labels) for name in names) == row
    assert exposed.value("vllm:prefix_cache_queries_total", model_name="*", engine="0") is None  # it has no such cache


@given(loads())
@settings(max_examples=25, deadline=None)
def test_an_idle_mock_shows_no_requests_and_no_blocks_in_use(arrivals: list[tuple[float, Request]]) -> None:
    mock = run(arrivals, [], [0.0])
    exposed = Exposed(mock.metrics.exposition(mock.clock.now()))
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"):
        assert set(exposed.series(name).values()) == {0.0}
    assert {dict(labels)["model_name"] for labels in exposed.series("vllm:kv_cache_usage_perc")} == {"t", "d"}
