"""What the sections of a page are drawn from: the run, its summary, and what several sections need, worked out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.summary import RunData, Summary
from harness.table import Floats, Table
from reports import series
from reports.buckets import Buckets, time_buckets
from reports.events import Event, events_of, read_stack
from reports.queueing import queue_times

__all__ = ["View", "view_of"]

# A bucket of a latency chart is wide enough for a median to exist in most of them, at the run's mean rate.
_SAMPLES_PER_BUCKET = 10


@dataclass(frozen=True)
class View:
    """`measured` are the rows that the summary's metrics are of, `buckets` for counts and `wide_buckets` for percentiles; `queue`
    how long each row of the run waited in the server; `stack` is what the policies of a simulated stack did, empty where there is none."""

    run: RunData
    summary: Summary
    measured: Table
    buckets: Buckets
    wide_buckets: Buckets
    phases: Sequence[series.Phase]
    events: Sequence[Event]
    queue: Floats
    stack: Mapping[str, Any]


def view_of(run: RunData, summary: Summary) -> View:
    """What the sections need of a run."""
    stack = read_stack(run.directory.path / "stack.json")
    num_ok = int(run.table.is_outcome("ok").sum())
    span = run.manifest.loaded_s
    return View(
        run=run,
        summary=summary,
        measured=run.counted,
        buckets=time_buckets(run),
        wide_buckets=time_buckets(run, at_least_s=min(span / 10, _SAMPLES_PER_BUCKET * span / max(1, num_ok))),
        phases=series.phases(run.table),
        events=events_of(run, summary, stack),
        queue=queue_times(run.table, run.directory.path / "ledger.jsonl"),
        stack=stack,
    )
