"""A comparison as text for a terminal."""

from __future__ import annotations

from harness.history.compare import Comparison, Delta
from harness.history.wording import change_text, measured_text
from harness.judgement.measures import Unit
from harness.plain import plain_lines

__all__ = ["WITHIN_RUN", "comparison_text", "delta_text", "interval_text"]

WITHIN_RUN = "within-run uncertainty; whether a build got worse needs several runs: harness gate"


def comparison_text(comparison: Comparison) -> str:
    """The runs, what forbids the comparison, and a line a measure."""
    lines = [""]
    for side in comparison.sides:
        verdict, state = side.summary.verdict.answer, side.summary.instrument.state
        reference = "  (reference)" if side.letter == "A" else ""
        lines.append(f"  {side.letter}  {verdict:<13}{side.name}, instrument {state}{reference}")
    if comparison.forbidden:
        lines += ["", "  NOT COMPARABLE:", *(f"    {text[:200]}" for text in comparison.forbidden)]
    letters = [side.letter for side in comparison.sides]
    lines += [
        "",
        f"  {'':<22}{letters[0]:>14}" + "".join(f"{each:>14}{'change':>15}{'':31}" for each in letters[1:]).rstrip(),
    ]
    for row in comparison.rows:
        cells = f"{measured_text(row.measured[0]):>14}"
        for measured, delta in zip(row.measured[1:], row.deltas[1:], strict=True):
            cells += f"{measured_text(measured):>14}{delta_text(delta, row.unit):>15}"
            cells += f"  {interval_text(delta, row.unit):<22}{'' if delta is None else delta.tone:<7}"
        lines.append(f"  {row.name:<22}{cells}".rstrip())
    return plain_lines([*lines, "", f"  [ ] 95 % intervals: {WITHIN_RUN}"])


def delta_text(delta: Delta | None, unit: Unit) -> str:
    return change_text(None if delta is None else delta.value, unit)


def interval_text(delta: Delta | None, unit: Unit) -> str:
    """The 95 % interval of a change; nothing where there is none."""
    if delta is None or delta.low is None or delta.high is None:
        return ""
    return f"[{change_text(delta.low, unit)}, {change_text(delta.high, unit)}]".replace(" points", "").replace(" %", "")
