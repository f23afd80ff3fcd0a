"""OpenAI's Batch API: a file of chat completions, worked through when the server has time, at half the price.

A job: the file is uploaded, the batch is made of it, its state is asked for until it has ended, and the lines of its output
and error files say what became of each request (OpenAI's Batch guide; `openai.types.Batch`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec
import orjson

from harness.dialects import Asked, Call, JobFlow, JobResults, Pause, Result
from harness.dialects.json_bodies import decoded
from harness.dialects.openai_chat import OPENAI_CHAT

__all__ = ["OPENAI_BATCH"]

_WORKING = ("validating", "in_progress", "finalizing", "cancelling")
_BOUNDARY = b"----harness-batch-5f1b6a9c0d"


class _File(msgspec.Struct):
    id: str


class _Problem(msgspec.Struct):
    message: str | None = None


class _Problems(msgspec.Struct):
    data: list[_Problem] | None = None


class _Batch(msgspec.Struct):
    id: str
    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: _Problems | None = None


class _Answer(msgspec.Struct):
    status_code: int
    body: msgspec.Raw = msgspec.Raw(b"")


class _Line(msgspec.Struct):
    custom_id: str
    response: _Answer | None = None
    error: _Problem | None = None


_FILE = msgspec.json.Decoder(_File)
_BATCH = msgspec.json.Decoder(_Batch)
_LINE = msgspec.json.Decoder(_Line)


def _job(bodies: Sequence[bytes]) -> JobFlow:
    file = decoded(_FILE, (yield _upload(bodies)))
    order = {"input_file_id": file.id, "endpoint": OPENAI_CHAT.path, "completion_window": "24h"}
    batch = decoded(_BATCH, (yield Call("POST", "/v1/batches", orjson.dumps(order))))
    while batch.status in _WORKING:
        yield Pause()
        batch = decoded(_BATCH, (yield Call("GET", f"/v1/batches/{batch.id}")))
    results: dict[int, Result] = {}
    for file_id in (batch.output_file_id, batch.error_file_id):
        if file_id is not None:
            results |= dict(_results((yield Call("GET", f"/v1/files/{file_id}/content"))))
    problems = [problem.message or "" for problem in (batch.errors and batch.errors.data) or ()]
    unsaid = Result(None, detail="; ".join([f"batch {batch.status}", *problems]))
    return JobResults(batch.id, [results.get(number, unsaid) for number in range(len(bodies))])


def _upload(bodies: Sequence[bytes]) -> Call:
    """A form of two fields (RFC 7578)."""
    lines = b"\n".join(
        b'{"custom_id":"%d","method":"POST","url":"%b","body":%b}' % (number, OPENAI_CHAT.path.encode(), body)
        for number, body in enumerate(bodies)
    )
    fields = (
        b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch',
        b'Content-Disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
        b"Content-Type: application/jsonl\r\n\r\n" + lines,
    )
    form = b"".join(b"--%b\r\n%b\r\n" % (_BOUNDARY, field) for field in fields) + b"--%b--\r\n" % _BOUNDARY
    return Call("POST", "/v1/files", form, f"multipart/form-data; boundary={_BOUNDARY.decode()}")


def _results(content: bytes) -> Iterator[tuple[int, Result]]:
    for line in content.splitlines():
        read = decoded(_LINE, line)
        if read.response is not None:
            yield int(read.custom_id), Result(read.response.status_code, bytes(read.response.body))
        else:
            yield int(read.custom_id), Result(None, detail=read.error.message if read.error else None)


def _body(asked: Asked) -> bytes:
    return OPENAI_CHAT.body(replace(asked, stream=False))


OPENAI_BATCH = replace(OPENAI_CHAT, name="openai-batch", path="/v1/batches", body=_body, streams=False, job=_job)
