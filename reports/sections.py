"""The page in its order, as a list: each section with its charts, tables and what must be said about them."""

from __future__ import annotations

import numpy as np

from harness.metrics.latencies import latency
from harness.summary import Summary, samples
from harness.table import Floats
from harness.text import METRIC_NAMES
from reports import chart_tables, curves, figures, series
from reports.about_tables import certificate_rows, environment_tables, instrument_rows, truth_rows
from reports.breakdown_section import breakdown_sections
from reports.buckets import time_buckets
from reports.cache_section import cache_section
from reports.cost_section import cost_section
from reports.delivery_tables import delivery_rows
from reports.dictionary_section import dictionary_section
from reports.error_matrix import error_matrix
from reports.events import events_table
from reports.gpu_section import gpu_section
from reports.judgement_section import judgement_section
from reports.levels_section import levels_section
from reports.replica_section import replica_section
from reports.section import Chart, Section
from reports.spectrum import spectrum, spectrum_figure, spectrum_of_sorted, spectrum_rows
from reports.stages_section import stages_section
from reports.steady_tables import steady_section
from reports.tables import equality_rows, error_rows, metric_rows, outcome_rows
from reports.view import View

__all__ = ["sections"]

_COUNTED_BY = {"server": "by the server", "local": "by the load side", "unknown": "not at all"}


def sections(view: View) -> list[Section]:
    """All sections between the headline numbers and the definitions; those that do not apply are left out."""
    summary = view.summary
    return [
        *judgement_section(view),
        _load(view),
        _latency(view),
        _distribution(view),
        *levels_section(view),
        *steady_section(summary),
        *stages_section(view),
        *breakdown_sections(view),
        *cache_section(view),
        _tokens(view),
        _outcomes(view),
        *cost_section(view),
        *replica_section(view),
        *gpu_section(view),
        _equality(summary),
        _instrument(view),
        *dictionary_section(summary),
        Section("environment", "Environment", tables=environment_tables(view.run.manifest)),
    ]


def _load(view: View) -> Section:
    buckets, summary = view.buckets, view.summary
    load = series.load_over_time(view.run.table, buckets)
    caption = (
        "Asked: planned arrivals by intended time. Delivered: real sends by the time of sending. Both in "
        f"buckets of {buckets.width_s:g} s. In flight: the most requests that were open at one instant of "
        "the bucket."
    )
    if summary.load.num_missing:
        caption += f" {summary.load.num_missing:,} planned requests left no record and are in neither curve."
    table = chart_tables.load_series_rows(load, buckets)
    figure = figures.load_figure(load, buckets, view.phases, view.events)
    chart = Chart("load-chart", "Asked and delivered load", caption, figure, table)
    return Section("load", "Load", charts=[chart], tables=delivery_rows(summary.delivery))


def _latency(view: View) -> Section:
    table, buckets = view.run.table, view.wide_buckets
    ok, intended = table.is_outcome("ok"), table["intended_at"]
    has_ttft = bool((ok & ~np.isnan(table["first_token_at"])).any())
    name = "ttft" if has_ttft or not ok.any() else "e2e"  # a whole answer has no first token
    title = METRIC_NAMES[name]
    values = np.where(ok, latency(table, name), np.nan)
    over_time = series.distributions_over_time(values, intended, buckets)
    load = series.load_over_time(table, buckets)
    caption = (
        "Each ok request at its intended time; of very many, an even choice and the 100 slowest. p50 and "
        f"p90 are those of each {buckets.width_s:g} s in which there are enough requests (6 and 36). The "
        "area is the delivered rate, on the right axis."
    )
    if view.events:
        caption += " Above: faults of the server, alerts and the warm-up, as far as there is room; the table below lists them all."
    figure = figures.latency_figure(table, name, over_time, load, buckets, view.phases, view.events)
    rows = chart_tables.latency_series_rows(name, over_time, load, buckets)
    chart = Chart("latency-chart", f"{title} under the load", caption, figure, rows)
    tables = [events_table(view.events)] if view.events else []
    return Section("latency", "Latency over time", charts=[chart], tables=tables, wide=True)


