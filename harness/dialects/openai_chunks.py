"""What chat completions and completions have in common: the frame of a request and of an event, the usage, the end of a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from harness.dialects import Asked, Meaning, TokenUsage
from harness.dialects.json_bodies import error_text
from harness.sse import SseEvent

__all__ = ["Chunk", "Usage", "common_fields", "event_reader", "token_usage"]

_DONE = b"[DONE]"
_Choice = TypeVar("_Choice")


def common_fields(asked: Asked) -> dict[str, Any]:
    """`max_tokens` and not `max_completion_tokens`: every server knows the former, but for OpenAI's reasoning models."""
    body: dict[str, Any] = {"model": asked.model, "stream": asked.stream}
    if asked.stream:
        body["stream_options"] = {"include_usage": True}
    if asked.max_tokens is not None:
        body["max_tokens"] = asked.max_tokens
        if asked.exact_length:
            body["ignore_eos"] = True
    if asked.temperature is not None:
        body["temperature"] = asked.temperature
    return body


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class Usage(msgspec.Struct):
    """The usage of an answer; its prompt tokens include those that a cache had."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class Chunk(msgspec.Struct, Generic[_Choice]):
    """An event of a stream, or a whole answer: they have one shape."""

    choices: list[_Choice] | None = None
    usage: Usage | None = None
    error: Any = None
    model: str | None = None


def event_reader(meaning: Callable[[bytes], Meaning]) -> Callable[[SseEvent], Meaning]:
    """What an event says: the mark of the end, an error, or what `meaning` makes of its data."""

    def read(event: SseEvent) -> Meaning:
        if event.data == _DONE:
            return Meaning(end=True)
        if event.type == "error":
            return Meaning(error=error_text(event.data))
        return meaning(event.data)

    return read


def token_usage(usage: Usage | None) -> TokenUsage | None:
    """None: the server did not say."""
    if usage is None:
        return None
    prompt = usage.prompt_tokens_details or _PromptDetails()
    output = usage.completion_tokens_details or _OutputDetails()
    return TokenUsage(
        usage.prompt_tokens,
        usage.completion_tokens,
        prompt.cached_tokens,
        output.reasoning_tokens,
        prompt.cache_write_tokens,
    )
