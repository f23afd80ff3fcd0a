"""Objectives of a candidate that has several runs: each run is judged by itself, and the answers are joined.

A run's answer is wrong at most once in twenty when the truth lies on the bound itself (`harness.judgement`); of eight runs
one would then be wrong every third time. So as many runs must agree as chance would bring together once in twenty at the
most: 1 of 1, 2 of 2 to 7, 3 of 8 to 16 (the binomial distribution at 5 %).
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.gate.result import Answer, GatedObjective
from harness.gate.rule import LEVEL
from harness.judgement.binomial import incomplete_beta
from harness.judgement.results import ObjectiveResult

__all__ = ["agreeing_runs", "over_runs"]


def agreeing_runs(num_runs: int) -> int:
    """How many of so many runs must give an answer before it is that of all."""
    num = 1
    while num < num_runs and incomplete_beta(LEVEL, num, num_runs - num + 1) > LEVEL + 1e-9:
        num += 1
    return num


def over_runs(results: Sequence[Sequence[ObjectiveResult]]) -> list[GatedObjective]:
    """`results` by run. Objectives in the order of the file; what too few runs agree on is INCONCLUSIVE."""
    found: dict[tuple[str | None, str], list[ObjectiveResult]] = {}
    for of_run in results:
        for result in of_run:
            found.setdefault((result.class_name, result.text), []).append(result)
    return [_joined(each) for each in found.values()]


def _joined(results: Sequence[ObjectiveResult]) -> GatedObjective:
    answers = [result.answer for result in results]
    needed, num = agreeing_runs(len(answers)), len(answers)
    answer: Answer = "INCONCLUSIVE"
    if answers.count("PASS") >= needed:
        answer = "PASS"
    if answers.count("FAIL") >= needed:
        answer = "FAIL"
    counts = ", ".join(f"{answers.count(name)} {name}" for name in ("PASS", "FAIL", "INCONCLUSIVE") if name in answers)
    example = next((result.why for result in results if result.answer == answer), results[0].why)
    asks = f"; {needed} must agree" if answer == "INCONCLUSIVE" and num > 1 else ""
    return GatedObjective(
        text=results[0].text,
        class_name=results[0].class_name,
        answer=answer,
        why=f"{counts} of {num} runs{asks}: {example}" if num > 1 else example,
        answers=list(answers),
        values=[result.measured.value for result in results],
    )
