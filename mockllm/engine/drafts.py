"""Speculative decoding: a draft model proposes tokens, the model verifies them all in one step."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from mockllm.streams import Streams

__all__ = ["Drafts"]


@dataclass(frozen=True, slots=True)
class Drafts:
    """`num_tokens` drafted a step in `draft_s` seconds; each is accepted with `acceptance_rate` if the one before was.

    A step gives 1 + A tokens, P(A >= a) = rate^a for a <= num_tokens (Leviathan et al., 2023, with independent
    acceptance).
    """

    num_tokens: int
    acceptance_rate: float
    draft_s: float

    def tokens_after_steps(self, num_tokens: int, key: str, streams: Streams) -> list[int]:
        """Tokens given after 0, 1, 2 … decode steps, up to exactly `num_tokens`; the first came from the prefill."""
        draws = streams.generator("draft acceptance", key).random((max(0, num_tokens - 1), self.num_tokens))
        accepted = np.minimum.accumulate(draws < self.acceptance_rate, axis=1).sum(axis=1)
        totals = [1]
        for total in accumulate((1 + accepted).tolist(), initial=1):
            if total > 1:
                totals.append(min(total, num_tokens))
            if total >= num_tokens:
                break
        return totals
