"""One answer to one request, streamed or whole, for every dialect: the only place where tokens meet a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sse_starlette import EventSourceResponse
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from mockllm.clock import Clock
from mockllm.content.text import Answer
from mockllm.model import Cut, Emission, Finished, Refused, Request, Tokens
from mockllm.server.driver import Driver
from mockllm.server.ledger import Entry, Ledger
from mockllm.wire.errors import ApiError, from_refusal, openai_error_body
from mockllm.wire.openai_chat import ChatWriter, Usage

__all__ = ["Answering", "Exchange", "StreamCut", "error_response", "event_stream"]


class StreamCut(Exception):  # noqa: N818 - it is an event, not a fault of ours
    """Raised into the server to make it drop the connection in the middle of a body, as the model decided."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """All that one answer needs."""

    request: Request
    entry: Entry
    writer: ChatWriter
    answer: Answer
    driver: Driver
    ledger: Ledger
    clock: Clock


class _ClientGone(Exception):  # noqa: N818 - it is an event, not a fault of ours
    """The client closed its connection before the answer was complete."""


class _Mailbox:
    """Emissions on their way from the driver to one response. The driver never waits for a slow reader."""

    def __init__(self) -> None:
        self._waiting: list[Emission] = []
        self._reader: asyncio.Future[None] | None = None
        self._client_gone = False

    def put(self, emission: Emission) -> None:
        self._waiting.append(emission)
        self._wake()

    def client_gone(self) -> None:
        """Wake whoever waits: there is nobody left to answer."""
        self._client_gone = True
        self._wake()

    async def take(self) -> list[Emission]:
        """All emissions since the last call; waits for at least one. Raises _ClientGone when nobody reads any more."""
        if not self._waiting and not self._client_gone:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if self._client_gone:
            raise _ClientGone
        taken, self._waiting = self._waiting, []
        return taken

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Answering(Response):
    """Submits the request, waits for its first token, and answers: an error, a stream or a whole body.

    Headers leave with the first token, so that a refusal has its status. A client that goes away at any
    moment frees its place in the engine at once.
    """

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, mailbox = self._exchange, _Mailbox()
        disconnected = asyncio.ensure_future(_disconnect(receive))
        disconnected.add_done_callback(lambda _: mailbox.client_gone())

        async def receive_end() -> Message:
            return await asyncio.shield(disconnected)

        try:
            exchange.entry.submitted_at = round(exchange.driver.submit(exchange.request, mailbox.put), 6)
            response = await _response(exchange, mailbox)
            await response(scope, receive_end, send)
            if isinstance(response, _WholeResponse):
                response.written()
        except _ClientGone:
            pass
        finally:
            disconnected.cancel()
            _abandon(exchange)


def error_response(error: ApiError, headers: dict[str, str] | None = None) -> Response:
    """A provider-shaped error."""
    extra = {"retry-after": str(max(1, round(error.retry_after_s)))} if error.retry_after_s is not None else {}
    return Response(openai_error_body(error), error.status, {**(headers or {}), **extra}, media_type="application/json")


class _EventStream(EventSourceResponse):
    """sse-starlette's stream without the tasks it starts beside it.

    Of its three watchers, `Answering` replaces the one for the client's end, uvicorn's graceful stop the one for the
    server's, and pings are off. What they cost is not their time but the cycles that their cancellation leaves: the
    garbage collector stopped the loop for up to 80 ms to clear them.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stream_response(send)


def event_stream(events: AsyncIterator[bytes], headers: dict[str, str]) -> Response:
    """A stream of ready-made server-sent events: LF like the providers, and no keep-alive comments between tokens."""
    return _EventStream(events, headers=headers, sep="\n", ping=0)


async def _disconnect(receive: Receive) -> Message:
    """Wait until the client goes away; the body has been read before."""
    while (message := await receive())["type"] != "http.disconnect":
        continue
    return message


async def _response(exchange: Exchange, mailbox: _Mailbox) -> Response:
    """The response that the first emission calls for."""
    emissions = await mailbox.take()
    if isinstance(emissions[0], Refused):
        return _refusal(exchange, emissions[0])
    if exchange.request.watched:
        return event_stream(_events(exchange, mailbox, emissions), _headers(exchange))
    while isinstance(emissions[-1], Tokens):
        emissions = emissions + await mailbox.take()
    end = emissions[-1]
    if isinstance(end, Cut):
        return _CutResponse(exchange, end)
    assert isinstance(end, Finished)
    return _WholeResponse(exchange, end)


