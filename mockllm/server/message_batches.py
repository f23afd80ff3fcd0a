"""Anthropic's Message Batches API: in_progress -> ended, or canceling -> ended; results as JSON lines.

As at the provider, the parameters of a request are judged when it runs, not when the batch is made; counts stay at
"processing" until all of the batch has ended; results come in the order in which requests were answered.
What an answer costs: `message.usage.service_tier` is "batch" (half price), and the header `x-mock-batch` on the
inner call books it at that tier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from fastapi import FastAPI, Request
from starlette.datastructures import QueryParams
from starlette.responses import Response

from mockllm.clock import Clock
from mockllm.server.batch_work import BatchSettings, Call, Complete, Reply, Workers, breathe, grouped, inner_headers
from mockllm.server.reading import query_integer, read_limited, shown
from mockllm.server.replies import json_body
from mockllm.wire.anthropic_batch import (
    Counts,
    MessageBatch,
    MessageRequest,
    asks_for_a_stream,
    errored,
    parse_requests,
    result_line,
    rfc3339,
    streamed,
    succeeded,
)
from mockllm.wire.errors import ApiError, anthropic_error_body, invalid

__all__ = ["MessageBatchStore", "add_message_batch_routes"]

_CALLS_AT_A_STRETCH = 1000


@dataclass(slots=True)
class _Job:
    """A batch and what is known of it beside what the API shows."""

    batch: MessageBatch
    headers: dict[str, str]
    deadline: float
    pending: dict[str, Call]
    left: Literal["canceled", "expired"] = "canceled"  # what becomes of requests that are never made
    counts: Counts = field(default_factory=Counts)
    results: list[bytes] = field(default_factory=list)
    num_bytes: int = 0


class MessageBatchStore:
    """Batches, oldest first, and the work on them; see BatchStore for clock and epoch."""

    def __init__(self, complete: Complete, clock: Clock, epoch: Callable[[], int], settings: BatchSettings) -> None:
        self.settings = settings
        self._clock, self._epoch = clock, epoch
        self._workers = Workers(complete, settings.max_concurrency)
        self._jobs: dict[str, _Job] = {}
        self._num_created = 0
        self._num_answered = 0

    @property
    def num_running(self) -> int:
        """Batches that are being worked on."""
        return self._workers.num_running

    def next_request_id(self) -> str:
        """An id for one HTTP request to this API."""
        self._num_answered += 1
        return f"req_mb{self._num_answered:08x}"

    def create(self, requests: list[MessageRequest], headers: Mapping[str, str]) -> MessageBatch | ApiError:
        """Begin a batch."""
        num_bytes = sum(len(request.params) for request in requests)
        if not self._make_room(num_bytes):
            return ApiError(429, "The mock holds as many batches as it can; wait for one.", type="rate_limit_error")
        self._num_created += 1
        created_at = self._epoch()
        batch = MessageBatch(
            id=f"msgbatch_{self._num_created:08x}",
            request_counts=Counts(processing=len(requests)),
            created_at=rfc3339(created_at),
            expires_at=rfc3339(created_at + int(self.settings.completion_window_s)),
        )
        job = _Job(
            batch,
            inner_headers(headers, batch.id),
            self._clock.now() + self.settings.completion_window_s,
            {item.custom_id: Call(item.custom_id, "/v1/messages", item.params) for item in requests},
            num_bytes=num_bytes,
        )
        self._jobs[batch.id] = job
        self._workers.start(batch.id, self._work(job), lambda error: self._ended(job, error))
        return batch

    def get(self, batch_id: str) -> MessageBatch | ApiError:
        job = self._jobs.get(batch_id)
        if job is None:
            return _not_found(f"Message Batch {shown(batch_id)} not found.")
        self._look_at_window(job)
        return job.batch

    def all(self) -> list[MessageBatch]:
        """Oldest first."""
        for job in self._jobs.values():
            self._look_at_window(job)
        return [job.batch for job in self._jobs.values()]

    def results(self, batch_id: str) -> bytes | ApiError:
        """The lines of a batch that has ended."""
        batch = self.get(batch_id)
        if isinstance(batch, ApiError):
            return batch
        if batch.processing_status != "ended":
            return _not_found(f"Message Batch {batch_id} has no available results.")
        return b"".join(self._jobs[batch_id].results)

    def cancel(self, batch_id: str) -> MessageBatch | ApiError:
        """Stop a batch; to stop one that is being stopped is no error."""
        batch = self.get(batch_id)
        if isinstance(batch, ApiError) or batch.processing_status == "canceling":
            return batch
        if batch.processing_status == "ended":  # our wording: no published answer is known
            return invalid(f"Message Batch {batch_id} has already ended and cannot be canceled.")
        batch.processing_status = "canceling"
        batch.cancel_initiated_at = rfc3339(self._epoch())
        self._workers.stop(batch_id)
        return batch

    def delete(self, batch_id: str) -> ApiError | None:
        """Forget a batch that has ended, and its results."""
        batch = self.get(batch_id)
        if isinstance(batch, ApiError):
            return batch
        if batch.processing_status != "ended":
            return invalid("In progress batches cannot be deleted. Consider canceling the batch instead.")
        del self._jobs[batch_id]
        return None

    async def close(self) -> None:
        """Stop all work, for the server's end."""
        await self._workers.close()

    def _make_room(self, num_bytes: int) -> bool:
        """Forget batches that have ended, those made first before others, while there are too many."""
        num_bytes += sum(job.num_bytes for job in self._jobs.values())
        ended = [id_ for id_, job in self._jobs.items() if job.batch.processing_status == "ended"]
        for batch_id in ended:
            if len(self._jobs) < self.settings.max_batches and num_bytes <= self.settings.max_total_bytes:
                break
            num_bytes -= self._jobs.pop(batch_id).num_bytes
        return len(self._jobs) < self.settings.max_batches and num_bytes <= self.settings.max_total_bytes

    async def _work(self, job: _Job) -> None:
        await self._refuse_streams(job)
        await self._workers.run(
            await grouped(list(job.pending.values()), self.settings.max_concurrency),
            job.headers,
            lambda call, reply: self._answered(job, call, reply),
            lambda: self._goes_on(job),
        )

    async def _refuse_streams(self, job: _Job) -> None:
        for number, call in enumerate(list(job.pending.values()), 1):
            if asks_for_a_stream(call.body):
                self._note(job, call, streamed())
            if number % _CALLS_AT_A_STRETCH == 0:
                await breathe()

    def _goes_on(self, job: _Job) -> bool:
        """Whether the window is open for one more request."""
        if self._clock.now() < job.deadline:
            return True
        job.left = "expired"
        return False

    def _answered(self, job: _Job, call: Call, reply: Reply | None) -> None:
        result = succeeded(reply.body) if reply and 200 <= reply.status < 300 else None
        self._note(job, call, result or errored(reply.body if reply else None))

    def _note(self, job: _Job, call: Call, result: dict[str, object]) -> None:
        """The result of one request, which is then forgotten."""
        del job.pending[call.custom_id]
        if result["type"] == "succeeded":
            job.counts.succeeded += 1
        else:
            job.counts.errored += 1
        line = result_line(call.custom_id, result)
        job.results.append(line)
        job.num_bytes += len(line) - len(call.body)

    def _ended(self, job: _Job, error: BaseException | None) -> None:
        """The last step of every batch, also of one that was stopped before its first."""
        if error is not None:
            for call in list(job.pending.values()):
                self._note(job, call, errored(None))
        setattr(job.counts, job.left, len(job.pending))
        job.results += [result_line(custom_id, {"type": job.left}) for custom_id in job.pending]
        job.pending.clear()
        job.num_bytes = sum(map(len, job.results))
        job.batch.request_counts = job.counts
        job.batch.processing_status = "ended"
        job.batch.ended_at = rfc3339(self._epoch())

    def _look_at_window(self, job: _Job) -> None:
        if job.batch.processing_status == "in_progress" and self._clock.now() >= job.deadline:
            job.left = "expired"
            self._workers.stop(job.batch.id)


