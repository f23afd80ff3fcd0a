"""The instrument judges itself before it judges the server.

VALID: the numbers stand. DEGRADED: they stand with the doubts listed. INVALID: the asked load was not
delivered or records are missing; nothing may be concluded.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from harness.quantiles import Distribution, distribution
from harness.records import RecordFile
from harness.store import Manifest, Sample
from harness.table import Table

__all__ = ["Instrument", "judge_instrument"]

# Bounds are judgement, not law. A request sent 10 ms late is as wrong as the usual jitter of a network; a tenth of the
# load that never came makes another experiment.
_LATE_P99_S = 0.010
_LATE_P99_INVALID_S = 1.0
_LOOP_LAG_P99_S = 0.025
_CPU_BUSY = 0.90
_MERGED_SHARE = 0.05
_DELIVERED_SHARE = 0.95


class Instrument(msgspec.Struct, kw_only=True):
    """The state of the load generator during the run."""

    state: str  # VALID, DEGRADED or INVALID
    reasons: list[str]
    send_lag: Distribution
    loop_lag: Distribution
    cpu_mean: float | None
    cpu_max: float | None
    merged_share: float | None
    num_torn_lines: int
    max_in_flight: int | None


def judge_instrument(
    table: Table, manifest: Manifest, files: Sequence[RecordFile], samples: Sequence[Sample], num_missing: int
) -> Instrument:
    """Fold what the run says about its own instrument."""
    cpu = np.array([sample.cpu for sample in samples])
    chunks = float(np.nansum(table["num_chunks"]))
    instrument = Instrument(
        state="VALID",
        reasons=[],
        send_lag=distribution(table["sent_at"] - table["intended_at"]),
        loop_lag=distribution(np.array([sample.loop_lag_s for sample in samples], dtype=np.float64)),
        cpu_mean=float(cpu.mean()) if len(cpu) else None,
        cpu_max=float(cpu.max()) if len(cpu) else None,
        merged_share=float(np.nansum(table["num_merged_chunks"])) / chunks if chunks else None,
        num_torn_lines=sum(file.num_torn for file in files),
        max_in_flight=_max_in_flight(table),
    )
    invalid = [problem for file in files for problem in file.problems] + _not_delivered(table, manifest, num_missing)
    if _above(instrument.send_lag.maximum, _LATE_P99_INVALID_S):
        invalid.append(f"a request was sent {instrument.send_lag.maximum:.2f} s late")
    degraded = _doubts(instrument)
    instrument.state = "INVALID" if invalid else "DEGRADED" if degraded else "VALID"
    instrument.reasons = invalid + degraded
    return instrument


def _not_delivered(table: Table, manifest: Manifest, num_missing: int) -> list[str]:
    reasons = []
    if num_missing:
        reasons.append(f"{num_missing} of {manifest.num_planned} planned requests left no record")
    num_refused = int(table.is_outcome("refused").sum())
    if manifest.num_planned and (len(table) - num_refused) / manifest.num_planned < _DELIVERED_SHARE:
        reasons.append(f"only {len(table) - num_refused} of {manifest.num_planned} planned requests were sent")
    elif num_refused:
        reasons.append(f"{num_refused} requests were held back by the cap of {manifest.max_in_flight} in flight")
    return reasons


def _doubts(instrument: Instrument) -> list[str]:
    reasons = []
    lag, loop = instrument.send_lag, instrument.loop_lag
    late = lag.at(99) if lag.at(99) is not None else lag.maximum
    if _above(late, _LATE_P99_S):
        reasons.append(f"requests were sent up to {late * 1e3:.1f} ms late (p99)")  # type: ignore[operator]
    if _above(loop.maximum, _LOOP_LAG_P99_S):
        reasons.append(f"the event loop stood still for up to {loop.maximum * 1e3:.0f} ms")  # type: ignore[operator]
    if _above(instrument.cpu_max, _CPU_BUSY):
        reasons.append(f"a load process used {instrument.cpu_max:.0%} of a core")
    if _above(instrument.merged_share, _MERGED_SHARE):
        reasons.append(f"{instrument.merged_share:.1%} of the chunks came in one read with another: their gaps are bounds")
    return reasons


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
