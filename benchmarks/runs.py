"""Head and manifest of the runs that benchmarks make up."""

from __future__ import annotations

from typing import Any

from harness.clock import boot_id, clock_pair
from harness.records import Header
from harness.store import Manifest, machine, versions

__all__ = ["header", "manifest"]


def header() -> Header:
    return Header(
        run_id="bench",
        scenario="bench",
        host="bench",
        pid=0,
        boot_id=boot_id(),
        clocks=clock_pair(),
        origin_monotonic=0.0,
        worker_index=0,
        num_workers=1,
    )


def manifest(num: int, duration_s: float, **changes: Any) -> Manifest:
    """Of `num` requests in `duration_s`."""
    fields: dict[str, Any] = {
        "run_id": "bench",
        "scenario": "bench",
        "target": "none",
        "model": "bench",
        "seed": 0,
        "command": [],
        "options": {},
        "plan": {},
        "num_planned": num,
        "duration_s": duration_s,
        "max_in_flight": None,
        "num_workers": 1,
        "started_wall": clock_pair()["wall"],
        "versions": versions(),
        "machine": machine(),
    }
    return Manifest(**fields | changes)
