"""Judging objectives and latency budgets: met with confidence, not met with confidence, or nobody can tell yet.

Each answer by itself is meant to be wrong in at most 5 % of the runs of a system that is exactly at its bound. Percentiles and shares
by exact binomial tests (`early_stopping`), means by Student's statistic, corrected for skewness (`means`: of 100 values as skew as a
lognormal of sigma 1, wrong in 6 %, of sigma 2 in 15 %), both with as many samples as the run's dependent ones are worth
(`dependence`; behind a queue wrong in up to 10 %, tests/judgement/test_dependence.py). What a run knows exactly, like its cost, its rate or its worst, is compared.
A bound that only "none" or "all" can meet (`error_rate <= 0 %`) speaks of the requests of this run, not of those to come.
"""

from __future__ import annotations

from functools import cache
from math import inf, isinf
from statistics import NormalDist

import numpy as np

from harness.judgement.early_stopping import CONFIDENCE, Claim
from harness.judgement.evidence import Evidence, by_request, evidence
from harness.judgement.limits import Limit
from harness.judgement.means import FEWEST, mean_needed, mean_statistic
from harness.judgement.measures import Measured
from harness.judgement.measuring import Subject
from harness.judgement.quantities import shown
from harness.judgement.results import Answer, ObjectiveResult, StageResult
from harness.judgement.slo import Requirement, Slo
from harness.judgement.slo_keys import BudgetKeys
from harness.metrics.latencies import latency
from harness.objectives import ROUNDING_S
from harness.quantiles import nearest_rank, samples_needed
from harness.table import Floats, Mask, Table

__all__ = ["judge_budgets", "judge_objectives"]

Judgement = tuple[Answer, str]

_NEAR = 0.5  # of a bound: who took so long was near it

_ANSWERS: dict[Claim, Answer] = {"proven": "PASS", "refuted": "FAIL", "open": "INCONCLUSIVE"}
_OPPOSITE: dict[Claim, Answer] = {"proven": "FAIL", "refuted": "PASS", "open": "INCONCLUSIVE"}


def judge_objectives(slo: Slo, run: Subject) -> list[ObjectiveResult]:
    """One result an objective, in the order of the file."""

    @cache
    def subject(class_name: str | None) -> Subject:
        if class_name is None:
            return run
        rows = run.table.labels["class_name"].is_(class_name)
        return Subject(run.table.select(rows), run.duration_s, run.objectives, replica_usd=run.replica_usd)

    return [_judge(requirement, subject(requirement.class_name)) for requirement in slo.objectives]


def _judge(requirement: Requirement, subject: Subject) -> ObjectiveResult:
    limit, class_name = requirement.limit, requirement.class_name
    measured = limit.measure.of(subject)
    answer: Answer = "INCONCLUSIVE"
    if class_name is not None and not len(subject.table):
        why = f"no request of class {class_name}"
    else:
        answer, why = _weighed(limit, subject, measured)
    return ObjectiveResult(
        text=limit.text, class_name=class_name, answer=answer, measured=measured, bound=limit.bound, why=why
    )


def _weighed(limit: Limit, subject: Subject, measured: Measured) -> Judgement:
    if not measured.num and measured.why is not None:
        return "INCONCLUSIVE", f"not measured: {measured.why}"
    if limit.measure.percent is not None:
        return _percentile(limit, subject.table, limit.measure.percent)
    if limit.measure.statistic == "mean":
        return _mean(limit, subject.table)
    if limit.measure.rows is not None:
        return _share(limit, *limit.measure.rows(subject), subject.table["intended_at"])
    return _known(limit, measured)


# -- what holds of requests to come --------------------------------------------------------------------------


def _percentile(limit: Limit, table: Table, percent: float) -> Judgement:
    assert limit.measure.samples is not None
    found = limit.measure.samples(table)
    over = _over(found.values, limit.bound, reached=limit.sign in ("<", ">="))
    near = _over(found.values, _NEAR * limit.bound, reached=False)
    return _decided(evidence(over, found.rows, table["intended_at"], near), limit, percent / 100)


def _over(values: Floats, bound: float, *, reached: bool) -> Mask:
    """Which are over the bound; `reached`: those at it, too. Instants are whole microseconds, their differences are not."""
    return np.asarray(values >= bound - ROUNDING_S if reached else values > bound + ROUNDING_S)


def _decided(found: Evidence, limit: Limit, p: float) -> Judgement:
    """A percentile is below a bound when at least the share p is within it, and above when that is refuted."""
    answer = _ANSWERS[found.claim(p)] if limit.is_upper else _OPPOSITE[found.claim(p)]
    where = "at or over" if limit.sign in ("<", ">=") else "over"
    share, rest = shown(found.num_over / found.num, "share"), shown(1 - p, "share")
    seen = f"{found.num_over:,} of {found.num:,} ({share}) {where} {shown(limit.bound, 's')}"
    return answer, f"{seen}, {rest} {'may' if limit.is_upper else 'must'} be{found.in_words(p)}"


