"""The summary against DuckDB: the same figures from the same lines, by other means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.quantiles import Distribution
from harness.records import RequestRecord
from harness.store import RunDirectory
from harness.summary import Summary, load_run, metrics, summarize
from harness.table import tabulate
from tests.harness.builders import bare_record, record, write_records, write_run

_NEEDED = {"50": 6, "90": 36, "95": 72, "99": 368, "99.9": 3688}
_OUTCOMES = ("ok", "throttled", "failed", "cut", "incomplete", "refused", "left")

_RECORDS_SQL = """
CREATE TABLE record AS
SELECT * FROM read_json($glob, format = 'newline_delimited', columns = {
    kind: 'VARCHAR', outcome: 'VARCHAR', intended_at: 'DOUBLE', sent_at: 'DOUBLE', connected_at: 'DOUBLE',
    first_token_at: 'DOUBLE', last_token_at: 'DOUBLE', done_at: 'DOUBLE', token_gaps_s: 'DOUBLE[]',
    chunk_tokens: 'BIGINT[]', planned_prompt_tokens: 'BIGINT', planned_output_tokens: 'BIGINT',
    num_prompt_tokens: 'BIGINT', num_output_tokens: 'BIGINT',
    throttled_s: 'DOUBLE', cost_usd: 'DOUBLE', error_kind: 'VARCHAR', token_source: 'VARCHAR'})
WHERE kind = 'request'
"""

# One row a gap between two chunks, with the tokens of the later one.
_GAPS_SQL = """
SELECT unnest(token_gaps_s) AS gap,
       unnest(coalesce(chunk_tokens[2:], list_transform(token_gaps_s, lambda _: 1))) AS num_tokens
