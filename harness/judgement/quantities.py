"""Quantities of measures as people write them and as they are shown: `800 ms`, `95 %`, `$4`, `20/s`, `0.5 J`."""

from __future__ import annotations

import re
from math import floor, isinf, log10

from harness.errors import UsageError
from harness.judgement.measures import Unit
from harness.units import parse_duration, parse_rate

__all__ = ["parse_quantity", "parse_share", "shown"]

_NUMBER = r"\d+(?:\.\d+)?"
_SHARE = re.compile(rf"({_NUMBER})\s*(%?)")
_MONEY = re.compile(rf"\$\s*({_NUMBER})")
_ENERGY = re.compile(rf"({_NUMBER})\s*(mJ|J|kJ)")
_JOULES = {"mJ": 1e-3, "J": 1.0, "kJ": 1e3}


def parse_quantity(text: str, unit: Unit) -> float:
    """The number behind a quantity in this unit. Raises UsageError, which says how to write it."""
    text = text.strip()
    if unit == "s":
        return _duration(text)
    if unit == "share":
        return parse_share(text)
    if unit == "usd":
        if not (found := _MONEY.fullmatch(text)):
            raise UsageError(f"{text!r} is no sum of money; write $4, $0.05")
        return float(found[1])
    if unit == "joule":
        if not (found := _ENERGY.fullmatch(text)):
            raise UsageError(f"{text!r} is no energy; write 0.5 J, 300 mJ")
        return float(found[1]) * _JOULES[found[2]]
    return parse_rate(text.replace(" ", ""))


def _duration(text: str) -> float:
    if re.fullmatch(_NUMBER, text):  # 800 is 800 s to one reader and 800 ms to another
        raise UsageError(f"{text!r} has no unit; write {text}ms or {text}s")
    return parse_duration(text)


def parse_share(text: str, most: float = 1.0) -> float:
    """`95 %` or `0.95`, at most `most`. Raises UsageError."""
    found = _SHARE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"{text.strip()!r} is no share; write 95 % or 0.95")
    value = float(found[1]) / (100 if found[2] else 1)
    if not found[2] and value > 1:
        raise UsageError(f"{text.strip()!r} is more than the whole, which is 1; write {found[1]} %")
    if value > most:
        raise UsageError(f"{text.strip()!r} is more than {most * 100:g} %")
    return value


def shown(value: float, unit: Unit) -> str:
    """A value with its unit, three significant digits or as many as it takes to be exact about whole numbers."""
    if isinf(value):
        return "+∞"
    if unit == "s":
        return f"{_digits(value)} s" if abs(value) >= 10 else f"{_digits(value * 1e3)} ms"
    if unit == "share":
        return f"{_percent(value)} %"
    if unit == "usd":
        return f"${_digits(value)}"
    return f"{_digits(value)} J" if unit == "joule" else f"{_digits(value)}/s"


def _percent(share: float) -> str:
    """Three digits of what is there or of what is missing: 99.95 % and 99.99 % are not the same."""
    part = 100 * (min(share, 1 - share) if 0 < share < 1 else share)
    decimals = 0 if part <= 0 else min(6, max(0, 2 - floor(log10(part))))
    text = f"{share * 100:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _digits(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"
