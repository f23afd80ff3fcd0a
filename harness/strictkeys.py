"""What keys of a workload file may hold: quantities with units, counts, shares, names. Wrong types and NaN are errors."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from harness.errors import UsageError
from harness.units import parse_duration, parse_rate

__all__ = ["Count", "Duration", "Keys", "Name", "NotNegative", "Positive", "Rate", "Share", "checked"]


class Keys(BaseModel):
    """Unknown keys, wrong types and NaN are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=False)


def checked(parse: Any, value: object) -> Any:
    """`parse(value)`, with a UsageError as what pydantic reports."""
    try:
        return parse(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _quantity(parse: Any, example: str) -> BeforeValidator:
    def read(value: object) -> Any:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} has no unit; write it with one, as {example}")
        return checked(parse, value)

    return BeforeValidator(read)


Count = Annotated[int, Field(ge=1, le=10_000_000)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Duration = Annotated[float, _quantity(parse_duration, "10m")]
Rate = Annotated[float, _quantity(parse_rate, "20/s")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/ -]{0,99}$")]  # fits into a header
