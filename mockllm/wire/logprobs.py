"""Log probabilities that look like a model's: the chosen token is the likeliest, the others share what is left."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from mockllm.wire.dialect import Context

__all__ = ["TokenLogprob", "logprobs"]

_OTHERS = [" the", " a", " and", " this", " that", " one", " it", " in", " of", " to", " for", " with", " as", " on",
           " by", " at", " from", " or", " an", " be", " all"]  # fmt: skip

TokenLogprob = tuple[str, float, list[tuple[str, float]]]


def logprobs(tokens: Sequence[str], first: int, num_top: int, context: Context) -> list[TokenLogprob]:
    """(token, its log probability, the `num_top` likeliest with theirs) for tokens number `first` and following."""
    found: list[TokenLogprob] = []
    for offset, token in enumerate(tokens):
        draw = context.streams.uniform("logprob", f"{context.key}\x00{first + offset}")
        chosen = 1 - 0.6 * draw * draw  # mostly sure, never below 0.4
        left = (1 - chosen) / 2
        top = [(token, log(chosen))]
        for other in _OTHERS:
            if len(top) >= num_top:
                break
            if other != token:
                top.append((other, log(max(left, 1e-12))))
                left /= 2
        found.append((token, log(chosen), top[:num_top]))
    return found
