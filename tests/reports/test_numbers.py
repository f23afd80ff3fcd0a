"""Numbers on the page, computed again from the record lines by a database that shares no code with us."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from harness.store import open_run
from tests.reports import runs
from tests.reports.pages import Page, read

_METRICS = "Latency metrics of ok requests, in milliseconds"
_FIRST = "outcome = 'ok' AND first_token_at IS NOT NULL"
_PARTS = {
    "TTFT": f"SELECT (first_token_at - intended_at) * 1000 AS v FROM r WHERE {_FIRST}",
    "TTFT from send": f"SELECT (first_token_at - sent_at) * 1000 AS v FROM r WHERE {_FIRST}",
    "E2E": "SELECT (done_at - intended_at) * 1000 AS v FROM r WHERE outcome = 'ok'",
    "chunk gap": "SELECT unnest(token_gaps_s) * 1000 AS v FROM r WHERE outcome = 'ok'",
    # A chunk of k tokens stands for k gaps of a k-th of its length.
    "ITL": """
        WITH chunks AS (
            SELECT unnest(token_gaps_s) AS gap, unnest(chunk_tokens[2:]) AS tokens FROM r WHERE outcome = 'ok'
        )
        SELECT gap / tokens * 1000 AS v FROM chunks, range(tokens)
    """,
    "TPOT": """
        SELECT (last_token_at - first_token_at) / (num_output_tokens - 1) * 1000 AS v
        FROM r WHERE outcome = 'ok' AND num_output_tokens > 1 AND first_token_at IS NOT NULL
    """,
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.mixed(tmp_path_factory.mktemp("numbers") / "run").path


@pytest.fixture(scope="module")
def page(directory: Path) -> Page:
    return read(runs.page_of(open_run(directory)))


@pytest.fixture(scope="module")
def database(directory: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    options = "format = 'newline_delimited', union_by_name = true, sample_size = -1"
    lines = f"read_json('{directory}/records-*.jsonl', {options})"
    connection.execute(f"CREATE TABLE r AS SELECT * FROM {lines} WHERE kind = 'request'")
    return connection


def _equal(shown: str, value: float) -> bool:
    """Whether `shown` is `value`, rounded to the digits that it has."""
    digits = len(shown.partition(".")[2])
    return abs(float(shown.replace(",", "")) - value) <= 0.5 * 10.0**-digits + 1e-9


@pytest.mark.parametrize("name", _PARTS)
def test_percentiles(name: str, page: Page, database: duckdb.DuckDBPyConnection) -> None:
    row = database.execute(f"""
        SELECT count(*), min(v), quantile_disc(v, 0.5), quantile_disc(v, 0.9), quantile_disc(v, 0.95),
               quantile_disc(v, 0.99), max(v), avg(v)
        FROM ({_PARTS[name]})
    """).fetchone()
    assert row is not None
    shown = page.row(_METRICS, name)
    for column, value in zip(("samples", "min", "p50", "p90", "p95", "p99", "max", "mean"), row, strict=True):
        assert _equal(shown[column], float(value)), (column, shown[column], value)


def test_headline(page: Page, database: duckdb.DuckDBPyConnection) -> None:
    row = database.execute("""
        SELECT sum(num_output_tokens) / (max(done_at) - min(sent_at)),
               (SELECT count(sent_at) FROM r) / 20.0,
               quantile_disc((first_token_at - intended_at) * 1000, 0.99) FILTER (first_token_at IS NOT NULL)
        FROM r WHERE outcome = 'ok'
    """).fetchone()
    assert row is not None
    cards = page.cards()
    assert _equal(cards["Output tokens"].removesuffix("/s"), row[0])
    assert _equal(cards["Delivered"].removesuffix("/s"), row[1])
    assert _equal(cards["TTFT p99"].removesuffix(" ms"), row[2])
    assert cards["ok requests"] == "390 of 400"


def test_load_over_time(page: Page, database: duckdb.DuckDBPyConnection) -> None:
    head, *shown = page.tables()["Load over time"]
    width = float(shown[1][0]) - float(shown[0][0])
    assert head[0] == "from, s"
    for column, name in ((1, "intended_at"), (2, "sent_at")):
        rows = database.execute(
            f"SELECT floor({name} / {width} + 1e-9)::INT, count(*) / {width} FROM r WHERE {name} IS NOT NULL GROUP BY 1"
        ).fetchall()
        there = {index: float(row[column]) for index, row in enumerate(shown) if float(row[column])}
        assert there == pytest.approx(dict(rows))


def test_requests_in_flight(page: Page, database: duckdb.DuckDBPyConnection) -> None:
    row = database.execute("""
        SELECT max(num) FROM (
            SELECT count(*) AS num FROM r AS a JOIN r AS b
            ON b.sent_at <= a.sent_at AND coalesce(b.done_at, 1e9) > a.sent_at GROUP BY a.request_id
        )
    """).fetchone()
    assert row is not None
    shown = [int(cells[3]) for cells in page.tables()["Load over time"][1:]]
    assert max(shown) == row[0]
    assert dict(page.tables()["State of the instrument"])["most requests in flight"] == str(row[0])


def test_token_equality(page: Page, database: duckdb.DuckDBPyConnection) -> None:
    table = "Tokens: the plan against the server's count"
    for what in ("prompt", "output"):
        row = database.execute(
            f"SELECT sum(num_{what}_tokens), count(*) FILTER (num_{what}_tokens <> planned_{what}_tokens) "
            "FROM r WHERE outcome = 'ok'"
        ).fetchone()
        assert row is not None
        shown = page.row(table, f"{what} tokens")
        assert int(shown["total"].replace(",", "")) == row[0]
        assert int(shown["differ"]) == row[1]
    assert page.row(table, "output tokens")["differ"] == "2"


def test_output_tokens_over_time_add_up(page: Page, database: duckdb.DuckDBPyConnection) -> None:
    row = database.execute("SELECT sum(num_output_tokens) FROM r WHERE outcome = 'ok'").fetchone()
    assert row is not None
    shown = page.tables()["Output tokens over time"][1:]
    width = float(shown[1][0]) - float(shown[0][0])
    assert sum(float(rate.replace(",", "")) for _, rate in shown) * width == pytest.approx(row[0], rel=1e-3)
