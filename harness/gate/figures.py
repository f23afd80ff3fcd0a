"""Figures of a gate as text: values with their unit, changes with their sign."""

from __future__ import annotations

from collections.abc import Sequence

from harness.gate.result import GatedMeasure, GateResult
from harness.judgement.measures import Unit
from harness.plain import plain

__all__ = [
    "allowed_change", "change_text", "headline", "interval_text", "mean_value", "measure_cells", "plain", "value_text",
]  # fmt: skip


def value_text(value: float | None, unit: Unit) -> str:
    """A value, three to four significant digits; a dash for none."""
    if value is None:
        return "–"
    if unit == "s":
        return f"{value * 1e3:,.4g} ms" if value < 10 else f"{value:,.4g} s"
    if unit == "share":
        return f"{value:.2%}"
    if unit == "usd":
        return f"${value:,.4g}"
    return f"{value:,.4g} J" if unit == "joule" else f"{value:,.4g}/s"


def mean_value(values: Sequence[float | None]) -> float | None:
    """The mean over runs, to look at; what is judged is the mean of logarithms."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def change_text(change: float | None, unit: Unit) -> str:
    """A change with its sign: per cent, or percentage points of a share."""
    if change is None:
        return "–"
    digits = 2 if abs(change) < 0.1 else 1
    return f"{change * 100:+.{digits}f}{' pp' if unit == 'share' else '%'}"


def interval_text(measure: GatedMeasure) -> str:
    """The 95 % interval of the change, or a dash."""
    if measure.low is None or measure.high is None:
        return "–"
    return f"{change_text(measure.low, measure.unit)} … {change_text(measure.high, measure.unit)}"


def allowed_change(measure: GatedMeasure) -> float:
    """What is allowed, with the sign of a change for the worse."""
    return measure.allowed if measure.better == "lower" else -measure.allowed


def headline(result: GateResult) -> str:
    """The answer in one line."""
    candidates, baselines = (sum(run.side == side for run in result.runs) for side in ("candidate", "baseline"))
    against = f" against {_runs(baselines, 'baseline')}" if baselines else ""
    return f"{result.answer}: {_runs(candidates, 'candidate')}{against}, {result.arrangement}"


def _runs(num: int, side: str) -> str:
    return f"{num} {side} run{'s' if num != 1 else ''}"


def measure_cells(measure: GatedMeasure) -> tuple[str, ...]:
    """Measure, answer, baseline, candidate, change, its interval, allowed, p of "not worse than allowed", detectable: the same words in
    every output."""
    unit = measure.unit
    return (
        measure.name,
        measure.answer,
        value_text(mean_value(measure.baselines), unit),
        value_text(mean_value(measure.candidates), unit),
        change_text(measure.change, unit),
        interval_text(measure),
        change_text(allowed_change(measure), unit),
        "–" if measure.p_worse_adjusted is None else f"{measure.p_worse_adjusted:.3f}",
        change_text(measure.detectable, unit),
    )
