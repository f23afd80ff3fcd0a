"""A line of progress on stderr while the run goes."""

from __future__ import annotations

import sys
from math import inf
from statistics import median

import gevent

from harness.swarm.run import LoadRun

__all__ = ["line", "show"]


def line(run: LoadRun) -> str:
    """The state of the run in one line."""
    now, planned = max(0.0, run.now()), run.plan.duration_s
    live = run.live
    parts = [
        f"{min(now, planned):4.0f}/{planned:.0f} s",
        f"done {sum(live.outcomes.values())}/{run.plan.num_arrivals}",
    ]
    parts += [f"{name} {num}" for name, num in live.outcomes.most_common()]
    parts.append(f"in flight {run.num_in_flight}")
    if live.recent_ttft_s:
        parts.append(f"TTFT p50 {median(live.recent_ttft_s) * 1e3:.0f} ms")
    if now > 0:
        parts.append(f"{live.num_output_tokens / now:.0f} tok/s")
    parts.append("draining" if now >= planned else f"{planned - now:.0f} s left")
    return "  ".join(parts)


def show(run: LoadRun) -> None:
    """Print until killed: over the same line on a terminal, every five seconds elsewhere."""
    on_terminal, last = sys.stderr.isatty(), -inf
    while True:
        if on_terminal:
            sys.stderr.write(f"\r\x1b[2K{line(run)}")
        elif run.now() - last >= 5:
            sys.stderr.write(f"{line(run)}\n")
            last = run.now()
        sys.stderr.flush()
        gevent.sleep(1.0)
