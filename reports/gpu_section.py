"""The section about GPUs and the server's own gauges, on the time axis of the requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import plotly.graph_objects as go

from harness.gpu.samples import GpuReport, GpuSample, GpuSeries, ServerSample
from harness.table import Floats
from reports.buckets import Buckets, time_buckets
from reports.look import LOOKS, line, mark_empty, plain, second_axis, timed
from reports.numbers import MISSING, NOT_MEASURED, count, instant, share
from reports.section import Chart, Section
from reports.tables import TextTable
from reports.view import View

__all__ = ["gpu_section"]

_MOST_DRAWN = len(LOOKS)
_MOST = 64
_GIB = 2**30

# What is shown of a GPU: its name on the page, and how its value is written.
_SHARES = ("utilization", "engine_active", "sm_active", "tensor_active", "dram_active")
_TELLING = ("sm_active", "engine_active", "utilization", "tensor_active", "dram_active")  # the most first
_WORDS: dict[str, tuple[str, Callable[[float], str]]] = {
    "utilization": ("some kernel ran", share),
    "engine_active": ("engine active", share),
    "sm_active": ("SM active", share),
    "tensor_active": ("tensor cores active", share),
    "dram_active": ("DRAM active", share),
    "memory_used": ("memory, GiB", lambda value: f"{value / _GIB:,.1f}"),
    "power_w": ("power, W", lambda value: f"{value:,.0f}"),
    "sm_clock_mhz": ("SM clock, MHz", lambda value: f"{value:,.0f}"),
    "temperature_c": ("temperature, °C", lambda value: f"{value:,.0f}"),
}
_GAUGES = (("num_running", "running"), ("num_waiting", "waiting"), ("kv_cache_usage", "KV blocks used"))

_Sample = TypeVar("_Sample", GpuSample, ServerSample)


@dataclass(frozen=True)
class _Line:
    """Means of one gauge in each bucket; NaN where nobody looked."""

    name: str
    values: Floats


def gpu_section(view: View) -> list[Section]:
    """Nothing where nobody asked; words where somebody did and nothing was measured."""
    report, readings = view.summary.gpu, view.run.readings
    if report is None or readings is None:
        return []
    buckets = time_buckets(view.run, at_least_s=1.0)
    charts = [*_gpu_charts(view, readings.gpus, buckets), *_server_charts(view, readings.servers, buckets)]
    tables = [*_gpu_tables(report), *_server_tables(report)]
    return [Section("gpu", "GPUs and server", _note(report), charts, tables, wide=True)]


def _note(report: GpuReport) -> str:
    parts = [] if report.gpus else [f"GPUs: not measured{f': {report.why_not}' if report.why_not else ''}."]
    if report.gpus:
        kind = (
            "The GPUs are simulated by the mock"
            if report.simulated
            else f"Measured by {report.source or 'the sampler'}"
        )
        parts.append(f"{kind}, from the first request to the last answer.")
        if report.energy_j is not None:
            parts.append(f"Energy {report.energy_j:,.0f} J.")
    return " ".join([*parts, *(f"{note}." for note in report.notes)])


# -- charts --------------------------------------------------------------------------------------------


def _gpu_charts(view: View, readings: Sequence[GpuSample], buckets: Buckets) -> list[Chart]:
    by_gpu = _grouped(readings, _gpu_name)
    drawn = dict(list(by_gpu.items())[:_MOST_DRAWN])
    rest = f" The first {len(drawn)} of {len(by_gpu):,}." if len(by_gpu) > len(drawn) else ""
    charts = []
    for name, title, fields, unit, factor in (
        ("gpu-busy", "How busy the GPUs were", _SHARES, "% of the time", 100.0),
        ("gpu-memory", "Memory of the GPUs", ("memory_used",), "GiB", 1 / _GIB),
        ("gpu-power", "Power of the GPUs", ("power_w",), "W", 1.0),
    ):
        lines = [
            _Line(f"{_WORDS[field][0]}, {gpu}", _means(samples, field, buckets) * factor)
            for gpu, samples in drawn.items()
            for field in _best(samples, fields)
        ][:_MOST_DRAWN]
        if lines:
            caption = f"Mean of each {buckets.width_s:g} s, in {unit}.{rest}"
            if fields == _SHARES:
                caption += " That some kernel ran says little of how much of the chip was busy; SM active does."
            figure = _figure(view, buckets, lines, unit)
            charts.append(Chart(f"{name}-chart", title, caption, figure, _table(f"{title}, {unit}", buckets, lines)))
    return charts


def _server_charts(view: View, readings: Sequence[ServerSample], buckets: Buckets) -> list[Chart]:
    charts = []
    for place, (model, samples) in enumerate(list(_grouped(readings, _server_name).items())[:4]):
        lines = [
            _Line(words, _means(samples, field, buckets) * (100 if field == "kv_cache_usage" else 1))
            for field, words in _GAUGES
            if any(getattr(sample, field) is not None for sample in samples)
        ]
        if lines:
            caption = (
                f"What the server said of itself, mean of each {buckets.width_s:g} s; KV blocks in % on the right axis."
            )
            figure = _figure(view, buckets, lines, "requests", right="KV blocks used")
            title = f"Requests in the server{f': {model}' if model else ''}"
            table = _table(f"{title}; KV blocks in %", buckets, lines)
            charts.append(Chart(f"server-{place}-chart", title, caption, figure, table))
    return charts


def _gpu_name(sample: GpuSample) -> str:
    return f"{sample.gpu[:20]}{f' {sample.mig}' if sample.mig else ''}"


def _server_name(sample: ServerSample) -> str:
    return sample.model or ""


def _grouped(samples: Sequence[_Sample], name: Callable[[_Sample], str]) -> dict[str, list[_Sample]]:
    found: dict[str, list[_Sample]] = {}
    for sample in samples:
        found.setdefault(name(sample), []).append(sample)
    return found


def _best(samples: Sequence[GpuSample], fields: Sequence[str]) -> list[str]:
    """Of the shares that were measured the two that say most: how much of the chip was busy, and whether it was at all."""
    there = [field for field in fields if any(getattr(sample, field) is not None for sample in samples)]
    return sorted(there, key=_TELLING.index if fields == _SHARES else fields.index)[:2]


def _means(samples: Sequence[GpuSample | ServerSample], field: str, buckets: Buckets) -> Floats:
    pairs = [
        (sample.at, value)
        for sample in samples
        if (value := getattr(sample, field)) is not None and buckets.start_s <= sample.at < buckets.end_s
    ]
    at, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(buckets.counts(at, values) / buckets.counts(at))


def _figure(view: View, buckets: Buckets, lines: Sequence[_Line], unit: str, right: str = "") -> go.Figure:
    figure = timed(unit, buckets, view.phases, view.events)
    middles = buckets.starts_s + buckets.width_s / 2
    for each, (colour, dash, symbol) in zip(lines, LOOKS, strict=False):
        there = ~np.isnan(each.values)
        figure.add_scatter(
            x=middles[there].astype(np.float32),
            y=each.values[there].astype(np.float32),
            yaxis="y2" if each.name == right else "y",
            name=plain(each.name),
            mode="lines+markers",
            line=line(colour, dash),
            marker={"symbol": symbol, "size": 5},
        )
    if any(each.name == right for each in lines):
        figure.update_layout(yaxis2=second_axis(f"{right}, %"))
    return mark_empty(figure, all(np.isnan(each.values).all() for each in lines))


def _table(caption: str, buckets: Buckets, lines: Sequence[_Line]) -> TextTable:
    rows = [
        [instant(start, buckets.width_s), *(_number(each.values[place]) for each in lines)]
        for place, start in enumerate(buckets.starts_s)
    ]
    return TextTable(caption, ["from, s", *(each.name for each in lines)], rows)


def _number(value: float) -> str:
    return MISSING if np.isnan(value) else f"{value:,.1f}"


# -- tables --------------------------------------------------------------------------------------------


def _gpu_tables(report: GpuReport) -> list[TextTable]:
    if not report.gpus:
        return []
    fields = [name for name in _WORDS if any(name in each.mean or name in each.maximum for each in report.gpus)]
    rows = [_row(each, fields) for each in report.gpus]
    head = ["GPU", "samples", *(f"{_WORDS[name][0]}: mean, most" for name in fields), "energy, J"]
    return [TextTable("GPUs over the run", head, rows).at_most(_MOST)]


def _row(each: GpuSeries, fields: Sequence[str]) -> list[str]:
    cells = []
    for name in fields:
        write = _WORDS[name][1]
        pair = [
            write(value) if value is not None else MISSING for value in (each.mean.get(name), each.maximum.get(name))
        ]
        cells.append(NOT_MEASURED if pair == [MISSING, MISSING] else ", ".join(pair))
    called = " ".join(filter(None, (each.name, each.mig, f"({each.gpu[:20]})")))
    energy = NOT_MEASURED if each.energy_j is None else f"{each.energy_j:,.0f}"
    return [called, count(each.num_samples), *cells, energy]


def _server_tables(report: GpuReport) -> list[TextTable]:
    rows = [
        [model or MISSING, name.replace("_", " "), f"{value:,.4g}" if abs(value) < 10_000 else count(value)]
        for model, values in report.servers.items()
        for name, value in values.items()
    ]
    if not rows:
        return []
    return [TextTable("The server of itself", ["model", "gauge or counter", "value"], rows, num_text=2).at_most(_MOST)]
