"""One measure over all runs: by how much it changed, how sure that is, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.gate.correction import Adjusted, adjusted
from harness.gate.figures import allowed_change, change_text, interval_text
from harness.gate.permutation import Design, Shift, shift_of
from harness.gate.power import detectable_shift, runs_needed, runs_to_say_anything
from harness.gate.result import Answer, GatedMeasure
from harness.gate.rule import LEVEL, Rule
from harness.gate.series import Series
from harness.judgement.measures import Measured
from harness.table import Floats

__all__ = ["judge_series"]


@dataclass(frozen=True)
class _Compared:
    """A measure of which every run has a value: its data for the design, and the shift in them."""

    series: Series
    allowed: float
    margin: float
    data: Floats
    sd: float
    shift: Shift


def _compare(series: Series, rule: Rule, design: Design, *, paired: bool) -> _Compared:
    a, b = series.judged()
    data = a - b if paired else np.concatenate([a, b])
    allowed = rule.allowed_of(series.name)
    sd = _spread(data) if paired else float(np.hypot(_spread(a), _spread(b)) / 2**0.5)
    return _Compared(series, allowed, series.margin(allowed), data, sd, shift_of(design, data))


def _spread(values: Floats) -> float:
    """The standard deviation; what is left of equal numbers by rounding is none."""
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return spread if spread > 1e-12 else 0.0


def judge_series(
    series: Sequence[Series], rule: Rule, design: Design, *, paired: bool, drift: str | None
) -> list[GatedMeasure]:
    """Every measure with its answer, corrected for their number. `drift`: why none can be had; None: it can."""
    compared = {each.name: _compare(each, rule, design, paired=paired) for each in series if each.missing is None}
    worse = [each.data - each.margin * design.direction for each in compared.values()]
    joint = adjusted(design, np.array(worse).T, LEVEL) if worse else Adjusted((), 0.0)
    p_adjusted = dict(zip(compared, joint.p, strict=True))
    level = joint.critical or LEVEL / max(1, len(compared))
    found = []
    for each in series:
        if each.name not in compared:
            found.append(_not_compared(each, rule))
            continue
        one = compared[each.name]
        measure = _measured(one, design, p_adjusted[each.name], level, paired=paired)
        measure.answer, measure.why = _answer(measure, design, level, paired=paired)
        if drift is not None:
            measure.answer, measure.why = "INCONCLUSIVE", drift
        found.append(measure)
    return found


def _not_compared(series: Series, rule: Rule) -> GatedMeasure:
    return GatedMeasure(
        name=series.name,
        unit=series.unit,
        better=series.better,
        answer="INCONCLUSIVE",
        why=series.missing or "",
        allowed=rule.allowed_of(series.name),
        candidates=[_value(each) for each in series.candidates],
        baselines=[_value(each) for each in series.baselines],
        num_infinite=series.num_infinite,
    )


def _value(measured: Measured | None) -> float | None:
    return None if measured is None else measured.value


def _measured(one: _Compared, design: Design, p_adjusted: float, level: float, *, paired: bool) -> GatedMeasure:
    """The measure with all its figures, not yet answered."""
    series, shift = one.series, one.shift
    measure = _not_compared(series, Rule(allowed={series.name: one.allowed}))
    measure.p_worse, measure.p_not_worse = shift.p_above(one.margin), shift.p_below(one.margin)
    measure.p_worse_adjusted = p_adjusted
    if series.num_infinite:
        return measure  # how much worse +∞ is nobody can say
    measure.change = series.change(shift.estimate)
    ends = shift.interval()
    if ends is not None:
        measure.low, measure.high = sorted(series.change(end) for end in ends)
    measure.effect_size = series.judged_sign * shift.estimate / one.sd if one.sd else None
    seen = detectable_shift(design, one.sd, one.margin, level)
    measure.detectable = None if seen is None else series.change(seen)
    gap = shift.estimate - one.margin
    measure.num_needed = runs_needed(abs(gap), one.sd, level if gap > 0 else LEVEL, paired=paired)
    return measure


def _answer(measure: GatedMeasure, design: Design, level: float, *, paired: bool) -> tuple[Answer, str]:
    assert measure.p_worse_adjusted is not None
    assert measure.p_not_worse is not None
    seen = f"{change_text(measure.change, measure.unit)} ({interval_text(measure)})"
    if measure.num_infinite:
        seen = f"+∞ in {measure.num_infinite} of {len(measure.candidates)} candidate runs"
    seen += f", {change_text(allowed_change(measure), measure.unit)} allowed"
    if measure.p_worse_adjusted <= LEVEL:
        return "FAIL", seen
    if measure.p_not_worse <= LEVEL:
        return "PASS", seen
    if 1 / design.num > LEVEL:
        num, least = len(measure.candidates), runs_to_say_anything(LEVEL, paired=paired)
        for_fail = runs_to_say_anything(level, paired=paired)
        fail = f"{least}" if for_fail == least else f"{least} to {for_fail}, as the measures go together"
        return "INCONCLUSIVE", f"{num} runs a side prove nothing; a PASS takes at least {least}, a FAIL {fail}"
    if measure.num_infinite:
        return "INCONCLUSIVE", seen
    if measure.num_needed is None:
        return "INCONCLUSIVE", f"{seen}: too near to each other to be told apart by a thousand runs"
    return "INCONCLUSIVE", f"{seen}: it would take about {measure.num_needed} runs a side"
