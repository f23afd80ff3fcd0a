"""The section about where the time of a request went."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from harness.metrics.latencies import STAGES, latency
from harness.quantiles import Distribution, distribution
from harness.table import Floats, Mask, Table
from harness.text import milliseconds, percentile_cell
from reports.look import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, blank, categories
from reports.numbers import MISSING, count, share
from reports.section import Chart, Section
from reports.tables import TextTable
from reports.view import View

__all__ = ["stages_section"]

_WORDS = {
    "send_lag": "sent late by us",
    "connect": "connecting",
    "first_byte": "until the first byte",
    "first_content": "first byte to first token",
    "decode": "first to last token",
    "tail": "last token to the end",
    "rest": "not told apart",
}
_LOOKS = {
    "send_lag": (GREY, "-"),
    "connect": (ORANGE, "/"),
    "first_byte": (BLUE, ""),
    "first_content": (SKY, "."),
    "decode": (GREEN, ""),
    "tail": (PURPLE, "\\"),
    "rest": (RED, "x"),
}
_LEAST_SLOW = 20


def stages_section(view: View) -> list[Section]:
    """Nothing where no request was answered."""
    table = view.measured
    rows = table.is_outcome("ok") & ~np.isnan(latency(table, "e2e"))
    if not rows.any():
        return []
    times = {name: latency(table, name)[rows] for name in STAGES}
    e2e = latency(table, "e2e")[rows]
    groups = _groups(e2e, latency(table, "ttft")[rows])
    means = {name: _means(times, e2e, which) for name, which in groups.items()}
    caption = (
        "Mean of each stage over all ok requests, and over the slowest; stages add up to E2E. A connection that was kept open took no "
        "time to connect. What the records do not tell apart (a simulation has no bytes) is one stage of its own."
    )
    chart = Chart("stages-chart", "Where the time goes", caption, _figure(means), _rows(times, table, rows, means))
    return [Section("stages", "Stages of a request", charts=[chart])]


def _groups(e2e: Floats, ttft: Floats) -> dict[str, Mask]:
    found: dict[str, Mask] = {"all": np.ones(len(e2e), dtype=np.bool_)}
    if len(e2e) >= 20 * _LEAST_SLOW:
        found["slowest 5 % by E2E"] = e2e >= np.quantile(e2e, 0.95)
        known = ~np.isnan(ttft)
        if known.sum() >= 20 * _LEAST_SLOW:
            found["slowest 5 % by TTFT"] = known & (ttft >= np.quantile(ttft[known], 0.95))
    return found


def _means(times: dict[str, Floats], e2e: Floats, which: Mask) -> dict[str, float]:
    """The part of each stage in the mean E2E of these rows, with what no stage accounts for; stages that nobody saw are left out."""
    parts = {
        name: float(np.nan_to_num(values[which]).mean())
        for name, values in times.items()
        if not np.isnan(values[which]).all()
    }
    rest = float(e2e[which].mean()) - sum(parts.values())
    return parts | ({"rest": rest} if abs(rest) > 1e-6 else {})


def _figure(means: dict[str, dict[str, float]]) -> go.Figure:
    figure = blank("ms, mean", "")
    for name, (colour, hatching) in _LOOKS.items():
        if any(abs(parts.get(name, 0.0)) > 0 for parts in means.values()):
            figure.add_bar(
                x=np.array([parts.get(name, 0.0) * 1e3 for parts in means.values()], dtype=np.float32),
                y=np.arange(len(means)),
                orientation="h",
                name=_WORDS[name],
                marker={"color": colour, "line": {"width": 0}, "pattern": {"shape": hatching, "size": 6}},
            )
    figure.update_layout(
        barmode="stack",
        hovermode="closest",
        height=150 + 55 * len(means),
        legend={"traceorder": "normal"},
        yaxis=categories(list(means)),
        bargap=0.35,
    )
    return figure


def _rows(times: dict[str, Floats], table: Table, rows: Mask, means: dict[str, dict[str, float]]) -> TextTable:
    whole = sum(means["all"].values())
    found = []
    for name in (*STAGES, "rest"):
        if all(name not in parts for parts in means.values()):
            continue
        metric = distribution(times[name]) if name in times else None
        cells = [MISSING] * 4 if metric is None else _percentiles(metric)
        part = means["all"].get(name)
        found.append(
            [_WORDS[name], *cells, share(part / whole) if part is not None and whole > 0 else MISSING]
            + [milliseconds(parts.get(name)) for parts in means.values()]
        )
    queue = distribution(table["queue_s"][rows])
    if queue.num:
        words = "of it queueing, as the server says"
        found.append([words, *_percentiles(queue), MISSING, milliseconds(queue.mean), *[MISSING] * (len(means) - 1)])
    head = ["stage", "samples", "p50", "p95", "max", "share of E2E", *(f"mean, {name}" for name in means)]
    return TextTable("Stages of ok requests, ms", head, found)


def _percentiles(metric: Distribution) -> list[str]:
    if not metric.num:
        return ["0", MISSING, MISSING, MISSING]
    return [count(metric.num), percentile_cell(metric, 50), percentile_cell(metric, 95), milliseconds(metric.maximum)]
