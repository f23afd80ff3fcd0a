"""Anthropic's Message Batches: messages that are answered when the server has time, at half the price.

A job: one request makes the batch, its state is asked for until it has ended, and the lines of its results say what became
of each message (`anthropic.types.messages`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec

from harness.dialects import Asked, Call, JobFlow, JobResults, Pause, Result
from harness.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from harness.dialects.json_bodies import decoded

__all__ = ["ANTHROPIC_BATCH"]

_PATH = "/v1/messages/batches"
# What the service answers to a request by HTTP; a line of results has no status (its error types are those of the API).
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class _Batch(msgspec.Struct):
    id: str
    processing_status: str


class _Inside(msgspec.Struct):
    type: str = ""


class _Error(msgspec.Struct):
    error: _Inside = msgspec.field(default_factory=_Inside)


class _Said(msgspec.Struct):
    type: str  # succeeded, errored, canceled, expired
    message: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"{}")


class _Line(msgspec.Struct):
    custom_id: str
    result: _Said


_BATCH = msgspec.json.Decoder(_Batch)
_LINE = msgspec.json.Decoder(_Line)
_ERROR = msgspec.json.Decoder(_Error)


def _job(bodies: Sequence[bytes]) -> JobFlow:
    requests = b",".join(b'{"custom_id":"%d","params":%b}' % (number, body) for number, body in enumerate(bodies))
    batch = decoded(_BATCH, (yield Call("POST", _PATH, b'{"requests":[%b]}' % requests)))
    while batch.processing_status != "ended":
        yield Pause()
        batch = decoded(_BATCH, (yield Call("GET", f"{_PATH}/{batch.id}")))
    results = dict(_results((yield Call("GET", f"{_PATH}/{batch.id}/results"))))
    unsaid = Result(None, detail="the results do not name this request")
    return JobResults(batch.id, [results.get(number, unsaid) for number in range(len(bodies))])


def _results(content: bytes) -> Iterator[tuple[int, Result]]:
    for line in content.splitlines():
        read = decoded(_LINE, line)
        said, number = read.result, int(read.custom_id)
        if said.type == "succeeded":
            yield number, Result(200, bytes(said.message))
        elif said.type == "errored":
            body = bytes(said.error)
            yield number, Result(_STATUS.get(decoded(_ERROR, body).error.type, 500), body)
        else:
            yield number, Result(None, detail=f"request {said.type}")


def _body(asked: Asked) -> bytes:
    return ANTHROPIC_MESSAGES.body(replace(asked, stream=False))


ANTHROPIC_BATCH = replace(ANTHROPIC_MESSAGES, name="anthropic-batch", path=_PATH, body=_body, streams=False, job=_job)
