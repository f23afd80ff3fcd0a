"""What happened during a run besides its load: faults of the server, alerts that fired, the warm-up. Seconds from the run's origin.

Faults come from the mock's own account: in virtual time from `stack.json`, which knows when each began and ended; over HTTP from
the ledger, where every request says which fault struck it, so that a fault lasts from the first to the last that it struck.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.errors import RunError
from harness.records import RecordFile
from harness.run_files import readable
from harness.summary import RunData, Summary
from reports.numbers import MISSING
from reports.tables import TextTable

__all__ = ["Event", "events_of", "events_table", "ledger_faults", "read_stack", "stack_faults"]

_MOST = 50


@dataclass(frozen=True)
class Event:
    """Something that lasted from `from_s` to `to_s`."""

    kind: Literal["fault", "alert", "warm-up"]
    text: str
    from_s: float
    to_s: float


def events_of(run: RunData, summary: Summary, stack: Mapping[str, Any]) -> list[Event]:
    """All events of a run in order of time. What has not begun before the run's end has not happened."""
    end = run.manifest.ended_at or run.manifest.duration_s
    found = [
        Event("alert", f"{each.kind.replace('_', ' ')}: {each.text}", each.from_s, each.to_s) for each in summary.alerts
    ]
    found += stack_faults(stack, end) or ledger_faults(run.directory.path / "ledger.jsonl", run.files)
    if run.manifest.warmup_s:
        found.append(Event("warm-up", "warm-up, in no metric", 0.0, run.manifest.warmup_s))
    return sorted((each for each in found if each.from_s < end), key=lambda each: (each.from_s, each.kind))


def read_stack(path: Path) -> dict[str, Any]:
    """What the policies of a simulated stack did (`stack.json`); empty where there is none, or none that can be read."""
    try:
        with readable(path):
            document = msgspec.json.decode(path.read_bytes())
    except RunError:
        return {}
    return document if isinstance(document, dict) else {}


def stack_faults(stack: Mapping[str, Any], end: float) -> list[Event]:
    """Faults of a simulated stack; one without an end lasts to the run's."""
    found = []
    for each in (stack.get("state") or {}).get("faults") or []:
        fault = each.get("fault") or {}
        where = "".join(f" of {fault[key]}" for key in ("model", "part", "replica") if fault.get(key))
        begins, ends = each.get("begins_s"), each.get("ends_s")
        if isinstance(begins, int | float):
            until = float(ends) if isinstance(ends, int | float) else max(end, begins)
            found.append(Event("fault", f"{fault.get('kind', 'fault')}{where}", float(begins), until))
    return found


class _Struck(msgspec.Struct):
    received_at: float
    finished_at: float | None = None
    notes: list[str] | None = None


class _Clock(msgspec.Struct):
    boot_id: str | None
    monotonic_origin: float


_NOTE = re.compile(r"faults: (.{1,200})", re.DOTALL)
_DECODE = msgspec.json.Decoder(_Struck).decode


def ledger_faults(path: Path, files: Sequence[RecordFile]) -> list[Event]:
    """Faults as the ledger's requests met them. Empty where ledger and records lie on different clocks."""
    try:
        with path.open("rb") as file:
            clock = msgspec.json.decode(file.readline(), type=_Clock)
            headers = [each.header for each in files]
            if not headers or any(head is None or head.boot_id != clock.boot_id for head in headers):
                return []
            origin = min(head.origin_monotonic for head in headers if head is not None)
            struck = [_DECODE(line) for line in file if b'"faults: ' in line and line.endswith(b"\n")]
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []
    shift = clock.monotonic_origin - origin
    spans: dict[str, tuple[float, float]] = {}
    for each in struck:
        begin, end = each.received_at + shift, (each.finished_at or each.received_at) + shift
        for name in (found[1] for note in each.notes or [] if (found := _NOTE.fullmatch(note))):
            first, last = spans.get(name, (begin, end))
            spans[name] = min(first, begin), max(last, end)
    return [Event("fault", name, first, last) for name, (first, last) in spans.items()]


def events_table(events: Sequence[Event]) -> TextTable:
    """The events in words; a fault of a ledger lasts as long as somebody met it."""
    rows = [[each.kind, each.text or MISSING, f"{each.from_s:,.1f}", f"{each.to_s:,.1f}"] for each in events]
    head = ["kind", "what", "from, s", "to, s"]
    return TextTable("Faults, alerts and warm-up", head, rows, num_text=2).at_most(_MOST)
