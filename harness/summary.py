"""The summary of a run: a fold over its records, and nothing that is not in them.

TTFT and E2E count from the intended time (an open-loop client does not excuse the server because it was late
itself); `*_from_send` are kept beside them. Latencies are those of requests that are ok.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt

from harness.costs.bill import Bill
from harness.costs.fold import bill
from harness.costs.free import with_free_requests
from harness.costs.replicas import replica_usd_of
from harness.delivery import Delivery, measure_delivery
from harness.dictionary.figures import ToolFigures
from harness.dictionary.tools import dictionary
from harness.doctor.certificate import Attached
from harness.goodput import Goodput, goodput
from harness.gpu.axis import Readings, read_run
from harness.gpu.fold import gpu_report
from harness.gpu.samples import GpuReport, GpuSample, ServerSample
from harness.instrument import Instrument, judge_instrument
from harness.judgement.alerts import watch
from harness.judgement.judging import judge_budgets, judge_objectives
from harness.judgement.measuring import Subject, subject_of
from harness.judgement.results import Alert, NotWatched, ObjectiveResult, StageResult
from harness.judgement.slo import slo_of
from harness.metrics.breakdown import Breakdown, breakdowns
from harness.metrics.infinite import Unanswered, unanswered
from harness.metrics.latencies import latency
from harness.metrics.steady import Steady, steady
from harness.quantiles import Distribution, distribution
from harness.records import RecordFile
from harness.store import Manifest, RunDirectory, Sample
from harness.table import OUTCOMES, Counts, Floats, Table, tabulate
from harness.truth import Truth, against_ledger
from harness.verdict import RunVerdict, judge_run

__all__ = [
    "ErrorClass",
    "Load",
    "RunData",
    "Summary",
    "Tokens",
    "load_run",
    "metrics",
    "samples",
    "summarize",
]


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

    `num_*_mismatches` count requests whose tokens differ from the plan's, among the `num_*_compared` that have a
    plan and whose tokens the server counted.
    """

    num_prompt: int | None
    num_output: int | None
    output_rate: float | None
    per_source: dict[str, int]
    num_prompt_mismatches: int
    num_output_mismatches: int
    num_prompt_compared: int
    num_output_compared: int


class ErrorClass(msgspec.Struct, kw_only=True):
    outcome: str
    kind: str
    num: int
    example: str


class Summary(msgspec.Struct, kw_only=True):
    """`summary.json`. Metrics are in seconds, by name. `conclusion`: the scenario's own answer, as lines of text.

    Metrics, tokens, goodput, breakdowns, bill, GPUs, objectives and alerts are of the requests after the warm-up; load, delivery,
    instrument and truth of all.
    """

    schema_version: int = 2
    run_id: str
    verdict: RunVerdict
    load: Load
    metrics: dict[str, Distribution]
    tokens: Tokens
    errors: list[ErrorClass]
    instrument: Instrument
    truth: Truth | None
    delivery: Delivery
    goodput: Goodput | None = None
    cost_usd: float | None = None
    certificate: Attached | None = None
    conclusion: list[str] = []
    num_warmup: int = 0
    unanswered: dict[str, Unanswered] = {}
    breakdowns: list[Breakdown] = []
    steady: Steady | None = None
    objectives: list[ObjectiveResult] = []
    budgets: list[StageResult] = []
    alerts: list[Alert] = []
    not_watched: list[NotWatched] = []
    bill: Bill | None = None
    gpu: GpuReport | None = None
    dictionary: list[ToolFigures] = []


