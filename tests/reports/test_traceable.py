"""Every number on the page is traceable: some of each kind, read off the page, are computed again from the record lines in SQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from harness.objectives import Objective
from harness.store import RunDirectory
from harness.summary import load_run, summarize
from reports import write_report
from tests.harness.builders import bare_record, write_run
from tests.reports.pages import Page, read
from tests.reports.runs import answered

_SPAN_S = 20.0
_METRICS = "Latency metrics of ok requests, in milliseconds"
_SLO = {"objectives": ["ttft_p95 < 400 ms", "error_rate <= 10 %", "e2e_p50(ok) < 1 s"]}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return _run(tmp_path_factory.mktemp("traced") / "run")


def _run(path: Path) -> RunDirectory:
    """Requests of two tenants, answered from a cache or not, some failed, each with its price; 1.5 s of warm-up before."""
    records: list[Any] = [
        answered(
            number,
            tenant=("blue", "green", "green")[number % 3],
            class_name="chat",
            model="assistant",
            model_served=("small", "large")[number % 2],
            cache_outcome=("hit", "miss", "miss")[number % 3],
            num_cached_tokens=number % 5 * 11,
            replica=f"r-{number % 4}",
            queue_s=number % 13 / 1000,
            first_byte_at=round(number * 0.05 + 0.05, 6),
            cost_usd=(1 + number % 7) / 4096,
        )
        for number in range(380)
    ]
    for number in range(380, 400):
        at = number * 0.05
        records.append(
            bare_record(number, intended_at=at, sent_at=at + 0.001, done_at=at + 0.02, tenant="green", class_name="chat",
                        outcome="failed", error_kind="http_500", error_text="no", phase="burst", cost_usd=0.0, status=500,
                        num_attempts=1, model="assistant")
        )  # fmt: skip
    objective = Objective(ttft_s=0.25)
    return write_run(path, [records], duration_s=_SPAN_S, warmup_s=1.5, objectives={"": objective}, slo=_SLO)


@pytest.fixture(scope="module")
def page(directory: RunDirectory) -> Page:
    run = load_run(directory)
    return read(write_report(run, summarize(run)))


@pytest.fixture(scope="module")
def sql(directory: RunDirectory) -> Callable[[str], Any]:
    connection = duckdb.connect()
    options = "format = 'newline_delimited', union_by_name = true, sample_size = -1"
    lines = f"read_json('{directory.path}/records-*.jsonl', {options})"
    connection.execute(f"CREATE TABLE everything AS SELECT * FROM {lines} WHERE kind = 'request'")
    connection.execute("CREATE VIEW r AS SELECT * FROM everything WHERE intended_at >= 1.5")

    def one(query: str) -> Any:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]

    return one


def _same(shown: str, value: float) -> bool:
    """Whether the first number in `shown` is `value`, rounded to the digits that it has."""
    number = shown.removeprefix("$").split()[0].removesuffix("/s").replace(",", "")
    digits = len(number.partition(".")[2])
    return abs(float(number) - value) <= 0.5 * 10.0**-digits + 1e-9


_TTFT = "(first_token_at - intended_at) * 1000"
_CARDS = {
    "TTFT p50": f"SELECT quantile_disc({_TTFT}, 0.5) FROM r WHERE outcome = 'ok'",
    "E2E p50": "SELECT quantile_disc((done_at - intended_at) * 1000, 0.5) FROM r WHERE outcome = 'ok'",
    "E2E p95": "SELECT quantile_disc((done_at - intended_at) * 1000, 0.95) FROM r WHERE outcome = 'ok'",
    "ITL p50": """
        WITH chunks AS (SELECT unnest(token_gaps_s) AS gap, unnest(chunk_tokens[2:]) AS n FROM r WHERE outcome = 'ok')
        SELECT quantile_disc(gap / n * 1000, 0.5) FROM chunks, range(n)
    """,
    "Output tokens": "SELECT sum(num_output_tokens) / (max(done_at) - min(sent_at)) FROM r WHERE outcome = 'ok'",
    "Delivered": f"SELECT count(sent_at) / {_SPAN_S} FROM everything",
    "Goodput": f"SELECT count(*) / ({_SPAN_S} - 1.5) FROM r WHERE outcome = 'ok' AND {_TTFT} <= 250",
    "Cost": "SELECT sum(cost_usd) FROM r",
}


@pytest.mark.parametrize("card", _CARDS)
def test_a_card(card: str, page: Page, sql: Callable[[str], Any]) -> None:
    assert _same(page.cards()[card], sql(_CARDS[card])), (page.cards()[card], sql(_CARDS[card]))


def test_tokens_in_and_out(page: Page, sql: Callable[[str], Any]) -> None:
    for what in ("prompt", "output"):
        total = sql(f"SELECT sum(num_{what}_tokens) FROM r WHERE outcome = 'ok'")
        row = page.row("Tokens: the plan against the server's count", f"{what} tokens")
        assert int(row["total"].replace(",", "")) == total


def test_errors(page: Page, sql: Callable[[str], Any]) -> None:
    (row,) = page.tables()["Errors by class"][1:]
    assert int(row[-1]) == sql("SELECT count(*) FROM r WHERE error_kind = 'http_500'") == 20
    head, matrix = page.tables()["Error matrix: requests by kind of error and phase"]
    assert dict(zip(head, matrix, strict=True))["burst"] == "20"


def test_failures_as_infinity(page: Page, sql: Callable[[str], Any]) -> None:
    row = page.row(_METRICS, "TTFT, failures as +∞")
    ordered = f"SELECT CASE WHEN outcome = 'ok' THEN {_TTFT} ELSE 'inf'::DOUBLE END AS v FROM r"
    assert _same(row["p50"], sql(f"SELECT quantile_disc(v, 0.5) FROM ({ordered})"))
    assert _same(row["p90"], sql(f"SELECT quantile_disc(v, 0.9) FROM ({ordered})"))
    assert sql(f"SELECT quantile_disc(v, 0.95) FROM ({ordered})") == float("inf")
    assert row["p95"] == "+∞"


def test_an_interval_holds_its_percentile_and_is_made_of_samples(page: Page, sql: Callable[[str], Any]) -> None:
    note = page.notes(_METRICS, "TTFT")["p50"]
    low, high = (float(part) for part in note.split(" to "))
    # scipy.stats.binom.interval(0.95, 350, 0.5): ranks 157 and 194 of 350 from 1.
    at = f"SELECT list_sort(list({_TTFT})) FROM r WHERE outcome = 'ok'"
    ordered = sql(at)
    assert len(ordered) == 350
    assert _same(str(low), ordered[156])
    assert _same(str(high), ordered[193])


@pytest.mark.parametrize("tenant", ["blue", "green"])
def test_a_row_of_a_breakdown(tenant: str, page: Page, sql: Callable[[str], Any]) -> None:
    row = page.row("By tenant; latencies in ms", tenant)
    where = f"FROM r WHERE tenant = '{tenant}'"
    assert int(row["requests"]) == sql(f"SELECT count(*) {where}")
    assert int(row["ok"]) == sql(f"SELECT count(*) {where} AND outcome = 'ok'")
    assert _same(row["TTFT p50"], sql(f"SELECT quantile_disc({_TTFT}, 0.5) {where} AND outcome = 'ok'"))
    assert _same(row["cost"], sql(f"SELECT sum(cost_usd) {where}"))


def test_hits_and_misses(page: Page, sql: Callable[[str], Any]) -> None:
    for side in ("hit", "miss"):
        row = page.row("By reply cache; latencies in ms", side)
        where = f"FROM r WHERE outcome = 'ok' AND cache_outcome = '{side}'"
        assert int(row["ok requests"]) == sql(f"SELECT count(*) {where}")
        median = sql(f"SELECT quantile_disc({_TTFT}, 0.5) {where}")
        assert _same(row["TTFT p50"], median)
    notes = {e.text for e in page.find("dd", class_="note")}
    assert any(f"of misses {row['TTFT p50']} ms" in note for note in notes)
    assert any("hits and misses together" in note for note in notes)


def test_routes(page: Page, sql: Callable[[str], Any]) -> None:
    row = page.row("Routes: models asked for, and those that answered", "assistant")
    for name in ("small", "large"):
        assert int(row[name]) == sql(f"SELECT count(*) FROM r WHERE outcome = 'ok' AND model_served = '{name}'")


def test_stages_add_up(page: Page, sql: Callable[[str], Any]) -> None:
    head, *rows = page.tables()["Stages of ok requests, ms"]
    means = {row[0]: row[head.index("mean, all")] for row in rows}
    ok = "FROM r WHERE outcome = 'ok'"
    assert _same(means["until the first byte"], sql(f"SELECT avg(first_byte_at - connected_at) * 1000 {ok}"))
    assert _same(means["first to last token"], sql(f"SELECT avg(last_token_at - first_token_at) * 1000 {ok}"))
    whole = sum(float(mean) for name, mean in means.items() if "queueing" not in name)
    assert whole == pytest.approx(sql(f"SELECT avg(done_at - intended_at) * 1000 {ok}"), rel=0.005)
    queue = means["of it queueing, as the server says"]
    assert _same(queue, sql(f"SELECT avg(queue_s) * 1000 {ok}"))


def test_objectives(page: Page, sql: Callable[[str], Any]) -> None:
    head, *rows = page.tables()["Objectives"]
    found = {row[head.index("objective")]: dict(zip(head, row, strict=True)) for row in rows}
    assert len(found) == 3
    failed = sql("SELECT count(*) FILTER (outcome = 'failed') / count(*) * 100 FROM r")
    median = sql("SELECT quantile_disc((done_at - intended_at) * 1000, 0.5) FROM r WHERE outcome = 'ok'")
    assert _same(next(row for text, row in found.items() if text.startswith("error_rate"))["measured"], failed)
    assert _same(next(row for text, row in found.items() if text.startswith("e2e_p50"))["measured"], median)
    assert next(row for text, row in found.items() if text.startswith("ttft_p95"))["measured"] == "+∞"


def test_replicas(page: Page, sql: Callable[[str], Any]) -> None:
    shown = page.row("Replicas; times in ms", "small r-0")
    where = "FROM everything WHERE model_served = 'small' AND replica = 'r-0'"
    assert int(shown["requests"]) == sql(f"SELECT count(*) {where}")
    assert _same(shown["queue p50"], sql(f"SELECT quantile_disc(queue_s, 0.5) * 1000 {where}"))
    assert _same(shown["output tokens"], sql(f"SELECT sum(num_output_tokens) {where}"))


def test_requests_in_flight_by_replica(page: Page, sql: Callable[[str], Any]) -> None:
    most = sql("""
        SELECT max(num) FROM (
            SELECT count(*) AS num FROM everything AS a JOIN everything AS b
            ON b.sent_at <= a.sent_at AND b.done_at > a.sent_at AND a.replica = b.replica AND a.model_served = b.model_served
            WHERE a.replica = 'r-1' AND a.model_served = 'large' GROUP BY a.request_id
        )
    """)
    head, *rows = page.tables()["Most in flight"]
    assert max(int(row[head.index("large r-1")]) for row in rows) == most