FROM record WHERE outcome = 'ok'
"""

_METRICS_SQL = {
    "ttft": "SELECT first_token_at - intended_at AS v FROM record WHERE outcome = 'ok'",
    "ttft_from_send": "SELECT first_token_at - sent_at AS v FROM record WHERE outcome = 'ok'",
    "e2e": "SELECT done_at - intended_at AS v FROM record WHERE outcome = 'ok'",
    "e2e_from_send": "SELECT done_at - sent_at AS v FROM record WHERE outcome = 'ok'",
    "e2e_unthrottled": "SELECT done_at - intended_at - coalesce(throttled_s, 0) AS v FROM record WHERE outcome = 'ok'",
    "connect": "SELECT connected_at - sent_at AS v FROM record WHERE outcome = 'ok'",
    "tpot": "SELECT (last_token_at - first_token_at) / (num_output_tokens - 1) AS v FROM record "
    "WHERE outcome = 'ok' AND num_output_tokens > 1",
    "chunk_gap": f"SELECT gap AS v FROM ({_GAPS_SQL})",
    # A chunk of k tokens stands for k gaps of a k-th each.
    "itl": f"SELECT gap / num_tokens AS v FROM (SELECT gap, num_tokens, unnest(range(num_tokens)) FROM ({_GAPS_SQL}))",
}


class _Sql:
    """The lines of a run in DuckDB."""

    def __init__(self, path: Path) -> None:
        self._connection = duckdb.connect()
        self._connection.execute(_RECORDS_SQL, {"glob": str(path / "records-*.jsonl")})

    def row(self, query: str) -> tuple[Any, ...]:
        found = self._connection.execute(query).fetchone()
        assert found is not None
        return tuple(found)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._connection.execute(query).fetchall()]


def _same_distribution(found: Distribution, sql: _Sql, query: str) -> None:
    num, mean, minimum, maximum, percentiles = sql.row(
        f"SELECT count(v), avg(v), min(v), max(v), quantile_disc(v, [0.5, 0.9, 0.95, 0.99, 0.999]) FROM ({query})"
    )
    assert found.num == num
    assert (found.mean, found.minimum, found.maximum) == (_near(mean), _near(minimum), _near(maximum))
    for number, (name, needed) in enumerate(_NEEDED.items()):
        assert found.percentiles[name] == (_near(percentiles[number]) if num >= needed else None), name


def _near(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, rel=0, abs=1e-9)


def _same_figures(summary: Summary, path: Path) -> None:
    sql = _Sql(path)
    assert set(summary.metrics) == set(_METRICS_SQL)
    for name, query in _METRICS_SQL.items():
        _same_distribution(summary.metrics[name], sql, query)
    counts = dict(sql.rows("SELECT outcome, count(*) FROM record GROUP BY outcome"))
    assert summary.load.outcomes == {name: counts.get(name, 0) for name in _OUTCOMES}
    assert summary.load.num_sent == sql.row("SELECT count(sent_at) FROM record")[0]
    prompt, output, rate = sql.row(
        "SELECT sum(num_prompt_tokens), sum(num_output_tokens), "
        "sum(num_output_tokens) / nullif(max(done_at) - min(sent_at), 0) FROM record WHERE outcome = 'ok'"
    )
    assert (summary.tokens.num_prompt, summary.tokens.num_output) == (prompt, output)
    assert summary.tokens.output_rate == (None if rate is None else pytest.approx(rate, rel=1e-9))
    for what, found in (
        ("prompt", summary.tokens.num_prompt_mismatches),
        ("output", summary.tokens.num_output_mismatches),
    ):
        query = f"SELECT count(*) FROM record WHERE outcome = 'ok' AND planned_{what}_tokens <> num_{what}_tokens"
        assert found == sql.row(query)[0]
    cost = sql.row("SELECT sum(cost_usd) FROM record")[0]
    # No run here has prices: 0 is not known, not free.
    assert summary.cost_usd == (pytest.approx(cost) if cost else None)
    errors = sql.rows("SELECT outcome, error_kind, count(*) FROM record WHERE error_kind IS NOT NULL GROUP BY ALL")
    assert sorted((e.outcome, e.kind, e.num) for e in summary.errors) == sorted(errors)


# -- runs of every kind of record ------------------------------------------------------------------------


def _answer(number: int, draws: Any, *, whole: bool = False, merged: bool = False) -> RequestRecord:
    """An answer whose chunks come at drawn gaps; `merged` chunks carry several tokens."""
    intended, lag, connect, wait, num_tokens = draws
    sent = intended + lag
    common: dict[str, Any] = {"intended_at": intended, "sent_at": sent, "connected_at": sent + connect}
    if whole:
        no_stream: dict[str, Any] = dict.fromkeys(("first_token_at", "last_token_at", "token_gaps_s", "num_chunks"))
        return record(number, **common, **no_stream, stream=False, done_at=sent + wait, num_output_tokens=num_tokens)
    sizes = [1 + place * 7 % 3 for place in range(max(1, num_tokens // 2))] if merged else [1] * num_tokens
    gaps = [round(0.001 + (number * 31 + place * 17) % 97 / 1e4, 6) for place in range(len(sizes) - 1)]
    first = sent + wait
    return record(
        number,
        **common,
        first_token_at=first,
        last_token_at=first + sum(gaps),
        done_at=first + sum(gaps) + 0.002,
        token_gaps_s=gaps,
        chunk_tokens=sizes if merged else None,
        num_chunks=len(sizes),
        num_output_tokens=sum(sizes),
        planned_output_tokens=sum(sizes) + (number % 11 == 0),
        throttled_s=0.25 if number % 5 == 0 else None,
        cost_usd=0.001 * number if number % 3 == 0 else None,
        planned_prompt_tokens=100 + (number % 13 == 0) if number % 5 else None,
    )


def _failure(number: int, outcome: str, draws: Any) -> RequestRecord:
    """A request that was not answered; some of its instants are there and far off, others are missing."""
    intended, lag, _, wait, _ = draws
    if outcome == "refused":
        return bare_record(number, intended_at=intended, outcome=outcome, error_kind="cap_in_flight")
    facts: dict[str, Any] = {
        "sent_at": intended + lag,
        "outcome": outcome,
        "error_kind": f"kind_{number % 3}",
    }
    if outcome == "cut":
        return record(number, intended_at=intended, first_token_at=intended + 500, done_at=intended + 900, **facts)
    return bare_record(number, intended_at=intended, done_at=intended + wait + 700, **facts)


def _any_record(number: int, kind: str, draws: Any) -> RequestRecord:
    if kind in ("stream", "merged", "whole"):
        return _answer(number, draws, whole=kind == "whole", merged=kind == "merged")
    return _failure(number, kind, draws)


_KINDS = ("stream", "merged", "whole", *_OUTCOMES[1:])
_DRAWS = st.tuples(st.floats(0, 100), st.floats(0, 0.05), st.floats(0, 0.01), st.floats(0.001, 5), st.integers(1, 30))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(_KINDS), _DRAWS), max_size=60), st.integers(1, 3))
def test_small_runs(tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, Any]], num_files: int) -> None:
    records = [_any_record(number, kind, draws) for number, (kind, draws) in enumerate(drawn)]
    path = tmp_path_factory.mktemp("run") / "run"
    write_run(path, [records[index::num_files] for index in range(num_files)])
    _same_figures(summarize(load_run(RunDirectory(path))), path)


@pytest.fixture(scope="module")
def large_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, Summary]:
    """6,000 requests in two files; heavy tails, every kind of record, a tenth of it not answered."""
    num = 6000
    kinds = stats.rv_discrete(values=(range(8), [0.45, 0.3, 0.15, 0.02, 0.02, 0.02, 0.02, 0.02])).rvs(
        size=num, random_state=1
    )
    columns = np.column_stack(
        [
            np.sort(stats.uniform(0, 600).rvs(num, random_state=2)),
            stats.expon(0, 0.002).rvs(num, random_state=3),
            stats.expon(0, 0.001).rvs(num, random_state=4),
            stats.lognorm(1.1, scale=0.3).rvs(num, random_state=5),
            stats.geom(0.05).rvs(num, random_state=6),
        ]
    )
    records = [
        _any_record(number, _KINDS[kind], (*map(float, row[:4]), int(row[4])))
        for number, (kind, row) in enumerate(zip(kinds, columns, strict=True))
    ]
    directory = write_run(tmp_path_factory.mktemp("large") / "run", [records[0::2], records[1::2]], duration_s=600.0)
    return directory, summarize(load_run(directory))


def test_a_large_run(large_run: tuple[RunDirectory, Summary]) -> None:
    directory, summary = large_run
    _same_figures(summary, directory.path)
    assert summary.metrics["ttft"].at(99.9) is not None
    assert summary.load.num_planned == 6000
    assert summary.load.num_missing == 0
    assert summary.load.asked_rate == 10.0
    assert summary.load.delivered_rate == pytest.approx(summary.load.num_sent / 600)


def test_a_run_is_folded_the_same_twice(large_run: tuple[RunDirectory, Summary]) -> None:
    directory, summary = large_run
    assert summarize(load_run(directory)) == summary


# -- definitions, one by one -----------------------------------------------------------------------------


def test_latencies_count_from_the_intended_time() -> None:
    found = metrics(
        tabulate([record(n, intended_at=1.0, sent_at=1.5, first_token_at=2.0, done_at=4.0) for n in range(6)])
    )
    assert {name: found[name].at(50) for name in ("ttft", "ttft_from_send", "e2e", "e2e_from_send")} == {
        "ttft": 1.0,
        "ttft_from_send": 0.5,
        "e2e": 3.0,
        "e2e_from_send": 2.5,
    }


def test_latencies_are_of_requests_that_are_ok() -> None:
    slow = {"first_token_at": 1e6, "last_token_at": 2e6, "done_at": 3e6, "token_gaps_s": [1e5] * 9}
    bad = [record(10 + n, outcome=outcome, **slow) for n, outcome in enumerate(_OUTCOMES[1:])]
    found = metrics(tabulate([*bad, *(record(n) for n in range(6)), *bad]))
    for name, metric in found.items():
        assert metric.num == (54 if name in ("itl", "chunk_gap") else 6), name
        assert metric.maximum is not None
        assert metric.maximum < 1.0


@pytest.mark.parametrize(("num_output", "tpot"), [(1, None), (0, None), (None, None), (2, 0.09), (10, 0.01)])
def test_tpot(num_output: int | None, tpot: float | None) -> None:
    found = metrics(tabulate([record(n, num_output_tokens=num_output, token_gaps_s=None) for n in range(6)]))["tpot"]
    assert found.num == (0 if tpot is None else 6)
    assert found.at(50) == (None if tpot is None else pytest.approx(tpot))
    assert found.minimum == (None if tpot is None else pytest.approx(tpot))


def test_an_answer_of_one_token_has_no_gaps_either() -> None:
    one = {
        "first_token_at": 1.0,
        "last_token_at": 1.0,
        "num_output_tokens": 1,
        "token_gaps_s": [],
        "num_chunks": 1,
    }
    found = metrics(tabulate([record(n, intended_at=0.5, **one) for n in range(6)]))
    assert [found[name].num for name in ("ttft", "tpot", "itl", "chunk_gap")] == [6, 0, 0, 0]


def test_itl_is_weighted_by_tokens_and_chunk_gap_is_not() -> None:
    found = metrics(tabulate([record(0, token_gaps_s=[0.01, 0.08, 0.02], chunk_tokens=[5, 1, 8, 1])]))
    assert (found["itl"].num, found["chunk_gap"].num) == (10, 3)
    assert found["itl"].mean == pytest.approx((0.01 + 8 * 0.01 + 0.02) / 10)
    assert found["chunk_gap"].maximum == 0.08


def _tokens_of(tmp_path: Path, records: list[RequestRecord]) -> Any:
    return summarize(load_run(write_run(tmp_path / "run", [records]))).tokens


def test_token_totals_are_of_requests_that_are_ok(tmp_path: Path) -> None:
    tokens = _tokens_of(
        tmp_path,
        [
            record(0),
            record(1, num_prompt_tokens=7, num_output_tokens=3),
            record(2, outcome="cut"),
            bare_record(3),
        ],
    )
    assert (tokens.num_prompt, tokens.num_output) == (107, 13)
    assert (tokens.num_prompt_mismatches, tokens.num_output_mismatches) == (1, 1)
    assert (tokens.num_prompt_compared, tokens.num_output_compared) == (2, 2)
    assert tokens.output_rate == pytest.approx(13 / 0.7)  # first send at 0, last end at 0.7


@pytest.mark.parametrize(
    ("planned", "counted", "mismatches"),
    [(10, 10, 0), (10, 9, 1), (10, 11, 1), (None, 10, 0), (None, None, 0)],
)
def test_mismatches(tmp_path: Path, planned: int | None, counted: int | None, mismatches: int) -> None:
    tokens = _tokens_of(tmp_path, [record(0, planned_output_tokens=planned, num_output_tokens=counted)])
    assert tokens.num_output_mismatches == mismatches


@pytest.mark.parametrize("what", ["prompt", "output"])
def test_a_count_that_is_missing_does_not_differ(tmp_path: Path, what: str) -> None:
    missing: dict[str, Any] = {f"num_{what}_tokens": None, "token_source": None}
    tokens = _tokens_of(tmp_path, [record(0, **missing)])
    assert getattr(tokens, f"num_{what}_mismatches") == 0


def test_a_count_of_our_own_is_not_compared(tmp_path: Path) -> None:
    assert _tokens_of(tmp_path, [record(0, num_output_tokens=11, token_source="local")]).num_output_mismatches == 0


def test_a_prompt_that_differs_was_compared(tmp_path: Path) -> None:
    tokens = _tokens_of(tmp_path, [record(0, planned_output_tokens=None, num_prompt_tokens=7)])
    assert tokens.num_prompt_mismatches == 1
    assert (tokens.num_prompt_compared, tokens.num_output_compared) == (1, 0)


def test_token_sources(tmp_path: Path) -> None:
    records = [record(0), record(1, token_source="local"), record(2)]
    assert _tokens_of(tmp_path, records).per_source == {"server": 2, "local": 1}


def test_token_sources_are_of_requests_that_are_ok(tmp_path: Path) -> None:
    assert _tokens_of(tmp_path, [record(0), bare_record(1, outcome="refused")]).per_source == {"server": 1}


def test_errors_are_in_order_of_number_with_an_example(tmp_path: Path) -> None:
    records = [record(0), record(1, outcome="throttled", error_kind="http_429", error_text="slow down")]
    records += [record(2 + n, outcome="failed", error_kind="http_500", error_text=f"boom {n}") for n in range(3)]
    errors = summarize(load_run(write_run(tmp_path / "run", [records]))).errors
    assert [(e.outcome, e.kind, e.num, e.example) for e in errors] == [
        ("failed", "http_500", 3, "boom 0"),
        ("throttled", "http_429", 1, "slow down"),
    ]


# -- verdicts of whole runs ------------------------------------------------------------------------------


def test_a_good_run_passes(tmp_path: Path) -> None:
    summary = summarize(load_run(write_run(tmp_path / "run", [[record(n) for n in range(8)]])))
    assert (summary.verdict.answer, summary.verdict.exit_code, summary.instrument.state) == (
        "PASS",
        0,
        "VALID",
    )


def test_missing_records_make_a_run_invalid(tmp_path: Path) -> None:
    summary = summarize(load_run(write_run(tmp_path / "run", [[record(n) for n in range(8)]], num_planned=9)))
    assert (summary.verdict.answer, summary.verdict.exit_code, summary.load.num_missing) == ("INVALID", 2, 1)
    assert summary.verdict.reasons == ["1 of 9 planned requests left no record", *summary.verdict.reasons[1:]]


def test_a_run_without_any_file_is_invalid(tmp_path: Path) -> None:
    summary = summarize(load_run(write_run(tmp_path / "run", [], num_planned=9)))
    assert (summary.verdict.answer, summary.load.num_missing, summary.metrics["ttft"].num) == (
        "INVALID",
        9,
        0,
    )


@pytest.mark.parametrize("harm", ["footer", "torn", "changed", "lost"])
def test_a_damaged_file_makes_a_run_invalid(tmp_path: Path, harm: str) -> None:
    directory = write_run(tmp_path / "run", [], num_planned=3)
    path = write_records(
        directory.path / "records-0.jsonl", [record(n) for n in range(3)], num_lost=int(harm == "lost")
    )
    content = path.read_bytes()
    if harm == "footer":
        path.write_bytes(content[: content.rindex(b'{"kind":"footer"')])
    elif harm == "torn":
        path.write_bytes(content[:-40])
    elif harm == "changed":
        path.write_bytes(content.replace(b'"num_output_tokens":10', b'"num_output_tokens":99', 1))
    summary = summarize(load_run(directory))
    assert (summary.verdict.answer, summary.verdict.exit_code) == ("INVALID", 2)
    assert any("records-0.jsonl" in reason for reason in summary.verdict.reasons)


def test_a_failed_request_fails_the_run(tmp_path: Path) -> None:
    summary = summarize(load_run(write_run(tmp_path / "run", [[record(0), record(1, outcome="failed")]])))
    assert (summary.verdict.answer, summary.verdict.exit_code) == ("FAIL", 1)


def test_a_record_that_is_there_twice_does_not_stand_for_another(tmp_path: Path) -> None:
    shares = [[record(n) for n in range(5)], [record(n) for n in range(4)]]
    summary = summarize(
        load_run(write_run(tmp_path / "run", shares, num_planned=9))
    )  # 5 of 9 requests, 4 of them twice
    assert summary.verdict.answer == "INVALID"


@pytest.mark.parametrize(("warmup_s", "answer"), [(0.0, "FAIL"), (2.0, "PASS")])
def test_a_request_of_the_warm_up_stands_in_the_load_and_in_no_verdict(
    tmp_path: Path, warmup_s: float, answer: str
) -> None:
    cold = record(0, outcome="failed", error_kind="http_503", status=503)
    run = write_run(
        tmp_path / "run",
        [[cold, *(record(number) for number in range(1, 20))]],
        clock="virtual",
        num_planned=20,
        warmup_s=warmup_s,
    )
    summary = summarize(load_run(run))
    assert summary.verdict.answer == answer
    assert summary.load.outcomes["failed"] == 1
    assert summary.num_warmup == (4 if warmup_s else 0)
    assert summary.metrics["e2e"].num == 19 - max(0, summary.num_warmup - 1)
