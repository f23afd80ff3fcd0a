"""The gate: did the candidate get worse than is allowed, and how sure is that?

The run is the unit: requests of one run share its machine, its minute and its queue, and a test that takes them for
independent raises false alarms by the quarter. FAIL: some measure is proven worse than allowed. PASS: every measure is
proven not to be. INVALID: a run cannot be believed, or runs disturbed each other. INCONCLUSIVE is everything else, and
says what an answer would take.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import UsageError
from harness.gate.comparable import differences, remarks
from harness.gate.comparing import judge_series
from harness.gate.facts import JudgedRun
from harness.gate.objectives import over_runs
from harness.gate.pairing import Arrangement, arrange
from harness.gate.permutation import paired_design, unpaired_design
from harness.gate.result import Answer, GatedMeasure, GatedObjective, GatedRun, GateResult
from harness.gate.rule import Rule
from harness.gate.series import Series, series_of
from harness.judgement.results import ObjectiveResult
from harness.verdict import EXIT_CODES

__all__ = ["gate", "gate_objectives"]


def gate(
    candidates: Sequence[JudgedRun],
    baselines: Sequence[JudgedRun],
    rule: Rule,
    objectives: Sequence[Sequence[ObjectiveResult]] = (),
) -> GateResult:
    """Judge candidates against baselines; `objectives` are the results of every candidate run.

    Raises UsageError for runs that cannot be compared, and says what differs.
    """
    _require_comparable(candidates, baselines)
    arrangement = arrange(candidates, baselines)
    candidates, baselines = _in_order(candidates, baselines, arrangement)
    series, left_out = _series(candidates, baselines, rule)
    paired = arrangement.pairs is not None
    design = paired_design(len(candidates)) if paired else unpaired_design(len(candidates), len(baselines))
    invalid = [*_invalid(candidates, baselines), *arrangement.overlaps]
    measures = judge_series(series, rule, design, paired=paired, drift=arrangement.drift)
    joined = over_runs(objectives)
    if invalid:
        _withdraw([*measures, *joined])
    answer, reasons = _overall(invalid, measures, joined)
    return GateResult(
        answer=answer,
        exit_code=EXIT_CODES[answer],
        reasons=reasons,
        notes=_notes(candidates, baselines, arrangement),
        arrangement=arrangement.words,
        order=arrangement.order,
        paired=paired,
        num_relabellings=design.num,
        runs=[*_runs(candidates, "candidate"), *_runs(baselines, "baseline")],
        measures=measures,
        objectives=joined,
        left_out=left_out,
    )


def gate_objectives(candidates: Sequence[JudgedRun], objectives: Sequence[Sequence[ObjectiveResult]]) -> GateResult:
    """Judge runs by objectives alone: there is no baseline, so nothing is said about having got worse."""
    invalid, joined = _invalid(candidates, []), over_runs(objectives)
    if invalid:
        _withdraw(joined)
    answer, reasons = _overall(invalid, [], joined)
    return GateResult(
        answer=answer,
        exit_code=EXIT_CODES[answer],
        reasons=reasons,
        notes=["there is no baseline: whether it got worse was not asked"],
        arrangement="without a baseline",
        order="",
        paired=False,
        num_relabellings=0,
        runs=_runs(candidates, "candidate"),
        measures=[],
        objectives=joined,
        left_out={},
    )


# -- what is compared --------------------------------------------------------------------------------


def _require_comparable(candidates: Sequence[JudgedRun], baselines: Sequence[JudgedRun]) -> None:
    if not candidates or not baselines:
        raise UsageError(
            "a gate needs at least one candidate run and one baseline run: harness gate RUN... --baseline RUN..."
        )
    first = baselines[0]
    for run in (*candidates, *baselines):
        if found := differences(first.manifest, run.manifest):
            raise UsageError(f"{first.name} and {run.name} cannot be compared; they differ in {'; '.join(found)}")


def _in_order(
    candidates: Sequence[JudgedRun], baselines: Sequence[JudgedRun], arrangement: Arrangement
) -> tuple[list[JudgedRun], list[JudgedRun]]:
    """Pairs at the same place."""
    if arrangement.pairs is None:
        return list(candidates), list(baselines)
    return [candidates[place] for place, _ in arrangement.pairs], [baselines[place] for _, place in arrangement.pairs]


def _series(
    candidates: Sequence[JudgedRun], baselines: Sequence[JudgedRun], rule: Rule
) -> tuple[list[Series], dict[str, str]]:
    """The measures, but for the default ones that no run has."""
    every = [series_of(name, candidates, baselines) for name in rule.names]
    left_out = {} if rule.measures else {each.name: each.nowhere for each in every if each.nowhere is not None}
    return [each for each in every if each.name not in left_out], left_out


def _invalid(candidates: Sequence[JudgedRun], baselines: Sequence[JudgedRun]) -> list[str]:
    return [
        f"{run.name} is INVALID: {'; '.join(run.facts.reasons)}"
        for run in (*candidates, *baselines)
        if run.facts.state == "INVALID"
    ]


# -- all of them -------------------------------------------------------------------------------------


def _withdraw(judged: Sequence[GatedMeasure | GatedObjective]) -> None:
    """Nothing can be concluded from runs that are not valid."""
    for each in judged:
        each.answer, each.why = "INVALID", "a run is not valid"


def _overall(
    invalid: list[str], measures: Sequence[GatedMeasure], objectives: Sequence[GatedObjective]
) -> tuple[Answer, list[str]]:
    if invalid:
        return "INVALID", invalid
    named: list[tuple[str, GatedMeasure | GatedObjective]] = [(each.name, each) for each in measures]
    named += [(each.text, each) for each in objectives]
    if not named:
        return "INCONCLUSIVE", ["there is nothing to compare: no run has any of the measures"]
    answers: tuple[Answer, ...] = ("FAIL", "INCONCLUSIVE")
    for answer in answers:
        whys: dict[str, list[str]] = {}
        for name, each in named:
            if each.answer == answer:
                whys.setdefault(each.why, []).append(name)
        if whys:
            return answer, [f"{', '.join(names)}: {why}" for why, names in whys.items()]
    met = [f"{len(measures)} measures proven not to be worse than allowed"] if measures else []
    return "PASS", [*met, *([f"{len(objectives)} objectives met"] if objectives else [])]


def _notes(candidates: Sequence[JudgedRun], baselines: Sequence[JudgedRun], arrangement: Arrangement) -> list[str]:
    notes = list(arrangement.notes)
    for run in (*candidates, *baselines):
        if run.facts.state == "DEGRADED":
            notes.append(f"{run.name} is DEGRADED: {'; '.join(run.facts.reasons)}")
    notes += [
        f"baseline and candidate differ in {each}" for each in remarks(baselines[0].manifest, candidates[0].manifest)
    ]
    return notes


def _runs(runs: Sequence[JudgedRun], side: str) -> list[GatedRun]:
    return [
        GatedRun(
            name=run.name,
            side="candidate" if side == "candidate" else "baseline",
            seed=run.manifest.seed,
            started_wall=run.manifest.started_wall,
            state=run.facts.state,
            num_requests=run.facts.num_requests,
        )
        for run in runs
    ]
