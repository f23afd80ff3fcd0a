"""How many paced chunks per second the mock lets out on one core, and how late they are.

    python -m benchmarks.mock [STREAMS …]

Each row opens so many streams of 100 tokens/s for five seconds, reads them with a client that does nothing
else, and takes lateness (written minus planned) from the ledger. The mock is pinned to one core, the client
to another where there are two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_line

_PROFILE = """\
name: bench
kind: hosted
model: bench
summary: 100 tokens a second, no variation.
as_of: 2026-11-21
sources: [made up for the benchmark]
max_model_len: 100000
answer_length: {median_tokens: 100, sigma: 0}
latency: {floor_s: 0.5, tpot_median_s: 0.01}
"""
_NUM_TOKENS = 500
_STREAMS = (20, 50, 100, 150, 200)


def measure(num_streams: int, folder: Path) -> tuple[float, float, float, float]:
    """Chunks per second, lateness p50 and p99 in seconds, and the mock's CPU share while it streamed."""
    profile = folder / "bench.yaml"
    profile.write_text(_PROFILE)
    command = [sys.executable, "-m", "mockllm", "serve", str(profile), "--port", "0"]
    mock = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: _pin(0))
    try:
        assert mock.stdout is not None
        words = mock.stdout.readline().split()
        url = urlsplit(words[words.index("at") + 1])
        client = [
            sys.executable,
            "-m",
            "benchmarks.drain",
            str(url.hostname),
            str(url.port),
            str(num_streams),
            str(_NUM_TOKENS),
        ]
        before = _cpu_seconds(mock.pid)
        subprocess.run(client, check=True, timeout=120, preexec_fn=lambda: _pin(1))
        used = _cpu_seconds(mock.pid) - before
        with urlopen(f"{url.geturl()}/mock/ledger") as answer:
            entries = [json.loads(line) for line in answer.read().splitlines()[1:]]
    finally:
        mock.terminate()
        mock.wait()
        mock.stdout.close()  # type: ignore[union-attr]
    planned = np.concatenate([entry["planned_at"] for entry in entries])
    late = np.concatenate([entry["written_at"] for entry in entries]) - planned
    # The second in the middle, when every stream is running.
    middle = np.median(planned)
    steady = (planned >= middle - 1) & (planned < middle + 1)
    p50, p99 = np.percentile(late[steady], [50, 99])
    return float(steady.sum() / 2), float(p50), float(p99), used / float(np.ptp(planned))


def _pin(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    streams = [int(word) for word in sys.argv[1:]] or list(_STREAMS)
    table = Table(title=f"Mock server, paced chunks on one core\n{machine_line()}", title_justify="left")
    for column in (
        "streams",
        "chunks/s asked",
        "chunks/s",
        "lateness p50 ms",
        "lateness p99 ms",
        "CPU of one core",
    ):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for num in streams:
            rate, p50, p99, cpu = measure(num, Path(folder))
            table.add_row(
                str(num),
                f"{num * 100:,}",
                f"{rate:,.0f}",
                f"{p50 * 1e3:.2f}",
                f"{p99 * 1e3:.2f}",
                f"{cpu:.0%}",
            )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
