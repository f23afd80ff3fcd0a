"""One answer to one request, streamed or whole, for every dialect: the only place where tokens meet a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sse_starlette import EventSourceResponse
from starlette.responses import Response

from mockllm.clock import Clock
from mockllm.engine.text import Answer
from mockllm.model import Cut, Emission, Finished, Refused, Request, Tokens
from mockllm.server.driver import Driver
from mockllm.server.ledger import Entry, Ledger
from mockllm.wire.errors import ApiError, from_refusal, openai_error_body
from mockllm.wire.openai_chat import ChatWriter, Usage

__all__ = ["Exchange", "StreamCut", "error_response", "event_stream", "respond"]


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


class Mailbox:
    """Emissions on their way from the driver to one response. The driver never waits for a slow reader."""

    def __init__(self) -> None:
        self._waiting: list[Emission] = []
        self._reader: asyncio.Future[None] | None = None

    def put(self, emission: Emission) -> None:
        self._waiting.append(emission)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def take(self) -> list[Emission]:
        """All emissions since the last call; waits for at least one."""
        if not self._waiting:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        taken, self._waiting = self._waiting, []
        return taken


async def respond(exchange: Exchange) -> Response:
    """Submit the request and answer it. Headers leave with the first token, so that a refusal has its status."""
    mailbox = Mailbox()
    entry = exchange.entry
    entry.submitted_at = round(exchange.driver.submit(exchange.request, mailbox.put), 6)
    try:
        first = await mailbox.take()
        if isinstance(first[0], Refused):
            return _refuse(exchange, first[0])
        if exchange.request.watched:
            return _stream(exchange, mailbox, first)
        return await _whole(exchange, mailbox, first)
    except BaseException:
        _abandon(exchange)
        raise


def error_response(error: ApiError, headers: dict[str, str] | None = None) -> Response:
    """A provider-shaped error."""
    extra = {"retry-after": str(max(1, round(error.retry_after_s)))} if error.retry_after_s is not None else {}
    return Response(openai_error_body(error), error.status, {**(headers or {}), **extra}, media_type="application/json")


def _stream(exchange: Exchange, mailbox: Mailbox, first: list[Emission]) -> Response:
    return event_stream(_events(exchange, mailbox, first), {"x-request-id": exchange.request.request_id})


def event_stream(events: AsyncIterator[bytes], headers: dict[str, str]) -> EventSourceResponse:
    """A stream of ready-made server-sent events: LF like the providers, and no keep-alive comments between tokens."""
    return EventSourceResponse(events, headers=headers, sep="\n", ping=0)


async def _events(exchange: Exchange, mailbox: Mailbox, emissions: list[Emission]) -> AsyncIterator[bytes]:
    """The body of a stream. Tokens that are due together leave in one write; each keeps its own event."""
    prefix = exchange.writer.opening()
    try:
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
                _close(exchange, end)
                break
            emissions = await mailbox.take()
    finally:
        _abandon(exchange)
    if isinstance(end, Cut):
        raise StreamCut(exchange.request.request_id)


async def _whole(exchange: Exchange, mailbox: Mailbox, emissions: list[Emission]) -> Response:
    while isinstance(emissions[-1], Tokens):
        emissions = emissions + await mailbox.take()
    end = emissions[-1]
    if isinstance(end, Refused):
        return _refuse(exchange, end)
    if isinstance(end, Cut):
        _close(exchange, end)
        raise StreamCut(exchange.request.request_id)
    assert isinstance(end, Finished)
    text = exchange.answer.piece(0, end.num_output_tokens)
    body = exchange.writer.whole(text, end.reason, _usage(exchange, end))
    return _WholeResponse(exchange, end, body)


class _WholeResponse(Response):
    """A whole answer that notes in the ledger when it was written."""

    def __init__(self, exchange: Exchange, end: Finished, body: bytes) -> None:
        super().__init__(body, 200, {"x-request-id": exchange.request.request_id}, media_type="application/json")
        self._exchange, self._end = exchange, end

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        try:
            await super().__call__(scope, receive, send)
            exchange, end = self._exchange, self._end
            exchange.ledger.wrote(exchange.entry, end.at, exchange.clock.now(), end.num_output_tokens)
            _close(exchange, end)
        finally:
            _abandon(self._exchange)


def _piece(exchange: Exchange, tokens: Tokens) -> bytes:
    return exchange.writer.piece(exchange.answer.piece(tokens.first, tokens.num))


def _usage(exchange: Exchange, end: Finished) -> Usage:
    return Usage(exchange.request.num_prompt_tokens, end.num_output_tokens, end.num_cached_tokens)


def _refuse(exchange: Exchange, refused: Refused) -> Response:
    exchange.entry.status = refused.status
    _close(exchange, refused)
    error = from_refusal(refused.status, refused.kind, refused.message, refused.retry_after_s)
    return error_response(error, {"x-request-id": exchange.request.request_id})


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
