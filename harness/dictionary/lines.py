"""Figures in rows: how a tool's number, ours and the reason for the difference are put together."""

from __future__ import annotations

from harness.dictionary.figures import Figure
from harness.dictionary.spread import Spread

__all__ = ["STATISTICS", "number", "spread"]

STATISTICS = ("mean", "median", "p99")
_NONE_THERE = "No request of this run has such a sample."


def number(name: str, unit: str, value: float | None, ours: float | None, formula: str, why: str) -> Figure:
    """One figure."""
    return Figure(name=name, value=value, unit=unit, ours=ours, formula=formula, why=why)


def spread(
    name: str, unit: tuple[str, float], theirs: Spread, ours: Spread | None, formula: str, why: str
) -> list[Figure]:
    """Mean, median and p99 of a latency; both sides come in seconds and are told in the tool's unit."""
    label, scale = unit
    other = ours or Spread(None, None, None)
    return [
        Figure(
            name=f"{name} {statistic}",
            value=None if value is None else value * scale,
            unit=label,
            ours=None if own is None else own * scale,
            formula=formula,
            why=why if value is not None else _NONE_THERE,
        )
        for statistic, value, own in zip(STATISTICS, theirs, other, strict=True)
    ]
