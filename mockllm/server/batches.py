"""OpenAI's Batch API: validating -> in_progress -> finalizing -> completed, or failed, expired, cancelled.

Results come in the order in which requests were answered, as with the provider, not in the order of the input file.
What an answer costs: its body says what an interactive one would (`service_tier` "default", as the provider does);
the header `x-mock-batch` on the inner call is what books it at the batch tier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Literal

import msgspec
from fastapi import FastAPI, Request
from starlette.responses import Response

from mockllm.clock import Clock
from mockllm.server.batch_work import BatchSettings, Call, Complete, Reply, Workers, breathe, grouped, inner_headers
from mockllm.server.files import FileStore
from mockllm.server.reading import openai_page, openai_refusal, read_limited, shown
from mockllm.server.replies import json_body
from mockllm.wire.errors import ApiError, openai_error_body
from mockllm.wire.openai_batch import (
    Batch,
    BatchError,
    BatchOrder,
    Errors,
    LineReader,
    answer_line,
    parse_order,
    unexecuted_line,
)

__all__ = ["BatchStore", "add_batch_routes"]

_MAX_ORDER_BYTES = 256 * 1024  # 16 pairs of metadata, every character escaped, and room
_MAX_ERRORS = 100  # errors shown on a failed batch; judgement
_PIECE_BYTES = 256 * 1024  # of input that are validated at a stretch: below 1 ms
_BROKEN = openai_error_body(
    ApiError(500, "The server had an error while processing your request.", type="server_error", code="server_error")
)


@dataclass(slots=True)
class _Job:
    """A batch and what is known of it beside what the API shows."""

    batch: Batch
    order: BatchOrder
    headers: dict[str, str]
    deadline: float
    content: bytes | None
    purpose: str | None
    end: Literal["completed", "cancelled", "expired"] = "completed"
    pending: dict[str, Call] = field(default_factory=dict)
    outputs: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    num_lines: int = 0


class BatchStore:
    """Batches, oldest first, and the work on them.

    `clock` decides when a batch's window has closed, `epoch` gives the seconds that clients see. The window is looked
    at before every request and whenever somebody asks for the batch.
    """

    def __init__(
        self,
        files: FileStore,
        complete: Complete,
        clock: Clock,
        epoch: Callable[[], int],
        settings: BatchSettings,
        serves_model: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.settings = settings
        self._files = files
        self._clock, self._epoch = clock, epoch
        self._serves_model = serves_model
        self._workers = Workers(complete, settings.max_concurrency)
        self._jobs: dict[str, _Job] = {}
        self._num_created = 0

    @property
    def num_running(self) -> int:
        """Batches that are being worked on."""
        return self._workers.num_running

    def create(self, order: BatchOrder, headers: Mapping[str, str]) -> Batch | ApiError:
        """Begin a batch. What is wrong with its file shows on the batch, as with the provider."""
        if not self._make_room():
            message = f"The mock works on at most {self.settings.max_batches} batches at a time."
            return ApiError(429, message, type="rate_limit_error", code="rate_limit_exceeded")
        self._num_created += 1
        created_at = self._epoch()
        batch = Batch(
            id=f"batch_{self._num_created:08x}",
            endpoint=order.endpoint,
            input_file_id=order.input_file_id,
            completion_window=order.completion_window,
            created_at=created_at,
            expires_at=created_at + int(self.settings.completion_window_s),
            metadata=order.metadata,
        )
        file = self._files.get(order.input_file_id)
        job = _Job(
            batch,
            order,
            inner_headers(headers, batch.id),
            self._clock.now() + self.settings.completion_window_s,
            self._files.content(order.input_file_id),
            file.purpose if file else None,
        )
        self._jobs[batch.id] = job
        self._workers.start(batch.id, self._work(job), lambda error: self._ended(job, error))
        return batch

    def get(self, batch_id: str) -> Batch | None:
        job = self._jobs.get(batch_id)
        if job is None:
            return None
        self._look_at_window(job)
        return job.batch

    def all(self) -> list[Batch]:
        """Oldest first."""
        for job in self._jobs.values():
            self._look_at_window(job)
        return [job.batch for job in self._jobs.values()]

    def cancel(self, batch_id: str) -> Batch | ApiError:
        """Stop a batch; to stop one that is stopped already is no error."""
        job = self._jobs.get(batch_id)
        if job is None:
            return _no_such_batch(batch_id)
        batch = job.batch
        if batch.status in ("cancelling", "cancelled"):
            return batch
        if batch.status not in ("validating", "in_progress"):
            return ApiError(409, f"Cannot cancel a batch with status '{batch.status}'.")
        job.end = "cancelled"
        self._enter(batch, "cancelling")
        self._workers.stop(batch_id)
        return batch

    async def close(self) -> None:
        """Stop all work, for the server's end."""
        await self._workers.close()

    def _make_room(self) -> bool:
        """Forget the batch that was made first of those that have ended, if there are too many."""
        if len(self._jobs) < self.settings.max_batches:
            return True
        running = ("validating", "in_progress", "finalizing", "cancelling")
        ended = next((id_ for id_, job in self._jobs.items() if job.batch.status not in running), None)
        if ended is not None:
            del self._jobs[ended]
        return ended is not None

    async def _work(self, job: _Job) -> None:
        problems = await self._validate(job)
        job.content = None
        if problems:
            self._fail(job, problems)
            return
        job.batch.request_counts.total = len(job.pending)
        self._enter(job.batch, "in_progress")
        await self._workers.run(
            await grouped(list(job.pending.values()), self.settings.max_concurrency),
            job.headers,
            lambda call, reply: self._answered(job, call, reply),
            lambda: self._goes_on(job),
        )
        self._enter(job.batch, "finalizing")
        await breathe()

    def _goes_on(self, job: _Job) -> bool:
        """Whether the window is open for one more request."""
        if self._clock.now() < job.deadline:
            return True
        job.end = "expired"
        return False

    async def _validate(self, job: _Job) -> list[BatchError]:
        """Fill in the job's calls; the errors if there are any."""
        batch = job.batch
        content = job.content
        if content is None:
            message = f"Cannot find file {shown(batch.input_file_id)}, or you do not have access to it."
            return [BatchError("invalid_request", message, "file_id")]
        if job.purpose != "batch":  # our wording
            message = f"File {batch.input_file_id} has purpose '{job.purpose}'; an input file needs purpose 'batch'."
            return [BatchError("invalid_request", message, "file_id")]
        errors = await self._validate_lines(job, content)
        if not errors and not job.pending:
            return [BatchError("empty_file", "The batch input file is empty: it needs at least one request.")]
        return errors

    async def _validate_lines(self, job: _Job, content: bytes) -> list[BatchError]:
        reader = LineReader(job.batch.endpoint, self._serves_model)
        errors: list[BatchError] = []
        max_requests = self.settings.max_requests
        num_bytes = 0
        for number, line in _lines(content):
            if number > max_requests:
                message = f"The batch input file has more than the maximum of {max_requests} requests."
                return [BatchError("too_many_tasks", message)]
            num_bytes += len(line)
            if num_bytes > _PIECE_BYTES:
                num_bytes = 0
                await breathe()
            read = reader.read(number, line)
            if not isinstance(read, BatchError):
                job.pending[read.custom_id] = Call(read.custom_id, job.batch.endpoint, read.body)
            elif len(errors) < _MAX_ERRORS:
                errors.append(read)
        job.batch.model = reader.model
        return errors

    def _answered(self, job: _Job, call: Call, reply: Reply | None) -> None:
        batch = job.batch
        del job.pending[call.custom_id]
        status, headers, body = reply or Reply(500, {}, _BROKEN)
        line_id = self._line_id(job)
        request_id = headers.get("x-request-id", f"req_{line_id}")
        try:
            line = answer_line(line_id, call.custom_id, status, request_id, body)
        except msgspec.DecodeError:
            status, line = 500, answer_line(line_id, call.custom_id, 500, request_id, _BROKEN)
        if 200 <= status < 300:
            batch.request_counts.completed += 1
            batch.usage.add(body)
            job.outputs.append(line)
        else:
            batch.request_counts.failed += 1
            job.errors.append(line)

    def _ended(self, job: _Job, error: BaseException | None) -> None:
        """The last step of every batch, also of one that was stopped before its first."""
        batch = job.batch
        if error is not None:
            self._fail(job, [BatchError("server_error", "The batch could not be processed.")])
        if batch.status != "failed":
            self._keep_results(job)
        job.content = None
        for held in (job.pending, job.outputs, job.errors):
            held.clear()

    def _keep_results(self, job: _Job) -> None:
        batch = job.batch
        if batch.in_progress_at is None:
            job.pending.clear()  # stopped while it was validated: nobody knows how many there are
        if job.end != "completed":
            code = f"batch_{job.end}"
            job.errors += [unexecuted_line(self._line_id(job), custom_id, code) for custom_id in job.pending]
        try:
            batch.output_file_id = self._keep(job, "output", job.outputs)
            batch.error_file_id = self._keep(job, "error", job.errors)
        except _NoRoom as refusal:
            self._fail(job, [BatchError("storage_full", str(refusal))])
            return
        self._enter(batch, job.end)

    def _keep(self, job: _Job, kind: str, lines: list[bytes]) -> str | None:
        """The id of the file with these lines; without lines there is no file."""
        if not lines:
            return None
        expiry = job.order.output_expires_after
        name = f"{job.batch.id}_{kind}.jsonl"
        file = self._files.add(name, "batch_output", b"".join(lines), expiry.seconds if expiry else None)
        if isinstance(file, ApiError):
            raise _NoRoom(file.message)
        return file.id

    def _look_at_window(self, job: _Job) -> None:
        if job.batch.status in ("validating", "in_progress") and self._clock.now() >= job.deadline:
            job.end = "expired"
            self._workers.stop(job.batch.id)

    def _line_id(self, job: _Job) -> str:
        job.num_lines += 1
        return f"batch_req_{job.batch.id.removeprefix('batch_')}_{job.num_lines:06x}"

    def _fail(self, job: _Job, errors: list[BatchError]) -> None:
        job.batch.errors = Errors(errors)
        self._enter(job.batch, "failed")

    def _enter(self, batch: Batch, status: str) -> None:
        batch.status = status
        setattr(batch, f"{status}_at", self._epoch())


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines and their numbers, without blank ones at the end; a copy of so much without them would take too long."""
    num_blank = 0
    for number, line in enumerate(BytesIO(content), 1):
        if not line.strip():
            num_blank += 1
            continue
        yield from ((number - back, b"") for back in range(num_blank, 0, -1))
        num_blank = 0
        yield number, line


class _NoRoom(Exception):  # noqa: N818 - it is an event, not a fault of ours
    """The file store is full."""


def add_batch_routes(app: FastAPI, batches: BatchStore) -> None:
    """`/v1/batches` and what is below it."""

    async def create(http: Request) -> Response:
        body = await read_limited(http, _MAX_ORDER_BYTES)
        order = body if isinstance(body, ApiError) else parse_order(body, batches.settings.endpoints)
        if isinstance(order, ApiError):
            return openai_refusal(order)
        return _shown_or_refused(batches.create(order, http.headers))

    async def list_batches(http: Request) -> Response:
        page = openai_page(batches.all(), http.query_params, default_limit=20, max_limit=100)
        return openai_refusal(page) if isinstance(page, ApiError) else json_body(page)

    async def get_batch(batch_id: str) -> Response:
        return _shown_or_refused(batches.get(batch_id) or _no_such_batch(batch_id))

    async def cancel(batch_id: str) -> Response:
        return _shown_or_refused(batches.cancel(batch_id))

    for method, path, handler in (
        ("POST", "/v1/batches", create),
        ("GET", "/v1/batches", list_batches),
        ("GET", "/v1/batches/{batch_id}", get_batch),
        ("POST", "/v1/batches/{batch_id}/cancel", cancel),
    ):
        app.add_api_route(path, handler, methods=[method], response_model=None)


def _shown_or_refused(batch: Batch | ApiError) -> Response:
    return openai_refusal(batch) if isinstance(batch, ApiError) else json_body(batch)


def _no_such_batch(batch_id: str) -> ApiError:
    return ApiError(404, f"No batch found with id '{shown(batch_id)}'.")
