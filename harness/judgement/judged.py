"""The answer of a run that was given objectives: the run's own, and what became of each objective."""

from __future__ import annotations

from collections.abc import Sequence

from harness.judgement.results import Alert, NotWatched, ObjectiveResult, StageResult

__all__ = ["bounds_errors", "overall"]

_MOST_REASONS = 8


def overall(
    run_answer: str,
    results: Sequence[ObjectiveResult] | Sequence[StageResult] | Sequence[ObjectiveResult | StageResult],
    alerts: Sequence[Alert] = (),
    not_watched: Sequence[NotWatched] = (),
) -> tuple[str, list[str]]:
    """FAIL if anything failed, else INCONCLUSIVE if anything is, else PASS; what is INVALID stays so and says nothing more.

    `run_answer` is the run's without objectives; with `bounds_errors` a request that failed is none of its reasons. An alert
    counts where the file says `fail: true`. The reasons are those of this answer, without the run's own.
    """
    if run_answer == "INVALID":
        return run_answer, []
    said = {
        "FAIL": [*_of(results, "FAIL"), *(f"alert {each.kind}: {each.text}" for each in alerts if each.fail)],
        "INCONCLUSIVE": [
            *_of(results, "INCONCLUSIVE"),
            *(f"alert {each.kind} was not watched: {each.why}" for each in not_watched if each.fail),
        ],
    }
    for answer, reasons in said.items():
        if reasons or run_answer == answer:
            return answer, _shortened(reasons)
    num = len(results)
    return "PASS", [f"{num} {'objective is' if num == 1 else 'objectives are'} met"] if num else []


def bounds_errors(results: Sequence[ObjectiveResult | StageResult]) -> bool:
    """Whether an objective says how many requests of the whole run may fail, so that one that fails does not yet fail the run."""
    names = [each.measured.name for each in results if isinstance(each, ObjectiveResult) and each.class_name is None]
    return any(name in ("error_rate", "goodput") or name.startswith("goodput(") for name in names)


def _of(results: Sequence[ObjectiveResult | StageResult], answer: str) -> list[str]:
    return [_said(each) for each in results if each.answer == answer]


def _said(result: ObjectiveResult | StageResult) -> str:
    if isinstance(result, StageResult):
        return f"budget {result.of} p{result.percent:g} {result.stage}: {result.why}"
    whose = "" if result.class_name is None else f"{result.class_name}: "
    return f"{whose}{result.text}: {result.why}"


def _shortened(reasons: list[str]) -> list[str]:
    more = len(reasons) - _MOST_REASONS
    return reasons if more <= 0 else [*reasons[:_MOST_REASONS], f"and {more} more"]
