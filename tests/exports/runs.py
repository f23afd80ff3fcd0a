"""A run with everything that an export has to tell apart, and queries over its record files by DuckDB alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from harness.records import RequestRecord
from harness.store import RunDirectory
from tests.harness.builders import bare_record, record, write_run

TARGET = "http://127.0.0.1:8123/v1"
_PROTOCOLS = ("openai-chat", "openai-completions", "anthropic-messages")


def answer(number: int) -> RequestRecord:
    """An ok request whose latencies vary with its number; chunks of one to three tokens."""
    at, sent = number * 0.05, number * 0.05 + 0.001
    first = round(sent + 0.02 + (number * 7919 % 101) / 500, 6)
    gaps = [round(0.004 + (number * 31 + step * 17) % 23 / 1000, 6) for step in range(6)]
    chunks = [1 + (number + step) % 3 for step in range(7)]
    last = round(first + sum(gaps), 6)
    return record(
        number,
        intended_at=at,
        sent_at=round(sent, 6),
        protocol=_PROTOCOLS[number % 3],
        model="asked",
        model_served="given" if number % 2 else None,
        first_token_at=first,
        last_token_at=last,
        done_at=round(last + 0.002, 6),
        token_gaps_s=gaps,
        chunk_tokens=chunks,
        num_chunks=7,
        num_output_tokens=sum(chunks),
        planned_output_tokens=sum(chunks),
        token_source="local" if number % 10 == 9 else "server",
        planned_prompt_tokens=90 + number % 7,
        num_prompt_tokens=90 + number % 7,
    )


def everything() -> list[RequestRecord]:
    """400 requests: ok, whole, throttled, failed, broken off, kept back, left, still open."""
    items = [answer(number) for number in range(388)]
    whole = {"stream": False, "first_token_at": None, "last_token_at": None, "token_gaps_s": None, "chunk_tokens": None}
    for name, value in whole.items():
        setattr(items[5], name, value)
    for number, (outcome, kind) in enumerate(
        [
            ("throttled", "http_429"),
            ("throttled", "http_429"),
            ("failed", "http_500"),
            ("failed", "in_band_error"),
            ("cut", "no_end"),
            ("cut", "reset_mid_answer"),
            ("refused", "cap_in_flight"),
            ("incomplete", "run_ended"),
            ("left", "client_left"),
        ],
        start=388,
    ):
        items.append(_broken(number, outcome, kind))
    return items


def _broken(number: int, outcome: str, kind: str) -> RequestRecord:
    at = number * 0.05
    if outcome == "refused":
        return bare_record(number, intended_at=at, outcome=outcome, error_kind=kind)
    if outcome == "throttled" or kind == "http_500":
        done = {"sent_at": at, "done_at": at + 0.03, "status": 429}
        return bare_record(number, intended_at=at, outcome=outcome, error_kind=kind, error_text="no", **done)
    item = answer(number)
    item.outcome, item.error_kind, item.token_source = outcome, kind, "local"  # type: ignore[assignment]
    if outcome == "incomplete":
        item.done_at = None
    return item


def run(path: Path, records: list[RequestRecord] | None = None, **fields: Any) -> RunDirectory:
    items = everything() if records is None else records
    half = len(items) // 2
    given: dict[str, Any] = {"target": TARGET, "duration_s": 20.0} | fields
    return write_run(path, [items[:half], items[half:]], **given)


def query(directory: RunDirectory, sql: str) -> list[tuple[Any, ...]]:
    """What SQL says of the records; `r` is the table of them, read from the lines by DuckDB's own guess of their types."""
    connection = duckdb.connect()
    paths = [str(path) for path in sorted(directory.path.glob("records-*.jsonl"))]
    connection.execute(
        "CREATE VIEW r AS SELECT * FROM read_ndjson_auto("
        + repr(paths)
        + ", union_by_name = true, sample_size = -1) WHERE kind = 'request'"
    )
    return connection.execute(sql).fetchall()
