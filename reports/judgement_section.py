"""The section about what the run was judged by: objectives, latency budgets and alerts."""

from __future__ import annotations

from collections.abc import Callable

from harness.judgement.measures import Measured, Unit
from harness.judgement.results import Alert, NotWatched, ObjectiveResult, StageResult
from harness.summary import Summary
from harness.text import milliseconds
from reports.numbers import MISSING, NOT_MEASURED, count, per_second, share, usd
from reports.section import Section
from reports.tables import Cell, TextTable
from reports.view import View

__all__ = ["judged", "judgement_section", "measured_text"]

_MOST = 60
_UNITS: dict[Unit, Callable[[float], str]] = {
    "s": lambda value: f"{milliseconds(value)} ms",
    "share": share,
    "usd": usd,
    "per_s": lambda value: f"{per_second(value)}/s",
    "joule": lambda value: f"{value:,.4g} J",
}
_ALERT_UNITS: dict[str, Unit] = {"latency_degradation": "s", "cost_spike": "usd"}


def judgement_section(view: View) -> list[Section]:
    """Nothing where the run had no objectives, budgets or alerts."""
    summary = view.summary
    tables = []
    if summary.objectives:
        tables.append(_objectives(summary.objectives))
    if summary.budgets:
        tables.append(_budgets(summary.budgets))
    if summary.alerts:
        tables.append(_alerts(summary.alerts))
    if summary.not_watched:
        tables.append(_not_watched(summary.not_watched))
    if not tables:
        return []
    note = (
        "An objective is met (PASS) or broken (FAIL) only with 95 % confidence where it is about a sample; otherwise it is "
        "INCONCLUSIVE, and the last column says what would settle it."
    )
    return [Section("objectives", "Objectives", note if summary.objectives else "", tables=tables, wide=True)]


def judged(summary: Summary) -> str:
    """What became of objectives, budgets and alerts in a line; nothing where there are none."""
    parts = []
    for name, answers in (
        ("Objectives", [each.answer for each in summary.objectives]),
        ("Stages of the latency budget", [each.answer for each in summary.budgets]),
    ):
        if answers:
            met, broken = answers.count("PASS"), answers.count("FAIL")
            parts.append(f"{name}: {met} met, {broken} broken, {len(answers) - met - broken} inconclusive")
    if summary.alerts:
        parts.append(f"Alerts that fired: {len(summary.alerts):,}")
    if summary.not_watched:
        parts.append(f"Alerts that nobody could watch: {len(summary.not_watched):,}")
    return ". ".join(parts)


def _objectives(results: list[ObjectiveResult]) -> TextTable:
    has_class = any(each.class_name is not None for each in results)
    head = ["answer", "objective", *(["class"] if has_class else []), "measured", "95 % interval", "n", "why"]
    rows: list[list[str | Cell]] = [
        [
            Cell(each.answer, answer=each.answer),
            each.text,
            *([each.class_name or "all"] if has_class else []),
            measured_text(each.measured),
            _interval(each.measured),
            count(each.measured.num) if each.measured.num else MISSING,
            each.why or MISSING,
        ]
        for each in results
    ]
    return TextTable("Objectives", head, rows, num_text=len(head)).at_most(_MOST)


def measured_text(measured: Measured) -> str:
    """The value of a measure with its unit."""
    if measured.infinite:
        return "+∞"
    if measured.value is None:
        return MISSING if measured.num else NOT_MEASURED  # measured, and too few to say: the last column has the words
    return _UNITS[measured.unit](measured.value)


def _interval(measured: Measured) -> str:
    write, low, high = _UNITS[measured.unit], measured.low, measured.high
    if low is None:
        return MISSING if high is None else f"up to {write(high)}"
    return f"{write(low)} to {'+∞' if high is None else write(high)}"


def _budgets(results: list[StageResult]) -> TextTable:
    rows: list[list[str | Cell]] = [
        [
            Cell(each.answer, answer=each.answer),
            f"{each.stage.replace('_', ' ')}, of {each.of} p{each.percent:g}",
            f"{milliseconds(each.actual_s)} ms" if each.actual_s is not None else NOT_MEASURED,
            f"{milliseconds(each.budget_s)} ms",
            each.why or MISSING,
        ]
        for each in results
    ]
    head = ["answer", "stage", "took", "may take", "why"]
    return TextTable("Latency budget by stage", head, rows, num_text=len(head)).at_most(_MOST)


def _alerts(alerts: list[Alert]) -> TextTable:
    rows = [
        [
            each.kind.replace("_", " "),
            each.text or MISSING,
            f"{each.from_s:,.1f} to {each.to_s:,.1f} s",
            "yes" if each.fail else "no",
            *(
                "+∞" if value is None else _UNITS[_ALERT_UNITS.get(each.kind, "share")](value)
                for value in (each.worst, each.limit)
            ),
        ]
        for each in alerts
    ]
    head = ["kind", "what", "when", "fails the run", "worst", "limit"]
    return TextTable("Alerts that fired", head, rows, num_text=4).at_most(_MOST)


def _not_watched(alerts: list[NotWatched]) -> TextTable:
    rows = [[each.kind.replace("_", " "), each.why or MISSING, "yes" if each.fail else "no"] for each in alerts]
    head = ["kind", "why not", "would have failed the run"]
    return TextTable("Alerts that nobody could watch", head, rows, num_text=3).at_most(_MOST)
