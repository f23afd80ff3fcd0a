"""When requests are sent: a rate over time, and the gaps around it.

Arrivals of a varying rate come from arrivals of rate one by stretching time: the n-th arrival is where
the integral of the rate reaches the n-th arrival of the unit process. So every rate curve works with
every kind of gap, and a Poisson process stays a Poisson process (Cinlar's inversion).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from harness.arrivals.gaps import Floats, Gaps, gap_law, unit_arrivals
from harness.errors import UsageError

__all__ = ["Gaps", "Piece", "arrival_times", "describe_pacing", "expected_count", "pieces_of", "unit_times"]

# Judgement: a slip of the pen would be planned for hours.
_MOST_RATE = 1e6  # requests a second
_MOST_ARRIVALS = 20_000_000


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of time, with one rate in requests per second, or one that changes linearly to `end_rate`. Raises UsageError
    for a rate that nobody sends."""

    start_s: float
    end_s: float
    rate: float
    phase: str
    end_rate: float | None = None

    def __post_init__(self) -> None:
        if not (self.rate <= _MOST_RATE and self.last_rate <= _MOST_RATE):
            raise UsageError(
                f"a rate of {max(self.rate, self.last_rate):g}/s is more than anybody sends; write at most {_MOST_RATE:g}/s"
            )

    @property
    def area(self) -> float:
        """The integral of the rate."""
        return (self.rate + self.last_rate) / 2 * (self.end_s - self.start_s)

    def reaches(self, area: float) -> float:
        """The instant at which the integral of the rate from the start on is `area`, which is not more than the whole.

        With rate a and slope b that is the t with a·t + b·t²/2 = area; the root is written so that it also holds for b = 0
        and loses no digits for small ones.
        """
        if area <= 0:
            return self.start_s
        length = self.end_s - self.start_s
        slope = (self.last_rate - self.rate) / length
        after = 2 * area / (self.rate + sqrt(max(0.0, self.rate**2 + 2 * slope * area)))
        return self.start_s + min(after, length)

    def until(self, end_s: float) -> Piece:
        """The part before `end_s`, which lies inside."""
        if end_s >= self.end_s:
            return self
        share = (end_s - self.start_s) / (self.end_s - self.start_s)
        last = None if self.end_rate is None else self.rate + (self.end_rate - self.rate) * share
        return Piece(self.start_s, end_s, self.rate, self.phase, last)

    @property
    def last_rate(self) -> float:
        """The rate at the end."""
        return self.rate if self.end_rate is None else self.end_rate


def expected_count(pieces: Sequence[Piece]) -> float:
    """The integral of the rate: how many arrivals to expect."""
    return sum(piece.area for piece in pieces)


def arrival_times(pieces: Sequence[Piece], gaps: Gaps, generator: np.random.Generator) -> Iterator[tuple[float, str]]:
    """The instants of arrivals with the phase each falls into, in order.

    Drawn gaps begin in equilibrium, so that the expected number up to any instant is the integral of the rate up to it;
    `constant` starts half a gap after the beginning. Nothing is rescaled afterwards to hit a count. Raises UsageError for
    more arrivals than anybody can have meant: they would be counted for hours before the first is sent.
    """
    if (num := expected_count(pieces)) > _MOST_ARRIVALS:
        raise UsageError(
            f"the plan holds about {num:,.0f} requests, more than {_MOST_ARRIVALS:,}; lower the rate or the time"
        )
    units = unit_arrivals(gap_law(gaps), generator)
    unit = next(units)
    passed = at = 0.0  # integral of the rate up to the current piece, and the latest instant
    for piece in pieces:
        area = piece.area
        while unit < passed + area:
            at = max(at, piece.reaches(unit - passed))  # next to no gap, and rounding would put the later one first
            yield at, piece.phase
            unit = next(units)
        passed += area


def unit_times(pieces: Sequence[Piece], instants: Floats) -> Floats:
    """Instants on the clock on which the rate is one: the integral of the rate up to each. There the gaps of a plan have
    the law they were drawn from (the theorem of time rescaling)."""
    starts, ends, first, last, areas = (
        np.array(column)
        for column in zip(*((p.start_s, p.end_s, p.rate, p.last_rate, p.area) for p in pieces), strict=True)
    )
    passed = np.concatenate([[0.0], np.cumsum(areas)])
    place = np.maximum(np.searchsorted(starts, instants, side="right") - 1, 0)
    length = (ends - starts)[place]
    inside = np.clip(instants - starts[place], 0.0, length)
    slope = (last - first)[place] / length
    return np.asarray(passed[place] + first[place] * inside + slope / 2 * inside**2, dtype=np.float64)


def describe_pacing(pieces: Sequence[Piece], gaps: Gaps) -> dict[str, object]:
    """Words and numbers for a manifest, from which `pieces_of` and the law of the gaps can be read again."""
    return {
        "arrivals": f"{gaps}, rate in {len(pieces)} pieces",
        "gaps": str(gaps),
        "pieces": [[piece.start_s, piece.end_s, piece.rate, piece.phase, piece.end_rate] for piece in pieces],
        "expected_count": expected_count(pieces),
    }


def pieces_of(described: Sequence[Sequence[Any]]) -> list[Piece]:
    """The pieces that `describe_pacing` wrote."""
    return [Piece(*each) for each in described]