def add_message_batch_routes(app: FastAPI, store: MessageBatchStore) -> None:
    """`/v1/messages/batches` and what is below it."""

    async def create(http: Request) -> Response:
        body = await read_limited(http, store.settings.max_message_bytes)
        if isinstance(body, ApiError):
            return _answer(store, http, _too_large(body))
        requests = parse_requests(body, store.settings.max_message_requests)
        return _answer(
            store, http, requests if isinstance(requests, ApiError) else store.create(requests, http.headers)
        )

    async def list_batches(http: Request) -> Response:
        return _answer(store, http, _page(http, store.all()))

    async def get_batch(http: Request, batch_id: str) -> Response:
        return _answer(store, http, store.get(batch_id))

    async def cancel(http: Request, batch_id: str) -> Response:
        return _answer(store, http, store.cancel(batch_id))

    async def delete(http: Request, batch_id: str) -> Response:
        return _answer(store, http, store.delete(batch_id) or {"id": batch_id, "type": "message_batch_deleted"})

    async def results(http: Request, batch_id: str) -> Response:
        return _answer(store, http, store.results(batch_id))

    for method, path, handler in (
        ("POST", "/v1/messages/batches", create),
        ("GET", "/v1/messages/batches", list_batches),
        ("GET", "/v1/messages/batches/{batch_id}", get_batch),
        ("DELETE", "/v1/messages/batches/{batch_id}", delete),
        ("POST", "/v1/messages/batches/{batch_id}/cancel", cancel),
        ("GET", "/v1/messages/batches/{batch_id}/results", results),
    ):
        app.add_api_route(path, handler, methods=[method], response_model=None)


