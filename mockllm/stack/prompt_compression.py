"""Prompt compression: a small model strikes out what a long prompt can do without, before the large one reads it.

    - prompt_compression: {ratio: 2, min_tokens: 1000, keep_prefix: 400, latency_per_1000_tokens: 150ms}

`ratio` is tokens before to tokens after: of n tokens, the first `keep_prefix` (a system prompt) stay as they are and the rest
becomes ceil((n - keep_prefix) / ratio). The compressor reads all of the rest, whatever becomes of it, in a time that grows
linearly with its length and not with the ratio (LLMLingua-2 on three GPUs: Kummer et al. 2026, arXiv 2604.02985).

A compressor that looks both ways (LLMLingua-2: Pan et al. 2024) may strike another word at the beginning when one is added at
the end. So behind `keep_prefix` a compressed prompt shares no beginning with any other: its KV blocks have no names there, and
the client's cache marks there are taken off. `keep_prefix` keeps what a prompt cache lives on; what is left out saves its
uncached price, which is more than it would have cost where a cache would have read it.

Quality is at risk and is not modelled: the study found answers unharmed at moderate ratios, and worse on few-shot and
structured tasks. The note on each request says what was struck. The stage belongs behind the one that chooses a model: whose
KV blocks are how large is known only then. Requests that nobody may look into (`Query` None) are left alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import ceil
from typing import Annotated, Self

from pydantic import Field, model_validator

from mockllm.fields import Count, Duration
from mockllm.model import CacheUse, Finished, Request
from mockllm.stack.parts import Parts, StageSettings
from mockllm.stack.prices import Price
from mockllm.stack.stage import Arrival, End, Flight, Later, Leaving, Stage

__all__ = ["PromptCompression", "PromptCompressionSettings"]

_HOSTED_BLOCK_TOKENS = 16  # how a hosted model's prompts are named; see `engine/prompt_cache.py`


class PromptCompressionSettings(StageSettings):
    """How much is struck out of which prompts, and how long that takes."""

    ratio: Annotated[float, Field(gt=1)]
    min_tokens: Count
    keep_prefix: Annotated[int, Field(ge=0)] = 0
    latency_per_1000_tokens: Duration

    @model_validator(mode="after")
    def _leaves_something_to_do(self) -> Self:
        if self.keep_prefix >= self.min_tokens:
            raise ValueError(
                f"keep_prefix {self.keep_prefix} leaves nothing to compress of a prompt of min_tokens {self.min_tokens}; "
                "make it smaller"
            )
        return self


class PromptCompression(Stage):
    """What it changes about a request on its way in, it changes back on its way out: another call compresses anew."""

    def __init__(self, settings: PromptCompressionSettings, parts: Parts) -> None:
        self.name = parts.name
        self._settings, self._parts = settings, parts
        self._before: dict[str, Request] = {}  # as each request came that was compressed, by id
        self._counts = Counter({"compressed": 0, "tokens read": 0, "tokens struck": 0})

    def arrive(self, flight: Flight, now: float) -> Arrival:
        settings, request = self._settings, flight.request
        if request.query is None or request.num_prompt_tokens < settings.min_tokens:
            return None
        num_read = request.num_prompt_tokens - settings.keep_prefix
        num_left = settings.keep_prefix + ceil(num_read / settings.ratio)
        self._before[flight.asked.request_id] = request
        flight.request = self._compressed(request, num_left)
        flight.passage.num_prompt_tokens = num_left
        flight.passage.notes.append(f"{self.name}: {request.num_prompt_tokens} tokens to {num_left}")
        self._counts.update(
            {"compressed": 1, "tokens read": num_read, "tokens struck": request.num_prompt_tokens - num_left}
        )
        latency = settings.latency_per_1000_tokens * num_read / 1000
        return Later(now + latency) if latency > 0 else None

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        before = self._before.pop(flight.asked.request_id, None)
        if before is None:
            return None
        num_struck = before.num_prompt_tokens - flight.request.num_prompt_tokens
        flight.request = replace(
            flight.request,
            num_prompt_tokens=before.num_prompt_tokens,
            block_hashes=before.block_hashes,
            cache_points=before.cache_points,
        )
        passage = flight.passage
        if isinstance(end, Finished) and passage.source == "model":
            price = self._parts.prices.get(passage.model, Price())
            flight.credit(self.name, price.of(num_struck, 0, CacheUse(), batch=before.batch))
        return None

    def describe(self) -> str:
        settings = self._settings
        kept = f" but the first {settings.keep_prefix:,}" if settings.keep_prefix else ""
        return (
            f"prompts of {settings.min_tokens:,} tokens and more, all{kept}, to 1/{settings.ratio:g}; "
            f"{settings.latency_per_1000_tokens * 1000:g} ms for 1,000 tokens; quality is at risk"
        )

    def state(self, now: float) -> dict[str, object]:
        return {"counts": dict(self._counts)}

    def _compressed(self, request: Request, num_left: int) -> Request:
        """The request with fewer prompt tokens; only what stays word for word is still known to caches."""
        keep = self._settings.keep_prefix
        points = request.cache_points
        return replace(
            request,
            num_prompt_tokens=num_left,
            block_hashes=request.block_hashes[: self._num_kept_blocks(request.model, keep)],
            cache_points=None if points is None else tuple(point for point in points if point.num_tokens <= keep),
        )

    def _num_kept_blocks(self, model: str, keep: int) -> int:
        """The blocks that lie in the kept beginning as a whole; none while no model is chosen."""
        served = self._parts.engine.models.get(model)
        if served is None:
            return 0
        return keep // (served.block_size or _HOSTED_BLOCK_TOKENS)