def _distribution(view: View) -> Section:
    known = samples(view.measured)
    found = {name: curves.ecdf(*known[name]) for name in ("ttft", "itl", "e2e")}
    figure = figures.distribution_figure({name: curve.thinned() for name, curve in found.items()})
    caption = (
        "Empirical distribution functions of ok requests; ITL is weighted by tokens. TTFT and E2E count "
        "from the intended time. Samples of 0 (chunks that came in one read) lie left of a logarithmic "
        "axis."
    )
    chart = Chart("distribution-chart", "TTFT, ITL and E2E", caption, figure, chart_tables.curve_rows(found))
    note = (
        "A cell such as n<368 names the samples that a percentile needs and did not have. In small letters: the 95 % interval between "
        "two order statistics, which takes requests for independent; those of an overloaded server are not."
    )
    if view.summary.num_warmup:
        note += f" Without the {view.summary.num_warmup:,} requests of the warm-up."
    if not any(found.num_infinite for found in view.summary.unanswered.values()):
        note += (
            " No request failed, so with failures as +∞ the percentiles are the same."
            if view.summary.unanswered
            else ""
        )
    return Section(
        "distribution",
        "Latency distribution",
        note,
        [chart, _spectrum(found, known["tpot"][0])],
        [metric_rows(view.summary)],
        wide=True,
    )


def _spectrum(sorted_already: dict[str, curves.Curve], tpot: Floats) -> Chart:
    found = {
        "ttft": spectrum_of_sorted(sorted_already["ttft"].values_s),
        "tpot": spectrum(tpot),
        "e2e": spectrum_of_sorted(sorted_already["e2e"].values_s),
    }
    caption = (
        "Latency at each percentile of ok requests, as far as the samples support it, with its 95 % interval as a band. Every step to "
        "the right halves, and more, the share of requests that is slower."
    )
    return Chart("spectrum-chart", "Percentiles", caption, spectrum_figure(found), spectrum_rows(found))


def _tokens(view: View) -> Section:
    buckets = view.buckets
    tokens = series.tokens_over_time(view.run.table, buckets)
    caption = (
        f"Output tokens of ok requests, in buckets of {buckets.width_s:g} s. The tokens of a request are "
        "spread over the arrivals of its content chunks, in proportion to the tokens of each; the first "
        "chunk counts as one. An answer that was no stream counts at its end."
    )
    figure = figures.tokens_figure(tokens, buckets, view.phases)
    rows = chart_tables.tokens_series_rows(tokens, buckets)
    return Section(
        "tokens",
        "Output tokens",
        charts=[Chart("tokens-chart", "Output tokens per second", caption, figure, rows)],
    )


def _outcomes(view: View) -> Section:
    summary, buckets = view.summary, view.buckets
    outcomes = series.outcomes_over_time(view.run.table, buckets)
    caption = f"Requests by intended time, in buckets of {buckets.width_s:g} s, stacked by outcome."
    figure = figures.outcome_figure(outcomes, buckets, view.phases, view.events)
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
    if (matrix := error_matrix(view.run.table)) is not None:
        tables.append(matrix)
    return Section(
        "outcomes",
        "Outcomes and errors",
        "" if summary.errors else "No request ended with an error.",
        [chart],
        tables,
        wide=True,
    )


def _equality(summary: Summary) -> Section:
    tokens = summary.tokens
    sources = ", ".join(
        f"{_COUNTED_BY.get(source, source)} ({num:,})" for source, num in sorted(tokens.per_source.items())
    )
    note = "How many ok requests have other tokens than the plan gave them. "
    note += f"Output tokens were counted {sources}." if sources else ""
    return Section("equality", "Token equality", note, tables=[equality_rows(summary)])


def _instrument(view: View) -> Section:
    run, summary = view.run, view.summary
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
