"""Anthropic's Messages API. A stream is complete with `message_stop`, and with nothing less.

Usage comes in two parts: the prompt's in `message_start`, where the output is a placeholder, and the output's in
`message_delta`. `input_tokens` are those that no cache had to do with, the opposite of OpenAI's: the record's prompt tokens
are the sum (anthropic-sdk-python, `raw_message_delta_event.py`).
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from harness.dialects import Asked, Dialect, Meaning, TokenUsage
from harness.dialects.json_bodies import decoded, error_text
from harness.sse import SseEvent

__all__ = ["ANTHROPIC_MESSAGES", "VERSION"]

VERSION = "2023-06-01"
_DEFAULT_MAX_TOKENS = 4096  # the protocol wants a limit; judgement


def _headers(key: str | None) -> dict[str, str]:
    version = {"anthropic-version": VERSION}
    return {"x-api-key": key, **version} if key else version


def _body(asked: Asked) -> bytes:
    messages: list[dict[str, Any]] = [
        {"role": role, "content": text} for role, text in asked.messages if role != "system"
    ]
    if asked.images:
        shown = [{"type": "image", "source": _source(url)} for url in asked.images]
        messages[-1]["content"] = [*shown, {"type": "text", "text": messages[-1]["content"]}]
    body: dict[str, Any] = {
        "model": asked.model,
        "max_tokens": asked.max_tokens or _DEFAULT_MAX_TOKENS,
        "messages": messages,
        "stream": asked.stream,
    }
    system = [text for role, text in asked.messages if role == "system"]
    if system:
        body["system"] = "\n\n".join(system)
    if asked.exact_length and asked.max_tokens is not None:
        body["ignore_eos"] = True
    if asked.temperature is not None:
        body["temperature"] = asked.temperature
    if asked.tools:
        body["tools"] = [_tool(dict(tool)) for tool in asked.tools]
    return orjson.dumps(body)


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    schema = tool.pop("parameters", None) or {"type": "object", "properties": {}}
    return {"name": tool["name"], "description": tool.get("description", ""), "input_schema": schema}


def _source(url: str) -> dict[str, str]:
    head, comma, data = url.partition(";base64,")
    if comma and head.startswith("data:"):
        return {"type": "base64", "media_type": head.removeprefix("data:"), "data": data}
    return {"type": "url", "url": url}


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _Written(msgspec.Struct):
    ephemeral_1h_input_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _Written | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"")


class _Message(msgspec.Struct):
    model: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    error: Any = None
    type: str = ""


class _Delta(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: _Usage | None = None
    error: Any = None


_EVENT = msgspec.json.Decoder(_Event)
_WHOLE = msgspec.json.Decoder(_Message)


def _event(event: SseEvent) -> Meaning:
    if event.type == "error":
        return Meaning(error=error_text(event.data))
    if event.data == b"[DONE]":
        return Meaning()  # of gateways that speak OpenAI elsewhere; it is not the end
    read = decoded(_EVENT, event.data)
    kind = read.type or event.type
    delta = read.delta
    if kind == "content_block_delta" and delta is not None:
        return Meaning(delta.text or delta.thinking or delta.partial_json or "")
    if kind == "error" or read.error:
        return Meaning(error=error_text(event.data))
    if kind == "content_block_start" and read.content_block is not None:
        block = read.content_block
        return Meaning(block.text or block.thinking or "", wordless=block.type.endswith("tool_use"))
    if kind == "message_start" and read.message is not None:
        prompt = _usage(read.message.usage)
        return Meaning(usage=prompt and prompt._replace(num_output_tokens=None), model=read.message.model)
    if kind == "message_delta":
        return Meaning(finish_reason=delta.stop_reason if delta is not None else None, usage=_usage(read.usage))
    return Meaning(end=kind == "message_stop")


def _usage(usage: _Usage | None) -> TokenUsage | None:
    if usage is None:
        return None
    details = usage.output_tokens_details
    return TokenUsage(
        None,
        usage.output_tokens,
        usage.cache_read_input_tokens,
        None if details is None else details.thinking_tokens,
        usage.cache_creation_input_tokens,
        usage.input_tokens,
        None if usage.cache_creation is None else usage.cache_creation.ephemeral_1h_input_tokens,
    )


def _whole(body: bytes) -> Meaning:
    message = decoded(_WHOLE, body)
    if message.error or message.type == "error":
        return Meaning(error=error_text(body))
    blocks = message.content or []
    return Meaning(
        "".join(map(_words, blocks)),
        message.stop_reason,
        _usage(message.usage),
        model=message.model,
        wordless=any(block.type.endswith("tool_use") for block in blocks),
    )


def _words(block: _Block) -> str:
    # The decoder has not looked into the arguments of a call.
    return (block.thinking or "") + (block.text or "") + bytes(block.input).decode("utf-8", "replace")


ANTHROPIC_MESSAGES = Dialect(
    "anthropic-messages", "/v1/messages", _body, _event, _whole, error_text, headers=_headers, ends="event"
)
