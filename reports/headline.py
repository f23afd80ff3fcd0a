"""The headline cards of a page: the numbers that a reader looks for first, each with what it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.metrics.latencies import latency
from harness.quantiles import Distribution, distribution, samples_needed
from harness.summary import Summary
from harness.table import Table
from harness.text import METRIC_NAMES, percentile_cell
from reports.caches import hit_and_miss
from reports.numbers import MISSING, NOT_MEASURED, between, count, per_second, percentile, share, usd

__all__ = ["Card", "headline"]

_LATENCIES = (("ttft", 50.0), ("ttft", 99.0), ("itl", 50.0), ("e2e", 50.0), ("e2e", 95.0))


@dataclass(frozen=True)
class Card:
    """A headline number: what it is, its value with unit, and what it rests on."""

    name: str
    value: str
    note: str


def headline(summary: Summary, table: Table) -> list[Card]:
    """The cards in their order. `table`: the requests that the summary's metrics are of."""
    sides = _medians(table)
    cards = [_latency_card(summary, sides, name, percent) for name, percent in _LATENCIES]
    return [*cards, *_throughput(summary), *_money(summary), _outcomes(summary)]


def _latency_card(summary: Summary, sides: dict[str, str], name: str, percent: float) -> Card:
    metric = summary.metrics[name]
    title = f"{METRIC_NAMES[name]} p{percent:g}"
    if not metric.num:
        return Card(title, NOT_MEASURED, "no sample")
    value = percentile(metric, percent)
    what = "gaps" if name == "itl" else "requests"
    if value.startswith("n<"):
        return Card(title, value, f"{count(metric.num)} {what}; {samples_needed(percent)} are needed")
    note = (
        f"95 %: {between(metric.interval(percent))} ms"
        if metric.interval(percent)
        else f"over {count(metric.num)} {what}"
    )
    if name in sides:
        note = f"hits and misses together; {sides[name]}; {note}"
    return Card(title, value, note)


def _medians(table: Table) -> dict[str, str]:
    """Of each latency that a reply cache divides, the medians of the two parts."""
    found = hit_and_miss(table)
    if found is None:
        return {}
    words = {}
    for name in ("ttft", "e2e"):
        hit, miss = (_median(distribution(latency(table, name)[rows])) for rows in found)
        words[name] = f"p50 of hits {hit}, of misses {miss}"
    return words


def _median(metric: Distribution) -> str:
    if not metric.num:
        return NOT_MEASURED
    cell = percentile_cell(metric, 50)
    return cell if cell.startswith("n<") else f"{cell} ms"


def _throughput(summary: Summary) -> Iterator[Card]:
    load, tokens, good = summary.load, summary.tokens, summary.goodput
    rate = NOT_MEASURED if tokens.output_rate is None else f"{per_second(tokens.output_rate, 0)}/s"
    has_any = tokens.num_prompt is not None or tokens.num_output is not None
    note = f"{count(tokens.num_output)} out, {count(tokens.num_prompt)} in, of ok requests" if has_any else "no sample"
    yield Card("Output tokens", rate, note)
    asked = f"asked {per_second(load.asked_rate)}/s over {load.duration_s:,.0f} s"
    yield Card("Delivered", f"{per_second(load.delivered_rate)}/s", asked)
    if good is not None and good.share is not None:
        met = f"{count(good.num_good)} of {count(good.num)} met their objective ({share(good.share)})"
        yield Card("Goodput", f"{per_second(good.rate)}/s", met)


def _money(summary: Summary) -> Iterator[Card]:
    bill, total = summary.bill, sum(summary.load.outcomes.values())
    if bill is not None and bill.usd is not None:
        parts = [f"{usd(bill.per_1k)} per 1,000 answered"] if bill.per_1k is not None else []
        parts += [f"{count(bill.num_unknown)} requests of unknown cost"] if bill.num_unknown else []
        yield Card("Cost", usd(bill.usd), "; ".join(parts) or f"of {count(bill.num_priced)} requests")
    elif summary.cost_usd is not None:
        yield Card("Cost", usd(summary.cost_usd), f"of {count(total)} requests")
    if bill is not None and bill.gpu_usd is not None:
        yield Card("GPUs", usd(bill.gpu_usd), f"at {usd(bill.gpu_usd_per_hour)} an hour")
    gpu = summary.gpu
    if gpu is not None and gpu.energy_j is not None:
        per_token = bill.energy_j_per_output_token if bill is not None else None
        note = "simulated" if gpu.simulated else f"measured by {gpu.source or MISSING}"
        per = "" if per_token is None else f"{per_token:,.3g} J an output token; "
        yield Card("Energy", f"{gpu.energy_j / 3600:,.3g} Wh", f"{per}{note}")


def _outcomes(summary: Summary) -> Card:
    outcomes = summary.load.outcomes
    others = ", ".join(f"{count(num)} {name}" for name, num in outcomes.items() if num and name != "ok")
    total = sum(outcomes.values())
    return Card("ok requests", f"{count(outcomes['ok'])} of {count(total)}", others or "no other outcome")
