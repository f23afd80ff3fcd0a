"""How many streams per second one load process opens and reads, and what it adds to TTFT.

    python -m benchmarks.load [STREAMS_PER_SECOND …]

Each row replays a steady trace for eight seconds against a mock with known timings (first token after 100 ms,
then 10 tokens at 20 ms); added TTFT is arrival here minus write in the mock's ledger.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_line
from harness.launch import start_mock
from harness.store import open_run
from harness.summary import Summary, load_run, summarize
from harness.text import percentile_cell

_PROFILE = """\
name: bench
kind: hosted
model: bench
summary: Known timings.
as_of: 2026-11-21
sources: [made up for the benchmark]
max_model_len: 100000
answer_length: {median_tokens: 10, sigma: 0}
latency: {floor_s: 0.1, tpot_median_s: 0.02}
"""
_SECONDS = 8
_RATES = (50, 100, 200, 300)


def measure(rate: int, folder: Path) -> Summary:
    profile, trace, ledger, out = (
        folder / "bench.yaml",
        folder / "steady.csv",
        folder / f"{rate}.jsonl",
        folder / f"run{rate}",
    )
    profile.write_text(_PROFILE)
    rows = "".join(f"{number / rate:.6f},50,10\n" for number in range(rate * _SECONDS))
    trace.write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    with start_mock(str(profile), ledger=ledger, seed=0) as mock:
        command = [
            sys.executable,
            "-m",
            "locust",
            "-f",
            "scenarios/trace_replay.py",
            "--headless",
            "--only-summary",
        ]
        command += ["--host", mock.url, "--trace", str(trace), "--out", str(out)]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
    ledger.replace(out / "ledger.jsonl")
    return summarize(load_run(open_run(out)))


def main() -> None:
    rates = [int(word) for word in sys.argv[1:]] or list(_RATES)
    table = Table(title=f"Load side, one process\n{machine_line()}", title_justify="left")
    for column in (
        "streams/s asked",
        "delivered",
        "chunks/s",
        "added TTFT p50 ms",
        "p99 ms",
        "send lag p99 ms",
        "CPU",
        "mock late p99 ms",
        "state",
    ):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for rate in rates:
            summary = measure(rate, Path(folder))
            assert summary.truth is not None
            added, lag, late = summary.truth.ttft_error, summary.instrument.send_lag, summary.truth.lateness
            table.add_row(
                str(rate),
                f"{summary.load.delivered_rate:.1f}",
                f"{summary.tokens.output_rate or 0:,.0f}",
                percentile_cell(added, 50),
                percentile_cell(added, 99),
                percentile_cell(lag, 99),
                f"{summary.instrument.cpu_max or 0:.0%}",
                percentile_cell(late, 99),
                summary.instrument.state,
            )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
