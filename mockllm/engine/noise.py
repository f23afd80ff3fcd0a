"""What makes equal steps unequal: jitter of every step, and rare stalls of the whole engine.

Both belong to the number of the step, not to the order in which somebody asks: a run of steps that is cut
short and planned again meets the same luck. Stalls hit every running request at once and make the longest tails; step
jitter averages out over an answer and makes almost none (docs/fidelity.md, the KubeCon NA 2025 sweep).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import log, log1p, sqrt

from mockllm.engine.latency import Pace
from mockllm.streams import Streams

__all__ = ["NoisyPace", "StepNoise"]

_PERIOD = 4096  # jitter repeats after so many steps; longer than any answer that is common


@dataclass(frozen=True, slots=True)
class _Jitter:
    """Factors of `_PERIOD` steps with mean 1, as running sums of f(s) and of s * f(s)."""

    sums: list[float]
    moments: list[float]

    def to(self, step: int) -> tuple[float, float]:
        """Sum of f(s) and of s * f(s) over the steps before `step`."""
        turns, rest = divmod(step, _PERIOD)
        whole, moment = self.sums[-1], self.moments[-1]
        # Turn t adds t * _PERIOD to each step's number.
        moments = turns * moment + whole * _PERIOD * (turns * (turns - 1) / 2)
        return (
            turns * whole + self.sums[rest],
            moments + self.moments[rest] + turns * _PERIOD * self.sums[rest],
        )


@dataclass(frozen=True, slots=True)
class NoisyPace:
    """A pace whose step j is multiplied by the jitter of step `first_step + j`; `before` are the jitter's sums up to that step."""

    pace: Pace
    first_step: int
    jitter: _Jitter
    before: tuple[float, float]

    def elapsed(self, num_steps: int) -> float:
        """Seconds until `num_steps` steps are done."""
        first_step, pace = self.first_step, self.pace
        factor, moment = self.jitter.to(first_step + num_steps)
        factor -= self.before[0]
        moment = moment - self.before[1] - first_step * factor  # of (s - first_step) * f(s)
        return pace.first * factor + pace.growth * moment

    def steps_done_by(self, elapsed: float, limit: int) -> int:
        """How many of at most `limit` steps are done after `elapsed` seconds."""
        if elapsed < 0:
            return 0
        return bisect_right(range(1, limit + 1), elapsed, key=self.elapsed)


class StepNoise:
    """Noise of one replica. `step_cv` is the coefficient of variation of a step's duration (lognormal, mean 1)."""

    def __init__(
        self, streams: Streams, name: str, *, step_cv: float, stall_probability: float, stall_s: tuple[float, float]
    ) -> None:
        self._streams, self._name = streams, name
        self._probability, self._stall_s = stall_probability, stall_s
        self._jitter = _jitter(streams, name, step_cv) if step_cv else None
        self._num_stalls = 0
        self.stall_step: int | None = None  # the number of the next step that stalls
        self._next_stall(after=-1)

    def disturb(self, pace: Pace, first_step: int) -> Pace | NoisyPace:
        """The pace of the steps that follow step number `first_step`."""
        return NoisyPace(pace, first_step, self._jitter, self._jitter.to(first_step)) if self._jitter else pace

    def stall(self) -> float:
        """The seconds by which the step that stalls is longer; the next one is drawn."""
        assert self.stall_step is not None
        low, high = self._stall_s
        key = f"{self._name}\x00{self._num_stalls}"
        seconds = low + (high - low) * self._streams.uniform("stall length", key)
        self._next_stall(after=self.stall_step)
        return seconds

    def _next_stall(self, *, after: int) -> None:
        if self._probability <= 0:
            return
        self._num_stalls += 1
        if self._probability >= 1:
            self.stall_step = after + 1
            return
        draw = self._streams.uniform("stall step", f"{self._name}\x00{self._num_stalls}")
        self.stall_step = after + 1 + int(log(draw) / log1p(-self._probability))


def _jitter(streams: Streams, name: str, step_cv: float) -> _Jitter:
    sigma = sqrt(log(1 + step_cv**2))
    draws = streams.generator("step jitter", name).lognormal(0.0, sigma, _PERIOD)
    factors = (draws / draws.mean()).tolist()
    moments = accumulate((step * factor for step, factor in enumerate(factors)), initial=0.0)
    return _Jitter(list(accumulate(factors, initial=0.0)), list(moments))
