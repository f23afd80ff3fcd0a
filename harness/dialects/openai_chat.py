"""OpenAI chat completions, as the load side reads them (and as vLLM, SGLang and llama.cpp write them)."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from harness.dialects import Asked, Dialect, Meaning, TokenUsage, UnreadableEvent
from harness.sse import SseEvent

__all__ = ["OPENAI_CHAT"]


def _body(asked: Asked) -> bytes:
    body: dict[str, Any] = {
        "model": asked.model,
        "messages": [{"role": role, "content": text} for role, text in asked.messages],
        "stream": asked.stream,
    }
    if asked.stream:
        body["stream_options"] = {"include_usage": True}
    if asked.max_tokens is not None:
        body["max_tokens"] = asked.max_tokens
        if asked.exact_length:
            body["ignore_eos"] = True
    if asked.temperature is not None:
        body["temperature"] = asked.temperature
    return orjson.dumps(body)


class _Function(msgspec.Struct):
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    model: str | None = None


_DECODER = msgspec.json.Decoder(_Chunk)


def _event(event: SseEvent) -> Meaning:
    if event.data == b"[DONE]":
        return Meaning(end=True)
    if event.type == "error":
        return Meaning(error=_error_text(event.data))
    return _meaning(event.data)


def _meaning(data: bytes) -> Meaning:
    try:
        chunk = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableEvent(f"{error}: {data[:120]!r}") from None
    if chunk.error:
        return Meaning(error=_error_text(data))
    content, reason = "", None
    for choice in chunk.choices or []:
        content += _content(choice.delta or choice.message)
        reason = choice.finish_reason or reason
    return Meaning(content, reason, _usage(chunk.usage), model=chunk.model)


def _content(delta: _Delta | None) -> str:
    if delta is None:
        return ""
    arguments = "".join(
        call.function.arguments for call in delta.tool_calls or [] if call.function and call.function.arguments
    )
    reasoning = delta.reasoning_content or delta.reasoning or ""
    return reasoning + (delta.content or "") + (delta.refusal or "") + arguments


def _usage(usage: _Usage | None) -> TokenUsage | None:
    if usage is None:
        return None
    prompt, output = usage.prompt_tokens_details, usage.completion_tokens_details
    return TokenUsage(
        usage.prompt_tokens,
        usage.completion_tokens,
        prompt.cached_tokens if prompt else None,
        output.reasoning_tokens if output else None,
    )


def _error_text(body: bytes) -> str:
    """The message of an error body of any of the usual shapes, else the beginning of the body itself."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict):
        error = value.get("error", value)
        message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
        if isinstance(message, str):
            return message[:300]
    return body[:300].decode("utf-8", "replace")


OPENAI_CHAT = Dialect("openai-chat", "/v1/chat/completions", _body, _event, _meaning, _error_text)