def _answer(
    store: MessageBatchStore, http: Request, value: MessageBatch | dict[str, object] | bytes | ApiError
) -> Response:
    """Whatever a store said, as Anthropic sends it."""
    headers = {"request-id": store.next_request_id()}
    match value:
        case ApiError():
            body = anthropic_error_body(value, headers["request-id"])
            return Response(body, value.status, headers, media_type="application/json")
        case bytes():
            return Response(value, 200, headers, media_type="application/x-jsonl")
        case MessageBatch():
            return json_body(_with_results_url(value, http), headers)
        case _:
            return json_body(value, headers)


def _page(http: Request, oldest_first: list[MessageBatch]) -> dict[str, object] | ApiError:
    """Newest first; `after_id` asks for older ones than that, `before_id` for the next newer ones."""
    limit = query_integer(http.query_params, "limit", 20, 1, 1000)
    if isinstance(limit, ApiError):
        return limit
    window = _window(http.query_params, list(reversed(oldest_first)), limit)
    if isinstance(window, ApiError):
        return window
    data, has_more = window
    return {
        "data": [_with_results_url(batch, http) for batch in data],
        "has_more": has_more,
        "first_id": data[0].id if data else None,
        "last_id": data[-1].id if data else None,
    }


def _window(params: QueryParams, batches: list[MessageBatch], limit: int) -> tuple[list[MessageBatch], bool] | ApiError:
    """The batches of one page, and whether there are more in the direction of reading."""
    before_id, after_id = params.get("before_id"), params.get("after_id")
    if before_id and after_id:
        return invalid("Only one of before_id and after_id may be given.")
    places = {batch.id: place for place, batch in enumerate(batches)}
    for name, cursor in (("before_id", before_id), ("after_id", after_id)):
        if cursor and cursor not in places:
            return invalid(f"{name}: no Message Batch with the id {shown(cursor)}")
    if before_id:
        newer = batches[: places[before_id]]
        return newer[-limit:], len(newer) > limit
    older = batches[places[after_id] + 1 :] if after_id else batches
    return older[:limit], len(older) > limit


def _with_results_url(batch: MessageBatch, http: Request) -> MessageBatch:
    """The batch with an absolute address on the host that the client named, once there are results."""
    if batch.processing_status != "ended":
        return batch
    host = http.headers.get("host") or "localhost"
    # Not http.base_url: it parses what the client wrote there, and raises for some of it.
    root = f"{http.scope['scheme']}://{host}{http.scope.get('root_path', '')}"
    return msgspec.structs.replace(batch, results_url=f"{root}/v1/messages/batches/{batch.id}/results")


def _too_large(error: ApiError) -> ApiError:
    if error.status != 413:
        return error
    return ApiError(413, "Request exceeds the maximum allowed number of bytes.", type="request_too_large")


def _not_found(message: str) -> ApiError:
    return ApiError(404, message, type="not_found_error")
