"""When requests are sent: a rate that changes in steps, and the gaps around it.

Arrivals of a varying rate come from arrivals of rate one by stretching time: the n-th arrival is where
the integral of the rate reaches the n-th arrival of the unit process. So every rate curve works with
every kind of gap, and a Poisson process stays a Poisson process (Cinlar's inversion).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np

from harness.errors import UsageError

__all__ = ["Gaps", "Piece", "arrival_times", "bursts", "expected_count"]

Gaps = Literal["poisson", "constant"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of time with one rate, requests per second."""

    start_s: float
    end_s: float
    rate: float
    phase: str


def bursts(*, quiet_rate: float, factor: float, every_s: float, for_s: float, duration_s: float) -> list[Piece]:
    """Quiet, then `factor` times the quiet rate for `for_s` seconds, once in every `every_s` seconds.

    A burst lies in the middle of its period, so that a run starts and ends quietly. Raises UsageError when a
    burst does not fit into its period.
    """
    for name, value in (
        ("rate", quiet_rate),
        ("burst factor", factor),
        ("period", every_s),
        ("burst", for_s),
        ("duration", duration_s),
    ):
        if not (value > 0 and isfinite(value)):
            raise UsageError(f"{name} {value:g} must be positive and finite")
    if for_s >= every_s:
        raise UsageError(
            f"a burst of {for_s:g} s does not fit into its period of {every_s:g} s; make it shorter or rarer"
        )
    pieces, period = [], 0
    while (start := period * every_s) < duration_s:
        burst_at = start + (every_s - for_s) / 2
        edges = [
            (start, burst_at, 1.0, "quiet"),
            (burst_at, burst_at + for_s, factor, "burst"),
            (burst_at + for_s, start + every_s, 1.0, "quiet"),
        ]
        for begin, end, times, phase in edges:
            if begin < duration_s:
                pieces.append(Piece(begin, min(end, duration_s), quiet_rate * times, phase))
        period += 1
    return pieces


def expected_count(pieces: Sequence[Piece]) -> float:
    """The integral of the rate: how many arrivals to expect."""
    return sum(piece.rate * (piece.end_s - piece.start_s) for piece in pieces)


def arrival_times(pieces: Sequence[Piece], gaps: Gaps, generator: np.random.Generator) -> Iterator[tuple[float, str]]:
    """The instants of arrivals with the phase each falls into, in order.

    `poisson` draws exponential gaps; `constant` spaces arrivals evenly in proportion to the rate and starts
    half a gap after the beginning. Nothing is rescaled afterwards to hit a count.
    """
    unit = 0.5 if gaps == "constant" else float(generator.exponential())
    passed = 0.0  # integral of the rate up to the current piece
    for piece in pieces:
        area = piece.rate * (piece.end_s - piece.start_s)
        while unit < passed + area:
            yield piece.start_s + (unit - passed) / piece.rate, piece.phase
            unit += 1.0 if gaps == "constant" else float(generator.exponential())
        passed += area
