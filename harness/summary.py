"""The summary of a run: a fold over its records, and nothing that is not in them.

TTFT and E2E count from the intended time (an open-loop client does not excuse the server because it was late
itself); `*_from_send` are kept beside them. Latencies are those of requests that are ok.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np

from harness.instrument import Instrument, judge_instrument
from harness.quantiles import Distribution, distribution
from harness.records import Header, RecordFile
from harness.store import Manifest, RunDirectory, Sample
from harness.table import OUTCOMES, Table, tabulate
from harness.truth import Truth, against_ledger
from harness.verdict import RunVerdict, judge_run

__all__ = ["ErrorClass", "Load", "RunData", "Summary", "Tokens", "load_run", "summarize"]


class Load(msgspec.Struct, kw_only=True):
    """Asked against delivered, requests per second over the plan's duration."""

    num_planned: int
    num_sent: int
    num_missing: int
    duration_s: float
    asked_rate: float
    delivered_rate: float
    outcomes: dict[str, int]


class Tokens(msgspec.Struct, kw_only=True):
    """Token totals of ok requests and their rate from the first send to the last end.

    `num_*_mismatches` count requests whose tokens, by the server's count, differ from the plan's.
    """

    num_prompt: int
    num_output: int
    output_rate: float | None
    per_source: dict[str, int]
    num_prompt_mismatches: int
    num_output_mismatches: int
    num_compared: int


class ErrorClass(msgspec.Struct, kw_only=True):
    outcome: str
    kind: str
    num: int
    example: str


class Summary(msgspec.Struct, kw_only=True):
    """`summary.json`. Metrics are in seconds, by name."""

    schema_version: int = 1
    run_id: str
    verdict: RunVerdict
    load: Load
    metrics: dict[str, Distribution]
    tokens: Tokens
    errors: list[ErrorClass]
    instrument: Instrument
    truth: Truth | None


@dataclass(frozen=True)
class RunData:
    """A run, read from its directory."""

    directory: RunDirectory
    manifest: Manifest
    table: Table
    files: list[RecordFile]
    samples: list[Sample]
    truth: Truth | None


def load_run(directory: RunDirectory) -> RunData:
    """Read a run directory. Raises RunError when it cannot be read without guessing."""
    manifest = directory.manifest()
    files: list[RecordFile] = []
    table = tabulate(directory.records(files))
    return RunData(directory, manifest, table, files, directory.samples(), _truth(directory, table, files))


def _truth(directory: RunDirectory, table: Table, files: Iterable[RecordFile]) -> Truth | None:
    """Compare with the ledger, if there is one and the records come from one writer (one clock)."""
    headers: list[Header] = [file.header for file in files if file.header is not None]
    ledger = directory.path / "ledger.jsonl"
    if not ledger.exists() or len({header.origin_monotonic for header in headers}) != 1:
        return None
    return against_ledger(ledger, table, headers[0])


def summarize(run: RunData) -> Summary:
    """Fold a run into its summary."""
    table, manifest = run.table, run.manifest
    num_missing = max(0, manifest.num_planned - len(table))
    instrument = judge_instrument(table, manifest, run.files, run.samples, num_missing)
    load = _load(table, manifest, num_missing)
    return Summary(
        run_id=manifest.run_id,
        verdict=judge_run(instrument, load.outcomes),
        load=load,
        metrics=metrics(table),
        tokens=_tokens(table),
        errors=[
            ErrorClass(outcome=outcome, kind=kind, num=num, example=table.error_examples[outcome, kind])
            for (outcome, kind), num in table.errors.most_common()
        ],
        instrument=instrument,
        truth=run.truth,
    )


def metrics(table: Table) -> dict[str, Distribution]:
    """The latency metrics of a run (see DESIGN words in ARCHITECTURE.md for the definitions)."""
    ok = table.is_outcome("ok")
    first, last, done = table["first_token_at"][ok], table["last_token_at"][ok], table["done_at"][ok]
    intended, sent, output = table["intended_at"][ok], table["sent_at"][ok], table["num_output_tokens"][ok]
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = np.where(output > 1, (last - first) / (output - 1), np.nan)
    rows = np.repeat(ok, np.diff(table.gap_start))
    gaps, weights = table.gaps[rows], table.gap_tokens[rows]
    return {
        "ttft": distribution(first - intended),
        "ttft_from_send": distribution(first - sent),
        "itl": distribution(gaps / weights, weights),
        "chunk_gap": distribution(gaps),
        "tpot": distribution(tpot),
        "e2e": distribution(done - intended),
        "e2e_from_send": distribution(done - sent),
        "connect": distribution(table["connected_at"][ok] - sent),
    }


def _load(table: Table, manifest: Manifest, num_missing: int) -> Load:
    num_sent = int((~np.isnan(table["sent_at"])).sum())
    return Load(
        num_planned=manifest.num_planned,
        num_sent=num_sent,
        num_missing=num_missing,
        duration_s=manifest.duration_s,
        asked_rate=manifest.num_planned / manifest.duration_s,
        delivered_rate=num_sent / manifest.duration_s,
        outcomes={name: int(table.is_outcome(name).sum()) for name in OUTCOMES},
    )


def _tokens(table: Table) -> Tokens:
    ok = table.is_outcome("ok")
    num_output = float(np.nansum(table["num_output_tokens"][ok]))
    begin, end = table["sent_at"][ok], table["done_at"][ok]
    span = float(end.max() - begin.min()) if ok.any() else 0.0
    return Tokens(
        num_prompt=int(np.nansum(table["num_prompt_tokens"][ok])),
        num_output=int(num_output),
        output_rate=num_output / span if span > 0 else None,
        per_source=dict(table.token_sources),
        num_prompt_mismatches=_mismatches(table, "prompt"),
        num_output_mismatches=_mismatches(table, "output"),
        num_compared=int((ok & ~np.isnan(table["planned_prompt_tokens"])).sum()),
    )


def _mismatches(table: Table, what: str) -> int:
    planned, counted = table[f"planned_{what}_tokens"], table[f"num_{what}_tokens"]
    return int((table.is_outcome("ok") & ~np.isnan(planned) & (planned != counted)).sum())
