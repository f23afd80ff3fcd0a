"""Measures, their values and their changes as people read them. Milliseconds exist only here."""

from __future__ import annotations

from harness.judgement.measures import Better, Measured, Unit
from harness.text import milliseconds

__all__ = ["amount", "change_text", "is_relative", "measured_text", "tone"]


def is_relative(unit: Unit) -> bool:
    """Whether a change is told as a part of the value; that of a share is told in percentage points."""
    return unit != "share"


def amount(value: float | None, unit: Unit) -> str:
    """A value with its unit; a dash for a missing one."""
    if value is None:
        return "–"
    if unit == "s":
        return f"{milliseconds(value)} ms"
    if unit == "share":
        return f"{value:.2%}".replace("%", " %")
    if unit == "usd":
        return f"${value:,.4f}" if abs(value) >= 0.01 or value == 0 else f"${value:.3g}"
    return f"{value:,.4g} J" if unit == "joule" else f"{value:,.2f}/s"


def measured_text(measured: Measured) -> str:
    """What was measured; why there is nothing is said elsewhere."""
    return "+∞" if measured.infinite else amount(measured.value, measured.unit)


def change_text(change: float | None, unit: Unit) -> str:
    """A change with its sign: 0.05 is +5.0 %, or of a share +5.00 points."""
    if change is None:
        return "–"
    percent = change * 100
    if not is_relative(unit):
        return f"{percent:+.2f} points"
    digits = 2 if abs(percent) < 1 else 1
    return f"{percent:+,.{digits}f} %"


def tone(change: float, better: Better) -> str:
    """`worse`, `better`, or `same`."""
    if change == 0:
        return "same"
    return "worse" if (change > 0) == (better == "lower") else "better"
