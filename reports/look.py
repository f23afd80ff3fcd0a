"""How every figure looks: colours, signs, axes. Text and grid get their colours in the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports.buckets import Buckets
from reports.numbers import NOT_MEASURED
from reports.series import Phase

__all__ = [
    "BLUE",
    "GREEN",
    "LOAD_FILL",
    "OUTCOME_LOOKS",
    "PURPLE",
    "RED",
    "blank",
    "line",
    "mark_empty",
    "plain",
    "second_axis",
    "steps",
    "timed",
]

# Okabe and Ito's colours, distinguishable with any colour vision; dashes and signs differ as well.
BLUE, RED, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, GREY = "#E69F00", "#56B4E9", "#8A8F98"
LOAD_FILL = "rgba(86, 180, 233, 0.30)"
_BAND_FILL = "rgba(230, 159, 0, 0.13)"

# Colour and hatching of each outcome.
OUTCOME_LOOKS = {
    "ok": (GREEN, ""),
    "throttled": (ORANGE, "/"),
    "failed": (RED, "x"),
    "cut": (PURPLE, "\\"),
    "incomplete": (SKY, "."),
    "refused": (GREY, "-"),
    "left": (GREY, "/"),
}


def plain(text: str) -> str:
    """Text for a figure, whose labels understand some HTML: a tag in a name must not be read as one."""
    return escape(text[:60])


def timed(y_title: str, buckets: Buckets, phases: Sequence[Phase] = ()) -> go.Figure:
    """A figure without data over the whole run's time, with the phases as bands behind."""
    figure = blank("seconds from the start of the run", y_title)
    figure.update_layout(shapes=_bands(phases))
    figure.update_xaxes(range=[buckets.start_s, buckets.end_s])
    figure.update_yaxes(domain=[0, 0.92])  # the names of the phases stand above
    return figure


def blank(x_title: str, y_title: str) -> go.Figure:
    """A figure without data: axes with titles that name the unit, a legend above."""
    figure = go.Figure()
    figure.update_layout(
        template=go.layout.Template(),  # the standard one is 7 KB in each figure, for a light page only
        height=340,
        margin={"l": 8, "r": 8, "t": 16, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.03, "yanchor": "bottom"},
        hovermode="x unified",
        xaxis={"title": {"text": x_title}, "automargin": True, "zeroline": False},
        yaxis={"title": {"text": y_title}, "automargin": True, "rangemode": "tozero", "zeroline": False},
    )
    return figure


def mark_empty(figure: go.Figure, is_empty: bool) -> go.Figure:
    """The figure, with words in its middle when it has nothing to show."""
    if is_empty:
        middle = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
        figure.add_annotation(text=NOT_MEASURED, font={"size": 15}, **middle)
    return figure


def _bands(phases: Sequence[Phase]) -> list[dict[str, object]]:
    """Every other kind of phase is shaded, in the order in which the kinds come up."""
    kinds = list(dict.fromkeys(phase.name for phase in phases))
    return [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": phase.start_s,
            "x1": phase.end_s,
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"width": 0},
            "fillcolor": _BAND_FILL if kinds.index(phase.name) % 2 else "rgba(0,0,0,0)",
            "label": {"text": plain(phase.name), "textposition": "top left", "font": {"size": 11}},
        }
        for phase in phases
    ]


def line(colour: str, dash: str = "solid", shape: str = "linear") -> dict[str, object]:
    return {"color": colour, "dash": dash, "shape": shape, "width": 2}


def steps(buckets: Buckets, values: pd.Series[float]) -> dict[str, object]:
    """A step curve: each bucket's value from its start to its end."""
    x = np.append(buckets.starts_s, buckets.end_s).astype(np.float32)
    y = np.append(values.to_numpy(dtype=np.float64), values.iloc[-1]).astype(np.float32)
    return {"x": x, "y": y, "mode": "lines"}


def second_axis(title: str, side: str = "right", showgrid: bool = False) -> dict[str, object]:
    return {
        "title": {"text": title},
        "overlaying": "y",
        "tickmode": "auto",  # else its ticks lie where those of the first axis do, at odd values
        "side": side,
        "automargin": True,
        "rangemode": "tozero",
        "showgrid": showgrid,
        "zeroline": False,
    }
