"""The section about queues and replicas: who answered, how much each had to do at once, how long requests waited to begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from harness.quantiles import Distribution, distribution
from harness.table import Floats, Mask, Table
from harness.text import milliseconds, percentile_cell
from reports import series
from reports.buckets import Buckets
from reports.figures import middles
from reports.look import BLUE, LOOKS, RED, line, plain, timed
from reports.numbers import MISSING, count, instant, share
from reports.pairs import pair_counts
from reports.section import Chart, Section
from reports.stack_tables import stack_tables
from reports.tables import TextTable
from reports.view import View

__all__ = ["replica_section"]

_MOST_DRAWN = len(LOOKS)
_MOST = 40


@dataclass(frozen=True)
class _Replica:
    """Requests that one replica of a model answered, by its name there and by one that no other model's replica has."""

    name: str
    own_name: str
    model: str | None
    rows: Mask


def replica_section(view: View) -> list[Section]:
    """Nothing where no server said who answered or how long a request waited, and no stack was simulated."""
    table = view.run.table
    replicas = _replicas(table)
    charts = []
    if np.nan_to_num(view.queue).any():
        charts.append(_queue_chart(view))
    if len(replicas) > 1:
        charts.append(_replica_chart(view, replicas))
    tables = [_replica_table(view, replicas)] if replicas else []
    tables += stack_tables(view.stack)
    if not charts and not tables:
        return []
    note = "As the server says: in its answers, in the mock's ledger, and in what a simulated stack counted."
    return [Section("replicas", "Queue and replicas", note, charts, tables, wide=True)]


def _replicas(table: Table) -> list[_Replica]:
    """The replicas that answered, the busiest first."""
    names, models = table.labels["replica"], table.labels["model_served"]
    num = pair_counts(models, names)[:, : len(names.names)]
    found = []
    for place in np.argsort(-num, axis=None, kind="stable")[: np.count_nonzero(num)].tolist():
        model, name = divmod(place, len(names.names))
        model = model if model < len(models.names) else -1
        called, own = models.names[model] if model >= 0 else None, names.names[name]
        full = own if called is None or own.startswith(called) else f"{called} {own}"
        found.append(_Replica(full, own, called, (models.codes == model) & (names.codes == name)))
    return found


def _queue_chart(view: View) -> Chart:
    table, buckets = view.run.table, view.wide_buckets
    over_time = series.distributions_over_time(view.queue, table["intended_at"], buckets)
    figure = timed("ms in a queue", buckets, view.phases, view.events)
    for percent, colour, dash, symbol in ((50.0, BLUE, "solid", "circle"), (90.0, RED, "dash", "square")):
        values = [metric.at(percent) for metric in over_time]
        figure.add_scatter(
            x=middles(buckets),
            y=np.array([np.nan if value is None else value * 1e3 for value in values], dtype=np.float32),
            name=f"p{percent:g}",
            mode="lines+markers",
            line=line(colour, dash),
            marker={"symbol": symbol, "size": 7},
        )
    rows = [
        [instant(start, buckets.width_s), count(metric.num), *_cells(metric), milliseconds(metric.maximum)]
        for start, metric in zip(buckets.starts_s, over_time, strict=True)
    ]
    caption = (
        f"How long requests waited before the server began with them, by intended time, in each {buckets.width_s:g} s."
    )
    head = ["from, s", "requests", "p50", "p90", "max"]
    return Chart("queue-chart", "Queueing", caption, figure, TextTable("Queueing over time, ms", head, rows))


def _cells(metric: Distribution) -> list[str]:
    return [percentile_cell(metric, 50), percentile_cell(metric, 90)]


def _replica_chart(view: View, replicas: Sequence[_Replica]) -> Chart:
    table, buckets = view.run.table, view.buckets
    drawn = replicas[:_MOST_DRAWN]
    busy = [series.most_in_flight(table, each.rows, buckets) for each in drawn]
    figure = _busy_figure(view, buckets, drawn, busy)
    caption = (
        f"The most requests that were open at one instant of each {buckets.width_s:g} s, by the replica that answered: a request "
        "counts from its sending, so also while it waits."
    )
    if len(replicas) > len(drawn):
        caption += f" The {len(drawn)} busiest of {len(replicas):,} replicas."
    rows = [
        [instant(start, buckets.width_s), *(count(values[place]) for values in busy)]
        for place, start in enumerate(buckets.starts_s)
    ]
    columns = ["from, s", *(each.name for each in drawn)]
    return Chart("replica-chart", "In flight by replica", caption, figure, TextTable("Most in flight", columns, rows))


def _busy_figure(view: View, buckets: Buckets, drawn: Sequence[_Replica], busy: Sequence[Floats]) -> go.Figure:
    figure = timed("requests in flight", buckets, view.phases, view.events)
    edges = np.append(buckets.starts_s, buckets.end_s).astype(np.float32)
    for each, values, (colour, dash, _) in zip(drawn, busy, LOOKS, strict=False):
        figure.add_scatter(
            x=edges,
            y=np.append(values, values[-1]).astype(np.float32),
            name=plain(each.name, 30),
            mode="lines",
            line=line(colour, dash, shape="hv"),
        )
    return figure


def _replica_table(view: View, replicas: Sequence[_Replica]) -> TextTable:
    table, told, total = view.run.table, _told(view.stack), sum(int(each.rows.sum()) for each in replicas)
    rows = []
    for each in replicas[:_MOST]:
        ok = each.rows & table.is_outcome("ok")
        ttft = distribution((table["first_token_at"] - table["intended_at"])[ok])
        queue = distribution(view.queue[each.rows])
        output = table["num_output_tokens"][ok]
        rows.append(
            [
                each.name,
                count(each.rows.sum()),
                share(each.rows.sum() / total),
                MISSING if np.isnan(output).all() else count(np.nansum(output)),
                *(percentile_cell(ttft, percent) for percent in (50, 95)),
                *(percentile_cell(queue, percent) for percent in (50, 95)),
                *told.get((each.model, each.own_name), [MISSING] * 3),
            ]
        )
    head = ["replica", "requests", "share", "output tokens", "TTFT p50", "TTFT p95", "queue p50", "queue p95"]
    head += ["busy", "prefix cache hits", "preemptions"]
    return TextTable("Replicas; times in ms", head, rows).at_most(_MOST, max(0, len(replicas) - _MOST))


def _told(stack: Mapping[str, Any]) -> dict[tuple[str | None, str], list[str]]:
    """What the simulation says of each replica at its end."""
    state = stack.get("state") or {}
    run_s = state.get("run_s") or 0.0
    found = {}
    for model in state.get("models") or []:
        for each in model.get("replicas") or []:
            busy, hits, preempted = (each.get(key) for key in ("busy_s", "prefix_hit_rate", "preemptions"))
            cells = [share(busy / run_s) if busy is not None and run_s else MISSING, share(hits), count(preempted)]
            found[model.get("name"), str(each.get("name"))] = cells
    return found
