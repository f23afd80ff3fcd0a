"""How long one step of the batch takes, and how long a run of equal steps takes, in closed form.

Two forms with one question, `pace(load)`: a straight line for whoever knows four numbers, and a roofline
(`roofline.py`) for a model on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import NamedTuple, Protocol

__all__ = ["LinearStepTime", "Pace", "StepLoad", "StepTime"]


class StepLoad(NamedTuple):
    """What one step computes.

    `num_prefill_tokens` prompt tokens of `num_prefills` sequences; `attention_work` is the sum over those of
    q * (c + q/2), q tokens computed now, c in the cache before. `num_decodes` sequences that hold `num_kv_tokens`
    tokens take `num_decode_tokens` tokens through the model: one each, more when drafts are verified.
    """

    num_prefill_tokens: int
    num_prefills: int
    attention_work: float
    num_decodes: int
    num_kv_tokens: int
    num_decode_tokens: int


class StepTime(Protocol):
    """The duration of a step, given its load."""

    def pace(self, load: StepLoad) -> Pace: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """A run of steps whose composition does not change: step j (from 0) lasts `first + growth * j` seconds.

    The growth comes from the KV cache: every decoding sequence is one token longer at every step.
    """

    first: float
    growth: float = 0.0

    def elapsed(self, num_steps: int) -> float:
        """Seconds until `num_steps` steps are done: k*first + growth*k*(k-1)/2."""
        return num_steps * self.first + self.growth * (num_steps * (num_steps - 1) / 2)

    def steps_done_by(self, elapsed: float, limit: int) -> int:
        """How many of at most `limit` steps are done `elapsed` seconds after the start.

        Inverts `elapsed()`: a square root gives the neighbourhood, the function itself decides, so that
        rounding can never put a step on both sides of an instant.
        """
        if elapsed < 0:
            return 0
        guess = self._estimate(elapsed, limit)
        while guess < limit and self.elapsed(guess + 1) <= elapsed:
            guess += 1
        while guess > 0 and self.elapsed(guess) > elapsed:
            guess -= 1
        return guess

    def _estimate(self, elapsed: float, limit: int) -> int:
        half, linear = self.growth / 2, self.first - self.growth / 2
        if half > 0:
            root = (-linear + sqrt(linear * linear + 4 * half * elapsed)) / (2 * half)
        elif linear > 0:
            root = elapsed / linear
        else:
            return limit
        return max(0, min(limit, ceil(min(root, float(limit)))))


@dataclass(frozen=True, slots=True)
class LinearStepTime:
    """`b0 + b1*prefill tokens + b2*decode tokens + b3*kv tokens`, in seconds.

    The fallback when nothing but a benchmark at two rates is known. Coefficients: see the profile that carries them.
    """

    b0: float
    b1: float
    b2: float
    b3: float

    def pace(self, load: StepLoad) -> Pace:
        """The pace of steps with this load."""
        first = (
            self.b0
            + self.b1 * load.num_prefill_tokens
            + self.b2 * load.num_decode_tokens
            + self.b3 * load.num_kv_tokens
        )
        return Pace(first, self.b3 * load.num_decodes)