def _share(limit: Limit, counted: Mask, hit: Mask, intended_at: Floats) -> Judgement:
    """`error_rate < B`: at least 1 - B of the requests are not hits; `goodput > B`: at least B are."""
    bad = hit if limit.is_upper else ~hit
    p = 1 - limit.bound if limit.is_upper else limit.bound
    rows = np.flatnonzero(counted)
    num, num_hits = len(rows), int(hit[rows].sum())
    seen = f"{num_hits:,} of {num:,}"
    if limit.bound in (0.0, 1.0):
        return "PASS" if limit.holds(num_hits / num) else "FAIL", f"{seen} in this run"
    found = evidence(bad[rows], rows, intended_at)
    return _ANSWERS[found.claim(p)], f"{seen}{found.in_words(p)}"


def _mean(limit: Limit, table: Table) -> Judgement:
    assert limit.measure.samples is not None
    found = limit.measure.samples(table)
    sums, sizes = by_request(found.values, found.rows, table["intended_at"])
    statistic = mean_statistic(sums, sizes, limit.bound)
    if statistic is None:
        return "INCONCLUSIVE", f"{len(sums)} requests; a mean is judged from {FEWEST} on that differ"
    decisive = NormalDist().inv_cdf(CONFIDENCE)
    if abs(statistic) < decisive:
        needed = mean_needed(len(sums), statistic)
        many = "very many" if needed is None else f"about {needed:,}"
        return "INCONCLUSIVE", f"too near the bound for {len(sums):,} requests; {many} would tell"
    held = (statistic < 0) == limit.is_upper
    far = "which do not differ" if isinf(statistic) else f"{abs(statistic):.1f} standard errors from the bound"
    return "PASS" if held else "FAIL", f"{len(sums):,} requests, {far}"


# -- what a run knows of itself ------------------------------------------------------------------------------


def _known(limit: Limit, measured: Measured) -> Judgement:
    value = inf if measured.infinite else measured.value
    if value is None:
        return "INCONCLUSIVE", f"not measured: {measured.why}"
    held = limit.holds(value)
    if measured.num_unknown and not measured.infinite:
        unknown = f"the cost of {measured.num_unknown:,} requests is not known"
        assert measured.low is not None
        assert measured.high is not None
        held = limit.holds(measured.low)
        if limit.holds(measured.high) != held:
            between = f"{shown(measured.low, 'usd')}, if none cost anything, and {shown(measured.high, 'usd')}"
            return "INCONCLUSIVE", f"{unknown}; between {between}, if each was as dear as the dearest"
        return "PASS" if held else "FAIL", f"{unknown}; it makes no difference"
    return (
        "PASS" if held else "FAIL",
        f"{measured.num:,} {'GPUs' if limit.measure.name.startswith('gpu_') else 'requests'}",
    )


# -- budgets -------------------------------------------------------------------------------------------------


def judge_budgets(slo: Slo, table: Table) -> list[StageResult]:
    """One result a stage, of the requests that were answered; those whose connection was open already spent nothing on it."""
    return [
        _stage(budget, stage, budget_s, table) for budget in slo.budgets for stage, budget_s in budget.stages.items()
    ]


def _stage(budget: BudgetKeys, stage: str, budget_s: float, table: Table) -> StageResult:
    rows = np.flatnonzero(table.is_outcome("ok") & ~np.isnan(latency(table, budget.of)))
    values = latency(table, stage)[rows]
    if stage == "connect":  # a connection that was kept took no time; where no byte was seen, nobody knows
        values = np.where(np.isnan(values) & ~np.isnan(table["first_byte_at"][rows]), 0.0, values)
    known = ~np.isnan(values)
    values, rows = values[known], rows[known]
    answer: Answer = "INCONCLUSIVE"
    actual_s, why = None, "not measured: no answered request has this stage"
    if len(values):
        p = budget.at / 100
        over, near = (_over(values, bound, reached=False) for bound in (budget_s, _NEAR * budget_s))
        found = evidence(over, rows, table["intended_at"], near)
        answer = _ANSWERS[found.claim(p)]
        why = f"{found.num_over:,} of {found.num:,} over {shown(budget_s, 's')}, {shown(1 - p, 'share')} may be{found.in_words(p)}"
        if len(values) >= samples_needed(budget.at):
            actual_s = float(np.partition(values, at := nearest_rank(budget.at, len(values)))[at])
    return StageResult(
        stage=stage, percent=budget.at, budget_s=budget_s, actual_s=actual_s, answer=answer, why=why, of=budget.of
    )
