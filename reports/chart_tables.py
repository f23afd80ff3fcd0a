"""The tables beside the charts: the same folded series as rows of text, so that nobody needs the chart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from harness.quantiles import Distribution, samples_needed
from harness.table import OUTCOMES
from harness.text import METRIC_NAMES, milliseconds, percentile_cell
from reports.buckets import Buckets
from reports.curves import Curve
from reports.numbers import MISSING, count, instant, milliseconds_or_dash, per_second, share
from reports.tables import TextTable

__all__ = [
    "curve_rows",
    "instrument_series_rows",
    "latency_series_rows",
    "load_series_rows",
    "outcome_series_rows",
    "tokens_series_rows",
]

_CURVE_PERCENTS = (1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)


def curve_rows(curves: dict[str, Curve]) -> TextTable:
    """Points of the ECDF curves, as far as the samples support them."""
    rows = [
        [f"{percent:g} %", *(_curve_cell(curve, percent) for curve in curves.values())] for percent in _CURVE_PERCENTS
    ]
    names = [METRIC_NAMES[name] for name in curves]
    return TextTable("Value that this share of the samples does not exceed, ms", ["share", *names], rows)


def _curve_cell(curve: Curve, percent: float) -> str:
    if not curve.num:
        return MISSING
    if curve.num < samples_needed(percent):
        return f"n<{samples_needed(percent)}"
    return milliseconds(curve.at(percent))


def load_series_rows(load: pd.DataFrame, buckets: Buckets) -> TextTable:
    """Asked and delivered load over time."""
    rows = _rows(load, buckets, {"asked": per_second, "sent": per_second, "in_flight": count})
    return TextTable("Load over time", ["from, s", "asked, 1/s", "delivered, 1/s", "most in flight"], rows)


def latency_series_rows(
    name: str, over_time: Sequence[Distribution], load: pd.DataFrame, buckets: Buckets
) -> TextTable:
    """A latency over time, with the delivered rate."""
    rows = [
        [
            *row,
            count(metric.num),
            percentile_cell(metric, 50),
            percentile_cell(metric, 90),
            milliseconds(metric.maximum),
        ]
        for row, metric in zip(_rows(load, buckets, {"sent": per_second}), over_time, strict=True)
    ]
    title = METRIC_NAMES[name]
    head = ["from, s", "delivered, 1/s", f"ok with {title}", "p50", "p90", "max"]
    return TextTable(f"{title} over time, ms", head, rows)


def tokens_series_rows(tokens: pd.DataFrame, buckets: Buckets) -> TextTable:
    """Output tokens over time."""
    rows = _rows(tokens, buckets, {"tokens": per_second})
    return TextTable("Output tokens over time", ["from, s", "tokens per second"], rows)


def outcome_series_rows(outcomes: pd.DataFrame, buckets: Buckets) -> TextTable:
    """Outcomes over time."""
    rows = _rows(outcomes, buckets, dict.fromkeys(OUTCOMES, count))
    return TextTable("Requests by intended time and outcome", ["from, s", *OUTCOMES], rows)


def instrument_series_rows(instrument: pd.DataFrame, buckets: Buckets) -> TextTable:
    """Lags and CPU over time."""
    formats = {"send_lag_s": milliseconds_or_dash, "loop_lag_s": milliseconds_or_dash, "cpu": share}
    rows = _rows(instrument, buckets, formats)
    head = ["from, s", "send lag, ms", "loop lag, ms", "CPU of a core"]
    return TextTable("The instrument over time, worst of each bucket", head, rows)


def _rows(frame: pd.DataFrame, buckets: Buckets, formats: Mapping[str, Callable[[float], str]]) -> list[list[str]]:
    """One row a bucket: its start, then the columns of the frame, each in its format."""
    columns = [map(write, frame[name].to_numpy(dtype=np.float64)) for name, write in formats.items()]
    starts = (instant(start, buckets.width_s) for start in buckets.starts_s)
    return [list(cells) for cells in zip(starts, *columns, strict=True)]
