"""The section about throughput and latency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from harness.text import METRIC_NAMES, percentile_cell
from reports.levels import Level, knee, levels, windows
from reports.look import BLUE, GREEN, PURPLE, RED, blank, line, second_axis
from reports.numbers import count, per_second, share
from reports.section import Chart, Section
from reports.tables import TextTable
from reports.view import View

__all__ = ["levels_section"]

_LEAST = 4
_LOOKS = {
    ("first", 50.0): (BLUE, "solid", "circle"),
    ("first", 95.0): (RED, "dash", "square"),
    ("tpot", 50.0): (GREEN, "dot", "diamond-open"),
    ("tpot", 95.0): (PURPLE, "dashdot", "triangle-up-open"),
}
_KNEE = "The knee is Kneedle's (Satopää et al. 2011; sensitivity 1, not smoothed), of {metric} p{percent:g} over the delivered rate. "


def levels_section(view: View) -> list[Section]:
    """Phases as levels of load, with the knee; where there are fewer than four, windows of time, of which none is a level."""
    found = levels(view.measured)
    by_phase = len(found) >= _LEAST
    if not by_phase:
        found = windows(view.measured, view.wide_buckets, view.run.manifest.warmup_s, view.run.manifest.loaded_s)
    first = "ttft" if any(level.metrics["ttft"].num for level in found) else "e2e"
    found = [level for level in found if level.metrics[first].at(50) is not None]
    if len(found) < _LEAST:
        return []
    percent = 95.0 if sum(level.metrics[first].at(95) is not None for level in found) >= _LEAST else 50.0
    at = knee(found, first, percent) if by_phase else None
    name = METRIC_NAMES[first]
    caption = (
        f"p50 and p95 of {name} (left) and TPOT (right) over the requests a second that were delivered; ok requests. "
    )
    if by_phase:
        caption += (
            f"Each point is a phase of the plan with at least 20 requests. {_KNEE.format(metric=name, percent=percent)}"
        )
        caption += f"It lies at {per_second(at.rate)}/s." if at else "These points have none."
    else:
        caption += (
            f"Each point is a window of {view.wide_buckets.width_s:g} s. Windows are no levels of load: what waits from one is "
            "slow in the next. So no knee is drawn."
        )
    figure = _figure(found, first, at, joined=by_phase)
    chart = Chart("levels-chart", "Latency over delivered rate", caption, figure, _rows(found, first, at, by_phase))
    return [Section("levels", "Throughput and latency", charts=[chart])]


def _figure(found: Sequence[Level], first: str, at: Level | None, *, joined: bool) -> go.Figure:
    figure = blank("delivered requests per second", f"{METRIC_NAMES[first]}, ms")
    for (metric, percent), (colour, dash, symbol) in _LOOKS.items():
        metric = first if metric == "first" else metric
        points = [(level.rate, value) for level in found if (value := level.metrics[metric].at(percent)) is not None]
        if points:
            rates, values = np.array(points).T
            figure.add_scatter(
                x=rates.astype(np.float32),
                y=(values * 1e3).astype(np.float32),
                yaxis="y2" if metric == "tpot" else "y",
                name=f"{METRIC_NAMES[metric]} p{percent:g}",
                mode="lines+markers" if joined else "markers",
                line=line(colour, dash),
                marker={"symbol": symbol, "size": 8, "color": colour},
            )
    figure.update_layout(yaxis2=second_axis("TPOT, ms"), hovermode="closest")
    figure.update_xaxes(rangemode="tozero")
    if at is not None:
        edge = {"type": "line", "xref": "x", "yref": "paper", "x0": at.rate, "x1": at.rate, "y0": 0, "y1": 1}
        label = {"text": f"knee {at.rate:,.4g}/s", "textposition": "end", "textangle": 0, "font": {"size": 12}}
        figure.update_layout(shapes=[edge | {"line": {"color": RED, "dash": "dot", "width": 2}, "label": label}])
    return figure


def _rows(found: Sequence[Level], first: str, at: Level | None, by_phase: bool) -> TextTable:
    rows = [
        [
            level.name + (" (knee)" if level is at else ""),
            per_second(level.rate),
            count(level.num),
            share(level.share_ok),
            *(percentile_cell(level.metrics[metric], percent) for metric in (first, "tpot") for percent in (50, 95)),
        ]
        for level in found
    ]
    what, name = "phase" if by_phase else "window from", METRIC_NAMES[first]
    head = [what, "delivered, 1/s", "sent", "ok", f"{name} p50", f"{name} p95", "TPOT p50", "TPOT p95"]
    return TextTable("Latency over delivered rate, ms", head, rows)
