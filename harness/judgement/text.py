"""Objectives, latency budgets and alerts as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from harness.judgement.measures import Measured
from harness.judgement.quantities import shown
from harness.judgement.results import Alert, NotWatched, ObjectiveResult, StageResult
from harness.plain import plain

__all__ = ["answer_line", "judgement_lines", "measured_text"]

_MOST_ALERTS = 10


def judgement_lines(
    objectives: Sequence[ObjectiveResult],
    budgets: Sequence[StageResult] = (),
    alerts: Sequence[Alert] = (),
    not_watched: Sequence[NotWatched] = (),
    width: int = 120,
) -> list[str]:
    """Answer, objective, measured value with its interval, number of samples; under what is not met, why, broken at `width` columns.
    Nothing where there is nothing."""
    rows = [
        *(
            ((each.answer, _of_class(each), measured_text(each.measured), f"n {each.measured.num:,}"), each.why)
            for each in objectives
        ),
        *(
            ((each.answer, _budget(each), "–" if each.actual_s is None else shown(each.actual_s, "s"), ""), each.why)
            for each in budgets
        ),
    ]
    widths = [max((len(row[column]) for row, _ in rows), default=0) for column in range(4)]
    lines: list[str] = []
    for row, why in rows:
        lines.append("  ".join(f"{cell:<{wide}}" for cell, wide in zip(row, widths, strict=True)))
        if row[0] != "PASS":
            lines += [f"{'':{widths[0] + 2}}{part}" for part in wrap(why, max(40, width - widths[0] - 4))]
    if any("independent ones" in why for _, why in rows):
        lines.append("intervals take requests for independent; answers count those that resemble each other as fewer")
    lines += [f"ALERT  {each.from_s:g} to {each.to_s:g} s  {each.text}" for each in alerts[:_MOST_ALERTS]]
    if len(alerts) > _MOST_ALERTS:
        lines.append(f"ALERT  {len(alerts) - _MOST_ALERTS} more")
    lines += [f"not watched: {each.kind}: {each.why}" for each in not_watched]
    return [plain(line.rstrip()) for line in lines]


def answer_line(answer: str, results: Sequence[ObjectiveResult | StageResult]) -> str | None:
    """An answer that the objectives gave, in one line: how many of them; None where it has another reason."""
    num = sum(each.answer == answer for each in results)
    if answer == "PASS" or not num:
        return None
    return f"{num} of {len(results)} objectives and budgets {_ANSWERS[answer]}"


_ANSWERS = {"FAIL": "broken", "INCONCLUSIVE": "can neither be called met nor broken yet"}


def measured_text(measured: Measured) -> str:
    """`612 ms (588 ms to 701 ms)`; a dash where nothing is known, and an open end of the interval as +∞."""
    if measured.infinite:
        value = "+∞"
    elif measured.value is None:
        return "–"
    else:
        value = shown(measured.value, measured.unit)
    if measured.low is None:
        return value
    high = "+∞" if measured.high is None else shown(measured.high, measured.unit)
    return f"{value} ({shown(measured.low, measured.unit)} to {high})"


def _of_class(result: ObjectiveResult) -> str:
    return result.text if result.class_name is None else f"{result.class_name}: {result.text}"


def _budget(result: StageResult) -> str:
    return f"{result.of} p{result.percent:g}: {result.stage} <= {shown(result.budget_s, 's')}"
