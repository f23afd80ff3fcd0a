"""The figure of a series over nights: a point a night, the levels as a line, change points with their commits."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from harness.clock import day_of
from harness.history.commit import short_commit
from harness.history.levels import ChangePoint, Series
from harness.history.trend import Group
from harness.history.wording import change_text
from harness.judgement.measures import Unit
from reports.look import BLUE, GREY, RED, blank, line, plain

__all__ = ["series_figure"]

_MOST_TICKS = 12
_MOST_LABELS = 8
# How a unit is drawn: its name and how many of it are one of ours.
_SHOWN: dict[Unit, tuple[str, float]] = {
    "s": ("ms", 1e3),
    "share": ("%", 1e2),
    "usd": ("USD", 1.0),
    "per_s": ("per second", 1.0),
    "joule": ("J", 1.0),
}


def series_figure(group: Group, series: Series) -> go.Figure:
    """Nights lie at 0, 1, 2 and so on: two of one day stay two places."""
    name, factor = _SHOWN[series.unit]
    figure = blank("night", name)
    nights = list(range(len(group.nights)))
    figure.add_scatter(
        x=nights,
        y=_scaled(series.levels, factor),
        name="level",
        mode="lines",
        line=line(RED, "dash", shape="hvh"),
        hoverinfo="skip",
        connectgaps=True,
    )
    figure.add_scatter(
        x=nights,
        y=_scaled(series.values, factor),
        name="night",
        mode="markers",
        marker={"color": BLUE, "size": 8, "symbol": "circle"},
        text=[
            plain(f"{day_of(night.started_wall)} {night.runs[0].name}, commit {short_commit(night.commit)}", 120)
            for night in group.nights
        ],
        hovertemplate="%{y:,.4~g} " + name + "<br>%{text}<extra></extra>",
    )
    figure.update_layout(
        hovermode="closest",
        height=300,
        shapes=[_edge(change) for change in series.changes],
        annotations=[_label(series, change) for change in series.changes[-_MOST_LABELS:]],
        margin={"l": 8, "r": 8, "t": 30, "b": 8},
        showlegend=False,
    )
    shown = sorted({round(each) for each in np.linspace(0, len(nights) - 1, min(_MOST_TICKS, len(nights)))})
    days = [day_of(group.nights[night].started_wall)[5:] for night in shown]
    figure.update_xaxes(tickvals=shown, ticktext=days, range=[-0.6, len(nights) - 0.4])
    figure.update_yaxes(rangemode="normal")
    return figure


def _scaled(values: tuple[float | None, ...], factor: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([np.nan if value is None else value * factor for value in values], dtype=np.float64)


def _edge(change: ChangePoint) -> dict[str, object]:
    """Between the last night of the old level and the first of the new one."""
    at = change.at - 0.5
    style = {"color": RED if change.alarm else GREY, "width": 2, "dash": "solid" if change.alarm else "dot"}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": style}


def _label(series: Series, change: ChangePoint) -> dict[str, object]:
    text = f"{change_text(change.change, series.unit)} {short_commit(change.commit)}"
    return {
        "text": plain(text, 40),
        "x": change.at - 0.5,
        "y": 1,
        "xref": "x",
        "yref": "paper",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 11},
    }
