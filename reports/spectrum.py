"""Percentile spectra: a latency at every percentile that its samples support, drawn so that the tail is as wide as the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from harness.quantiles import interval_ranks, nearest_rank, samples_needed
from harness.table import Floats
from harness.text import METRIC_NAMES, milliseconds
from reports.look import LOOKS, blank, line, log_axis, mark_empty
from reports.tables import Cell, TextTable

__all__ = ["Spectrum", "spectrum", "spectrum_figure", "spectrum_of_sorted", "spectrum_rows"]

_TICKS = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99)
_NUM_POINTS = 45
_FILLS = ("rgba(0, 114, 178, 0.15)", "rgba(213, 94, 0, 0.15)", "rgba(0, 158, 115, 0.15)")


@dataclass(frozen=True)
class Spectrum:
    """`values[i]` s at `percents[i]`, between `low[i]` and `high[i]` with 95 % confidence; ascending, of `num` samples."""

    percents: Floats
    values: Floats
    low: Floats
    high: Floats
    num: int


def spectrum(samples: Floats) -> Spectrum:
    """From p50 as far as the samples go: the last percentile is the highest of which a 95 % interval exists."""
    return spectrum_of_sorted(np.sort(samples[~np.isnan(samples)]))


def spectrum_of_sorted(ordered: Floats) -> Spectrum:
    """The same of samples in order, none of them missing."""
    num = len(ordered)
    wanted = np.unique(np.concatenate([100 - np.geomspace(50, 0.01, _NUM_POINTS), _TICKS]).round(4))
    there = [percent for percent in wanted.tolist() if num >= samples_needed(percent)]
    ranks = [interval_ranks(percent, num) or (0, num - 1) for percent in there]
    return Spectrum(
        percents=np.array(there),
        values=ordered[[nearest_rank(percent, num) for percent in there]],
        low=ordered[[low for low, _ in ranks]],
        high=ordered[[high for _, high in ranks]],
        num=num,
    )


def spectrum_figure(spectra: dict[str, Spectrum]) -> go.Figure:
    """A line with its band for each metric, over the share of samples beyond it on a logarithmic axis."""
    figure = blank("percentile", "ms, logarithmic")
    for (name, found), (colour, dash, _), fill in zip(spectra.items(), LOOKS, _FILLS, strict=False):
        if not len(found.percents):
            continue
        x = _odds(found.percents)
        band = {"x": np.concatenate([x, x[::-1]]), "y": _ms(np.concatenate([found.low, found.high[::-1]]))}
        figure.add_scatter(
            **band, fill="toself", fillcolor=fill, line={"width": 0}, hoverinfo="skip", showlegend=False, mode="lines"
        )
        figure.add_scatter(x=x, y=_ms(found.values), name=METRIC_NAMES[name], mode="lines", line=line(colour, dash))
    ticks = _odds(np.array(_TICKS))
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"p{percent:g}" for percent in _TICKS])
    figure.update_yaxes(**log_axis(np.concatenate([_ms(found.values) for found in spectra.values()])))
    figure.update_layout(hovermode="closest")
    return mark_empty(figure, not any(len(found.percents) for found in spectra.values()))


def _odds(percents: Floats) -> Floats:
    """One in how many samples lies beyond: 2 for p50, 100 for p99."""
    return np.asarray(1 / (1 - percents / 100), dtype=np.float32)


def _ms(seconds: Floats) -> Floats:
    return np.asarray(np.maximum(seconds, 1e-6) * 1e3, dtype=np.float32)  # a logarithmic axis has no 0


def spectrum_rows(spectra: dict[str, Spectrum]) -> TextTable:
    """The percentiles of the axis, each with its interval."""
    rows: list[list[str | Cell]] = [
        [f"p{percent:g}", *(_cell(found, percent) for found in spectra.values())] for percent in _TICKS
    ]
    names = [METRIC_NAMES[name] for name in spectra]
    return TextTable("Percentiles with their 95 % intervals, ms", ["percentile", *names], rows)


def _cell(found: Spectrum, percent: float) -> Cell:
    at = np.flatnonzero(found.percents == percent)
    if not len(at):
        return Cell(f"n<{samples_needed(percent)}" if found.num else "–")
    low, high = milliseconds(float(found.low[at[0]])), milliseconds(float(found.high[at[0]]))
    return Cell(milliseconds(float(found.values[at[0]])), note=f"{low} to {high}")
