"""The figures of a comparison: the same thing of every run, laid over each other. Milliseconds are for reading only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from harness.history.compare import Side
from harness.quantiles import Distribution
from harness.table import OUTCOMES, Floats
from reports.buckets import Buckets
from reports.curves import Curve
from reports.levels import Level
from reports.look import LOOKS, OUTCOME_LOOKS, SKY, blank, categories, line, log_axis, mark_empty, plain
from reports.spectrum import Spectrum

__all__ = [
    "SPECTRUM_TICKS",
    "cost_figure",
    "ecdf_figure",
    "levels_figure",
    "outcomes_figure",
    "over_time_figure",
    "spectra_figure",
]

SPECTRUM_TICKS = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99)

# One colour, dash and sign a run.
_LOOKS = (*LOOKS, (SKY, "9px 2px", "star"), ("#9C6B00", "2px 6px", "hexagon"))


def _named(side: Side) -> str:
    return plain(f"{side.letter} {side.name}", 40)


def ecdf_figure(sides: Sequence[Side], curves: Sequence[Curve]) -> go.Figure:
    """The share of requests that do not exceed a value, a curve a run."""
    figure = blank("ms, logarithmic", "share of requests")
    for side, curve, (colour, dash, _) in zip(sides, curves, _LOOKS, strict=False):
        figure.add_scatter(
            x=(curve.values_s * 1e3).astype(np.float32),
            y=curve.shares.astype(np.float32),
            name=_named(side),
            mode="lines+markers" if len(curve.values_s) == 1 else "lines",
            line=line(colour, dash, shape="hv"),
            showlegend=True,
        )
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(**log_axis(np.concatenate([curve.values_s for curve in curves]) * 1e3))
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    return mark_empty(figure, not any(curve.num for curve in curves))


def spectra_figure(sides: Sequence[Side], spectra: Sequence[Spectrum]) -> go.Figure:
    """A latency at every percentile that a run supports, over the share of requests beyond it."""
    figure = blank("percentile", "ms, logarithmic")
    for side, found, (colour, dash, _) in zip(sides, spectra, _LOOKS, strict=False):
        figure.add_scatter(
            x=_odds(found.percents),
            y=(np.maximum(found.values, 1e-6) * 1e3).astype(np.float32),  # a logarithmic axis has no 0
            name=_named(side),
            mode="lines",
            line=line(colour, dash),
            showlegend=True,
        )
    ticks = [f"p{percent:g}" for percent in SPECTRUM_TICKS]
    figure.update_xaxes(type="log", tickvals=_odds(np.array(SPECTRUM_TICKS)), ticktext=ticks)
    figure.update_yaxes(**log_axis(np.concatenate([found.values for found in spectra]) * 1e3))
    figure.update_layout(hovermode="closest")
    return mark_empty(figure, not any(len(found.percents) for found in spectra))


def _odds(percents: Floats) -> Floats:
    """One in how many requests lies beyond: 2 for p50, 100 for p99."""
    return np.asarray(1 / (1 - percents / 100), dtype=np.float32)


def over_time_figure(sides: Sequence[Side], over_time: Sequence[Sequence[Distribution]], buckets: Buckets) -> go.Figure:
    """The median of each bucket, a line a run."""
    figure = blank("seconds from the start of each run", "TTFT p50, ms")
    middles = (buckets.starts_s + buckets.width_s / 2).astype(np.float32)
    for side, parts, (colour, dash, symbol) in zip(sides, over_time, _LOOKS, strict=False):
        values = np.array([_ms(part.at(50)) for part in parts], dtype=np.float32)
        figure.add_scatter(
            x=middles,
            y=values,
            name=_named(side),
            mode="lines+markers",
            line=line(colour, dash),
            marker={"symbol": symbol, "size": 6},
            showlegend=True,
        )
    empty = all(part.at(50) is None for parts in over_time for part in parts)
    return mark_empty(figure, empty)


def outcomes_figure(sides: Sequence[Side]) -> go.Figure:
    """The share of each outcome, a bar a run."""
    figure = blank("share of requests", "")
    names = [f"{side.letter} {side.name}" for side in sides]
    totals = [max(1, sum(side.summary.load.outcomes.values())) for side in sides]
    for outcome in OUTCOMES:
        counts = [side.summary.load.outcomes.get(outcome, 0) for side in sides]
        if any(counts):
            colour, hatching = OUTCOME_LOOKS[outcome]
            figure.add_bar(
                x=[num / total for num, total in zip(counts, totals, strict=True)],
                y=list(range(len(names))),
                orientation="h",
                name=outcome,
                showlegend=True,
                marker={"color": colour, "pattern": {"shape": hatching, "fillmode": "overlay", "size": 6}},
            )
    figure.update_layout(barmode="stack", hovermode="closest", height=130 + 42 * len(names))
    figure.update_layout(legend={"traceorder": "normal"}, yaxis=categories(names))
    figure.update_xaxes(range=[0, 1], tickformat=".0%")
    return mark_empty(figure, not figure.data)


def levels_figure(sides: Sequence[Side], levels: Sequence[Sequence[Level]]) -> go.Figure:
    """TTFT p50 (filled) and p95 (open) over the delivered rate: a point a level of load."""
    figure = blank("delivered requests per second", "TTFT, ms")
    for side, found, (colour, dash, symbol) in zip(sides, levels, _LOOKS, strict=False):
        for percent, sign in ((50.0, symbol), (95.0, f"{symbol}-open")):
            points = [(level.rate, _ms(level.metrics["ttft"].at(percent))) for level in found]
            figure.add_scatter(
                x=np.array([rate for rate, _ in points], dtype=np.float32),
                y=np.array([value for _, value in points], dtype=np.float32),
                name=f"{plain(side.letter)} p{percent:g}",
                mode="lines+markers" if len(points) > 1 else "markers",
                line=line(colour, dash),
                marker={"symbol": sign, "size": 9, "color": colour},
                showlegend=True,
            )
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(rangemode="tozero")
    return mark_empty(figure, all(level.metrics["ttft"].at(50) is None for found in levels for level in found))


def cost_figure(sides: Sequence[Side], costs: Mapping[str, Sequence[float | None]]) -> go.Figure:
    """USD, a group of bars a run."""
    figure = blank("", "USD")
    names = [f"{side.letter} {side.name}" for side in sides]
    for (name, values), (colour, _, _), hatching in zip(costs.items(), _LOOKS, ("", "/", "x"), strict=False):
        figure.add_bar(
            x=list(range(len(names))),
            y=[None if value is None else float(value) for value in values],
            name=name,
            showlegend=True,
            marker={"color": colour, "pattern": {"shape": hatching, "fillmode": "overlay", "size": 6}},
        )
    figure.update_layout(hovermode="closest", barmode="group")
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=[plain(name, 24) for name in names], showgrid=False)
    return figure


def _ms(seconds: float | None) -> float:
    return float("nan") if seconds is None else seconds * 1e3
