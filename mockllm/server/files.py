"""OpenAI's Files API over a bounded store in memory.

Shapes: `openai.types.FileObject`, `FileDeleted`. Wordings of refusals are OpenAI's where they are public.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from urllib.parse import quote

import msgspec
from fastapi import FastAPI, Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive

from mockllm.server.batch_work import BatchSettings
from mockllm.server.reading import client_gone, openai_page, openai_refusal, shown, too_large
from mockllm.server.replies import json_body
from mockllm.wire.errors import ApiError, invalid
from mockllm.wire.openai_batch import ExpiresAfter, check_expiry

__all__ = ["FileObject", "FileStore", "add_file_routes"]

# Those of the SDK's FileCreateParams, without "evals": its FileObject does not know that one.
_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data")
_JSONL = {"batch": "Batch API", "fine-tune": "Fine-Tuning API"}
_DOWNLOADABLE = ("batch", "batch_output", "fine-tune", "fine-tune-results")
_BATCH_EXPIRES_AFTER_S = 30 * 86_400  # OpenAI: "files with purpose=batch expire after 30 days"
_FRAMING_BYTES = 64 * 1024  # boundaries, part headers and the short fields around a file
_CHUNK_BYTES = 1024 * 1024


class FileObject(msgspec.Struct, kw_only=True):
    """A file as the API shows it; times are seconds of the epoch."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: str = "processed"
    status_details: str | None = None


class FileStore:
    """Files by id, oldest first. `epoch` is asked for the time when one is added or may have expired."""

    def __init__(self, settings: BatchSettings, epoch: Callable[[], int]) -> None:
        self.settings = settings
        self._epoch = epoch
        self._files: dict[str, tuple[FileObject, bytes]] = {}
        self._num_added = 0
        self._num_bytes = 0

    def add(
        self, filename: str, purpose: str, content: bytes, expires_after_s: int | None = None
    ) -> FileObject | ApiError:
        """Keep a file; refused when the store is full, nothing is ever pushed out for it."""
        self._drop_expired()
        if refusal := self._no_room(len(content)):
            return refusal
        self._num_added += 1
        created_at = self._epoch()
        file = FileObject(
            id=f"file-{self._num_added:08x}",
            bytes=len(content),
            created_at=created_at,
            expires_at=None if expires_after_s is None else created_at + expires_after_s,
            filename=filename,
            purpose=purpose,
        )
        self._files[file.id] = (file, content)
        self._num_bytes += len(content)
        return file

    def get(self, file_id: str) -> FileObject | None:
        self._drop_expired()
        found = self._files.get(file_id)
        return found[0] if found else None

    def content(self, file_id: str) -> bytes | None:
        self._drop_expired()
        found = self._files.get(file_id)
        return found[1] if found else None

    def delete(self, file_id: str) -> bool:
        """Whether there was such a file."""
        self._drop_expired()
        return self._drop(file_id)

    def all(self) -> list[FileObject]:
        """Oldest first."""
        self._drop_expired()
        return [file for file, _ in self._files.values()]

    def _no_room(self, num_bytes: int) -> ApiError | None:
        settings = self.settings
        if len(self._files) >= settings.max_files:
            return invalid(f"The mock keeps at most {settings.max_files} files; delete some.", code="storage_full")
        if self._num_bytes + num_bytes > settings.max_total_bytes:
            message = f"The mock keeps at most {settings.max_total_bytes} bytes of files; delete some."
            return invalid(message, code="storage_full")
        return None

    def _drop_expired(self) -> None:
        now = self._epoch()
        expired = [
            id_ for id_, (file, _) in self._files.items() if file.expires_at is not None and file.expires_at <= now
        ]
        for file_id in expired:
            self._drop(file_id)

    def _drop(self, file_id: str) -> bool:
        found = self._files.pop(file_id, None)
        if found is None:
            return False
        self._num_bytes -= len(found[1])
        return True


def add_file_routes(app: FastAPI, files: FileStore) -> None:
    """`/v1/files` and what is below it."""

    async def upload(http: Request) -> Response:
        file = await _upload(http, files)
        return openai_refusal(file) if isinstance(file, ApiError) else json_body(file)

    async def list_files(http: Request) -> Response:
        purpose = http.query_params.get("purpose")
        found = [file for file in files.all() if purpose in (None, file.purpose)]
        page = openai_page(found, http.query_params, default_limit=10_000, max_limit=10_000)
        return openai_refusal(page) if isinstance(page, ApiError) else json_body(page)

    async def get_file(file_id: str) -> Response:
        file = files.get(file_id)
        return json_body(file) if file else openai_refusal(_no_such_file(file_id))

    async def delete_file(file_id: str) -> Response:
        if not files.delete(file_id):
            return openai_refusal(_no_such_file(file_id))
        return json_body({"id": file_id, "object": "file", "deleted": True})

    async def get_content(file_id: str) -> Response:
        file, content = files.get(file_id), files.content(file_id)
        if file is None or content is None:
            return openai_refusal(_no_such_file(file_id))
        if file.purpose not in _DOWNLOADABLE:
            return openai_refusal(invalid(f"Not allowed to download files of purpose: {file.purpose}"))
        disposition = f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}"
        return Response(content, 200, {"content-disposition": disposition}, media_type="application/octet-stream")

    for method, path, handler in (
        ("POST", "/v1/files", upload),
        ("GET", "/v1/files", list_files),
        ("GET", "/v1/files/{file_id}", get_file),
        ("DELETE", "/v1/files/{file_id}", delete_file),
        ("GET", "/v1/files/{file_id}/content", get_content),
    ):
        app.add_api_route(path, handler, methods=[method], response_model=None)


