"""Background responses: they run whether or not anybody is connected, and are read by polling or as a stream.

    POST /v1/responses, `background`         answered at once: the queued response, or the stream of its events
    GET  /v1/responses/{id}                  the response as it stands
    GET  …?stream=true&starting_after=7      its events after number 7, and those that are still to come
    POST /v1/responses/{id}/cancel           the engine is free of it at once

A response is queued until its first token is due, then in_progress, and in the end completed, incomplete, failed or
cancelled. What is refused at once has its HTTP status, as any request; what fails later is a response that failed. A
stream is written by a task of its own, a turn of the event loop after its tokens are due.

Sources: OpenAI's guide "Background mode" (2026), also for how long a response is kept, with `store` false too; for what
the guide leaves open (a cancelled response has no output and its stream ends with response.failed, what cannot be cancelled or
streamed, the words of these errors) the contract of Azure's Responses API.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.responses import Response, StreamingResponse

from mockllm.model import Began, Emission, Finished, Refused, Tokens
from mockllm.server.exchange import Exchange
from mockllm.server.replies import error_response, passage_headers, provider_headers
from mockllm.server.server import Server
from mockllm.wire.errors import ApiError, from_refusal, invalid, overloaded
from mockllm.wire.openai_responses import ResponsesWriter, queued_events, response_object

__all__ = ["Background", "BackgroundSettings", "Run"]

_END_OF_EVENT = b"\n\n"
_BROKEN = from_refusal("openai", 500, "mock_error", "", None)


@dataclass(frozen=True, slots=True)
class BackgroundSettings:
    """Bounds of what is kept. A response can be read for `keep_s` after its end, OpenAI's ten minutes, unless there are
    more than `max_kept` or they take more than `max_bytes`: then the one that ended first is forgotten. Those two are judgement.
    """

    keep_s: float = 600.0
    max_kept: int = 10_000
    max_bytes: int = 256 * 1024 * 1024


class Run:
    """One background response. `events[n]` has the sequence number n; there are some only where a stream was asked for.

    `inputs` are the items of its request, as the API shows them. `ended` is told once, `grown` of every byte that is kept.
    """

    def __init__(
        self,
        exchange: Exchange,
        inputs: Sequence[dict[str, Any]],
        ended: Callable[[Run, Exchange], None],
        grown: Callable[[int], None],
    ) -> None:
        self.tag = exchange.context.tag
        self.streamed = exchange.call.stream
        self.inputs = inputs
        self.status = "queued"
        self.events: list[bytes] = []
        self.num_bytes = 0
        self.ended_at: float | None = None
        self.refusal: Refused | None = None
        self._exchange: Exchange | None = exchange  # until its end
        self._body = b""  # from its end on
        self._told_end, self._grown = ended, grown
        self._news = asyncio.Event()

    def start(self) -> None:
        """Give it to the engine. When this returns, `refusal` is there if it was refused at once."""
        exchange = self._running
        if self.streamed:
            self._keep(queued_events(exchange.call, exchange.context))
        else:  # nobody wants its tokens, but it shows when it begins
            exchange.requests = [replace(request, tell_first=True) for request in exchange.requests]
        exchange.submit([self._deliver])
        exchange.driver.ring()

    @property
    def body(self) -> bytes:
        """The response object as it stands."""
        exchange = self._exchange
        if exchange is None:
            return self._body
        if self.streamed and self.status == "in_progress":
            return self._writer.as_it_stands(self.status)
        return response_object(exchange.call, exchange.context, self.status)

    async def follow(self, after: int) -> AsyncIterator[bytes]:
        """The events after number `after`, then those that come, until the last."""
        place = after + 1
        while True:
            if place < len(self.events):
                news = b"".join(self.events[place:])
                place = len(self.events)
                yield news
            elif self._exchange is None:
                return
            else:
                await self._news.wait()

    def cancel(self) -> bool:
        """Stop it; False when it is over."""
        exchange = self._exchange
        if exchange is None:
            return False
        exchange.abandon()  # what is due happens first, and that may be its end
        if self._exchange is None:
            return False
        if self.streamed:
            self._keep(self._writer.cancelled())
        self._end("cancelled", response_object(exchange.call, exchange.context, "cancelled"))
        return True

    # -- what the driver tells -------------------------------------------------------------------------

    @property
    def _running(self) -> Exchange:
        assert self._exchange is not None
        return self._exchange

    @property
    def _writer(self) -> ResponsesWriter:
        writer = self._running.writer
        assert isinstance(writer, ResponsesWriter)
        return writer

    def _deliver(self, emission: Emission, more: bool) -> None:
        """The driver's callback. A fault in here is this response's, not that of whoever else is due."""
        if self._exchange is None:
            return
        try:
            self._take(emission, self._exchange)
        except Exception as error:
            message = f"background response {self.tag} broke down"
            asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
            asyncio.get_running_loop().call_soon(self._exchange.abandon)  # not now: the driver is in the middle of it
            self._fail(_BROKEN)

    def _take(self, emission: Emission, exchange: Exchange) -> None:
        if isinstance(emission, Tokens):
            if self.streamed:
                for piece in exchange.replies[0].slices(emission.first, emission.num):
                    self._keep(self._writer.piece(0, piece))
                self._wrote(emission.at, emission.num)
        elif isinstance(emission, Began):
            self._begin(emission, exchange)
        elif isinstance(emission, Finished):
            exchange.met(emission.passage)
            self._finish(emission, exchange)
        elif isinstance(emission, Refused):
            self.refusal = emission
            exchange.refused(emission)
            self._fail(_error_of(emission))
        else:
            exchange.met(emission.passage)
            exchange.cut(emission)
            self._fail(_BROKEN)

    def _begin(self, began: Began, exchange: Exchange) -> None:
        self.status = "in_progress"
        if self.streamed:
            exchange.met(began.passage)
            self._keep(self._writer.opening(exchange.prompt_usage(began.cache)))

    def _finish(self, end: Finished, exchange: Exchange) -> None:
        writer, usage = self._writer, exchange.usage([end], end.cache)
        if self.streamed:
            self._keep(writer.end(0, exchange.end_of(end)) + writer.closing(usage))
        else:
            writer.whole([exchange.end_of(end)], usage)
            self._wrote(end.at, end.num_output_tokens)
        exchange.finished([end])
        assert writer.finished is not None
        self._end("incomplete" if end.reason == "length" else "completed", writer.finished.body)

    def _fail(self, error: ApiError) -> None:
        if self.streamed:
            self._keep(self._writer.error(error))
        self._end("failed", self._writer.as_it_stands("failed", error=error))

    def _end(self, status: str, body: bytes) -> None:
        exchange = self._running
        self.status, self._body, self._exchange = status, body, None
        self.ended_at = exchange.clock.now()
        self._grow(len(body))
        self._told_end(self, exchange)
        self._news.set()

    def _keep(self, events: bytes) -> None:
        """Keep events, one or several, and wake whoever follows."""
        self.events += [event + _END_OF_EVENT for event in events.split(_END_OF_EVENT)[:-1]]
        self._grow(len(events))
        self._news.set()
        self._news = asyncio.Event()

    def _grow(self, num_bytes: int) -> None:
        self.num_bytes += num_bytes
        self._grown(num_bytes)

    def _wrote(self, planned_at: float, num_tokens: int) -> None:
        """Where nobody needs to be connected, what is kept counts as written."""
        exchange = self._running
        exchange.entry.planned_at.append(planned_at)
        exchange.entry.written_at.append(exchange.clock.now())
        exchange.entry.num_tokens.append(num_tokens)


class Background:
    """The background responses of one server. `done` is told of every answer that is complete."""

    def __init__(
        self, server: Server, done: Callable[[Exchange], None], settings: BackgroundSettings = BackgroundSettings()
    ) -> None:
        self._server, self._done, self._settings = server, done, settings
        self._running: dict[str, Run] = {}
        self._ended: OrderedDict[str, Run] = OrderedDict()  # the one that ended first is first
        self._num_bytes = 0

    def answer(self, exchange: Exchange, inputs: Sequence[dict[str, Any]]) -> Response:
        """Begin a response; what its client hears."""
        if exchange.entry.service_tier == "batch":
            return self._refused(exchange, invalid("A request of a batch cannot run in the background.", "background"))
        self._make_room()
        if self._num_bytes > self._settings.max_bytes or not self._server.cap.enter():
            error = overloaded(exchange.provider)
            exchange.refused(
                Refused(exchange.request_id, exchange.clock.now(), error.status, "overloaded", error.message)
            )
            return self._refused(exchange, error)
        run = Run(exchange, inputs, self._over, self._grow)
        self._running[run.tag] = run
        run.start()
        if run.refusal is not None and run.refusal.status >= 400:
            self._drop(run)
            return self._refused(exchange, _error_of(run.refusal))
        headers = provider_headers(exchange.provider, exchange.request_id, self._spent_s(exchange))
        return streamed(run, -1, headers) if run.streamed else Response(run.body, 200, headers, "application/json")

    def get(self, tag: str) -> Run | None:
        """A response by its id."""
        self._make_room()
        return self._running.get(tag) or self._ended.get(tag)

    def delete(self, run: Run) -> bool:
        """Forget a response; False for one that is not over."""
        if run.ended_at is None:
            return False
        self._drop(run)
        return True

    def close(self) -> None:
        """Stop all work, for the server's end."""
        for run in list(self._running.values()):
            run.cancel()

    def _over(self, run: Run, exchange: Exchange) -> None:
        self._server.cap.leave()
        self._ended[run.tag] = self._running.pop(run.tag)
        self._make_room()
        if run.status in ("completed", "incomplete"):
            self._done(exchange)

    def _make_room(self) -> None:
        """Forget what nobody may ask for any more, and what there is no room for."""
        settings, horizon = self._settings, self._server.clock.now() - self._settings.keep_s
        while self._ended:
            oldest = next(iter(self._ended.values()))
            too_many = len(self._ended) > settings.max_kept or self._num_bytes > settings.max_bytes
            if not too_many and (oldest.ended_at or 0.0) > horizon:
                return
            self._drop(oldest)

    def _drop(self, run: Run) -> None:
        if self._ended.pop(run.tag, None) is not None:
            self._num_bytes -= run.num_bytes

    def _grow(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes

    def _refused(self, exchange: Exchange, error: ApiError) -> Response:
        met = exchange.passage
        headers = None
        if met is not None:
            headers = passage_headers(exchange.provider, met, exchange.clock_epoch, exchange.clock.now())
        spent_s = self._spent_s(exchange)
        return error_response(exchange.provider, error, exchange.request_id, spent_s=spent_s, headers=headers)

    def _spent_s(self, exchange: Exchange) -> float:
        return exchange.clock.now() - exchange.entry.received_at


def streamed(run: Run, after: int, headers: dict[str, str]) -> Response:
    """The events of a response after number `after`. The events are ready-made and need no pings between tokens."""
    shown = dict(EventSourceResponse(iter(()), headers=headers, ping=0).headers)
    return StreamingResponse(run.follow(after), headers=shown)


def _error_of(refusal: Refused) -> ApiError:
    return from_refusal("openai", refusal.status, refusal.kind, refusal.message, refusal.retry_after_s, refusal.excess)
