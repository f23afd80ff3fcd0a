"""The tables of a page that hold its results: a summary in, rows of text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.metrics.infinite import Unanswered
from harness.quantiles import PERCENTILES, Distribution, samples_needed
from harness.summary import Summary
from harness.text import METRIC_NAMES, milliseconds, percentile_cell
from reports.numbers import MISSING, NOT_MEASURED, between, count, share

__all__ = [
    "OUTCOME_WORDS",
    "Cell",
    "TextTable",
    "equality_rows",
    "error_rows",
    "interval_cell",
    "metric_rows",
    "outcome_rows",
]

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
class Cell:
    """A cell with more to say than its text: a `note` in small letters below, as an interval, or an `answer` that colours it."""

    text: str
    note: str = ""
    answer: str = ""


@dataclass(frozen=True)
class TextTable:
    """Rows under a head. The first `num_text` columns are text, the others numbers and set to the right."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    num_text: int = 1

    def at_most(self, num: int, more: int = 0) -> TextTable:
        """The first `num` rows; a last one says how many others there are, with the `more` that were never given."""
        left_out = max(0, len(self.rows) - num) + more
        if not left_out:
            return self
        last = [f"and {left_out:,} more", *[""] * (len(self.head) - 1)]
        return replace(self, rows=[*self.rows[:num], last])


def metric_rows(summary: Summary) -> TextTable:
    """Every metric of the run, each percentile with its 95 % interval; beneath, where it matters, the same with failures as +∞."""
    head = ["ms", "samples", "min", *(f"p{percent:g}" for percent in PERCENTILES), "max", "mean"]
    rows: list[list[str | Cell]] = []
    for name, metric in summary.metrics.items():
        title = METRIC_NAMES.get(name, name)
        rows.append(_metric_row(title, metric))
        unanswered = summary.unanswered.get(name)
        if unanswered is not None and unanswered.num_infinite:
            rows.append(_unanswered_row(f"{title}, failures as +∞", unanswered))
    return TextTable("Latency metrics of ok requests, in milliseconds", head, rows)


def _metric_row(name: str, metric: Distribution) -> list[str | Cell]:
    if not metric.num:
        return [name, NOT_MEASURED, *[MISSING] * (len(PERCENTILES) + 3)]
    return [
        name,
        count(metric.num),
        milliseconds(metric.minimum),
        *(interval_cell(metric, percent) for percent in PERCENTILES),
        milliseconds(metric.maximum),
        milliseconds(metric.mean),
    ]


def interval_cell(metric: Distribution, percent: float) -> Cell:
    """A percentile in ms with its 95 % interval beneath, where there is one."""
    return Cell(percentile_cell(metric, percent), note=between(metric.interval(percent)))


def _unanswered_row(name: str, found: Unanswered) -> list[str | Cell]:
    cells = [_infinite(found, percent) for percent in PERCENTILES]
    return [name, Cell(count(found.num), note=f"{found.num_infinite:,} not ok"), MISSING, *cells, "+∞", "+∞"]


def _infinite(found: Unanswered, percent: float) -> str:
    value = found.percentiles.get(f"{percent:g}")
    if value is None:
        return f"n<{samples_needed(percent)}"
    return "+∞" if value == "inf" else milliseconds(value)


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
    rows: list[list[str]] = [
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
