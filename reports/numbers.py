"""Numbers as text: units, digits and what stands for a missing value are decided here and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime
from math import floor, isnan, log10
from typing import Any

import msgspec

from harness.quantiles import Distribution
from harness.text import milliseconds, percentile_cell

__all__ = [
    "MISSING",
    "NOT_MEASURED",
    "between",
    "bytes_",
    "count",
    "instant",
    "milliseconds_or_dash",
    "per_second",
    "percentile",
    "share",
    "usd",
    "value_text",
    "wall_time",
]

MISSING = "–"
NOT_MEASURED = "not measured"


def percentile(metric: Distribution, percent: float) -> str:
    """A percentile with its unit; `n<368` when the samples are too few, words when there are none."""
    if not metric.num:
        return NOT_MEASURED
    cell = percentile_cell(metric, percent)
    return cell if cell.startswith("n<") else f"{cell} ms"


def between(interval: tuple[float, float] | None) -> str:
    """A 95 % interval in ms, without its unit; nothing where there is none."""
    return "" if interval is None else f"{milliseconds(interval[0])} to {milliseconds(interval[1])}"


def usd(value: float | None) -> str:
    """An amount of money; a small one keeps three digits, so that it never reads as none."""
    if value is None or isnan(value):
        return MISSING
    size = abs(value)
    digits = 2 if size >= 100 else 4 if size >= 0.01 or size == 0 else min(12, 2 - floor(log10(size)))
    return f"{'−' if value < 0 else ''}${size:,.{digits}f}"


def milliseconds_or_dash(seconds: float | None) -> str:
    """A duration in ms; None and NaN are both missing."""
    return milliseconds(None if seconds is None or isnan(seconds) else seconds)


def count(value: float | None) -> str:
    """A number of things."""
    return MISSING if value is None or isnan(value) else f"{value:,.0f}"


def per_second(value: float | None, digits: int = 2) -> str:
    """A rate per second, without its unit."""
    return MISSING if value is None or isnan(value) else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    """A fraction as a percentage; a small one keeps two digits, so that it never reads as none."""
    if value is None or isnan(value):
        return MISSING
    percent = value * 100
    return f"{percent:.1f} %" if percent >= 1 or percent == 0 else f"{percent:.2g} %"


def instant(seconds: float, width_s: float) -> str:
    """Seconds from the run's origin, with as many digits as buckets of `width_s` need."""
    return f"{seconds:,.1f}" if width_s < 1 else f"{seconds:,.0f}"


def bytes_(value: float | None) -> str:
    """A size in GiB."""
    return MISSING if value is None else f"{value / 2**30:,.1f} GiB"


def wall_time(seconds: float) -> str:
    """A Unix time as UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def value_text(value: Any) -> str:
    """A value of the manifest: text as it is, nothing as a dash, all else as JSON."""
    if value is None or value == "":
        return MISSING
    return value if isinstance(value, str) else msgspec.json.encode(value).decode("utf-8")