@dataclass(frozen=True)
class RunData:
    """A run, read from its directory, and what several folds over it need, worked out once.

    `readings`: what GPUs and servers said of themselves meanwhile; None where nobody asked them.
    """

    directory: RunDirectory
    manifest: Manifest
    table: Table
    files: list[RecordFile]
    samples: list[Sample]
    truth: Truth | None
    readings: Readings | None = None

    @cached_property
    def counted(self) -> Table:
        """The requests that stand in metrics: those intended after the warm-up."""
        warmup_s = self.manifest.warmup_s
        return self.table.select(np.asarray(self.table["intended_at"] >= warmup_s)) if warmup_s else self.table

    @cached_property
    def gpu(self) -> GpuReport | None:
        """What the GPUs and the server did over the counted requests: joules and tokens are of the same ones."""
        return None if self.readings is None else gpu_report(self.readings, self.counted)

    def subject(self) -> Subject:
        """The counted requests, as what measures are taken of. A new one each time: it keeps what it has sorted, and a run of a
        million requests is large enough."""
        return subject_of(self.counted, self.manifest, self.gpu, self.replica_usd)

    @cached_property
    def replica_usd(self) -> float:
        """What the replicas of a simulated stack cost by the hour, over the whole run."""
        return replica_usd_of(self.directory.path / "stack.json")

    @cached_property
    def delivery(self) -> Delivery:
        """Over the whole run, as is the instrument: a warm-up that was not delivered is no part of this plan."""
        return measure_delivery(self.table, self.manifest)

    @cached_property
    def instrument(self) -> Instrument:
        """The instrument's judgement of itself."""
        return judge_instrument(
            self.table, self.manifest, self.files, self.samples, self.num_missing, self.truth, self.delivery
        )

    @cached_property
    def num_missing(self) -> int:
        """Requests that were planned beforehand and left no record."""
        found = set(self.table.request_ids)
        if self.manifest.reactive:  # those that followed from answers have a turn after a dot
            found = {name for name in found if "." not in name.rpartition("-")[2]}
        return max(0, self.manifest.num_planned - len(found))


def load_run(directory: RunDirectory) -> RunData:
    """Read a run directory. Raises RunError when it cannot be read without guessing."""
    manifest = directory.manifest()
    files: list[RecordFile] = []
    table = with_free_requests(tabulate(directory.records(files)), has_prices=manifest.prices is not None)
    truth, readings = _truth(directory, table, files), read_run(directory, files)
    return RunData(directory, manifest, table, files, directory.samples(), truth, readings)


def _truth(directory: RunDirectory, table: Table, files: list[RecordFile]) -> Truth | None:
    """Compare with the ledger, if there is one."""
    ledger = directory.path / "ledger.jsonl"
    return against_ledger(ledger, table, files) if ledger.exists() else None


def summarize(run: RunData) -> Summary:
    """Fold a run into its summary."""
    manifest, table = run.manifest, run.counted
    judged = _judge(run)
    return Summary(
        run_id=manifest.run_id,
        verdict=judge_run(
            run.instrument,
            _outcomes(table),
            [*judged.objectives, *judged.budgets],
            judged.alerts,
            judged.not_watched,
            after_warmup=manifest.warmup_s > 0,
        ),
        load=_load(run.table, manifest, run.num_missing),
        metrics=metrics(table),
        tokens=_tokens(table),
        errors=[
            ErrorClass(outcome=outcome, kind=kind, num=num, example=table.error_examples[outcome, kind])
            for (outcome, kind), num in table.errors.most_common()
        ],
        instrument=run.instrument,
        truth=run.truth,
        delivery=run.delivery,
        goodput=goodput(table, manifest.objectives, manifest.loaded_s - manifest.warmup_s),
        cost_usd=None if np.isnan(table["cost_usd"]).all() else float(np.nansum(table["cost_usd"])),
        certificate=manifest.certificate,
        conclusion=run.directory.conclusion(),
        num_warmup=len(run.table) - len(table),
        unanswered=unanswered(table),
        breakdowns=breakdowns(table),
        steady=steady(table, manifest),
        objectives=judged.objectives,
        budgets=judged.budgets,
        alerts=judged.alerts,
        not_watched=judged.not_watched,
        bill=bill(
            table,
            manifest,
            objectives=manifest.objectives,
            gpu=run.gpu,
            month_requests=manifest.month_requests,
            replica_usd=run.replica_usd,
        ),
        gpu=run.gpu,
        dictionary=dictionary(table, manifest),
    )


@dataclass
class _Judged:
    objectives: list[ObjectiveResult] = field(default_factory=list)
    budgets: list[StageResult] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    not_watched: list[NotWatched] = field(default_factory=list)


