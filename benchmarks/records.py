"""What a load process holds on to over many requests, how many records a second it writes, and how fast a run is read.

    python -m benchmarks.records [RECORDS]

Every record is of an answer of 30 tokens with a gap for each, written as during a run: one line, one `write`, into the
checksum of the file and into the totals that are shown live. Memory is this process's resident set; what it grew by since
the first tenth is what a long run would grow by. Reading is what `harness report` does with a run of 50,000: records into
columns, and the fold. Those are in memory; the run itself is not.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_line
from benchmarks.runs import header, manifest
from harness.live.stats import LiveStats
from harness.records import RecordWriter, RequestRecord
from harness.store import create_run, open_run
from harness.streams import stream
from harness.summary import load_run, summarize

_NUM = 1_000_000
_RATE = 1000.0
_TOKENS = 30
_READ = 50_000


def _record(number: int, gaps: list[float], waited_s: float) -> RequestRecord:
    at = round(number / _RATE, 6)
    first = round(at + 0.1 + waited_s, 6)
    last = first + 0.02 * (_TOKENS - 1)
    return RequestRecord(
        request_id=f"bench-0-{number}",
        scenario="bench",
        user_class="Bench",
        phase="steady",
        protocol="openai-chat",
        model="bench",
        planned_prompt_tokens=500,
        planned_output_tokens=_TOKENS,
        intended_at=at,
        sent_at=at + 0.0005,
        first_byte_at=first - 0.001,
        first_token_at=first,
        last_token_at=last,
        done_at=last + 0.001,
        token_gaps_s=gaps,
        num_chunks=_TOKENS,
        num_merged_chunks=0,
        num_prompt_tokens=500,
        num_output_tokens=_TOKENS,
        token_source="server",
        status=200,
        outcome="ok",
        finish_reason="length",
        num_attempts=1,
        model_served="bench",
        server_request_id=f"req-{number:08x}",
        read_lag_s=0.0002,
    )


def _resident_mib() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def write(num: int, path: Path, tell: Callable[[int, float, float], None]) -> None:
    """Write a run; after each tenth `tell` is told how many there are, records a second, and memory in MiB."""
    directory = create_run(path)
    directory.write_manifest(manifest(num, num / _RATE))
    writer, live = RecordWriter(directory.path / "records-1.jsonl", header()), LiveStats(objectives={})
    luck = stream(0, "bench")
    waits = luck.lognormal(-3.0, 1.0, 10_000).tolist()
    gaps = [[round(gap, 6) for gap in luck.normal(0.02, 0.001, _TOKENS - 1).tolist()] for _ in range(100)]
    since = time.perf_counter()
    for number in range(num):
        record = _record(number, gaps[number % 100], waits[number % 10_000])
        writer.opened()
        writer.write(record)
        live.add(record)
        if (number + 1) % (num // 10) == 0:
            now = time.perf_counter()
            tell(number + 1, num / 10 / (now - since), _resident_mib())
            since = time.perf_counter()
    writer.close(num / _RATE)


def main() -> None:
    num = int(sys.argv[1]) if len(sys.argv) > 1 else _NUM
    table = Table(title=f"Records written by one process\n{machine_line()}", title_justify="left")
    for column in ("records", "records/s", "resident MiB", "since the first tenth"):
        table.add_column(column, justify="right")
    early: list[float] = []

    def add_row(written: int, rate: float, resident: float) -> None:
        early.append(resident)
        table.add_row(f"{written:,}", f"{rate:,.0f}", f"{resident:.0f}", f"{resident - early[0]:+.1f}")

    with tempfile.TemporaryDirectory() as folder:
        write(num, Path(folder) / "long", add_row)
        size = (Path(folder) / "long" / "records-1.jsonl").stat().st_size
        write(_READ, Path(folder) / "short", lambda *_: None)
        before = time.perf_counter()
        summary = summarize(load_run(open_run(Path(folder) / "short")))
        took = time.perf_counter() - before
    Console(width=100).print(table)
    print(
        f"{size / num:.0f} bytes a record. Read and folded again: {_READ / took:,.0f} records/s; "
        f"{summary.metrics['ttft'].num:,} first tokens, {summary.metrics['itl'].num:,} gaps"
    )


if __name__ == "__main__":
    main()
