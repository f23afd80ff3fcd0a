"""The section about caches and routes: hits beside misses, what was asked for beside what answered."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from harness.metrics.latencies import latency
from harness.quantiles import distribution
from harness.table import Floats, Mask, Table
from harness.text import METRIC_NAMES
from reports.caches import cache_sides
from reports.curves import Curve, ecdf
from reports.look import LOOKS, blank, line, log_axis, mark_empty, plain
from reports.numbers import MISSING, count, share
from reports.pairs import pair_counts
from reports.section import Chart, Section
from reports.tables import Cell, TextTable, interval_cell
from reports.view import View

__all__ = ["cache_section"]

_MOST_MODELS = 12
_METRICS = ("ttft", "e2e")


def cache_section(view: View) -> list[Section]:
    """Nothing where no cache divided the requests and every model answered for itself."""
    charts = [_chart(view.measured, name, sides) for name, sides in cache_sides(view.measured).items()]
    tables = _routes(view.measured)
    if not charts and not tables:
        return []
    note = "A percentile over hits and misses together says more about their mix than about either." if charts else ""
    return [Section("caches", "Caches and routes", note, charts, tables, wide=True)]


def _chart(table: Table, name: str, sides: dict[str, Mask]) -> Chart:
    curves = {(side, metric): ecdf(latency(table, metric)[rows]) for side, rows in sides.items() for metric in _METRICS}
    caption = "Empirical distributions of TTFT (thick) and E2E (thin) of ok requests, apart for what the cache did."
    if name == "prompt cache":
        caption += " The prompt cache is the provider's: it saves the reading of a prompt's beginning, not the answer."
    figure = _figure({key: curve.thinned(300) for key, curve in curves.items()}, list(sides))
    return Chart(f"{name.replace(' ', '-')}-chart", f"By {name}", caption, figure, _rows(table, name, sides))


def _figure(curves: dict[tuple[str, str], Curve], sides: list[str]) -> go.Figure:
    figure = blank("ms, logarithmic", "share of samples")
    for (side, metric), curve in curves.items():
        colour, dash, _ = LOOKS[sides.index(side) % len(LOOKS)]
        if curve.num:
            figure.add_scatter(
                x=(np.maximum(curve.values_s, 1e-5) * 1e3).astype(np.float32),  # a logarithmic axis has no 0
                y=curve.shares.astype(np.float32),
                name=f"{plain(side, 30)}, {METRIC_NAMES[metric]}",
                mode="lines+markers" if len(curve.values_s) == 1 else "lines",
                line=line(colour, dash, shape="hv") | {"width": 2.6 if metric == "ttft" else 1.2},
            )
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(**log_axis(np.concatenate([curve.values_s for curve in curves.values()]) * 1e3))
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    return mark_empty(figure, not figure.data)


def _rows(table: Table, name: str, sides: dict[str, Mask]) -> TextTable:
    total = sum(int(rows.sum()) for rows in sides.values())
    values = _latencies(table)
    rows = [_row(table, values, side, which, total) for side, which in sides.items()]
    latencies = [f"{METRIC_NAMES[metric]} p{percent}" for metric in _METRICS for percent in (50, 95)]
    head = [name, "ok requests", "share", *latencies, "prompt tokens read from a cache"]
    return TextTable(f"By {name}; latencies in ms", head, rows)


def _latencies(table: Table) -> dict[str, Floats]:
    return {metric: latency(table, metric) for metric in _METRICS}


def _row(table: Table, values: dict[str, Floats], side: str, which: Mask, total: int) -> list[str | Cell]:
    metrics = [distribution(values[metric][which]) for metric in _METRICS]
    cells = [interval_cell(metric, percent) if metric.num else MISSING for metric in metrics for percent in (50, 95)]
    num = int(which.sum())
    cached, prompt = table["num_cached_tokens"][which], table["num_prompt_tokens"][which]
    both = ~np.isnan(cached) & ~np.isnan(prompt)
    known = float(prompt[both].sum())
    read = share(float(cached[both].sum()) / known) if known else MISSING
    return [side, count(num), share(num / total), *cells, read]


def _routes(table: Table) -> list[TextTable]:
    """Asked for in rows, answered by in columns; no table where no request was sent elsewhere and one model answered."""
    asked, served = table.labels["model"], table.labels["model_served"]
    counts = pair_counts(asked, served, table.is_outcome("ok"))[:-1, :-1]
    found = {(asked.names[a], served.names[s]): int(counts[a, s]) for a, s in zip(*np.nonzero(counts), strict=True)}
    if all(a == s for a, s in found) and len(found) < 2:
        return []
    by_size = sorted(
        dict.fromkeys(s for _, s in found), key=lambda s: -sum(n for (_, other), n in found.items() if other == s)
    )
    columns = by_size[:_MOST_MODELS]
    rows = []
    for name in dict.fromkeys(a for a, _ in found):
        total = sum(n for (a, _), n in found.items() if a == name)
        cells = [_part(found.get((name, served_by), 0), total) for served_by in columns]
        rows.append([name, count(total), *cells])
    more = [f"(and {len(by_size) - len(columns)} more)"] if len(by_size) > len(columns) else []
    head = ["asked for", "ok requests", *columns, *more]
    rows = [[*row, *[""] * len(more)] for row in rows]
    return [TextTable("Routes: models asked for, and those that answered", head, rows).at_most(_MOST_MODELS)]


def _part(num: int, total: int) -> Cell:
    return Cell(count(num), note=share(num / total) if num else "")
