"""How every figure looks: colours, signs, axes. Text and grid get their colours in the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from unicodedata import category

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from harness.table import Floats
from reports.buckets import Buckets
from reports.events import Event
from reports.numbers import NOT_MEASURED
from reports.series import Phase

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "LOAD_FILL",
    "LOOKS",
    "ORANGE",
    "OUTCOME_LOOKS",
    "PURPLE",
    "RED",
    "SKY",
    "blank",
    "categories",
    "line",
    "log_axis",
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

# Colour, dash and sign of the first, second and further things in one figure.
LOOKS = (
    (BLUE, "solid", "circle"),
    (RED, "dash", "square"),
    (GREEN, "dot", "diamond"),
    (PURPLE, "dashdot", "triangle-up"),
    (ORANGE, "longdash", "cross"),
    (GREY, "longdashdot", "x"),
)

# Colours of a kind of event: its bar above the chart, and its band behind the data.
_EVENT_LOOKS = {
    "fault": (RED, "rgba(213, 94, 0, 0.12)"),
    "alert": (PURPLE, "rgba(204, 121, 167, 0.16)"),
    "warm-up": (GREY, "rgba(138, 143, 152, 0.16)"),
}
_MOST_EVENTS = 12
_MOST_LANES = 4
_LEAST_SIGNS = 8
_PLOT_PX, _LANE_PX, _NAMES_PX = 250, 22, 21  # about the height of the data, of a lane of events, of the phases' names

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


def plain(text: str, most: int = 60) -> str:
    """Text for a figure, whose labels understand some HTML: a tag in a name must not be read as one, and nothing that cannot be
    seen, or that turns the direction of writing, gets in."""
    return escape("".join("\ufffd" if category(sign)[0] == "C" else sign for sign in text[:most]))


def categories(names: Sequence[str]) -> dict[str, object]:
    """An axis of names from the top down, at 0, 1, 2 and so on: two names that are cut to the same text stay two places."""
    return {
        "tickvals": list(range(len(names))),
        "ticktext": [plain(name, 28) for name in names],
        "range": [len(names) - 0.4, -0.6],
        "showgrid": False,
        "automargin": True,
        "ticklabelstandoff": 8,
    }


def log_axis(milliseconds: Floats) -> dict[str, object]:
    """A logarithmic axis for these values: over many decades a tick each, over few also at 2 and 5, over less than one anywhere."""
    there = milliseconds[milliseconds > 0]
    decades = float(np.log10(there.max() / there.min())) if len(there) else 0.0
    ticks = {} if decades < 0.8 else {"dtick": "D2" if decades < 3 else 1, "minor": {"showgrid": decades >= 3}}
    return {"type": "log", "exponentformat": "none", **ticks}


def timed(y_title: str, buckets: Buckets, phases: Sequence[Phase] = (), events: Sequence[Event] = ()) -> go.Figure:
    """A figure without data over the whole run's time, with phases and events as bands behind, and the events' names above."""
    figure = blank("seconds from the start of the run", y_title)
    placed = _lanes(events, buckets)
    num_lanes = max((lane + 1 for _, lane in placed), default=0)
    height = _PLOT_PX + num_lanes * _LANE_PX
    top = 1 - (_NAMES_PX + num_lanes * _LANE_PX) / height
    figure.update_layout(
        height=figure.layout.height + num_lanes * _LANE_PX,
        shapes=[*_bands(phases, buckets), *_event_shapes(placed, buckets, top, _LANE_PX / height)],
    )
    figure.update_xaxes(range=[buckets.start_s, buckets.end_s])
    figure.update_yaxes(domain=[0, top])  # the names of phases and events stand above
    return figure


def _lanes(events: Sequence[Event], buckets: Buckets) -> list[tuple[Event, int]]:
    """Each event in the first lane where it and its name do not cover another one; those that find none are in the table only."""
    free_at = [-np.inf] * _MOST_LANES
    placed = []
    for event in events[:_MOST_EVENTS]:
        begins, ends = _extent(event, buckets)
        lane = next((lane for lane, free in enumerate(free_at) if free <= begins), None)
        if lane is not None:
            free_at[lane] = ends
            placed.append((event, lane))
    return placed


def _extent(event: Event, buckets: Buckets) -> tuple[float, float]:
    """From where to where the event and its name reach."""
    text_s = 1.3 * _text_s(_event_text(event), buckets)
    if _fits_right(event, buckets):
        return event.from_s, max(event.to_s, event.from_s + text_s)
    return min(event.from_s, event.to_s - text_s), event.to_s


def _event_text(event: Event) -> str:
    return (f"fault: {event.text}" if event.kind == "fault" else event.text)[:60]


def _fits_right(event: Event, buckets: Buckets) -> bool:
    """Whether its name can begin where it does: on the right it would run out of the figure."""
    return event.from_s < buckets.start_s + 0.55 * (buckets.end_s - buckets.start_s)


def _event_shapes(
    placed: Sequence[tuple[Event, int]], buckets: Buckets, top: float, lane_height: float
) -> list[dict[str, object]]:
    shapes: list[dict[str, object]] = []
    least = (buckets.end_s - buckets.start_s) / 400  # else a short one cannot be seen
    for event, lane in placed:
        colour, fill = _EVENT_LOOKS[event.kind]
        x0, x1 = max(event.from_s, buckets.start_s), min(max(event.to_s, event.from_s + least), buckets.end_s)
        place = {"type": "rect", "xref": "x", "yref": "paper", "x0": x0, "x1": x1, "line": {"width": 0}}
        side = "left" if _fits_right(event, buckets) else "right"
        label = {
            "text": plain(_event_text(event)),
            "textposition": f"top {side}",
            "xanchor": side,
            "font": {"size": 11},
            "padding": 1,
        }
        base = top + lane_height * lane
        shapes.append(place | {"y0": 0, "y1": base, "layer": "below", "fillcolor": fill})
        shapes.append(
            place | {"y0": base, "y1": base + lane_height * 0.9, "layer": "below", "fillcolor": fill, "label": label}
        )
        shapes.append(place | {"y0": base, "y1": base + lane_height * 0.12, "fillcolor": colour})
    return shapes


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


def _bands(phases: Sequence[Phase], buckets: Buckets) -> list[dict[str, object]]:
    """Every other kind of phase is shaded, in the order in which the kinds come up; a name that has no room is left out."""
    kinds = list(dict.fromkeys(phase.name for phase in phases))
    shapes: list[dict[str, object]] = []
    free_at = -np.inf
    for phase in phases:
        begins = max(phase.start_s, free_at)
        name = _fitting(phase.name[:60], (phase.end_s - begins) / _text_s("x", buckets))
        has_room = bool(name) and begins == phase.start_s
        free_at = begins + _text_s(name, buckets) if has_room else free_at
        label = {"text": plain(name), "textposition": "top left", "font": {"size": 11}}
        shape = {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": begins,
            "x1": phase.end_s,
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"width": 0},
            "fillcolor": _BAND_FILL if kinds.index(phase.name) % 2 else "rgba(0,0,0,0)",
        }
        shapes.append(shape | ({"label": label} if has_room else {}))
    return shapes


def _fitting(text: str, num: float) -> str:
    """As much of a text as has room for `num` signs; nothing where that would be too little to know it by."""
    if len(text) <= num:
        return text
    return f"{text[: int(num) - 1]}…" if num >= _LEAST_SIGNS else ""


def _text_s(text: str, buckets: Buckets) -> float:
    """About how many seconds of the axis a text of small letters covers, on a page that is as wide as it gets."""
    return 0.0075 * (buckets.end_s - buckets.start_s) * len(text)


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
