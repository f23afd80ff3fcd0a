"""What the Responses API remembers: `previous_response_id`, `conversation` and `item_reference` become words again.

A response is kept unless the request said `store: false`, as at OpenAI, but neither for ever nor without end: the ones
that nobody asked for longest go first. A conversation needs not be created before: one that is not known is empty.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from mockllm.call import Call, Segment
from mockllm.wire.errors import ApiError, invalid
from mockllm.wire.openai_responses import Finished
from mockllm.wire.responses_request import Details, item_segments, item_type, unmatched_call

__all__ = ["Conversations", "deleted_body", "items_page", "response_not_found"]

_CALLS = ("function_call", "custom_tool_call")
_Name = tuple[Literal["response", "conversation"], str]
_MAX_PAGE = 100


@dataclass(frozen=True, slots=True)
class _Kept:
    """One response, or the state of a conversation after its last response.

    `segments` are all that was said until and with it, without tools and instructions; `open_calls` the tool calls
    that wait for a result. `inputs` and `outputs` are items as JSON objects, `size` roughly what all of it takes, in bytes.
    """

    segments: tuple[Segment, ...]
    open_calls: frozenset[str]
    body: bytes
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    size: int


_NOTHING = _Kept((), frozenset(), b"", (), (), 0)


class Conversations:
    """The responses and conversations of one server: at most `capacity` of them, of about `max_bytes` together.

    A chain of responses shares its words, but each is counted with all of them.
    """

    def __init__(self, capacity: int = 10_000, max_bytes: int = 256 * 1024 * 1024) -> None:
        self._capacity, self._max_bytes = capacity, max_bytes
        self._kept: OrderedDict[_Name, _Kept] = OrderedDict()  # the one longest unused first
        self._items: dict[str, dict[str, Any]] = {}  # items of the responses' outputs, by id
        self._size = 0

    def resolve(self, call: Call) -> Call | ApiError:
        """The call with everything that the client only pointed at: call this after `parse`, before counting tokens.

        What was said before goes between the instructions and the new input.
        """
        details: Details = call.details
        before = self._before(details)
        if isinstance(before, ApiError):
            return before
        segments = list(call.segments)
        open_calls = before.open_calls
        for place, item_id in reversed(details.references):
            item = self._items.get(item_id)
            if item is None:
                return _item_not_found(item_id)
            segments[place : place + 1] = item_segments(item)
            open_calls |= _calls([item])
        if error := unmatched_call(details, open_calls):
            return error
        lead = details.num_leading
        return replace(call, segments=(*segments[:lead], *before.segments, *segments[lead:]))

    def remember(self, call: Call, finished: Finished) -> None:
        """Keep a complete answer to a call that `resolve` gave."""
        details: Details = call.details
        if not details.store and details.conversation is None:
            return
        outputs: tuple[dict[str, Any], ...] = finished.items
        said = [segment for item in outputs if item_type(item) != "reasoning" for segment in item_segments(item)]
        segments = (*call.segments[details.num_leading :], *said)
        inputs = self.shown_inputs(details, finished.tag)
        size = len(finished.body) + sum(len(segment.text) for segment in segments)
        kept = _Kept(segments, _calls(outputs), finished.body, inputs, outputs, size)
        if details.conversation is not None:
            self._keep(("conversation", details.conversation), replace(kept, body=b"", inputs=(), outputs=()))
        if details.store:
            self._keep(("response", finished.tag), kept)

    def get(self, tag: str) -> bytes | None:
        """The body of `GET /v1/responses/{tag}`; None for a response that is not kept."""
        kept = self._kept.get(("response", tag))
        return kept.body if kept else None

    def delete(self, tag: str) -> bool:
        """Forget a response; False for one that is not kept. Responses that build on it keep what it said."""
        if ("response", tag) not in self._kept:
            return False
        self._drop(("response", tag))
        return True

    def input_items(self, tag: str, *, order: str = "desc", limit: int = 20, after: str | None = None) -> bytes | None:
        """The body of `GET /v1/responses/{tag}/input_items`, see `items_page`; None for a response that is not kept."""
        kept = self._kept.get(("response", tag))
        return None if kept is None else items_page(kept.inputs, order=order, limit=limit, after=after)

    def shown_inputs(self, details: Details, tag: str) -> tuple[dict[str, Any], ...]:
        """The items that a request sent, as the API shows them."""
        return tuple(self._shown(item, tag, number) for number, item in enumerate(details.items))

    def _before(self, details: Details) -> _Kept | ApiError:
        """What was said before this call."""
        asked = details.previous_response_id
        if asked is None and details.conversation is None:
            return _NOTHING
        name: _Name = ("response", asked) if asked is not None else ("conversation", str(details.conversation))
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        if asked is not None:
            message = f"Previous response with id '{asked[:200]}' not found."
            return invalid(message, "previous_response_id", "previous_response_not_found")
        return _NOTHING

    def _shown(self, item: Mapping[str, Any], tag: str, number: int) -> dict[str, Any]:
        """An input item as the API shows it: with an id and a status, and its content as parts."""
        kind = item_type(dict(item))
        if kind == "item_reference":
            return self._items.get(item["id"], dict(item))
        prefix, unique = "msg" if kind == "message" else "item", tag.partition("_")[2] or tag
        shown = {**item, "type": kind, "id": item.get("id") or f"{prefix}_{unique}i{number:04x}"}
        shown["status"] = item.get("status") or "completed"
        if kind == "message":
            shown["content"] = _shown_content(item["content"], item["role"] == "assistant")
        return shown

    def _keep(self, name: _Name, kept: _Kept) -> None:
        if name in self._kept:
            self._drop(name)
        self._kept[name] = kept
        self._size += kept.size
        self._items.update((str(item["id"]), item) for item in kept.outputs)
        while len(self._kept) > self._capacity or (self._size > self._max_bytes and len(self._kept) > 1):
            self._drop(next(iter(self._kept)))

    def _drop(self, name: _Name) -> None:
        kept = self._kept.pop(name)
        self._size -= kept.size
        for item in kept.outputs:
            self._items.pop(str(item["id"]), None)


def items_page(
    inputs: Sequence[dict[str, Any]], *, order: str = "desc", limit: int = 20, after: str | None = None
) -> bytes:
    """One page of the items that a request sent.

    `after` is the id of the last item of the page before; from an unknown one on there is nothing.
    """
    items = list(inputs)
    if order == "desc":
        items.reverse()
    if after is not None:
        ids = [item["id"] for item in items]
        items = items[ids.index(after) + 1 :] if after in ids else []
    page = items[: max(1, min(limit, _MAX_PAGE))]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": "", "last_id": ""}
    return msgspec.json.encode({"object": "list", "data": page, **ends, "has_more": len(page) < len(items)})


def deleted_body(tag: str) -> bytes:
    """The body of `DELETE /v1/responses/{tag}`."""
    return msgspec.json.encode({"id": tag, "object": "response", "deleted": True})


def response_not_found(tag: str) -> ApiError:
    """HTTP 404 for a response that is not kept."""
    return ApiError(404, f"Response with id '{tag[:200]}' not found.")


def _item_not_found(item_id: str) -> ApiError:
    hint = "Items are not persisted when `store` is set to false."
    advice = "Try again with `store` set to true, or remove this item from your input."
    return ApiError(404, f"Item with id '{item_id[:200]}' not found. {hint} {advice}", param="input")


def _calls(items: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The calls that wait for a result; one that was cut short is not a call."""
    whole = [item for item in items if item.get("status") != "incomplete"]
    return frozenset(item["call_id"] for item in whole if item.get("type") in _CALLS)


def _shown_content(content: str | list[dict[str, Any]], spoken: bool) -> list[dict[str, Any]]:
    """Parts with what the API fills in where a client leaves it out; `spoken` by the model."""
    if isinstance(content, str):
        content = [{"type": "output_text" if spoken else "input_text", "text": content}]
    defaults: dict[str, dict[str, Any]] = {"output_text": {"annotations": []}, "input_image": {"detail": "auto"}}
    return [{**defaults.get(part["type"], {}), **part} for part in content]
