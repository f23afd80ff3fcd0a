"""Anthropic's Message Batches API: the batch object, the body that makes one, and the lines of its results. Pure.

Shapes: `anthropic.types.messages`. Wordings of refusals are the service's own where somebody published an answer
of it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from mockllm.wire.anthropic_bodies import read_body
from mockllm.wire.errors import ApiError, invalid

__all__ = [
    "Counts",
    "MessageBatch",
    "MessageRequest",
    "asks_for_a_stream",
    "errored",
    "parse_requests",
    "result_line",
    "rfc3339",
    "streamed",
    "succeeded",
]

_NOT_STREAMED = '"stream=True" is not supported in the Message Batches API'

_CUSTOM_ID = "^[a-zA-Z0-9_-]{1,64}$"
_CUSTOM_ID_MATCHES = re.compile(r"[a-zA-Z0-9_-]{1,64}").fullmatch


class Counts(msgspec.Struct):
    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class MessageBatch(msgspec.Struct, kw_only=True):
    """A batch as the API shows it; times are RFC 3339. `results_url` depends on whom the client asked."""

    id: str
    type: str = "message_batch"
    processing_status: Literal["in_progress", "canceling", "ended"] = "in_progress"
    request_counts: Counts
    created_at: str
    expires_at: str
    ended_at: str | None = None
    cancel_initiated_at: str | None = None
    archived_at: str | None = None
    results_url: str | None = None


class MessageRequest(msgspec.Struct, frozen=True):
    """One request of a batch; `params` is the body of a request for a message, not yet judged."""

    custom_id: str
    params: bytes


class _Request(msgspec.Struct):
    custom_id: str
    params: dict[str, msgspec.Raw]


class _Requests(msgspec.Struct):
    requests: list[_Request]


class _ErrorInside(msgspec.Struct):
    type: str
    message: str


class _ErrorAnswer(msgspec.Struct, tag_field="type", tag="error"):
    error: _ErrorInside
    request_id: str | None = None


BatchBody = _Requests  # what the endpoint takes, for whoever documents it

_REQUESTS = msgspec.json.Decoder(_Requests)


def parse_requests(body: bytes, max_requests: int) -> list[MessageRequest] | ApiError:
    """Read the body of `POST /v1/messages/batches`."""
    read = read_body(body, _REQUESTS)
    if isinstance(read, ApiError):
        return read
    num = len(read.requests)
    if num == 0:
        return invalid("requests: List should have at least 1 item after validation, not 0")
    if num > max_requests:
        return invalid(f"requests: List should have at most {max_requests} items after validation, not {num}")
    found: dict[str, MessageRequest] = {}
    for index, request in enumerate(read.requests):
        custom_id = request.custom_id
        if rule := _broken_id_rule(custom_id):
            return invalid(f"requests.{index}.custom_id: {rule}")
        if custom_id in found:
            message = f"custom_id's must be unique within a batch. Duplicate custom_id found: {custom_id}"
            return invalid(f"requests: {message}")
        found[custom_id] = MessageRequest(custom_id, msgspec.json.encode(request.params))
    return list(found.values())


def _broken_id_rule(custom_id: str) -> str | None:
    if _CUSTOM_ID_MATCHES(custom_id):
        return None
    if len(custom_id) > 64:
        return "String should have at most 64 characters"
    if not custom_id:
        return "String should have at least 1 character"
    return f"String should match pattern '{_CUSTOM_ID}'"


class _Params(msgspec.Struct):
    stream: object = None


def asks_for_a_stream(params: bytes) -> bool:
    """Whether a request wants what no batch can give. Anything but `true` is for the endpoint to judge."""
    return msgspec.json.decode(params, type=_Params).stream is True


def succeeded(answer: bytes) -> dict[str, object] | None:
    """The result for a request that was answered with this body; None when it is no message.

    Its usage says that it was made at the batch tier.
    """
    try:
        message = msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.DecodeError:
        return None
    if not isinstance(message.get("usage"), dict):
        return None
    message["usage"]["service_tier"] = "batch"
    return {"type": "succeeded", "message": message}


def errored(answer: bytes | None) -> dict[str, object]:
    """The result for a request that was refused with this body; without a readable one the fault is the server's."""
    try:
        said = msgspec.json.decode(answer or b"", type=_ErrorAnswer)
    except msgspec.DecodeError:
        said = _ErrorAnswer(_ErrorInside("api_error", "Internal server error"))
    return {"type": "errored", "error": said}


def streamed() -> dict[str, object]:
    """The result for a request that wants a stream."""
    return {"type": "errored", "error": _ErrorAnswer(_ErrorInside("invalid_request_error", _NOT_STREAMED))}


def result_line(custom_id: str, result: dict[str, object]) -> bytes:
    """A line of the results."""
    return msgspec.json.encode({"custom_id": custom_id, "result": result}) + b"\n"


def rfc3339(epoch_s: int) -> str:
    """Seconds of the epoch as the API writes times."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
