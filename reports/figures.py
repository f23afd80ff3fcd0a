"""The figures of a page. Pure: a run in, a plotly figure out. Milliseconds are for reading only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from harness.quantiles import Distribution
from harness.table import OUTCOMES, Table
from harness.text import METRIC_NAMES
from reports.buckets import Buckets
from reports.curves import Curve
from reports.events import Event
from reports.look import (
    BLUE,
    GREEN,
    LOAD_FILL,
    OUTCOME_LOOKS,
    PURPLE,
    RED,
    blank,
    line,
    log_axis,
    mark_empty,
    second_axis,
    steps,
    timed,
)
from reports.series import Phase, latency_points

__all__ = [
    "distribution_figure",
    "instrument_figure",
    "latency_figure",
    "load_figure",
    "middles",
    "outcome_figure",
    "tokens_figure",
]

Singles = npt.NDArray[np.float32]


def load_figure(load: pd.DataFrame, buckets: Buckets, phases: Sequence[Phase], events: Sequence[Event]) -> go.Figure:
    """Asked and delivered requests per second, and the requests in flight on an axis of their own."""
    figure = timed("requests per second", buckets, phases, events)
    figure.add_scatter(
        **steps(buckets, load["sent"]),
        name="delivered",
        fill="tozeroy",
        fillcolor=LOAD_FILL,
        line=line(BLUE, shape="hv"),
    )
    figure.add_scatter(**steps(buckets, load["asked"]), name="asked", line=line(RED, "dash", shape="hv"))
    figure.add_scatter(
        **steps(buckets, load["in_flight"]),
        name="in flight, most",
        yaxis="y2",
        line=line(PURPLE, "dot", shape="hv"),
    )
    figure.update_layout(yaxis2=second_axis("requests in flight"))
    return figure


def latency_figure(
    table: Table,
    name: str,
    over_time: Sequence[Distribution],
    load: pd.DataFrame,
    buckets: Buckets,
    phases: Sequence[Phase],
    events: Sequence[Event],
) -> go.Figure:
    """A latency of each ok request at its intended time, p50 and p90 of each bucket, and the delivered rate."""
    title = METRIC_NAMES[name]
    figure = timed("requests per second", buckets, phases, events)
    figure.add_scatter(
        **steps(buckets, load["sent"]),
        name="delivered rate",
        fill="tozeroy",
        fillcolor=LOAD_FILL,
        line={"width": 0, "shape": "hv"},
    )
    at, values = latency_points(table, name)
    figure.add_scatter(
        x=at.astype(np.float32),
        y=(values * 1e3).astype(np.float32),
        yaxis="y2",
        name=f"{title} of a request",
        mode="markers",
        marker={"size": 5, "color": GREEN, "opacity": 0.55},
    )
    for percent, colour, dash, symbol in ((50.0, BLUE, "solid", "circle"), (90.0, RED, "dash", "square")):
        found = np.array([_ms(metric.at(percent)) for metric in over_time], dtype=np.float32)
        if not np.isnan(found).all():
            look = {
                "mode": "lines+markers",
                "line": line(colour, dash),
                "marker": {"symbol": symbol, "size": 7},
            }
            figure.add_scatter(x=middles(buckets), y=found, yaxis="y2", name=f"{title} p{percent:g}", **look)
    figure.update_layout(
        hovermode="closest",
        yaxis={"side": "right", "showgrid": False},
        yaxis2=second_axis(f"{title}, ms", side="left", showgrid=True),
    )
    return mark_empty(figure, not len(at))


def distribution_figure(curves: dict[str, Curve]) -> go.Figure:
    """The share of samples that do not exceed a value, one curve a metric."""
    figure = blank("ms, logarithmic", "share of samples")
    looks = zip(curves.items(), ((BLUE, "solid"), (GREEN, "dot"), (RED, "dash")), strict=True)
    for (name, curve), (colour, dash) in looks:
        figure.add_scatter(
            x=(curve.values_s * 1e3).astype(np.float32),
            y=curve.shares.astype(np.float32),
            name=METRIC_NAMES[name],
            mode="lines+markers" if len(curve.values_s) == 1 else "lines",
            line=line(colour, dash, shape="hv"),
        )
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(**log_axis(np.concatenate([curve.values_s for curve in curves.values()]) * 1e3))
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%")
    return mark_empty(figure, not any(curve.num for curve in curves.values()))


def tokens_figure(tokens: pd.DataFrame, buckets: Buckets, phases: Sequence[Phase]) -> go.Figure:
    """Output tokens per second."""
    figure = timed("output tokens per second", buckets, phases)
    figure.add_scatter(
        **steps(buckets, tokens["tokens"]),
        name="output tokens",
        showlegend=True,
        fill="tozeroy",
        fillcolor=LOAD_FILL,
        line=line(BLUE, shape="hv"),
    )
    return mark_empty(figure, not tokens["tokens"].any())


def outcome_figure(
    outcomes: pd.DataFrame, buckets: Buckets, phases: Sequence[Phase], events: Sequence[Event]
) -> go.Figure:
    """Requests by intended time, stacked by what became of them; an outcome that never came has no bar."""
    figure = timed(f"requests in {buckets.width_s:g} s", buckets, phases, events)
    for name in OUTCOMES:
        if outcomes[name].any():
            colour, hatching = OUTCOME_LOOKS[name]
            figure.add_bar(
                x=middles(buckets),
                y=outcomes[name].to_numpy(dtype=np.float32),
                width=buckets.width_s * 0.9,
                name=name,
                showlegend=True,
                marker={
                    "color": colour,
                    "line": {"width": 0},
                    "pattern": {"shape": hatching, "fillmode": "overlay", "size": 6},
                },
            )
    figure.update_layout(barmode="stack", legend={"traceorder": "normal"})
    return mark_empty(figure, not figure.data)


def instrument_figure(instrument: pd.DataFrame, buckets: Buckets) -> go.Figure:
    """The worst send lag, loop lag and CPU of each bucket."""
    figure = timed("lag, ms", buckets)
    looks = {
        "send_lag_s": ("send lag, most", BLUE, "solid", "circle", 1e3),
        "loop_lag_s": ("loop lag, most", RED, "dash", "square", 1e3),
        "cpu": ("CPU, most", PURPLE, "dot", "diamond", 1e2),
    }
    for column, (name, colour, dash, symbol, factor) in looks.items():
        there = instrument[column].notna().to_numpy()
        figure.add_scatter(
            x=middles(buckets)[there],
            y=(instrument[column].to_numpy(dtype=np.float64)[there] * factor).astype(np.float32),
            yaxis="y2" if column == "cpu" else "y",
            name=name,
            mode="lines+markers",
            line=line(colour, dash),
            marker={"symbol": symbol, "size": 6},
        )
    figure.update_layout(yaxis2=second_axis("CPU, % of a core"))
    return mark_empty(figure, not instrument.notna().to_numpy().any())


def middles(buckets: Buckets) -> Singles:
    return (buckets.starts_s + buckets.width_s / 2).astype(np.float32)


def _ms(seconds: float | None) -> float:
    return float("nan") if seconds is None else seconds * 1e3
