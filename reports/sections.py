"""The page in its order, as a list: each section with its charts, tables and what must be said about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go

from harness.summary import RunData, Summary, samples
from reports import chart_tables, curves, figures, series
from reports.about_tables import certificate_rows, environment_tables, instrument_rows, truth_rows
from reports.buckets import Buckets, time_buckets
from reports.delivery_tables import delivery_rows
from reports.tables import TextTable, equality_rows, error_rows, metric_rows, outcome_rows

__all__ = ["Chart", "Section", "sections"]

_COUNTED_BY = {"server": "by the server", "local": "by the load side", "unknown": "not at all"}

# A bucket of the latency chart is wide enough for a median to exist in most of them, at the run's mean rate.
_SAMPLES_PER_BUCKET = 10


@dataclass(frozen=True)
class Chart:
    """A figure, what it shows in words, and the table that says the same."""

    name: str
    title: str
    caption: str
    figure: go.Figure
    table: TextTable


@dataclass(frozen=True)
class Section:
    """A part of the page; `note` stands above its charts and tables."""

    name: str
    title: str
    note: str = ""
    charts: Sequence[Chart] = ()
    tables: Sequence[TextTable] = field(default_factory=list)


def sections(run: RunData, summary: Summary) -> list[Section]:
    """All sections between the headline numbers and the definitions."""
    buckets = time_buckets(run)
    phases = series.phases(run.table)
    return [
        _load(run, summary, buckets, phases),
        _latency(run, phases),
        _distribution(run, summary),
        _tokens(run, buckets, phases),
        _outcomes(run, summary, buckets, phases),
        _equality(summary),
        _instrument(run, summary),
        Section("environment", "Environment", tables=environment_tables(run.manifest)),
    ]


def _load(run: RunData, summary: Summary, buckets: Buckets, phases: list[series.Phase]) -> Section:
    load = series.load_over_time(run.table, buckets)
    caption = (
        "Asked: planned arrivals by intended time. Delivered: real sends by the time of sending. Both in "
        f"buckets of {buckets.width_s:g} s. In flight: the most requests that were open at one instant of "
        "the bucket."
    )
    if summary.load.num_missing:
        caption += f" {summary.load.num_missing:,} planned requests left no record and are in neither curve."
    table = chart_tables.load_series_rows(load, buckets)
    figure = figures.load_figure(load, buckets, phases)
    chart = Chart("load-chart", "Asked and delivered load", caption, figure, table)
    return Section("load", "Load", charts=[chart], tables=delivery_rows(summary.delivery))


def _latency(run: RunData, phases: list[series.Phase]) -> Section:
    table = run.table
    num_ok = int(table.is_outcome("ok").sum())
    span = run.manifest.duration_s
    buckets = time_buckets(run, at_least_s=min(span / 10, _SAMPLES_PER_BUCKET * span / max(1, num_ok)))
    intended = table["intended_at"]
    ttft = np.where(table.is_outcome("ok"), table["first_token_at"] - intended, np.nan)
    over_time = series.distributions_over_time(ttft, intended, buckets)
    load = series.load_over_time(table, buckets)
    caption = (
        "Each ok request at its intended time; of very many, an even choice and the 100 slowest. p50 and "
        f"p90 are those of each {buckets.width_s:g} s in which there are enough requests (6 and 36). The "
        "area is the delivered rate, on the right axis."
    )
    figure = figures.latency_figure(table, over_time, load, buckets, phases)
    rows = chart_tables.latency_series_rows(over_time, load, buckets)
    return Section(
        "latency",
        "Latency over time",
        charts=[Chart("latency-chart", "TTFT under the load", caption, figure, rows)],
    )


def _distribution(run: RunData, summary: Summary) -> Section:
    known = samples(run.table)
    found = {name: curves.ecdf(*known[name]) for name in ("ttft", "itl", "e2e")}
    figure = figures.distribution_figure({name: curve.thinned() for name, curve in found.items()})
    caption = (
        "Empirical distribution functions of ok requests; ITL is weighted by tokens. TTFT and E2E count "
        "from the intended time. Samples of 0 (chunks that came in one read) lie left of a logarithmic "
        "axis."
    )
    chart = Chart("distribution-chart", "TTFT, ITL and E2E", caption, figure, chart_tables.curve_rows(found))
    note = "A cell such as n<368 names the samples that a percentile needs and did not have."
    return Section("distribution", "Latency distribution", note, [chart], [metric_rows(summary)])


def _tokens(run: RunData, buckets: Buckets, phases: list[series.Phase]) -> Section:
    tokens = series.tokens_over_time(run.table, buckets)
    caption = (
        f"Output tokens of ok requests, in buckets of {buckets.width_s:g} s. The tokens of a request are "
        "spread over the arrivals of its content chunks, in proportion to the tokens of each; the first "
        "chunk counts as one. An answer that was no stream counts at its end."
    )
    figure = figures.tokens_figure(tokens, buckets, phases)
    rows = chart_tables.tokens_series_rows(tokens, buckets)
    return Section(
        "tokens",
        "Output tokens",
        charts=[Chart("tokens-chart", "Output tokens per second", caption, figure, rows)],
    )


def _outcomes(run: RunData, summary: Summary, buckets: Buckets, phases: list[series.Phase]) -> Section:
    outcomes = series.outcomes_over_time(run.table, buckets)
    caption = f"Requests by intended time, in buckets of {buckets.width_s:g} s, stacked by outcome."
    figure = figures.outcome_figure(outcomes, buckets, phases)
    chart = Chart(
        "outcome-chart",
        "Outcomes over time",
        caption,
        figure,
        chart_tables.outcome_series_rows(outcomes, buckets),
    )
    tables = [outcome_rows(summary)]
    if summary.errors:
        tables.append(error_rows(summary))
    return Section(
        "outcomes",
        "Outcomes and errors",
        "" if summary.errors else "No request ended with an error.",
        [chart],
        tables,
    )


def _equality(summary: Summary) -> Section:
    tokens = summary.tokens
    sources = ", ".join(
        f"{_COUNTED_BY.get(source, source)} ({num:,})" for source, num in sorted(tokens.per_source.items())
    )
    note = "How many ok requests have other tokens than the plan gave them. "
    note += f"Output tokens were counted {sources}." if sources else ""
    return Section("equality", "Token equality", note, tables=[equality_rows(summary)])


def _instrument(run: RunData, summary: Summary) -> Section:
    buckets = time_buckets(run, at_least_s=1.0)
    instrument = series.instrument_over_time(run, buckets)
    caption = (
        f"The worst value of any load process in each {buckets.width_s:g} s: how late a request was sent, "
        "how long the event loop stood still, and the CPU used (right axis; 100 % is one core)."
    )
    figure = figures.instrument_figure(instrument, buckets)
    rows = chart_tables.instrument_series_rows(instrument, buckets)
    note = (
        ""
        if summary.truth
        else "Truth against the mock's ledger: not measured. There is no ledger on the clock of the records."
    )
    chart = Chart("instrument-chart", "Lag and CPU of the load processes", caption, figure, rows)
    return Section(
        "instrument",
        "Instrument",
        note,
        [chart],
        [*instrument_rows(summary), *truth_rows(summary), *certificate_rows(run.manifest)],
    )