def _judge(run: RunData) -> _Judged:
    """What was asked of the run beforehand, if anything was."""
    if run.manifest.slo is None:
        return _Judged()
    slo = slo_of(run.manifest.slo)
    samples: list[GpuSample | ServerSample] = []
    if run.readings is not None:
        samples = [*run.readings.gpus, *run.readings.servers]
    seen = watch(slo, run.counted, run.manifest, samples, run.table)
    return _Judged(judge_objectives(slo, run.subject()), judge_budgets(slo, run.counted), seen.alerts, seen.not_watched)


_METRICS = (
    "ttft", "ttft_from_send", "itl", "chunk_gap", "tpot", "e2e", "e2e_from_send", "e2e_unthrottled", "connect",
)  # fmt: skip
_BY_CHUNK = ("itl", "chunk_gap")  # many samples a request


def metrics(table: Table) -> dict[str, Distribution]:
    """The latency metrics of a run, by name."""
    return {
        name: distribution(values, weights, independent=name not in _BY_CHUNK)
        for name, (values, weights) in samples(table).items()
    }


def samples(table: Table) -> dict[str, tuple[Floats, Counts | None]]:
    """The samples behind each metric, in seconds, with the tokens each stands for where that is not one.

    ITL: gap between content chunks over the tokens of the later one, weighted by them; chunk gap: the raw gap; the others as
    in `harness.metrics.latencies`. Only ok requests; NaN is missing.
    """
    ok = table.is_outcome("ok")
    rows = np.repeat(ok, np.diff(table.gap_start))
    gaps, weights = table.gaps[rows], table.gap_tokens[rows]
    by_chunk: dict[str, tuple[Floats, Counts | None]] = {"itl": (gaps / weights, weights), "chunk_gap": (gaps, None)}
    return {name: by_chunk.get(name) or (latency(table, name)[ok], None) for name in _METRICS}


def _load(table: Table, manifest: Manifest, num_missing: int) -> Load:
    num_sent = int((~np.isnan(table["sent_at"])).sum())
    num_planned = len(table) + num_missing if manifest.reactive else manifest.num_planned
    duration_s = manifest.loaded_s
    return Load(
        num_planned=num_planned,
        num_sent=num_sent,
        num_missing=num_missing,
        duration_s=duration_s,
        asked_rate=num_planned / duration_s,
        delivered_rate=num_sent / duration_s,
        outcomes=_outcomes(table),
    )


def _outcomes(table: Table) -> dict[str, int]:
    return {name: int(table.is_outcome(name).sum()) for name in OUTCOMES}


def _tokens(table: Table) -> Tokens:
    ok = table.is_outcome("ok")
    num_output = _total(table["num_output_tokens"][ok])
    begin, end = table["sent_at"][ok], table["done_at"][ok]
    span = float(end.max() - begin.min()) if ok.any() else 0.0
    return Tokens(
        num_prompt=_total(table["num_prompt_tokens"][ok]),
        num_output=num_output,
        output_rate=num_output / span if span > 0 and num_output is not None else None,
        per_source=dict(table.token_sources),
        num_prompt_mismatches=_mismatches(table, "prompt"),
        num_output_mismatches=_mismatches(table, "output"),
        num_prompt_compared=int(_comparable(table, "prompt").sum()),
        num_output_compared=int(_comparable(table, "output").sum()),
    )


def _total(counts: Floats) -> int | None:
    """The sum of what is known; None when nothing is."""
    return None if np.isnan(counts).all() else int(np.nansum(counts))


def _mismatches(table: Table, what: str) -> int:
    differ = table[f"planned_{what}_tokens"] != table[f"num_{what}_tokens"]
    return int((_comparable(table, what) & differ).sum())


def _comparable(table: Table, what: str) -> npt.NDArray[np.bool_]:
    known = ~np.isnan(table[f"planned_{what}_tokens"]) & ~np.isnan(table[f"num_{what}_tokens"])
    return table.is_outcome("ok") & table.counted_by_server & known
