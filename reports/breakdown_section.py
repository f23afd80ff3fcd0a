"""The sections in which a run is divided: by class, tenant, model and so on; each as a table beside a small chart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import plotly.graph_objects as go

from harness.metrics.breakdown import DIMENSIONS, Breakdown, Group
from harness.quantiles import Distribution
from harness.text import METRIC_NAMES
from reports.look import BLUE, GREEN, PURPLE, RED, blank, categories, log_axis, mark_empty
from reports.numbers import MISSING, count, usd
from reports.section import Chart, Section
from reports.tables import Cell, TextTable, interval_cell
from reports.view import View

__all__ = ["breakdown_sections"]

_MOST_DRAWN = 12
_UNNAMED = "(none)"
_CELLS = (("ttft", 50.0), ("ttft", 95.0), ("ttft", 99.0), ("tpot", 50.0), ("e2e", 50.0), ("e2e", 95.0))
_LOOKS = (
    ("ttft", 50.0, BLUE, "circle", -0.21),
    ("ttft", 95.0, RED, "square", -0.07),
    ("e2e", 50.0, GREEN, "diamond", 0.07),
    ("e2e", 95.0, PURPLE, "triangle-up", 0.21),
)


def breakdown_sections(view: View) -> list[Section]:
    """One section with a chart and its table for every dimension that divides the run; nothing where none does."""
    charts = [_chart(each) for each in view.summary.breakdowns if len(each.groups) > 1]
    if not charts:
        return []
    note = "Latencies of ok requests. A request without a label stands under (none)."
    return [Section("breakdowns", "Breakdowns", note, charts)]


def _chart(found: Breakdown) -> Chart:
    title = DIMENSIONS.get(found.dimension, found.dimension)
    caption = "TTFT and E2E of each group, p50 and p95, with their 95 % intervals; a percentile without enough samples is left out."
    figure = _figure(found.groups[:_MOST_DRAWN])
    return Chart(f"by-{found.dimension.replace('_', '-')}-chart", f"By {title}", caption, figure, _table(found, title))


def _figure(groups: Sequence[Group]) -> go.Figure:
    figure = blank("ms, logarithmic", "")
    for metric, percent, colour, symbol, shift in _LOOKS:
        points = [
            (place + shift, value, each.interval(percent) or (value, value))
            for place, group in enumerate(groups)
            if (each := group.metrics.get(metric)) is not None and (value := each.at(percent))
        ]
        if points:
            y, x = np.array([place for place, _, _ in points]), np.array([value for _, value, _ in points]) * 1e3
            low, high = np.array([interval for _, _, interval in points]).T * 1e3
            figure.add_scatter(
                x=x.astype(np.float32),
                y=y.astype(np.float32),
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": (high - x).astype(np.float32),
                    "arrayminus": (x - low).astype(np.float32),
                    "thickness": 1.5,
                    "width": 3,
                },
                mode="markers",
                marker={"symbol": symbol, "size": 8, "color": colour},
                name=f"{METRIC_NAMES[metric]} p{percent:g}",
            )
    figure.update_layout(hovermode="closest", height=130 + 46 * len(groups), yaxis=categories(_names(groups)))
    values = [value * 1e3 for group in groups for value in _drawn(group)]
    figure.update_xaxes(**log_axis(np.array(values)))
    return mark_empty(figure, not figure.data)


def _drawn(group: Group) -> Iterator[float]:
    """Every value that the chart shows of a group, ends of intervals as well."""
    for metric, percent, *_ in _LOOKS:
        each = group.metrics.get(metric)
        if each is not None and (value := each.at(percent)):
            yield from (value, *(each.interval(percent) or ()))


def _names(groups: Sequence[Group]) -> list[str]:
    return [_UNNAMED if group.name is None else group.name for group in groups]


def _table(found: Breakdown, title: str) -> TextTable:
    has_cost = any(group.cost_usd is not None for group in found.groups)
    head = [title, "requests", "ok", *(f"{METRIC_NAMES[name]} p{percent:g}" for name, percent in _CELLS)]
    head += ["prompt tokens", "of them cached", "output tokens", *(["cost"] if has_cost else [])]
    rows = [_row(group, name, has_cost) for group, name in zip(found.groups, _names(found.groups), strict=True)]
    return TextTable(f"By {title}; latencies in ms", head, rows).at_most(len(rows), found.num_more)


def _row(group: Group, name: str, has_cost: bool) -> list[str | Cell]:
    latencies = [_cell(group.metrics.get(metric), percent) for metric, percent in _CELLS]
    tokens = [count(group.num_prompt), count(group.num_cached), count(group.num_output)]
    cost = [usd(group.cost_usd)] if has_cost else []
    return [name, count(group.num), count(group.outcomes.get("ok", 0)), *latencies, *tokens, *cost]


def _cell(metric: Distribution | None, percent: float) -> str | Cell:
    return MISSING if metric is None or not metric.num else interval_cell(metric, percent)