async def _events(exchange: Exchange, mailbox: _Mailbox, emissions: list[Emission]) -> AsyncIterator[bytes]:
    """The body of a stream. Tokens that are due together leave in one write; each keeps its own event."""
    prefix = exchange.writer.opening()
    while True:
        tokens = [emission for emission in emissions if isinstance(emission, Tokens)]
        end = emissions[-1] if not isinstance(emissions[-1], Tokens) else None
        body = prefix + b"".join(_piece(exchange, emission) for emission in tokens)
        if isinstance(end, Finished):
            body += exchange.writer.closing(end.reason, _usage(exchange, end))
        prefix = b""
        if body:
            yield body
            written_at = exchange.clock.now()
            for emission in tokens:
                exchange.ledger.wrote(exchange.entry, emission.at, written_at, emission.num)
        if end is not None:
            break
        emissions = await mailbox.take()
    _close(exchange, end)
    if isinstance(end, Cut):
        raise StreamCut(exchange.request.request_id)


class _WholeResponse(Response):
    """A complete answer as one JSON body."""

    def __init__(self, exchange: Exchange, end: Finished) -> None:
        text = exchange.answer.piece(0, end.num_output_tokens)
        body = exchange.writer.whole(text, end.reason, _usage(exchange, end))
        super().__init__(body, 200, _headers(exchange), media_type="application/json")
        self._exchange, self._end = exchange, end

    def written(self) -> None:
        """Note in the ledger that the body was written just now."""
        exchange, end = self._exchange, self._end
        exchange.ledger.wrote(exchange.entry, end.at, exchange.clock.now(), end.num_output_tokens)
        _close(exchange, end)


class _CutResponse(Response):
    """Half of a whole answer: the length is that of all of it, and then the connection breaks."""

    def __init__(self, exchange: Exchange, end: Cut) -> None:
        text = exchange.answer.piece(0, end.num_output_tokens)
        body = exchange.writer.whole(text, "stop", Usage(exchange.request.num_prompt_tokens, end.num_output_tokens))
        super().__init__(body, 200, _headers(exchange), media_type="application/json")
        self._exchange, self._end = exchange, end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        _close(self._exchange, self._end)
        raise StreamCut(self._exchange.request.request_id)


def _headers(exchange: Exchange) -> dict[str, str]:
    return {"x-request-id": exchange.request.request_id}


def _piece(exchange: Exchange, tokens: Tokens) -> bytes:
    return exchange.writer.piece(exchange.answer.piece(tokens.first, tokens.num))


def _usage(exchange: Exchange, end: Finished) -> Usage:
    return Usage(exchange.request.num_prompt_tokens, end.num_output_tokens, end.cache.num_read)


def _refusal(exchange: Exchange, refused: Refused) -> Response:
    exchange.entry.status = refused.status
    _close(exchange, refused)
    error = from_refusal(refused.status, refused.kind, refused.message, refused.retry_after_s)
    return error_response(error, _headers(exchange))


def _close(exchange: Exchange, end: Emission) -> None:
    entry = exchange.entry
    entry.finished_at = round(end.at, 6)
    match end:
        case Finished():
            entry.outcome, entry.status, entry.finish_reason = "ok", 200, end.reason
            entry.num_output_tokens, entry.queue_s = end.num_output_tokens, end.queue_s
        case Cut():
            entry.outcome, entry.status, entry.num_output_tokens = "cut", 200, end.num_output_tokens
        case _:
            entry.outcome = "refused"
    exchange.ledger.close(entry)


def _abandon(exchange: Exchange) -> None:
    """Called at every end: when the answer is not complete, the client went away."""
    if exchange.entry.outcome is None:
        exchange.driver.cancel(exchange.request.request_id)
        exchange.entry.outcome = "cancelled"
        exchange.entry.finished_at = round(exchange.clock.now(), 6)
        exchange.entry.num_output_tokens = sum(exchange.entry.num_tokens)
        exchange.ledger.close(exchange.entry)
