"""Runs for gates, of which a test says only what it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.gate.facts import JudgedRun, RunFacts
from harness.judgement.measures import Measured
from harness.judgement.measuring import parse_measure
from harness.judgement.results import Answer, ObjectiveResult
from tests.harness.builders import manifest


def value(name: str, number: float | None, **fields: Any) -> Measured:
    """A measure with this value."""
    measure = parse_measure(name)
    return Measured(name=measure.name, unit=measure.unit, better=measure.better, value=number, num=100, **fields)


def judged(name: str, measures: Mapping[str, float | Measured | None], **fields: Any) -> JudgedRun:
    """A valid run with these measures. Real time, unless said otherwise."""
    state, reasons = fields.pop("state", "VALID"), fields.pop("reasons", [])
    found = {each: number if isinstance(number, Measured) else value(each, number) for each, number in measures.items()}
    about = manifest(**({"run_id": name, "ended_at": 10.0} | fields))
    facts = RunFacts(
        run_id=name, started_wall=about.started_wall, state=state, reasons=reasons, num_requests=100, measures=found
    )
    return JudgedRun(name, about, facts)


def by_seed(prefix: str, columns: Mapping[str, Sequence[float | None]], **fields: Any) -> list[JudgedRun]:
    """Runs in virtual time, seeds 0, 1, 2 …; a column is the values of one measure."""
    num = len(next(iter(columns.values())))
    fields = {"clock": "virtual", "state": "NONE"} | fields
    return [
        judged(f"{prefix}{seed}", {name: column[seed] for name, column in columns.items()}, seed=seed, **fields)
        for seed in range(num)
    ]


def in_order(
    order: str, candidate: Sequence[float], baseline: Sequence[float]
) -> tuple[list[JudgedRun], list[JudgedRun]]:
    """Runs in real time, a minute apart, A the baseline, with these values of `e2e_p50(ok)`; seconds of each run: ten."""
    sides: dict[str, list[JudgedRun]] = {"A": [], "B": []}
    values = {"A": iter(baseline), "B": iter(candidate)}
    for place, side in enumerate(order):
        name = f"{side}{len(sides[side])}"
        sides[side].append(judged(name, {"e2e_p50(ok)": next(values[side])}, started_wall=1.7e9 + 60 * place))
    return sides["B"], sides["A"]


def objective(text: str, answer: Answer, number: float | None = 0.1, class_name: str | None = None) -> ObjectiveResult:
    return ObjectiveResult(
        text=text,
        class_name=class_name,
        answer=answer,
        measured=value("ttft_p99", number),
        bound=0.8,
        why=f"{answer} why",
    )