class _TooLarge(Exception):  # noqa: N818 - it is an event, not a fault of ours
    """More was received than a form may have."""


class _CutShort(Exception):  # noqa: N818 - it is an event, not a fault of ours
    """A form without its closing boundary."""


def _checked(http: Request, max_bytes: int) -> Receive:
    """What the client sends, until it was too much or ended without a form's closing boundary.

    Starlette's parser takes a form that was cut short for a whole one, and leaves the temporary file of the open part
    behind; an error while it reads makes it close all of them.
    """
    kind, options = parse_options_header(http.headers.get("content-type"))
    closing = b"\r\n--" + options.get(b"boundary", b"") + b"--" if kind == b"multipart/form-data" else b""
    size, tail = 0, b""

    async def checked() -> Message:
        nonlocal size, tail
        message = await http.receive()
        if message["type"] != "http.request":
            return message
        body = message.get("body", b"")
        size, tail = size + len(body), (tail + body)[-len(closing) - 2 :]
        if size > max_bytes:
            raise _TooLarge
        if not message.get("more_body") and not tail.removesuffix(b"\r\n").endswith(closing):
            raise _CutShort
        return message

    return checked


async def _read_form(http: Request, max_bytes: int) -> FormData | ApiError:
    """The form; what is too large is dropped while it is read."""
    request = Request(http.scope, _checked(http, max_bytes))
    try:
        return await request.form(max_files=1, max_fields=16, max_part_size=4096)
    except _TooLarge:
        return too_large(max_bytes)
    except ClientDisconnect:
        return client_gone()
    except _CutShort:
        return invalid("Could not parse multipart form: its closing boundary is missing.")
    except HTTPException as error:
        return invalid(f"Could not parse multipart form: {shown(str(error.detail))}")
    except ValueError:  # charsets that only decode some bytes, and broken url-encoded forms
        return invalid("Could not parse multipart form.")


async def _upload(http: Request, files: FileStore) -> FileObject | ApiError:
    form = await _read_form(http, files.settings.max_file_bytes + _FRAMING_BYTES)
    if isinstance(form, ApiError):
        return form
    try:
        return await _store_upload(form, files)
    finally:
        await form.close()


async def _store_upload(form: FormData, files: FileStore) -> FileObject | ApiError:
    upload, purpose = form.get("file"), form.get("purpose")
    if not isinstance(upload, UploadFile):
        return invalid("Missing required parameter: 'file'.", "file", "missing_required_parameter")
    if not isinstance(purpose, str):
        return invalid("Missing required parameter: 'purpose'.", "purpose", "missing_required_parameter")
    if purpose not in _PURPOSES:
        names = ", ".join(f"'{name}'" for name in _PURPOSES)
        message = f"Invalid value: '{shown(purpose)}'. Supported values are: {names}."
        return invalid(message, "purpose", "invalid_value")
    expires_after_s = _expiry(form, purpose)
    if isinstance(expires_after_s, ApiError):
        return expires_after_s
    filename = (upload.filename or "file").encode("utf-8", "replace").decode()
    content = await _content(upload, filename, purpose, files.settings.max_file_bytes)
    return content if isinstance(content, ApiError) else files.add(filename, purpose, content, expires_after_s)


def _expiry(form: FormData, purpose: str) -> int | ApiError | None:
    """`expires_after[anchor]` and `expires_after[seconds]`: both or none."""
    anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return _BATCH_EXPIRES_AFTER_S if purpose == "batch" else None
    for name, value in (("anchor", anchor), ("seconds", seconds)):
        if not isinstance(value, str):
            param = f"expires_after.{name}"
            return invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    assert isinstance(anchor, str)
    assert isinstance(seconds, str)
    if not (seconds.isascii() and seconds.isdecimal() and len(seconds) <= 9):
        message = f"Invalid type for 'expires_after.seconds': expected an integer, but got '{shown(seconds)}' instead."
        return invalid(message, "expires_after.seconds", "invalid_type")
    return check_expiry(ExpiresAfter(shown(anchor), int(seconds)), "expires_after") or int(seconds)


async def _content(upload: UploadFile, filename: str, purpose: str, max_bytes: int) -> bytes | ApiError:
    """The file's bytes. Of JSONL, OpenAI looks at name, encoding and first line; the rest is the batch's to judge."""
    if (upload.size or 0) > max_bytes:
        return ApiError(413, f"File is too large. Maximum size is {max_bytes} bytes.", param="file")
    api = _JSONL.get(purpose)
    decoder = codecs.getincrementaldecoder("utf-8")()
    pieces = []
    try:
        while piece := await upload.read(_CHUNK_BYTES):
            if api:
                decoder.decode(piece)
            pieces.append(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return invalid(f"Invalid file for {api}. Must be utf-8 encoded")
    content = b"".join(pieces)
    if not api:
        return content if content else invalid("File is empty.", "file")
    if filename.endswith(".jsonl") and _starts_with_an_object(content):
        return content
    return invalid(f"Invalid file format for {api}. Must be .jsonl")


def _starts_with_an_object(content: bytes) -> bool:
    first_line = content.lstrip().split(b"\n", 1)[0]
    try:
        msgspec.json.decode(first_line, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _no_such_file(file_id: str) -> ApiError:
    return ApiError(404, f"No such File object: {shown(file_id)}", param="id")
