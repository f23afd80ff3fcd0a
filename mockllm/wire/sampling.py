"""Parameters that several of OpenAI's endpoints share, and what must not be asked together."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mockllm.wire.errors import ApiError, invalid

__all__ = ["Sampling", "contradiction", "stop_words"]


class Sampling(msgspec.Struct, kw_only=True):
    """How the answer is sampled. `min_tokens`, `ignore_eos` and `priority` are vLLM's."""

    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    min_tokens: Annotated[int, Meta(ge=0)] | None = None
    ignore_eos: bool | None = None
    priority: int | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None


def contradiction(asked: Sampling, limit: int | None) -> ApiError | None:
    """A pair of parameters that cannot both hold; `limit` is the limit of output tokens."""
    if asked.min_tokens and limit and asked.min_tokens > limit:
        message = f"Invalid value for 'min_tokens': {asked.min_tokens} is more than the limit of {limit} output tokens."
        return invalid(message, "min_tokens", "invalid_value")
    if asked.ignore_eos and limit is None:
        message = "Invalid value for 'ignore_eos': without 'max_tokens' the answer would never end."
        return invalid(message, "ignore_eos", "invalid_value")
    return None


def stop_words(stop: str | list[str] | None) -> tuple[str, ...]:
    """The stop sequences that can stop anything."""
    return tuple(word for word in ([stop] if isinstance(stop, str) else stop or []) if word)
