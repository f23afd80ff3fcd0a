"""Reading what a client sent beside a completion, and answering it: bodies up to a limit, pages of a list, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mockllm.wire.errors import ApiError, invalid, openai_error_body

__all__ = [
    "MAX_BODY_BYTES",
    "client_gone",
    "openai_page",
    "openai_refusal",
    "query_integer",
    "read_limited",
    "shown",
    "too_large",
]

MAX_BODY_BYTES = 32 * 1024 * 1024  # what Anthropic documents


class _Listed(Protocol):
    @property
    def id(self) -> str: ...


Item = TypeVar("Item", bound=_Listed)


async def read_limited(http: Request, max_bytes: int) -> bytes | ApiError:
    """The body, up to the limit; the rest of a larger one is not read."""
    pieces, size = [], 0
    try:
        async for piece in http.stream():
            size += len(piece)
            if size > max_bytes:
                return too_large(max_bytes)
            pieces.append(piece)
    except ClientDisconnect:
        return client_gone()
    return b"".join(pieces)


def too_large(max_bytes: int) -> ApiError:
    """HTTP 413 for a body over the limit."""
    return ApiError(413, f"The request body is larger than {max_bytes} bytes.", code="request_too_large")


def client_gone() -> ApiError:
    """The answer nobody will read."""
    return ApiError(400, "The client went away before its request was complete.", code="client_disconnected")


def shown(text: str) -> str:
    """A client's own text as an error may repeat it: of bounded length, and always fit to be encoded."""
    whole = text.encode("utf-8", "replace").decode()
    return whole if len(whole) <= 200 else whole[:200] + "…"


def openai_refusal(error: ApiError) -> Response:
    """An error in OpenAI's shape."""
    return Response(openai_error_body(error), error.status, media_type="application/json")


def query_integer(params: QueryParams, name: str, default: int, lowest: int, highest: int) -> int | ApiError:
    """An integer of the query string within its bounds, in OpenAI's words otherwise."""
    text = params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        message = f"Invalid type for '{name}': expected an integer, but got '{shown(text)}' instead."
        return invalid(message, name, "invalid_type")
    value = int(text)
    if lowest <= value <= highest:
        return value
    bound, code = (lowest, "below_min") if value < lowest else (highest, "above_max")
    side, sign = ("below minimum", ">=") if value < lowest else ("above maximum", "<=")
    message = f"Invalid '{name}': integer {side} value. Expected a value {sign} {bound}, but got {value} instead."
    return invalid(message, name, f"integer_{code}_value")


def openai_page(
    oldest_first: Sequence[Item], params: QueryParams, *, default_limit: int, max_limit: int
) -> dict[str, object] | ApiError:
    """One page of an OpenAI list: `limit`, `after` (an id) and `order` (newest first unless `asc`)."""
    limit = query_integer(params, "limit", default_limit, 1, max_limit)
    if isinstance(limit, ApiError):
        return limit
    order = params.get("order", "desc")
    if order not in ("asc", "desc"):
        message = f"Invalid value: '{shown(order)}'. Supported values are: 'asc' and 'desc'."
        return invalid(message, "order", "invalid_value")
    items = list(oldest_first if order == "asc" else reversed(oldest_first))
    if after := params.get("after"):
        place = next((place for place, item in enumerate(items) if item.id == after), None)
        if place is None:
            return invalid(f"Invalid 'after': nothing with the id '{shown(after)}' in this list.", "after")
        items = items[place + 1 :]
    data = items[:limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0].id if data else None,
        "last_id": data[-1].id if data else None,
        "has_more": len(items) > limit,
    }
