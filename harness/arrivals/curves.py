"""Rates over time, in pieces: steady, ramp, steps, bursts, spike, sawtooth, diurnal, and a rate that jumps by itself.

All rates are requests per second, all durations seconds; every function raises UsageError for what cannot be.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, isfinite, pi

import numpy as np

from harness.arrivals.pacing import Piece
from harness.errors import UsageError

__all__ = ["bursts", "diurnal", "markov", "ramp", "sawtooth", "spike", "steady", "steps"]

_DIURNAL_PIECES = 96  # a day in quarters of an hour


def steady(rate: float, duration_s: float) -> list[Piece]:
    """One rate."""
    _require(rate=rate, duration=duration_s)
    return [Piece(0.0, duration_s, rate, "steady")]


def ramp(from_rate: float, to_rate: float, *, duration_s: float, hold_s: float = 0.0) -> list[Piece]:
    """Linearly from one rate to another (up or down, also from 0); the last `hold_s` of the time stay there."""
    _require(duration=duration_s)
    _require_not_negative(from_rate, to_rate, hold_s)
    if from_rate == to_rate == 0 or hold_s >= duration_s:
        raise UsageError(
            f"a ramp from {from_rate:g}/s to {to_rate:g}/s with {hold_s:g} s of hold in {duration_s:g} s is none; "
            "give it a rate to reach and a hold that is shorter than the run"
        )
    top_at = duration_s - hold_s
    pieces = [Piece(0.0, top_at, from_rate, "ramp", to_rate)]
    if hold_s:
        pieces.append(Piece(top_at, duration_s, to_rate, "hold"))
    return pieces


def steps(rates: Sequence[float], *, duration_s: float) -> list[Piece]:
    """One rate after the other, each for an equal share of the time."""
    _require(duration=duration_s, **{f"rate of step {number}": rate for number, rate in enumerate(rates, start=1)})
    if not rates:
        raise UsageError("steps need at least one rate")
    edges = [duration_s * number / len(rates) for number in range(len(rates) + 1)]
    return [
        Piece(edges[number], edges[number + 1], rate, f"step {number + 1}, {rate:g}/s")
        for number, rate in enumerate(rates)
    ]


def bursts(*, quiet_rate: float, factor: float, every_s: float, for_s: float, duration_s: float) -> list[Piece]:
    """Quiet, then `factor` times the quiet rate for `for_s` seconds, once in every `every_s` seconds.

    A burst lies in the middle of its period, so that a run starts and ends quietly. Raises UsageError when a
    burst does not fit into its period.
    """
    _require(rate=quiet_rate, period=every_s, burst=for_s, duration=duration_s, **{"burst factor": factor})
    if for_s >= every_s:
        raise UsageError(
            f"a burst of {for_s:g} s does not fit into its period of {every_s:g} s; make it shorter or rarer"
        )
    pieces, period = [], 0
    while (start := period * every_s) < duration_s:
        burst_at = start + (every_s - for_s) / 2
        pieces += [
            Piece(start, burst_at, quiet_rate, "quiet"),
            Piece(burst_at, burst_at + for_s, quiet_rate * factor, "burst"),
            Piece(burst_at + for_s, start + every_s, quiet_rate, "quiet"),
        ]
        period += 1
    return _cut(pieces, duration_s)


def spike(*, rate: float, factor: float, at_s: float, for_s: float, duration_s: float) -> list[Piece]:
    """One rate, `factor` times that for `for_s` seconds from `at_s` on, and the first again: before, spike, after."""
    _require(rate=rate, spike=for_s, duration=duration_s, **{"spike factor": factor, "start of the spike": at_s})
    if at_s + for_s >= duration_s:
        raise UsageError(
            f"a spike at {at_s:g} s for {for_s:g} s leaves nothing of {duration_s:g} s to recover in; "
            "make it earlier or shorter, or the run longer"
        )
    return [
        Piece(0.0, at_s, rate, "before"),
        Piece(at_s, at_s + for_s, rate * factor, "spike"),
        Piece(at_s + for_s, duration_s, rate, "after"),
    ]


def sawtooth(low: float, high: float, *, every_s: float, duration_s: float) -> list[Piece]:
    """Linearly from `low` to `high` in every `every_s` seconds, then at once back to `low`."""
    _require(**{"upper rate": high}, period=every_s, duration=duration_s)
    _require_not_negative(low)
    if low >= high:
        raise UsageError(f"a sawtooth from {low:g}/s to {high:g}/s does not rise; give the lower rate first")
    pieces, tooth = [], 0
    while (start := tooth * every_s) < duration_s:
        pieces.append(Piece(start, start + every_s, low, f"tooth {tooth + 1}", high))
        tooth += 1
    return _cut(pieces, duration_s)


def diurnal(
    mean_rate: float, *, peak: float, duration_s: float, day_s: float = 86_400.0, peak_hour: float = 15.0
) -> list[Piece]:
    """Days whose rate is a sinusoid: `peak` times the mean at `peak_hour` o'clock, 2 - `peak` times it twelve hours later.

    A model, not a measurement. It begins at midnight; a `day_s` of 24 minutes plays a day sixty times as fast. A day is 96
    linear pieces between points of the curve: off it by at most (2π/96)²/8 = 0.054 % of the swing (peak - 1) · mean, and
    right in the sum over a day. Phases are the day's quarters: night, morning, afternoon, evening.
    """
    _require(**{"mean rate": mean_rate}, duration=duration_s, day=day_s)
    if not 1 <= peak <= 2:
        raise UsageError(f"a peak of {peak:g} times the mean is not between 1 and 2: a sinusoid cannot have it")

    def rate(place: int) -> float:
        turn = place / _DIURNAL_PIECES - peak_hour / 24
        return mean_rate * (1 + (peak - 1) * cos(2 * pi * turn))

    pieces, place = [], 0
    while (start := place / _DIURNAL_PIECES * day_s) < duration_s:
        quarter = ("night", "morning", "afternoon", "evening")[place % _DIURNAL_PIECES * 4 // _DIURNAL_PIECES]
        end = (place + 1) / _DIURNAL_PIECES * day_s
        pieces.append(Piece(start, end, rate(place), quarter, rate(place + 1)))
        place += 1
    return _cut(pieces, duration_s)


def markov(states: Sequence[tuple[float, float]], *, duration_s: float, generator: np.random.Generator) -> list[Piece]:
    """The rates of a Markov-modulated process: `states` are (rate, mean sojourn in seconds), sojourns are exponential, the
    next state is any of the others with equal chance, the first is drawn by the time that the process spends in each.

    With Poisson gaps an MMPP: bursts that no clock predicts. Phases are the states by number.
    """
    if len(states) < 2:
        raise UsageError(f"{len(states)} state cannot change; give two or more, each a rate and a mean sojourn")
    _require(duration=duration_s, **{f"sojourn of state {n}": sojourn for n, (_, sojourn) in enumerate(states, 1)})
    _require_not_negative(*(rate for rate, _ in states))
    sojourns = np.array([sojourn for _, sojourn in states])
    state = int(generator.choice(len(states), p=sojourns / sojourns.sum()))
    pieces, at = [], 0.0
    while at < duration_s:
        end = at + float(generator.exponential(sojourns[state]))
        pieces.append(Piece(at, end, states[state][0], f"state {state + 1}"))
        at, state = end, (state + 1 + int(generator.integers(len(states) - 1))) % len(states)
    return _cut(pieces, duration_s)


def _cut(pieces: list[Piece], duration_s: float) -> list[Piece]:
    return [piece.until(duration_s) for piece in pieces if piece.start_s < min(piece.end_s, duration_s)]


def _require(**values: float) -> None:
    for name, value in values.items():
        if not (value > 0 and isfinite(value)):
            raise UsageError(f"{name} {value:g} must be positive and finite")


def _require_not_negative(*values: float) -> None:
    for value in values:
        if not (value >= 0 and isfinite(value)):
            raise UsageError(f"{value:g} must be finite and not negative")
