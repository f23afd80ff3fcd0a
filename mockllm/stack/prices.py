"""What a call costs, in USD."""

from __future__ import annotations

from dataclasses import dataclass

from mockllm.fields import Share, Spread, Strict
from mockllm.model import CacheUse

__all__ = ["Bill", "Price"]

_MILLION = 1e6


class Price(Strict):
    """USD per million tokens. `cached_input`, `written_5m` and `written_1h` are the prompt cache's; None: as `input`.

    `batch`: the share of the price that a batch pays; OpenAI and Anthropic ask half (Batch API guides, 2026).
    """

    input: Spread = 0.0
    output: Spread = 0.0
    cached_input: Spread | None = None
    written_5m: Spread | None = None
    written_1h: Spread | None = None
    batch: Share = 0.5

    def of(self, num_prompt: int, num_output: int, cache: CacheUse, *, batch: bool = False) -> float:
        """The price of one call; `num_prompt` includes what was read from and written to a cache."""
        fresh = num_prompt - cache.num_read - cache.num_written_5m - cache.num_written_1h
        usd = fresh * self.input + num_output * self.output
        usd += cache.num_read * (self.input if self.cached_input is None else self.cached_input)
        usd += cache.num_written_5m * (self.input if self.written_5m is None else self.written_5m)
        usd += cache.num_written_1h * (self.input if self.written_1h is None else self.written_1h)
        return usd / _MILLION * (self.batch if batch else 1.0)


@dataclass(slots=True)
class Bill:
    """What everything cost so far: the calls of all clients, copies that nobody saw the answer of, and fees."""

    usd: float = 0.0
