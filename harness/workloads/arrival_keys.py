"""`arrivals` of a workload file: when requests come. A curve bends the rate: its factors are times `rate`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from harness.arrivals.curves import bursts, diurnal, markov, ramp, sawtooth, spike, steady, steps
from harness.arrivals.gaps import GapLaw, parse_gaps
from harness.arrivals.pacing import Piece
from harness.errors import UsageError
from harness.strictkeys import Duration, Keys, Name, NotNegative, Positive, Rate, checked

__all__ = ["ArrivalKeys"]


def _gaps(text: str) -> str:
    return str(checked(parse_gaps, text))


class _Ramp(Keys):
    """From `rate` to `factor` times it; the last `hold` of the time stays there."""

    kind: Literal["ramp"]
    factor: NotNegative
    hold_s: Duration = Field(default=0.0, alias="hold")

    def pieces(self, rate: float, duration_s: float, generator: np.random.Generator) -> list[Piece]:
        return ramp(rate, rate * self.factor, duration_s=duration_s, hold_s=self.hold_s)


class _Steps(Keys):
    """One rate after the other, each for an equal share of the time."""

    kind: Literal["steps"]
    factors: Annotated[list[Positive], Field(min_length=1)]

    def pieces(self, rate: float, duration_s: float, generator: np.random.Generator) -> list[Piece]:
        return steps([rate * factor for factor in self.factors], duration_s=duration_s)


class _Burst(Keys):
    """`factor` times the rate for so long, once in `every`."""

    kind: Literal["burst"]
    factor: Positive
    every_s: Duration = Field(alias="every")
    for_s: Duration = Field(alias="for")

    def pieces(self, rate: float, duration_s: float, generator: np.random.Generator) -> list[Piece]:
        return bursts(
            quiet_rate=rate, factor=self.factor, every_s=self.every_s, for_s=self.for_s, duration_s=duration_s
        )


class _Spike(Keys):
    """`factor` times the rate for so long from `at` on, once."""

    kind: Literal["spike"]
    factor: Positive
    at_s: Duration = Field(alias="at")
    for_s: Duration = Field(alias="for")

    def pieces(self, rate: float, duration_s: float, generator: np.random.Generator) -> list[Piece]:
        return spike(rate=rate, factor=self.factor, at_s=self.at_s, for_s=self.for_s, duration_s=duration_s)


class _Sawtooth(Keys):
    """Linearly to `factor` times the rate in every `every`, then at once back."""

    kind: Literal["sawtooth"]
    factor: Positive
    every_s: Duration = Field(alias="every")

    def pieces(self, rate: float, duration_s: float, generator: np.random.Generator) -> list[Piece]:
        return sawtooth(rate, rate * self.factor, every_s=self.every_s, duration_s=duration_s)


class _Diurnal(Keys):
    """Days whose mean is `rate`, `peak` times it at `peak_hour` o'clock; `day` is how long one takes."""

    kind: Literal["diurnal"]
    peak: Annotated[float, Field(ge=1, le=2)]
    day_s: Duration = Field(default=86_400.0, alias="day")
    peak_hour: Annotated[float, Field(ge=0, lt=24)] = 15.0

    def pieces(self, rate: float, duration_s: float, generator: np.random.Generator) -> list[Piece]:
        return diurnal(rate, peak=self.peak, duration_s=duration_s, day_s=self.day_s, peak_hour=self.peak_hour)


class _State(Keys):
    factor: NotNegative
    for_s: Duration = Field(alias="for")


class _Mmpp(Keys):
    """A rate that jumps by itself: in each of the states for so long in the mean."""

    kind: Literal["mmpp"]
    states: Annotated[list[_State], Field(min_length=2)]

    def pieces(self, rate: float, duration_s: float, generator: np.random.Generator) -> list[Piece]:
        states = [(rate * state.factor, state.for_s) for state in self.states]
        return markov(states, duration_s=duration_s, generator=generator)


Curve: TypeAlias = Annotated[
    _Ramp | _Steps | _Burst | _Spike | _Sawtooth | _Diurnal | _Mmpp, Field(discriminator="kind")
]


class PieceKeys(Keys):
    """A stretch of time with one rate, or one that changes linearly to `to`."""

    rate: Rate
    for_s: Duration = Field(alias="for")
    to: Rate | None = None
    phase: Name = "steady"


class ArrivalKeys(Keys):
    """When requests come: at one rate, on a curve, or in pieces."""

    gaps: Annotated[str, AfterValidator(_gaps)] = "poisson"
    rate: Rate | None = None
    for_s: Duration | None = Field(default=None, alias="for")
    curve: Curve | None = None
    piece_list: Annotated[list[PieceKeys], Field(min_length=1)] | None = Field(default=None, alias="pieces")

    @model_validator(mode="after")
    def _one_of_them(self) -> ArrivalKeys:
        if self.piece_list is not None and (self.rate is not None or self.for_s is not None or self.curve is not None):
            raise ValueError("pieces have rates and durations of their own; take away rate, for and curve, or pieces")
        return self

    @property
    def gap_law(self) -> GapLaw:
        return parse_gaps(self.gaps)

    def pieces(self, rate: float | None, duration_s: float | None, generator: np.random.Generator) -> list[Piece]:
        """The rate over time. `rate` and `duration_s` go before those of the file.

        Raises UsageError where neither says how much or how long, and for a curve that does not fit into the time.
        """
        if self.piece_list is not None:
            return self._listed(rate, duration_s)
        rate, duration_s = rate or self.rate, duration_s or self.for_s
        if rate is None or duration_s is None:
            raise UsageError(
                "say how much for how long: --rate 20/s --for 10m, or arrivals: {rate: 20/s, for: 10m} in the file"
            )
        return steady(rate, duration_s) if self.curve is None else self.curve.pieces(rate, duration_s, generator)

    def _listed(self, rate: float | None, duration_s: float | None) -> list[Piece]:
        if rate is not None:
            raise UsageError("--rate has no meaning here: the pieces of the workload have rates of their own")
        pieces, start_s = [], 0.0
        for each in self.piece_list or ():
            piece = Piece(start_s, start_s + each.for_s, each.rate, each.phase, each.to)
            if duration_s is None or start_s < duration_s:
                pieces.append(piece if duration_s is None else piece.until(duration_s))
            start_s = piece.end_s
        return pieces
