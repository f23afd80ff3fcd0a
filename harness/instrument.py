"""The instrument judges itself before it judges the server.

VALID: the numbers stand. DEGRADED: they stand with the doubts listed. INVALID: the asked load was not
delivered or records are missing; nothing may be concluded. NONE: nothing was measured, because the run was in virtual time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from harness.delivery import Delivery, judge_delivery
from harness.quantiles import Distribution, distribution
from harness.records import RecordFile
from harness.store import Manifest, Sample
from harness.table import Table
from harness.truth import Truth

__all__ = ["CROWDED_SHARE", "STALL_S", "Instrument", "doubts_of", "is_crowded", "judge_instrument"]

# Bounds are judgement, not law. A request sent 10 ms late is as wrong as the usual jitter of a network; a twentieth
# of the load that never came makes another experiment (harness/delivery.py).
_LATE_S = 0.010
_LATE_INVALID_S = 1.0
STALL_S = 0.025
_STALLED_SHARE = 0.01
_CPU_BUSY = 0.90
_MERGED_SHARE = 0.05
_DOUBTED_SHARE = 0.01
# Of a whole second. The load and a server on the same machine may well use most of it for a moment; a tenth of the run is
# no moment. Being woken costs some 30 us even on an idle machine, which at 2,000 reads a second is 6 % of the time.
_MACHINE_BUSY = 0.95
_CPU_WAIT = 0.25
_STOLEN = 0.05
CROWDED_SHARE = 0.10
_VIRTUAL = "virtual time: no instrument"


class Instrument(msgspec.Struct, kw_only=True):
    """The state of the load generator during the run.

    `doubts` counts samples by what is doubtful about their times (records.doubt), `doubted_share` those with any doubt
    among those that were sent. `read_lag` is how long bytes lay in the kernel before they were read, the worst of each
    request; `stamped_share` the share of answers whose arrivals have the kernel's stamps: our own lag does not harm those.
    `machine_cpu` is the share of all processors' time that was used, `cpu_wait` the share of time in which a load process
    was ready and was not run, `stolen_cpu` what a hypervisor gave to others; each the mean of the seconds.
    """

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
    doubts: dict[str, int] = {}
    doubted_share: float | None = None
    read_lag: Distribution | None = None
    stamped_share: float | None = None
    machine_cpu: float | None = None
    cpu_wait: float | None = None
    stolen_cpu: float | None = None


def judge_instrument(
    table: Table,
    manifest: Manifest,
    files: Sequence[RecordFile],
    samples: Sequence[Sample],
    num_missing: int,
    truth: Truth | None = None,
    delivery: Delivery | None = None,
) -> Instrument:
    """Fold what the run says about its own instrument; `delivery` is asked against delivered load."""
    virtual = manifest.clock == "virtual"
    cpu = np.array([sample.cpu for sample in samples])
    lags = np.array([sample.loop_lag_s for sample in samples], dtype=np.float64)
    chunks = float(np.nansum(table["num_chunks"]))
    instrument = Instrument(
        state="VALID",
        reasons=[],
        send_lag=distribution(np.array([]) if virtual else table["sent_at"] - table["intended_at"]),
        loop_lag=distribution(lags),
        stalled_share=float((lags > STALL_S).mean()) if len(lags) else None,
        cpu_mean=float(cpu.mean()) if len(cpu) else None,
        cpu_max=float(cpu.max()) if len(cpu) else None,
        merged_share=float(np.nansum(table["num_merged_chunks"])) / chunks if chunks and not virtual else None,
        num_torn_lines=sum(file.num_torn for file in files),
        max_in_flight=_max_in_flight(table),
        machine_cpu=_mean(samples, "machine_cpu"),
        cpu_wait=_mean(samples, "cpu_wait"),
        stolen_cpu=_mean(samples, "stolen_cpu"),
    )
    if not virtual:
        _note_samples_of_requests(instrument, table)
    invalid = [*manifest.lost_workers, *(problem for file in files for problem in file.problems)]
    if manifest.reactive and not virtual and manifest.ended_how is None:
        invalid.append("the run has no end: the process that led it was killed")  # what was to follow nobody knows
    # Only writers that ended in order prove that what has no record was not sent.
    stopped = manifest.ended_how == "stopped early" and not invalid
    invalid += _not_delivered(manifest, num_missing, delivery, stopped=stopped)
    if num_twice := len(table) - len(set(table.request_ids)):
        invalid.append(f"{num_twice} requests have more than one record")
    if truth is not None and truth.num_ledger_only:
        invalid.append(f"the server answered {truth.num_ledger_only} requests of this run that left no record")
    if _above(instrument.send_lag.maximum, _LATE_INVALID_S):
        invalid.append(f"a request was sent {instrument.send_lag.maximum:.2f} s late")
    degraded = [_VIRTUAL] if virtual else doubts_of(instrument, int(table.is_outcome("refused").sum()))
    if not virtual:
        degraded += _crowded(samples)
    instrument.state = "INVALID" if invalid else "NONE" if virtual else "DEGRADED" if degraded else "VALID"
    instrument.reasons = invalid + degraded
    return instrument


def _not_delivered(manifest: Manifest, num_missing: int, delivery: Delivery | None, *, stopped: bool) -> list[str]:
    if stopped and (num_missing or manifest.reactive):
        after = f" after {manifest.ended_at:.0f} s" if manifest.ended_at is not None else ""
        because = f" ({manifest.stop_reason})" if manifest.stop_reason is not None else ""
        missing = f": {num_missing} of {manifest.num_planned} planned requests were not sent" if num_missing else ""
        return [f"the run was stopped{after}{because}{missing}"]
    reasons = []
    if num_missing:
        reasons.append(f"{num_missing} of {manifest.num_planned} planned requests left no record")
    return reasons + ([] if delivery is None else judge_delivery(delivery))


def doubts_of(instrument: Instrument, num_refused: int) -> list[str]:
    """Why the numbers are to be taken with care, as far as these figures say it."""
    reasons = []
    loop = instrument.loop_lag
    late, which = _tail(instrument.send_lag)
    if num_refused:
        reasons.append(f"{num_refused} requests were held back by the harness itself")
    if late > _LATE_S:
        reasons.append(f"requests were sent late: {which} {late * 1e3:.1f} ms")
    if instrument.stalled_share is not None and instrument.stalled_share > _STALLED_SHARE:
        worst = (loop.maximum or 0.0) * 1e3
        harm = "; arrivals have the kernel's stamps, sends were late" if instrument.stamped_share == 1.0 else ""
        reasons.append(
            f"the event loop stood still in {instrument.stalled_share:.1%} of the seconds, for up to {worst:.0f} ms{harm}"
        )
    if _above(instrument.cpu_max, _CPU_BUSY):
        reasons.append(f"a load process used {instrument.cpu_max:.0%} of a core")
    if _above(instrument.merged_share, _MERGED_SHARE):
        reasons.append(
            f"{instrument.merged_share:.1%} of the chunks came in one read with another: their gaps are bounds"
        )
    if _above(instrument.doubted_share, _DOUBTED_SHARE):
        kinds = ", ".join(f"{kind} {num}" for kind, num in instrument.doubts.items())
        reasons.append(f"the times of {instrument.doubted_share:.1%} of the requests are doubtful: {kinds}")
    return reasons


def _note_samples_of_requests(instrument: Instrument, table: Table) -> None:
    """What the records say of the instrument."""
    counts = Counter[str]()
    for doubt, num in table.labels["doubt"].counts().items():
        counts.update(dict.fromkeys(doubt.split(","), num))
    instrument.doubts = dict(counts.most_common())
    if num_sent := int((~np.isnan(table["sent_at"])).sum()):
        instrument.doubted_share = float((table.labels["doubt"].codes >= 0).sum()) / num_sent
    read_lag = table["read_lag_s"]
    instrument.read_lag = distribution(read_lag)
    if num_answered := int((~np.isnan(table["first_byte_at"])).sum()):
        instrument.stamped_share = int((~np.isnan(read_lag)).sum()) / num_answered


def _crowded(samples: Sequence[Sample]) -> list[str]:
    """Whether the load processes had to share the machine with too much else, for more than a tenth of the run."""
    signs = (
        ("machine_cpu", _MACHINE_BUSY, "the machine's processors were busy, {:.0%} in the worst of them"),
        ("cpu_wait", _CPU_WAIT, "a load process waited for a processor, {:.0%} of the worst of them"),
        ("stolen_cpu", _STOLEN, "the hypervisor gave processors to others, {:.0%} in the worst of them"),
    )
    reasons = []
    for name, bound, words in signs:
        known = _known(samples, name)
        above = [value for value in known if value > bound]
        if known and len(above) > CROWDED_SHARE * len(known):
            reasons.append(f"in {len(above)} of {len(known)} seconds {words.format(max(above))}")
    return reasons


def is_crowded(sample: Sample) -> bool:
    """Whether a load process had to share the machine with too much else in that second."""
    pairs = ((sample.machine_cpu, _MACHINE_BUSY), (sample.cpu_wait, _CPU_WAIT), (sample.stolen_cpu, _STOLEN))
    return any(_above(value, bound) for value, bound in pairs)


def _known(samples: Sequence[Sample], name: str) -> list[float]:
    return [value for sample in samples if (value := getattr(sample, name)) is not None]


def _mean(samples: Sequence[Sample], name: str) -> float | None:
    known = _known(samples, name)
    return sum(known) / len(known) if known else None


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
