"""Histories made by hand: nights of runs whose measures are what a test says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.gate.facts import RunFacts
from harness.history.nights import Night, Past
from harness.judgement.measures import Measured
from harness.judgement.measuring import parse_measure
from tests.harness.builders import manifest

DAY_S = 86400.0
FIRST = 1.8e9


def facts(run_id: str, values: Mapping[str, float | None], **fields: Any) -> RunFacts:
    """Facts with these measures."""
    measures = {}
    for name, value in values.items():
        parsed = parse_measure(name)
        measures[name] = Measured(name=name, unit=parsed.unit, better=parsed.better, value=value, num=100)
    started: dict[str, Any] = {"started_wall": FIRST, "state": "VALID", "reasons": [], "num_requests": 100}
    return RunFacts(run_id=run_id, measures=measures, **(started | fields))


def past(
    night: int, values: Mapping[str, float | None], *, seed: int = 1, commit: str | None = None, **fields: Any
) -> Past:
    """A run of a night."""
    name = f"run-{night:03d}-{seed}"
    wall = FIRST + night * DAY_S + seed * 60
    labels = {"series": "stack"} | ({"commit": commit} if commit else {})
    said = manifest(**({"run_id": name, "seed": seed, "started_wall": wall, "labels": labels} | fields))
    return Past(name, said, facts(name, values, started_wall=wall))


def nights(values: Sequence[float | None], measure: str = "ttft_p50(ok)") -> list[Night]:
    """A night of one run for each value, each of a commit of its own."""
    return [Night((past(number, {measure: value}, commit=f"c{number:03d}"),)) for number, value in enumerate(values)]


def write_past(folder: Path, run: Past) -> Path:
    """A kept run, as `harness keep` leaves it, but for its summary."""
    path = folder / run.name
    path.mkdir(parents=True)
    (path / "manifest.json").write_bytes(msgspec.json.encode(run.manifest))
    (path / "facts.json").write_bytes(msgspec.json.encode(run.facts))
    return path
