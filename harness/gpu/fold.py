"""What the GPUs and the server did over a run, from what the sampler read: between the first send and the last end."""

from __future__ import annotations

import numpy as np

from harness.gpu.averages import increase, integral
from harness.gpu.axis import Readings
from harness.gpu.grouping import by_gpu, by_model, column
from harness.gpu.nvml import NAME as NVML
from harness.gpu.samples import GAUGES, GpuReport, GpuSample, GpuSeries, ServerSample
from harness.table import Floats, Table

__all__ = ["gpu_report"]

_LONGEST_GAP_S = 3.0  # or three beats, where the beat is slower
_WHOLE = 0.9  # an energy is stated if so much of the time was measured
_SERVER_GAUGES = ("num_running", "num_waiting", "kv_cache_usage")
_SERVER_COUNTERS = (
    "num_preemptions", "prefix_cache_queries", "prefix_cache_hits", "num_prompt_tokens", "num_output_tokens",
)  # fmt: skip


def gpu_report(readings: Readings, table: Table) -> GpuReport:
    """All GPUs and servers of a run, over the requests of `table`."""
    window = _window(table)
    if window is None:
        return GpuReport(source=None, why_not="no request was sent", notes=_notes(readings))
    begin, end = window
    longest_gap_s = max(_LONGEST_GAP_S, 3 * readings.file.header.every_s)
    gpus = [_series(samples, begin, end, longest_gap_s) for samples in by_gpu(readings.gpus).values()]
    gpus = [series for series in gpus if series.num_samples or series.mean]
    unmetered = _without_energy(gpus)
    servers = {
        model: _server(samples, begin, end, longest_gap_s) for model, samples in by_model(readings.servers).items()
    }
    notes = _notes(readings)
    if gpus and 0 < len(unmetered) < len({series.gpu for series in gpus}):
        notes.append(f"energy is not stated: it was not measured of {', '.join(unmetered)} over the whole run")
    return GpuReport(
        source=_source(readings.gpus) if gpus else None,
        why_not=None if gpus else _why_not(readings),
        simulated=any(sample.simulated for sample in readings.gpus),
        gpus=gpus,
        energy_j=None if unmetered or not gpus else sum(_energyby_gpu(gpus).values()),
        servers={model: figures for model, figures in servers.items() if figures},
        window_s=end - begin,
        aligned_by=readings.aligned_by,
        notes=notes,
    )


def _window(table: Table) -> tuple[float, float] | None:
    sent, done = table["sent_at"], table["done_at"]
    if np.isnan(sent).all():
        return None
    begin = float(np.nanmin(sent))
    return begin, max(float(np.nanmax(sent)), begin if np.isnan(done).all() else float(np.nanmax(done)))


# -- one GPU -------------------------------------------------------------------------------------------


def _series(samples: list[GpuSample], begin: float, end: float, longest_gap_s: float) -> GpuSeries:
    mean: dict[str, float] = {}
    maximum: dict[str, float] = {}
    covered_s = 0.0
    for field in GAUGES:
        at, values = column(samples, field)
        average, seconds, most = _gauge(at, values, begin, end, longest_gap_s)
        if average is not None:
            mean[field] = average
            covered_s = max(covered_s, seconds)
        if most is not None:
            maximum[field] = most
    return GpuSeries(
        gpu=samples[0].gpu,
        name=next((sample.name for sample in samples if sample.name), None),
        mig=samples[0].mig,
        num_samples=sum(begin <= sample.at <= end for sample in samples),
        mean=mean,
        maximum=maximum,
        energy_j=_energy(samples, begin, end, longest_gap_s),
        covered_s=covered_s,
    )


def _gauge(
    at: Floats, values: Floats, begin: float, end: float, longest_gap_s: float
) -> tuple[float | None, float, float | None]:
    """Mean, the seconds that it is of, and maximum. A run shorter than the beat may have a single reading."""
    inside = values[(at >= begin) & (at <= end)]
    area = integral(at, values, begin, end, longest_gap_s)
    most = float(inside.max()) if len(inside) else None
    if area.covered_s > 0:
        average = area.total / area.covered_s
        return average, area.covered_s, average if most is None else max(most, average)
    return (float(inside.mean()) if len(inside) else None), 0.0, most


