"""The tables of a page that hold its results: a summary in, rows of text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.quantiles import PERCENTILES, Distribution, samples_needed
from harness.summary import Summary
from harness.text import METRIC_NAMES, milliseconds, percentile_cell
from reports.numbers import MISSING, NOT_MEASURED, count, per_second, percentile, share

__all__ = ["Card", "TextTable", "equality_rows", "error_rows", "headline", "metric_rows", "outcome_rows"]

_MOST_ERRORS = 50
_MOST_TEXT = 500

OUTCOME_WORDS = {
    "ok": "answered, with content and an end the protocol knows",
    "throttled": "429, 529, or 503 with Retry-After",
    "failed": "any other error",
    "cut": "the server broke the stream",
    "incomplete": "still open when the run ended",
    "refused": "held back by the harness itself: its cap on requests in flight, or a budget",
    "left": "its client went away, as the plan said",
}


@dataclass(frozen=True)
class TextTable:
    """Rows under a head. The first `num_text` columns are text, the others numbers and set to the right."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_text: int = 1


@dataclass(frozen=True)
class Card:
    """A headline number: what it is, its value with unit, and what it rests on."""

    name: str
    value: str
    note: str


def headline(summary: Summary) -> list[Card]:
    """The numbers that a reader looks for first."""
    load, tokens, metrics = summary.load, summary.tokens, summary.metrics
    cards = [
        _card("TTFT p50", metrics["ttft"], 50, "requests"),
        _card("TTFT p99", metrics["ttft"], 99, "requests"),
        _card("ITL p50", metrics["itl"], 50, "gaps"),
        _card("E2E p50", metrics["e2e"], 50, "requests"),
    ]
    rate = NOT_MEASURED if tokens.output_rate is None else f"{per_second(tokens.output_rate, 0)}/s"
    cards.append(
        Card(
            "Output tokens",
            rate,
            f"{count(tokens.num_output)} of ok requests" if load.outcomes["ok"] else "no sample",
        )
    )
    delivered = f"{per_second(load.delivered_rate)}/s"
    cards.append(Card("Delivered", delivered, f"asked {per_second(load.asked_rate)}/s over {load.duration_s:,.0f} s"))
    total = sum(load.outcomes.values())
    if summary.goodput is not None and summary.goodput.share is not None:
        good = summary.goodput
        note = f"{count(good.num_good)} of {count(good.num)} met their objective ({share(good.share)})"
        cards.append(Card("Goodput", f"{per_second(good.rate)}/s", note))
    if summary.cost_usd is not None:
        cards.append(Card("Cost", f"${summary.cost_usd:,.4f}", f"of {count(sum(load.outcomes.values()))} requests"))
    others = ", ".join(f"{count(num)} {name}" for name, num in load.outcomes.items() if num and name != "ok")
    cards.append(Card("ok requests", f"{count(load.outcomes['ok'])} of {count(total)}", others or "no other outcome"))
    return cards


def _card(name: str, metric: Distribution, percent: float, unit: str) -> Card:
    value = percentile(metric, percent)
    note = f"over {count(metric.num)} {unit}"
    if value.startswith("n<"):
        note = f"{count(metric.num)} {unit}; {samples_needed(percent)} are needed"
    return Card(name, value, note if metric.num else "no sample")


def metric_rows(summary: Summary) -> TextTable:
    """Every metric of the run."""
    head = ["ms", "samples", "min", *(f"p{percent:g}" for percent in PERCENTILES), "max", "mean"]
    rows = [_metric_row(METRIC_NAMES.get(name, name), metric) for name, metric in summary.metrics.items()]
    return TextTable("Latency metrics of ok requests, in milliseconds", head, rows)


def _metric_row(name: str, metric: Distribution) -> list[str]:
    if not metric.num:
        return [name, NOT_MEASURED, *[MISSING] * (len(PERCENTILES) + 3)]
    cells = [percentile_cell(metric, percent) for percent in PERCENTILES]
    return [
        name,
        count(metric.num),
        milliseconds(metric.minimum),
        *cells,
        milliseconds(metric.maximum),
        milliseconds(metric.mean),
    ]


def outcome_rows(summary: Summary) -> TextTable:
    """Every outcome, also those that never came."""
    total = sum(summary.load.outcomes.values())
    rows = [
        [name, OUTCOME_WORDS.get(name, MISSING), count(num), share(num / total) if total else MISSING]
        for name, num in summary.load.outcomes.items()
    ]
    return TextTable("Outcomes", ["outcome", "meaning", "requests", "share"], rows, num_text=2)


def error_rows(summary: Summary) -> TextTable:
    """Error classes, the most frequent first, each with one example of its text."""
    rows = [
        [error.outcome, error.kind, error.example[:_MOST_TEXT] or MISSING, count(error.num)]
        for error in summary.errors[:_MOST_ERRORS]
    ]
    if len(summary.errors) > _MOST_ERRORS:
        rest = summary.errors[_MOST_ERRORS:]
        rows.append([MISSING, f"{len(rest)} further kinds", MISSING, count(sum(error.num for error in rest))])
    return TextTable("Errors by class", ["outcome", "kind", "example", "requests"], rows, num_text=3)


def equality_rows(summary: Summary) -> TextTable:
    """Whether the server read and wrote as many tokens as the plan says."""
    tokens = summary.tokens
    rows = [
        [
            f"{what} tokens",
            count(total) if summary.load.outcomes["ok"] else NOT_MEASURED,
            count(compared),
            count(num) if compared else NOT_MEASURED,
            share(num / compared) if compared else MISSING,
        ]
        for what, total, num, compared in (
            ("prompt", tokens.num_prompt, tokens.num_prompt_mismatches, tokens.num_prompt_compared),
            ("output", tokens.num_output, tokens.num_output_mismatches, tokens.num_output_compared),
        )
    ]
    return TextTable("Tokens: the plan against the server's count", ["", "total", "compared", "differ", "share"], rows)
