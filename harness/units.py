"""Durations and rates as people write them: `90`, `500ms`, `2m`, `1h30m`; `20/s`, `300/min`, a bare number per second."""

from __future__ import annotations

import re
from math import inf

from harness.errors import UsageError

__all__ = ["parse_duration", "parse_rate", "parse_window"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|min|s|m|h|d)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_ZERO = re.compile(r"(?:0+(?:\.0+)?(?:ms|min|s|m|h|d)?)*")  # also nothing at all: `:5s` starts at the beginning


def parse_duration(text: str) -> float:
    """Seconds. Raises UsageError for anything that is not a positive duration."""
    compact = text.strip().replace(" ", "")
    if _NUMBER.fullmatch(compact):
        seconds = float(compact)
    elif compact and re.fullmatch(f"(?:{_PART.pattern})+", compact):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(compact))
    else:
        raise UsageError(f"{text!r} is not a duration; write 90, 90s, 500ms, 2m, 1h30m")
    if not 0 < seconds < inf:
        raise UsageError(f"{text!r} is not a positive duration")
    return seconds


def parse_rate(text: str) -> float:
    """Requests per second. Raises UsageError for anything that is not a positive rate."""
    number, slash, unit = text.strip().partition("/")
    if not _NUMBER.fullmatch(number) or (slash and unit not in _UNITS) or not 0 < float(number) < inf:
        raise UsageError(f"{text!r} is not a rate; write 20, 20/s, 300/min, 5000/h")
    return float(number) / _UNITS[unit or "s"]


def parse_window(text: str) -> tuple[float, float]:
    """A piece of a trace: `120s` is the first 120 seconds, `10m:12m` what lies between. Returns (from, to) in seconds."""
    start_text, colon, end_text = text.partition(":")
    if not colon:
        return 0.0, parse_duration(text)
    try:
        start = 0.0 if _ZERO.fullmatch(start_text.strip()) else parse_duration(start_text)
        end = parse_duration(end_text)
    except UsageError as error:
        raise UsageError(f"window {text!r}: {error}; write 120s or 10m:12m") from None
    if end <= start:
        raise UsageError(f"window {text!r} ends at {end:g} s, before it starts at {start:g} s")
    return start, end
