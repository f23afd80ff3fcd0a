"""OpenAI's Responses API: events with a meaning of their own, and the whole response once more in the last of them.

A delta is content, whatever it is a delta of (text, a refusal, reasoning or its summary, arguments of a call); the events
that say the same again when it is done are not. The finish reason is the status of the response: `completed`, or why it is
incomplete. Fields: openai-python, `types/responses`.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from harness.dialects import Asked, Dialect, Meaning, TokenUsage
from harness.dialects.json_bodies import decoded, error_text
from harness.sse import SseEvent

__all__ = ["OPENAI_RESPONSES"]

_CALLS = ("function_call", "custom_tool_call")


def _body(asked: Asked) -> bytes:
    messages: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in asked.messages]
    if asked.images:
        shown = [{"type": "input_image", "image_url": url, "detail": "auto"} for url in asked.images]
        messages[-1]["content"] = [{"type": "input_text", "text": messages[-1]["content"]}, *shown]
    # Not stored: nobody asks for these answers again.
    body: dict[str, Any] = {"model": asked.model, "input": messages, "stream": asked.stream, "store": False}
    if asked.max_tokens is not None:
        body["max_output_tokens"] = asked.max_tokens
        if asked.exact_length:
            body["ignore_eos"] = True
    if asked.temperature is not None:
        body["temperature"] = asked.temperature
    if asked.tools:
        body["tools"] = [{"type": "function", "strict": False, **tool} for tool in asked.tools]
    return orjson.dumps(body)


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Part(msgspec.Struct):
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct):
    """An item of the output: a message, reasoning, or a call."""

    type: str = ""
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    arguments: str | None = None
    input: str | None = None


class _Reason(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    status: str | None = None
    model: str | None = None
    output: list[_Item] | None = None
    usage: _Usage | None = None
    incomplete_details: _Reason | None = None
    error: Any = None


class _State(msgspec.Struct):
    """A response within an event. Its output has been streamed, and is not read again."""

    status: str | None = None
    model: str | None = None
    usage: _Usage | None = None
    incomplete_details: _Reason | None = None
    error: Any = None


class _Event(msgspec.Struct):
    type: str = ""
    delta: Any = None
    item: _Item | None = None
    response: _State | None = None
    error: Any = None


_EVENT = msgspec.json.Decoder(_Event)
_WHOLE = msgspec.json.Decoder(_Response)


def _event(event: SseEvent) -> Meaning:
    if event.data == b"[DONE]":
        return Meaning()  # some servers say so after the end of the response; it is not the end
    if event.type == "error":
        return Meaning(error=error_text(event.data))
    read = decoded(_EVENT, event.data)
    kind = read.type or event.type
    if kind.endswith(".delta"):
        return Meaning(read.delta) if isinstance(read.delta, str) else Meaning()
    if kind == "error" or read.error:
        return Meaning(error=error_text(event.data))
    if kind == "response.output_item.added":
        return Meaning(wordless=read.item is not None and read.item.type in _CALLS)
    if read.response is not None:
        return _state(read.response, ended=kind in ("response.completed", "response.incomplete", "response.failed"))
    return Meaning()


def _state(response: _State | _Response, *, ended: bool) -> Meaning:
    """What a response says of itself, apart from its words."""
    if response.error or response.status in ("failed", "cancelled"):
        return Meaning(error=_why(response), end=ended, model=response.model)
    if not ended:
        return Meaning(model=response.model)
    details = response.incomplete_details
    reason = (details.reason if details is not None else None) or response.status or "completed"
    return Meaning(finish_reason=reason, usage=_usage(response.usage), end=True, model=response.model)


def _why(response: _State | _Response) -> str:
    if not response.error:
        return f"the response is {response.status}"
    try:
        return error_text(orjson.dumps({"error": response.error}))
    except TypeError:  # a number that is larger than any that it writes
        return str(response.error)[:300]


def _usage(usage: _Usage | None) -> TokenUsage | None:
    if usage is None:
        return None
    given, said = usage.input_tokens_details or _InputDetails(), usage.output_tokens_details or _OutputDetails()
    return TokenUsage(
        usage.input_tokens, usage.output_tokens, given.cached_tokens, said.reasoning_tokens, given.cache_write_tokens
    )


def _whole(body: bytes) -> Meaning:
    response = decoded(_WHOLE, body)
    state = _state(response, ended=response.status in ("completed", "incomplete"))
    items = response.output or []
    return state._replace(content="".join(map(_words, items)), wordless=any(item.type in _CALLS for item in items))


def _words(item: _Item) -> str:
    parts = [*(item.summary or ()), *(item.content or ())]
    return "".join((part.text or "") + (part.refusal or "") for part in parts) + (item.arguments or item.input or "")


OPENAI_RESPONSES = Dialect("openai-responses", "/v1/responses", _body, _event, _whole, error_text)
