"""What all protocols of JSON have in common: reading an event, and finding the message of an error."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import orjson

from harness.dialects import UnreadableEvent

__all__ = ["decoded", "error_text"]

_LONGEST = 300
_T = TypeVar("_T")


def decoded(decoder: msgspec.json.Decoder[_T], data: bytes) -> _T:
    """Raises UnreadableEvent for what is no JSON, or JSON of another shape."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableEvent(f"{error}: {data[:120]!r}") from None


def error_text(body: bytes) -> str:
    """The message of an error body of any of the usual shapes, else the beginning of the body itself."""
    try:
        value: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, dict):
        error = value.get("error") or value
        message = error.get("message") or error.get("detail") if isinstance(error, dict) else error
        if isinstance(message, str):
            return message[:_LONGEST]
    return body[:_LONGEST].decode("utf-8", "replace")
