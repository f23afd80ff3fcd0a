"""The page of a comparison: what it may be believed for first, then every measure's change, then the curves over each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.history.compare import Comparison, Side
from harness.history.compare_text import WITHIN_RUN
from harness.judgement.measuring import parse_measure
from harness.metrics.latencies import latency
from harness.table import Floats
from harness.text import METRIC_NAMES
from reports import compare_figures as figures
from reports import compare_tables as tables
from reports import curves, series
from reports.buckets import Buckets, time_buckets
from reports.compare_frame import Banner, framed
from reports.levels import Level, levels
from reports.section import Chart, Section
from reports.spectrum import spectrum

__all__ = ["render_comparison"]

_CURVE_POINTS = 500
_LEAST_LEVELS = 2
_COSTS = {
    "per 1,000 requests": "cost_per_1k",
    "per million tokens": "cost_per_mtok",
    "per 1,000 good requests": "cost_per_good",
}
_PER = {"cost_per_good": 1000.0}


def render_comparison(comparison: Comparison) -> str:
    """The page, as HTML."""
    sides = comparison.sides
    return framed(
        title=f"{' against '.join(side.name for side in reversed(sides))}",
        kind=f"Comparison of {len(sides)} runs",
        heading=" and ".join(side.name for side in sides)
        if len(sides) == 2
        else f"{sides[0].name} and {len(sides) - 1} others",
        banner=_banner(comparison),
        sections=[
            Section("runs", "Runs", tables=[tables.run_rows(sides)], wide=True),
            _changes(comparison),
            _distributions(sides),
            _over_time(sides),
            _levels(sides),
            _outcomes(sides),
            *_costs(sides),
            _fields(comparison),
        ],
    )


def _banner(comparison: Comparison) -> Banner:
    """Not comparable, not to be believed, or what changed."""
    note = f"Intervals are of the requests within these runs: {WITHIN_RUN}."
    if comparison.forbidden:
        return Banner("INVALID", "NOT COMPARABLE", comparison.forbidden, note)
    invalid = [side for side in comparison.sides if side.summary.instrument.state == "INVALID"]
    if invalid:
        reasons = [f"{side.letter}: {reason}" for side in invalid for reason in side.summary.instrument.reasons]
        return Banner("INVALID", "INVALID", reasons, note)
    reasons = [_told(comparison, position) for position in range(1, len(comparison.sides))]
    return Banner("COMPARED", "COMPARED", reasons, note)


def _told(comparison: Comparison, position: int) -> str:
    """Of one run, which measures are worse and which better than those of the reference."""
    found = {
        tone: [row.name for row in comparison.rows if (delta := row.deltas[position]) and delta.tone == tone]
        for tone in ("worse", "better")
    }
    for row in comparison.rows:  # +∞ has no delta
        before, after = row.measured[0], row.measured[position]
        if (before.value is not None and after.infinite) or (before.infinite and after.value is not None):
            found["worse" if after.infinite == (row.better == "lower") else "better"].append(row.name)
    parts = [f"{tone} in {', '.join(names)}" for tone, names in found.items() if names]
    side = comparison.sides[position]
    return f"{side.letter} against A: {'; '.join(parts) or 'no measure differs by more than chance among the requests'}"


def _changes(comparison: Comparison) -> Section:
    note = (
        "Change: a part of the reference's value; of a share the difference in percentage points. The 95 % interval is a bootstrap "
        f"over the requests of both runs, as though requests did not depend on each other: {WITHIN_RUN}. Where it holds 0 the change "
        "is unclear. Gaps between chunks and rates have none: the one are not independent, the other follow the plan."
    )
    return Section("changes", "Changes", note, tables=[tables.delta_rows(comparison)], wide=True)


def _values(side: Side, metric: str) -> Floats:
    """A latency of the requests that were ok; NaN where there is none."""
    table = side.subject.table
    return np.where(table.is_outcome("ok"), latency(table, metric), np.nan)


def _distributions(sides: Sequence[Side]) -> Section:
    charts: list[Chart] = []
    for metric in ("ttft", "tpot", "e2e"):
        name = METRIC_NAMES[metric]
        found = [curves.ecdf(_values(side, metric)) for side in sides]
        figure = figures.ecdf_figure(sides, [curve.thinned(_CURVE_POINTS) for curve in found])
        caption = f"Empirical distribution functions of {name}, ok requests; from the intended time, where it counts from one."
        charts.append(Chart(f"{metric}-chart", name, caption, figure, tables.ecdf_rows(sides, found, name)))
    for metric in ("ttft", "e2e"):
        name = METRIC_NAMES[metric]
        spectra = [spectrum(_values(side, metric)) for side in sides]
        caption = "Each percentile as far as the samples support a 95 % interval, which the table has."
        figure, rows = figures.spectra_figure(sides, spectra), tables.spectra_rows(sides, spectra, name)
        charts.append(Chart(f"{metric}-spectrum", f"{name}, percentiles", caption, figure, rows))
    return Section("distributions", "Distributions", charts=charts)


def _over_time(sides: Sequence[Side]) -> Section:
    buckets = _common_buckets(sides)
    over_time = [
        series.distributions_over_time(_values(side, "ttft"), side.subject.table["intended_at"], buckets)
        for side in sides
    ]
    caption = (
        f"TTFT p50 of the ok requests that were intended in each {buckets.width_s:g} s, where there are at least 6."
    )
    figure, rows = figures.over_time_figure(sides, over_time, buckets), tables.over_time_rows(sides, over_time, buckets)
    return Section("time", "Over time", charts=[Chart("time-chart", "TTFT over time", caption, figure, rows)])


def _common_buckets(sides: Sequence[Side]) -> Buckets:
    """Those of the longest run, wide enough for a median in most of them."""
    every = [
        time_buckets(
            side.run,
            at_least_s=min(
                side.run.manifest.duration_s / 10, 10 * side.run.manifest.duration_s / max(1, len(side.run.table))
            ),
        )
        for side in sides
    ]
    return max(every, key=lambda buckets: buckets.end_s)


def _levels(sides: Sequence[Side]) -> Section:
    found = [_levels_of(side) for side in sides]
    caption = (
        "TTFT p50 and p95 (open signs) over the delivered rate, ok requests. Where a plan has phases, each with 20 requests or more is "
        "a level; else the run as a whole is one."
    )
    figure, rows = figures.levels_figure(sides, found), tables.level_rows(sides, found)
    return Section(
        "load",
        "Throughput and latency",
        charts=[Chart("levels-chart", "TTFT over delivered rate", caption, figure, rows)],
    )


def _levels_of(side: Side) -> list[Level]:
    found = levels(side.subject.table)
    if len(found) >= _LEAST_LEVELS:
        return found
    load = side.summary.load
    num_ok = load.outcomes.get("ok", 0)
    return [
        Level("whole run", load.delivered_rate, load.num_sent, num_ok / max(1, load.num_sent), side.summary.metrics)
    ]


def _outcomes(sides: Sequence[Side]) -> Section:
    chart = Chart(
        "outcomes-chart",
        "Outcomes",
        "What became of the requests of each run.",
        figures.outcomes_figure(sides),
        tables.outcome_share_rows(sides),
    )
    return Section("outcomes", "Outcomes", charts=[chart])


def _costs(sides: Sequence[Side]) -> list[Section]:
    """No section where no run knows what it cost."""
    costs = {name: [_cost(side, measure) for side in sides] for name, measure in _COSTS.items()}
    costs = {name: values for name, values in costs.items() if any(value is not None for value in values)}
    if not costs:
        return []
    figure, rows = figures.cost_figure(sides, costs), tables.cost_rows(sides, costs)
    caption = "Of the requests after the warm-up. A run without a bar has no prices."
    return [Section("cost", "Cost", charts=[Chart("cost-chart", "Cost", caption, figure, rows)])]


def _cost(side: Side, measure: str) -> float | None:
    value = parse_measure(measure).of(side.subject).value
    return None if value is None else value * _PER.get(measure, 1.0)


def _fields(comparison: Comparison) -> Section:
    note = "" if comparison.fields else "Nothing differs."
    return Section(
        "fields", "What differs", note, tables=[tables.field_rows(comparison)] if comparison.fields else [], wide=True
    )
