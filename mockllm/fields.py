"""The kinds of values that profile and deployment files are made of. Unknown keys, wrong types and NaN are errors."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = [
    "Count",
    "Duration",
    "ModelName",
    "Name",
    "PerMinute",
    "Positive",
    "Seconds",
    "Share",
    "Spread",
    "Strict",
    "duration_text",
    "parse_duration",
]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|min|s|m|h|d)")
_RATE = re.compile(r"(\d+(?:\.\d+)?)/(s|min|h|d)")


class Strict(BaseModel):
    """Unknown keys, wrong types and NaN are errors; in strict mode an int still passes for a float."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def parse_duration(value: object) -> float:
    """Seconds from `90s`, `500ms`, `1h30m`. Raises ValueError for anything else: a bare number has no unit."""
    text = value.replace(" ", "") if isinstance(value, str) else ""
    if not text or not re.fullmatch(f"(?:{_PART.pattern})+", text):
        raise ValueError(f"{value!r} is not a duration; write it with its unit: 500ms, 90s, 10m, 1h30m, 1d")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def duration_text(seconds: float) -> str:
    """For people: whole seconds from a minute on as days, hours, minutes and seconds, anything else to four digits."""
    if seconds < 60 or seconds % 1:
        return f"{seconds * 1e3:.4g} ms" if 0 < seconds < 1 else f"{seconds:.4g} s"
    words, left = [], int(seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        num, left = divmod(left, length)
        words += [f"{num} {unit}"] if num else []
    return " ".join(words)


def _per_minute(value: object) -> float:
    matched = _RATE.fullmatch(value.replace(" ", "")) if isinstance(value, str) else None
    if matched is None:
        raise ValueError(f"{value!r} is not a rate; write it with its unit: 500/min, 20/s, 1000000/d")
    return float(matched[1]) * 60 / _UNITS[matched[2]]


Positive = Annotated[float, Field(gt=0)]
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,60}$")]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]
Duration = Annotated[float, BeforeValidator(parse_duration)]  # `10m` in the file, 600.0 seconds in the program
PerMinute = Annotated[float, BeforeValidator(_per_minute), Field(gt=0)]  # `20/s` in the file, 1200.0 in the program
