"""How often the instrument notices that it must not be believed, and how often it cries wolf.

    python -m benchmarks.self_judgement [RUNS]

Short runs of three seconds, alternating: on the machine as it is; beside one process a processor that does nothing but
work; with something in the load process that burns its CPU for 15, 50 and 200 ms in turn; and with a thread of the load
process that never stops. The first must be VALID every time, the others never. Beside the verdict, the worst error of a
first token that was not marked as doubtful: how far its arrival lies outside of the time between the mock's plan to write
it and its having been written.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_line
from benchmarks.replay import Replay, replay

_RUNS = 10
_GAP_S, _NUM = 0.017, 175
_BURN = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"


@dataclass
class Seen:
    """What the runs of one kind said."""

    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    num_samples: int = 0
    num_doubted: int = 0
    worst_s: float = 0.0

    def add(self, played: Replay) -> None:
        instrument = played.summary.instrument
        self.states[instrument.state] += 1
        self.reasons.update({_short(reason) for reason in instrument.reasons})
        came, planned, written = played.first_tokens()
        doubted = played.run.table.labels["doubt"].codes >= 0
        wrong = np.maximum(came - written, planned - came)[~doubted]
        self.num_samples += len(came)
        self.num_doubted += int(doubted.sum())
        self.worst_s = max(self.worst_s, float(wrong.max(initial=0.0)))


def _short(reason: str) -> str:
    """The words of a reason, without its numbers."""
    words = [word for word in reason.split(";")[0].split(",")[0].split() if not any(sign.isdigit() for sign in word)]
    return " ".join(words)[:60]


def burn_all_processors(url: str, ledger: Path) -> None:
    """From the first request on, for as long as the run sends."""
    while ledger.read_bytes().count(b"\n") < 2:
        time.sleep(0.01)
    burning = [subprocess.Popen([sys.executable, "-c", _BURN]) for _ in range(os.cpu_count() or 1)]
    try:
        time.sleep(_GAP_S * _NUM)
    finally:
        for process in burning:
            process.kill()
            process.wait()


def play(kind: str, seen: Seen) -> None:
    with tempfile.TemporaryDirectory() as folder:
        meanwhile = burn_all_processors if kind == "busy machine" else lambda url, ledger: None
        hogs = "15,50,200" if kind == "bursts in the process" else ""
        words = ("--hog-thread",) if kind == "a busy thread" else ()
        seen.add(replay(Path(folder), "golden", gap_s=_GAP_S, num=_NUM, hogs=hogs, words=words, meanwhile=meanwhile))


def main() -> None:
    num = int(sys.argv[1]) if len(sys.argv) > 1 else _RUNS
    kinds = {kind: Seen() for kind in ("as it is", "busy machine", "bursts in the process", "a busy thread")}
    for _ in range(num):
        for kind, seen in kinds.items():
            play(kind, seen)
    table = Table(
        title=f"The instrument on itself, {num} runs each\n{machine_line()}", title_justify="left", show_lines=True
    )
    for column in ("the machine", "VALID", "DEGRADED", "INVALID", "doubted", "worst undoubted ms", "because"):
        table.add_column(column)
    for kind, seen in kinds.items():
        table.add_row(
            kind,
            *(str(seen.states[state]) for state in ("VALID", "DEGRADED", "INVALID")),
            f"{seen.num_doubted / seen.num_samples:.1%} of {seen.num_samples:,}",
            f"{seen.worst_s * 1e3:.2f}",
            "\n".join(f"{reason} ({times})" for reason, times in seen.reasons.most_common(5)),
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
