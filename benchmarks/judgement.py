"""How long a large run takes from records to a verdict, and in how much memory.

    python -m benchmarks.judgement [RECORDS]

A run of RECORDS (default 1,000,000) requests of 12 tokens, with a gap for each, in three classes, two models, 500 tenants, with
cache hits, costs and some failures, is written once. Then, each a process of its own as a person would start it: `harness report`
(records to summary and page) and `harness gate` (against objectives). Wall time and the largest resident set of each are its
own, as the kernel counted them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_line
from benchmarks.runs import header, manifest
from harness.objectives import Objective
from harness.records import RecordWriter, RequestRecord
from harness.store import create_run
from harness.streams import stream

_NUM = 1_000_000
_RATE = 500.0
_TOKENS = 12
_SLO = """objectives:
  - ttft_p99 < 2 s
  - goodput(ttft < 1 s, tpot < 60 ms) > 90 %
  - error_rate < 1 %
  - cost_per_1k < $4
  - {class: chat, require: [e2e_p95 < 5 s]}
"""


def write(num: int, path: Path) -> None:
    """A run of `num` requests."""
    directory, luck = create_run(path), stream(0, "bench")
    kept = manifest(
        num,
        num / _RATE,
        clock="virtual",  # no instrument sampled itself here
        objectives={"": Objective(ttft_s=1.0, tpot_s=0.06)},
    )
    directory.write_manifest(kept)
    writer = RecordWriter(directory.path / "records-1.jsonl", header())
    waits = luck.lognormal(-2.5, 0.6, 10_007).tolist()
    gaps = [[round(gap, 6) for gap in luck.normal(0.02, 0.002, _TOKENS - 1).tolist()] for _ in range(101)]
    for number in range(num):
        writer.opened()
        writer.write(_record(number, gaps[number % 101], waits[number % 10_007]))
    writer.close(num / _RATE)
    kept.ended_at, kept.ended_how = num / _RATE + 1, "complete"
    directory.write_manifest(kept)


def _record(number: int, gaps: list[float], waited_s: float) -> RequestRecord:
    at, failed, hit = round(number / _RATE, 6), number % 997 == 0, number % 5 == 0
    record = RequestRecord(
        request_id=f"bench-0-{number}",
        scenario="bench",
        class_name=("chat", "agent", "search")[number % 3],
        tenant=f"tenant-{number % 499}",
        phase="warm" if at < 60 else "steady",
        protocol="openai-chat",
        model="bench",
        planned_prompt_tokens=500,
        planned_output_tokens=_TOKENS,
        intended_at=at,
        sent_at=round(at + 0.0005, 6),
        num_attempts=1,
    )
    if failed:
        record.outcome, record.error_kind, record.error_text, record.status = "failed", "http_500", "overloaded", 500
        record.done_at, record.cost_usd = round(at + 0.05, 6), 0.0
        return record
    first = round(at + (0.002 if hit else waited_s), 6)
    record.first_byte_at, record.first_token_at = first, first
    record.last_token_at = round(first + sum(gaps), 6)
    record.done_at = round(record.last_token_at + 0.001, 6)
    record.token_gaps_s, record.num_chunks, record.num_merged_chunks = gaps, _TOKENS, 0
    record.num_prompt_tokens, record.num_output_tokens, record.token_source = 500, _TOKENS, "server"
    record.num_cached_tokens = 384 if number % 2 else 0
    record.status, record.outcome, record.finish_reason = 200, "ok", "length"
    record.model_served, record.cache_outcome = ("small", "large")[number % 2], "hit" if hit else "miss"
    record.cost_usd = 0.0 if hit else 0.00031
    return record


def _timed(words: list[str]) -> tuple[int, float, float]:
    """Exit code, seconds and MiB of `harness WORDS`."""
    before = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "harness", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), time.perf_counter() - before, usage.ru_maxrss / 1024


def main() -> None:
    num = int(sys.argv[1]) if len(sys.argv) > 1 else _NUM
    table = Table(title=f"{num:,} records to a verdict\n{machine_line()}", title_justify="left")
    for column in ("command", "exit code", "seconds", "largest MiB"):
        table.add_column(column, justify="left" if column == "command" else "right")
    with tempfile.TemporaryDirectory() as folder:
        run, slo = Path(folder) / "long", Path(folder) / "slo.yaml"
        slo.write_text(_SLO, encoding="utf-8")
        write(num, run)
        total, most = 0.0, 0.0
        for words in (["report", str(run), "--slo", str(slo)], ["gate", str(run), "--slo", str(slo)]):
            code, seconds, mib = _timed(words)
            total, most = total + seconds, max(most, mib)
            table.add_row(f"harness {words[0]}", str(code), f"{seconds:.1f}", f"{mib:,.0f}")
        page = (run / "report.html").stat().st_size / 1e6
    table.add_row("both", "", f"{total:.1f}", f"{most:,.0f}")
    Console(width=100).print(table)
    print(f"The page has {page:.2f} MB.")


if __name__ == "__main__":
    main()
