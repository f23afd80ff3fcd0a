"""Run directories made by hand, so that a test says only what it is about."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import settings

from harness.records import Header, RecordWriter, RequestRecord
from harness.store import Manifest, RunDirectory, Sample

LAW = settings(max_examples=100, deadline=None)

HEADER = Header(
    run_id="run-1",
    scenario="burst",
    host="load-1",
    pid=4711,
    boot_id="boot-a",
    clocks={"monotonic": 1000.0, "wall": 1.7e9},
    origin_monotonic=1000.0,
    worker_index=0,
    num_workers=1,
)


def header(**changes: Any) -> Header:
    """The header above with some fields changed."""
    return Header(**{name: changes.get(name, getattr(HEADER, name)) for name in HEADER.__struct_fields__})


def record(number: int = 0, **fields: Any) -> RequestRecord:
    """A request that was answered in order: sent on time, first token 0.1 s later, ten tokens 10 ms apart."""
    at = float(fields.pop("intended_at", number * 0.5))
    answered: dict[str, Any] = {
        "sent_at": at,
        "connected_at": at + 0.001,
        "first_byte_at": at + 0.05,
        "first_token_at": at + 0.1,
        "last_token_at": at + 0.19,
        "done_at": at + 0.2,
        "token_gaps_s": [0.01] * 9,
        "num_chunks": 10,
        "num_merged_chunks": 0,
        "planned_prompt_tokens": 100,
        "planned_output_tokens": 10,
        "num_prompt_tokens": 100,
        "num_output_tokens": 10,
        "token_source": "server",
        "status": 200,
        "outcome": "ok",
        "num_attempts": 1,
    }
    return RequestRecord(request_id=f"run-1-{number}", intended_at=at, **(answered | fields))


def bare_record(number: int = 0, **fields: Any) -> RequestRecord:
    """A request of which nothing is known but the plan."""
    return RequestRecord(request_id=f"run-1-{number}", **({"intended_at": number * 0.5} | fields))


def manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "run_id": "run-1",
        "scenario": "burst",
        "target": "http://127.0.0.1:8000",
        "model": "mock",
        "seed": 0,
        "command": ["locust"],
        "options": {},
        "plan": {},
        "num_planned": 0,
        "duration_s": 10.0,
        "max_in_flight": 100,
        "num_workers": 1,
        "started_wall": 1.7e9,
        "versions": {},
        "machine": {},
    }
    return Manifest(**(fields | changes))


def write_records(path: Path, records: Iterable[RequestRecord], *, num_lost: int = 0, **header_fields: Any) -> Path:
    """A record file that ended in order; `num_lost` requests were opened and never closed."""
    writer = RecordWriter(path, header(**header_fields))
    for item in records:
        writer.opened()
        writer.write(item)
    for _ in range(num_lost):
        writer.opened()
    writer.close(60.0)
    return path


def write_run(
    path: Path,
    shares: Sequence[Sequence[RequestRecord]],
    *,
    samples: Sequence[Sample] = (),
    **manifest_fields: Any,
) -> RunDirectory:
    """A run directory with one record file a share; what is there was planned, unless said otherwise."""
    path.mkdir(parents=True)
    directory = RunDirectory(path)
    for index, share in enumerate(shares):
        write_records(path / f"records-{index}.jsonl", share, worker_index=index, num_workers=len(shares))
    if samples:
        lines = [json.dumps({name: getattr(s, name) for name in s.__struct_fields__}) for s in samples]
        (path / "samples-0.jsonl").write_text("\n".join(lines) + "\n")
    directory.write_manifest(manifest(**({"num_planned": sum(map(len, shares))} | manifest_fields)))
    return directory
