"""A protocol of one's own: an endpoint of an application, told by how to ask and where the content is.

    ANSWERS = json_dialect("our-assistant", "/api/answer", lambda asked: {"question": asked.messages[-1][1], "stream": asked.stream},
                           content="delta.text", end="final")

    class Assistant(LLMUser):
        dialect = ANSWERS

Places are dotted paths into an event (`choices.0.text`), or functions of it. The same places are looked for in a whole answer,
unless `whole_content` names others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
import orjson

from harness.dialects import NDJSON, SSE, Asked, Dialect, Framing, Meaning, TokenUsage, UnreadableEvent, bearer
from harness.dialects.json_bodies import decoded, error_text
from harness.sse import SseEvent

__all__ = ["Place", "json_dialect"]

Place = str | Callable[[Any], Any]

_FRAMINGS: dict[str, Framing] = {"sse": SSE, "ndjson": NDJSON}
_JSON = msgspec.json.Decoder(dict[str, Any])
_NOWHERE = ""


def json_dialect(
    name: str,
    path: str,
    body: Callable[[Asked], Mapping[str, Any]],
    content: Place,
    *,
    framing: Literal["sse", "ndjson"] = "sse",
    end: Place = _NOWHERE,
    end_mark: str | None = None,
    error: Place = "error",
    whole_content: Place | None = None,
    prompt_tokens: Place = _NOWHERE,
    output_tokens: Place = _NOWHERE,
    headers: Callable[[str | None], dict[str, str]] = bearer,
    streams: bool = True,
) -> Dialect:
    """A dialect of JSON objects: a whole answer is one, a stream is events (`sse`) or lines (`ndjson`) of them.

    `content` is the text of an event; what is not there or empty is no content. `end` is what the last event has and is
    true there, `end_mark` the data of an event that is no JSON and says the same, as `[DONE]`. Where neither ever comes,
    leave both out: then a stream that is closed in order is complete, and one that ends too early cannot be told from it.
    `error` is true in an event that reports one. Tokens are counted locally where no place for them is named.
    """
    content_of, end_of, error_of = _reader(content), _reader(end), _reader(error)
    whole_of = content_of if whole_content is None else _reader(whole_content)
    prompt_of, output_of = _reader(prompt_tokens), _reader(output_tokens)
    mark = None if end_mark is None else end_mark.encode()

    def meaning(data: bytes, text_of: Callable[[Any], Any]) -> Meaning:
        value = decoded(_JSON, data)
        if wrong := error_of(value):
            return Meaning(error=error_text(orjson.dumps({"error": wrong})))
        text, usage = text_of(value), TokenUsage(_count(prompt_of(value)), _count(output_of(value)))
        said = usage.num_prompt_tokens is not None or usage.num_output_tokens is not None
        return Meaning(text if isinstance(text, str) else "", usage=usage if said else None, end=bool(end_of(value)))

    def event(event: SseEvent) -> Meaning:
        if event.data == mark:
            return Meaning(end=True)
        if event.type == "error":
            return Meaning(error=error_text(event.data))
        return meaning(event.data, content_of)

    return Dialect(
        name,
        path,
        lambda asked: orjson.dumps(body(asked)),
        event,
        lambda data: meaning(data, whole_of)._replace(end=True),  # one body is complete when it is one object
        error_text,
        headers=headers,
        framing=_FRAMINGS[framing],
        ends="close" if end == _NOWHERE and mark is None else "event",
        streams=streams,
    )


def _reader(place: Place) -> Callable[[Any], Any]:
    """What finds the value at a place; None where it is not. A function that stumbles makes the event unreadable."""
    if callable(place):
        return _guarded(place)
    if place == _NOWHERE:
        return lambda value: None
    steps = [int(step) if step.isdigit() else step for step in place.split(".")]

    def find(value: Any) -> Any:
        for step in steps:
            try:
                value = value[step]
            except (LookupError, TypeError):
                return None
        return value

    return find


def _guarded(place: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def find(value: Any) -> Any:
        try:
            return place(value)
        except Exception as error:
            raise UnreadableEvent(f"{type(error).__name__}: {error} in {str(value)[:120]}") from error

    return find


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
