"""The facts of a run that a gate needs: its measures by name, and whether its instrument may be believed.

They come from the records, and are kept as `facts.json` beside them: a stored baseline has nothing else, and a gate over a
million records need not read them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import RunError
from harness.judgement.measures import Measured
from harness.judgement.measuring import measure
from harness.judgement.results import ObjectiveResult
from harness.metrics.latencies import LATENCIES
from harness.run_files import readable
from harness.store import Manifest, RunDirectory
from harness.summary import RunData

__all__ = [
    "FACTS_FILE", "KEPT_MEASURES", "JudgedRun", "RunFacts", "facts_of", "fresh_facts", "read_facts", "write_facts",
]  # fmt: skip

FACTS_FILE = "facts.json"
_SCHEMA = 1

_STATISTICS = ("p50", "p90", "p95", "p99", "mean")
_OF_REQUESTS = (
    "error_rate", "throttle_rate", "goodput", "goodput_rate", "request_rate", "output_rate", "token_rate", "cost",
    "cost_per_request", "cost_per_1k", "cost_per_mtok", "cost_per_good", "cache_hit_rate", "cached_share",
    "gpu_utilization", "gpu_energy_per_token",
)  # fmt: skip
# Whatever a later gate or trend may ask: afterwards there is nothing left to measure.
KEPT_MEASURES: tuple[str, ...] = (
    *(f"{name}_{statistic}" for name in LATENCIES for statistic in _STATISTICS),
    *(f"{name}_{statistic}(ok)" for name in LATENCIES for statistic in _STATISTICS if statistic != "mean"),
    *(f"{name}_{statistic}" for name in ("itl", "chunk_gap") for statistic in _STATISTICS),
    *_OF_REQUESTS,
)


class RunFacts(msgspec.Struct, kw_only=True):
    """`facts.json`. `state` and `reasons` are the instrument's (`harness.instrument`), NONE for a run in virtual time.

    `num_requests` have a record and lie after the warm-up. `measures` are of those, by name. `objectives`: what
    became of those of `slo`, which the run was judged by.
    """

    schema_version: int = _SCHEMA
    run_id: str
    started_wall: float
    state: str
    reasons: list[str]
    num_requests: int
    measures: dict[str, Measured]
    slo: dict[str, Any] | None = None
    objectives: list[ObjectiveResult] = []


@dataclass(frozen=True)
class JudgedRun:
    """A run as a gate sees it: what was asked, and what came of it. `name` is that of its directory."""

    name: str
    manifest: Manifest
    facts: RunFacts


def facts_of(run: RunData, names: Sequence[str] = KEPT_MEASURES) -> RunFacts:
    """The facts of a run. Raises UsageError for what is no measure."""
    subject = run.subject()
    return RunFacts(
        run_id=run.manifest.run_id,
        started_wall=run.manifest.started_wall,
        state=run.instrument.state,
        reasons=list(run.instrument.reasons),
        num_requests=len(run.counted),
        measures={name: measure(name, subject) for name in names},
    )


def write_facts(run: RunData, objectives: Sequence[ObjectiveResult] = ()) -> Path:
    """Fold the records into `facts.json` beside them, for the day when they are gone; `objectives`: what became of those of the
    run's manifest."""
    facts = facts_of(run)
    if objectives:
        facts.slo, facts.objectives = run.manifest.slo, list(objectives)
    content = msgspec.json.format(msgspec.json.encode(facts), indent=1)
    return run.directory.write_atomically(FACTS_FILE, content)


def fresh_facts(directory: RunDirectory, names: Sequence[str]) -> RunFacts | None:
    """The stored facts, if there are no records, or none that are younger, and these measures are among them; else None:
    ask the records. Raises RunError for a run that has neither."""
    records = [*directory.path.glob("records-*.jsonl")]
    if not records:
        return read_facts(directory)
    path = directory.path / FACTS_FILE
    sources = [*records, directory.path / "manifest.json"]
    if not path.exists() or max(each.stat().st_mtime_ns for each in sources) > path.stat().st_mtime_ns:
        return None
    facts = read_facts(directory)
    return facts if facts.measures.keys() >= set(names) else None


def read_facts(directory: RunDirectory) -> RunFacts:
    """The stored facts of a run. Raises RunError when there are none, or of another schema."""
    path = directory.path / FACTS_FILE
    if not path.exists():
        raise RunError(
            f"{directory.path} has neither records nor {FACTS_FILE}; keep a run as a baseline with `harness keep`"
        )
    with readable(path):
        facts = msgspec.json.decode(path.read_bytes(), type=RunFacts)
    if facts.schema_version != _SCHEMA:
        raise RunError(
            f"{path}: schema {facts.schema_version} is not known, this version reads {_SCHEMA}; keep the run again"
        )
    return facts
