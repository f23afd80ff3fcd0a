"""The table about the steady part of a run."""

from __future__ import annotations

from harness.metrics.steady import Steady
from harness.summary import Summary
from harness.text import METRIC_NAMES
from reports.numbers import MISSING, count, per_second
from reports.section import Section
from reports.tables import Cell, TextTable, interval_cell

__all__ = ["steady_section"]

_PERCENTS = (50.0, 90.0, 95.0, 99.0)


def steady_section(summary: Summary) -> list[Section]:
    """Nothing where nobody looked for a steady part, or the plan asks for none."""
    steady = summary.steady
    if steady is None or steady.state == "not asked":
        return []
    note = f"{steady.state}: {steady.why}" if steady.why else steady.state
    tables = [_facts(steady)] if steady.num else []
    if any(metric.num for metric in steady.metrics.values()):
        tables.insert(0, _metrics(steady))
    return [Section("steady", "Steady state", note, tables=tables, wide=True)]


def _facts(steady: Steady) -> TextTable:
    span = MISSING
    if steady.from_s is not None and steady.to_s is not None:
        span = f"{steady.from_s:,.1f} to {steady.to_s:,.1f} s"
    facts = [
        ["state", steady.state],
        ["from and to", span],
        ["requests in it", count(steady.num)],
        ["before it, warming up", count(steady.num_warmup)],
        ["after it, draining", count(steady.num_drain)],
        ["output tokens a second", per_second(steady.output_rate, 0)],
    ]
    return TextTable("The steady part", ["", ""], facts)


def _metrics(steady: Steady) -> TextTable:
    rows: list[list[str | Cell]] = [
        [METRIC_NAMES.get(name, name), count(metric.num), *(interval_cell(metric, percent) for percent in _PERCENTS)]
        for name, metric in steady.metrics.items()
        if metric.num
    ]
    return TextTable("In the steady part, ms", ["ms", "samples", *(f"p{percent:g}" for percent in _PERCENTS)], rows)