def _energy(samples: list[GpuSample], begin: float, end: float, longest_gap_s: float) -> float | None:
    """Joules, by the counter, or where there is none as the integral of the power; None where either saw too little. What was not
    seen counts as the mean of what was."""
    counter = increase(*column(samples, "energy_j"), begin, end)
    power = integral(*column(samples, "power_w"), begin, end, longest_gap_s)
    for amount in (counter, power):
        if amount.covered_s > 0 and amount.covered_s >= _WHOLE * (end - begin):
            return amount.total * (end - begin) / amount.covered_s
    return None


def _energyby_gpu(gpus: list[GpuSeries]) -> dict[str, float]:
    """Each GPU once: its own figure, or what an exporter says of it under each of its instances."""
    found: dict[str, float] = {}
    for series in gpus:  # a GPU stands before its instances
        if series.energy_j is not None:
            found.setdefault(series.gpu, series.energy_j)
    return found


def _without_energy(gpus: list[GpuSeries]) -> list[str]:
    known = _energyby_gpu(gpus)
    return list(dict.fromkeys(series.gpu for series in gpus if series.gpu not in known))


# -- servers -------------------------------------------------------------------------------------------


def _server(samples: list[ServerSample], begin: float, end: float, longest_gap_s: float) -> dict[str, float]:
    figures: dict[str, float] = {}
    for field in _SERVER_GAUGES:
        average, _, most = _gauge(*column(samples, field), begin, end, longest_gap_s)
        figures |= {} if average is None else {f"{field}_mean": average}
        figures |= {} if most is None else {f"{field}_max": most}
    for field in _SERVER_COUNTERS:
        at, values = column(samples, field)
        first, last = _outer(at, begin, end)
        if last > first:
            figures[field] = increase(at[first : last + 1], values[first : last + 1], at[first], at[last]).total
    return figures


def _outer(at: Floats, begin: float, end: float) -> tuple[int, int]:
    """The last reading before the run and the first after it: servers count a request when it is over."""
    first = max(0, int(np.searchsorted(at, begin, side="right")) - 1)
    return first, min(len(at) - 1, int(np.searchsorted(at, end, side="left")))


# -- words ---------------------------------------------------------------------------------------------


def _source(samples: list[GpuSample]) -> str:
    if any(sample.simulated for sample in samples):
        return "mock"
    return ", ".join(sorted({NVML if sample.source == NVML else "dcgm" for sample in samples}))


def _reasons(readings: Readings) -> dict[str, str]:
    """Why a source gave nothing at all, in its last words."""
    seen = {sample.source for sample in readings.file.gpus} | {sample.source for sample in readings.file.servers}
    return {note.source: note.why_not for note in readings.file.notes if note.source not in seen}


def _why_not(readings: Readings) -> str:
    reasons = _reasons(readings)
    if readings.aligned_by is None:
        return "no record file has a header: nothing says when the run began"
    if readings.gpus:
        return "no reading lies between the first request and the last answer"
    told = [f"{source}: {why}" for source, why in reasons.items()]
    silent = {sample.source for sample in readings.servers}
    told += [f"{source} says nothing of GPUs" for source in sorted(filter(None, silent))]
    return "; ".join(told) or "the sampler ended before its first reading"


def _notes(readings: Readings) -> list[str]:
    notes = []
    if readings.gpus:
        notes += [f"{source}: {why}" for source, why in _reasons(readings).items()]
    if readings.aligned_by == "wall clock":
        notes.append("readings and requests come from two machines, or two boots: aligned by their wall clocks")
    if not readings.file.whole:
        notes.append("the sampler did not end in order: readings at the end may be missing")
    return notes
