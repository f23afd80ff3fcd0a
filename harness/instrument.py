"""The instrument judges itself before it judges the server.

VALID: the numbers stand. DEGRADED: they stand with the doubts listed. INVALID: the asked load was not
delivered or records are missing; nothing may be concluded. NONE: nothing was measured, because the run was in virtual time.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from harness.quantiles import Distribution, distribution
from harness.records import RecordFile
from harness.store import Manifest, Sample
from harness.table import Table
from harness.truth import Truth

__all__ = ["Instrument", "judge_instrument"]

# Bounds are judgement, not law. A request sent 10 ms late is as wrong as the usual jitter of a network; a twentieth
# of the load that never came makes another experiment.
_LATE_S = 0.010
_LATE_INVALID_S = 1.0
_LOOP_LAG_S = 0.025
_STALLED_SHARE = 0.01
_CPU_BUSY = 0.90
_MERGED_SHARE = 0.05
_DELIVERED_SHARE = 0.95
_VIRTUAL = "virtual time: no instrument"


class Instrument(msgspec.Struct, kw_only=True):
    """The state of the load generator during the run."""

    state: str  # VALID, DEGRADED, INVALID or NONE
    reasons: list[str]
    send_lag: Distribution
    loop_lag: Distribution  # the worst of each second
    stalled_share: float | None  # seconds in which the loop lagged by more than 25 ms
    cpu_mean: float | None
    cpu_max: float | None
    merged_share: float | None
    num_torn_lines: int
    max_in_flight: int | None


def judge_instrument(
    table: Table,
    manifest: Manifest,
    files: Sequence[RecordFile],
    samples: Sequence[Sample],
    num_missing: int,
    truth: Truth | None = None,
) -> Instrument:
    """Fold what the run says about its own instrument."""
    virtual = manifest.clock == "virtual"
    cpu = np.array([sample.cpu for sample in samples])
    lags = np.array([sample.loop_lag_s for sample in samples], dtype=np.float64)
    chunks = float(np.nansum(table["num_chunks"]))
    instrument = Instrument(
        state="VALID",
        reasons=[],
        send_lag=distribution(np.array([]) if virtual else table["sent_at"] - table["intended_at"]),
        loop_lag=distribution(lags),
        stalled_share=float((lags > _LOOP_LAG_S).mean()) if len(lags) else None,
        cpu_mean=float(cpu.mean()) if len(cpu) else None,
        cpu_max=float(cpu.max()) if len(cpu) else None,
        merged_share=float(np.nansum(table["num_merged_chunks"])) / chunks if chunks and not virtual else None,
        num_torn_lines=sum(file.num_torn for file in files),
        max_in_flight=_max_in_flight(table),
    )
    invalid = [problem for file in files for problem in file.problems]
    # Only writers that ended in order prove that what has no record was not sent.
    stopped = manifest.ended_how == "stopped early" and not invalid
    invalid += _not_delivered(table, manifest, num_missing, stopped=stopped)
    if num_twice := len(table) - len(set(table.request_ids)):
        invalid.append(f"{num_twice} requests have more than one record")
    if truth is not None and truth.num_ledger_only:
        invalid.append(f"the server answered {truth.num_ledger_only} requests of this run that left no record")
    if _above(instrument.send_lag.maximum, _LATE_INVALID_S):
        invalid.append(f"a request was sent {instrument.send_lag.maximum:.2f} s late")
    degraded = [_VIRTUAL] if virtual else _doubts(instrument, int(table.is_outcome("refused").sum()))
    instrument.state = "INVALID" if invalid else "NONE" if virtual else "DEGRADED" if degraded else "VALID"
    instrument.reasons = invalid + degraded
    return instrument


def _not_delivered(table: Table, manifest: Manifest, num_missing: int, *, stopped: bool) -> list[str]:
    if num_missing and stopped:
        after = f" after {manifest.ended_at:.0f} s" if manifest.ended_at is not None else ""
        return [f"the run was stopped{after}: {num_missing} of {manifest.num_planned} planned requests were not sent"]
    reasons = []
    if num_missing:
        reasons.append(f"{num_missing} of {manifest.num_planned} planned requests left no record")
    num_sent = int((~np.isnan(table["sent_at"])).sum())
    num_planned = len(table) + num_missing if manifest.reactive else manifest.num_planned
    if num_sent < _DELIVERED_SHARE * num_planned:
        reasons.append(f"only {num_sent} of {num_planned} planned requests were sent")
    return reasons


def _doubts(instrument: Instrument, num_refused: int) -> list[str]:
    reasons = []
    loop = instrument.loop_lag
    late, which = _tail(instrument.send_lag)
    if num_refused:
        reasons.append(f"{num_refused} requests were held back by the cap on requests in flight")
    if late > _LATE_S:
        reasons.append(f"requests were sent late: {which} {late * 1e3:.1f} ms")
    if instrument.stalled_share is not None and instrument.stalled_share > _STALLED_SHARE:
        worst = (loop.maximum or 0.0) * 1e3
        reasons.append(
            f"the event loop stood still in {instrument.stalled_share:.1%} of the seconds, for up to {worst:.0f} ms"
        )
    if _above(instrument.cpu_max, _CPU_BUSY):
        reasons.append(f"a load process used {instrument.cpu_max:.0%} of a core")
    if _above(instrument.merged_share, _MERGED_SHARE):
        reasons.append(
            f"{instrument.merged_share:.1%} of the chunks came in one read with another: their gaps are bounds"
        )
    return reasons


def _tail(metric: Distribution) -> tuple[float, str]:
    """The highest percentile that the samples support, and its name; the worst value when there is none."""
    for percent in (99.0, 95.0, 90.0):
        if (value := metric.at(percent)) is not None:
            return value, f"p{percent:g}"
    return metric.maximum or 0.0, "the worst"


def _above(value: float | None, bound: float) -> bool:
    return value is not None and value > bound


def _max_in_flight(table: Table) -> int | None:
    """The most requests that were open at one instant, by their sends and ends."""
    sent = table["sent_at"][~np.isnan(table["sent_at"])]
    if not len(sent):
        return None
    done = table["done_at"][~np.isnan(table["done_at"])]
    instants = np.concatenate([sent, done])
    steps = np.concatenate([np.ones(len(sent)), -np.ones(len(done))])
    order = np.lexsort((steps, instants))  # an end at the same instant comes first
    return int(np.cumsum(steps[order]).max())
