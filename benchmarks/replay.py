"""A steady trace played by stock Locust against a mock that keeps a ledger: what the instrument says, and what was true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.launch import start_mock
from harness.store import open_run
from harness.summary import RunData, Summary, load_run, summarize
from harness.table import Floats

__all__ = ["Replay", "replay"]

_ROOT = Path(__file__).parents[1]
_SCENARIO = "benchmarks/hogged_replay.py"


@dataclass(frozen=True)
class Replay:
    """A run that was played, with the mock's ledger in its directory."""

    run: RunData
    summary: Summary
    exit_code: int
    output: str

    def first_tokens(self) -> tuple[Floats, Floats, Floats]:
        """Of each request in the table's order: when its first token came here, when the mock was to write it, and when the
        mock had written it; all on this run's clock."""
        text = (self.run.directory.path / "ledger.jsonl").read_text()
        head, *lines = [json.loads(line) for line in text.splitlines()]
        header = self.run.files[0].header
        assert header is not None
        shift = head["monotonic_origin"] - header.origin_monotonic
        entries: dict[str, Any] = {line["client_request_id"]: line for line in lines}
        known = [entries[name] for name in self.run.table.request_ids]
        planned = np.array([entry["planned_at"][0] for entry in known]) + shift
        written = np.array([entry["written_at"][0] for entry in known]) + shift
        return self.run.table["first_token_at"], planned, written


def replay(
    folder: Path,
    mock: str,
    *,
    gap_s: float,
    num: int,
    num_tokens: int = 16,
    hogs: str = "",
    words: tuple[str, ...] = (),
    meanwhile: Callable[[str, Path], None] = lambda url, ledger: None,
    pinned: bool = False,
) -> Replay:
    """Send `num` requests, one every `gap_s`. `hogs`: milliseconds for which something burns the load process's CPU, in
    turn. `meanwhile` is called with the mock's URL and its ledger once Locust has been started. `pinned`: mock and load
    process have a core each, where there are two."""
    trace, out, ledger = folder / "steady.csv", folder / "run", folder / "ledger.jsonl"
    rows = "".join(f"{number * gap_s:.6f},100,{num_tokens}\n" for number in range(num))
    trace.write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    with start_mock(mock, ledger=ledger, seed=0) as server:
        command = [sys.executable, "-m", "locust", "-f", _SCENARIO, "--headless", "--only-summary"]
        command += ["--host", server.url, "--trace", str(trace), "--out", str(out), "--hogs", hogs, *words]
        process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if pinned:
            _pin(0, server.process.pid)
            _pin(1, process.pid)
        try:
            meanwhile(server.url, ledger)
            output, _ = process.communicate(timeout=100)
        finally:
            process.kill()
            process.communicate()
    if server.process.stdout is not None:
        server.process.stdout.close()
    if not (out / "manifest.json").exists():
        raise RuntimeError(output)
    ledger.replace(out / "ledger.jsonl")
    run = load_run(open_run(out))
    return Replay(run, summarize(run), process.returncode, output)


def _pin(core: int, pid: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(pid, {cores[core % len(cores)]})
