"""OpenAI chat completions, as the load side reads them (and as vLLM, SGLang and llama.cpp write them)."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from harness.dialects import Asked, Dialect, Meaning
from harness.dialects.json_bodies import decoded, error_text
from harness.dialects.openai_chunks import Chunk, common_fields, event_reader, token_usage

__all__ = ["OPENAI_CHAT"]


def _body(asked: Asked) -> bytes:
    body = common_fields(asked)
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in asked.messages]
    if asked.images:
        shown = [{"type": "image_url", "image_url": {"url": url}} for url in asked.images]
        messages[-1]["content"] = [{"type": "text", "text": messages[-1]["content"]}, *shown]
    body["messages"] = messages
    if asked.tools:
        body["tools"] = [{"type": "function", "function": tool} for tool in asked.tools]
    return orjson.dumps(body)


class _Function(msgspec.Struct):
    name: str | None = None
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
    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


_DECODER = msgspec.json.Decoder(Chunk[_Choice])


def _meaning(data: bytes) -> Meaning:
    chunk = decoded(_DECODER, data)
    if chunk.error:
        return Meaning(error=error_text(data))
    content, reason, calls, number = "", None, False, 0
    for choice in chunk.choices or ():
        number, reason = choice.index, choice.finish_reason or reason
        said = choice.delta or choice.message
        if said is None:
            continue
        content += (said.reasoning_content or said.reasoning or "") + (said.content or "") + (said.refusal or "")
        if said.tool_calls:
            functions = [call.function for call in said.tool_calls if call.function]
            content += "".join(function.arguments or "" for function in functions)
            calls = calls or any(function.name for function in functions)
    usage = None if chunk.usage is None else token_usage(chunk.usage)
    return Meaning(content, reason, usage, None, False, chunk.model, calls, number)


OPENAI_CHAT = Dialect("openai-chat", "/v1/chat/completions", _body, event_reader(_meaning), _meaning, error_text)
