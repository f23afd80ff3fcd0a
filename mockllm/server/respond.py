"""One answer to one request, streamed or whole, for every dialect: the only place where tokens meet a socket.

Tokens are written in the driver's own callback, at the instant they are due. The response's task waits only for the
end, for a client that goes away, and for a socket that is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from math import inf

from sse_starlette import EventSourceResponse
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from mockllm.model import Began, CacheUse, Cut, Emission, Finished, Refused, Tokens
from mockllm.passage import Passage
from mockllm.server.damage import Wounds
from mockllm.server.exchange import Exchange
from mockllm.server.protocol import EDGE, HardenedProtocol, StreamCap
from mockllm.server.pump import Pump
from mockllm.server.replies import error_response, passage_headers, provider_headers
from mockllm.wire.errors import ApiError, from_refusal, overloaded

__all__ = ["DIRECT_SEND", "Answering", "StreamCut"]

# In the scope's extensions: the server's own `send`, past the wrappers that frameworks put around it. They need to see
# the start of a response, and nothing after it.
DIRECT_SEND = "mockllm.send"


class StreamCut(Exception):  # noqa: N818 - it is an event, not a fault of ours
    """Raised into the server to make it drop the connection in the middle of a body, as the model decided."""


class _Reset(Exception):  # noqa: N818 - it is an event, not a fault of ours
    """The connection is to be reset in place of an answer."""


class _ClientGone(Exception):  # noqa: N818 - it is an event, not a fault of ours
    """The client closed its connection before the answer was complete."""


class Answering(Response):
    """Submits the request, waits for its first token, and answers: an error, a stream or a whole body.

    Headers leave with the first token, so that a refusal has its status. A client that goes away at any
    moment frees its place in the engine at once.
    """

    def __init__(self, exchange: Exchange, cap: StreamCap, done: Callable[[Exchange], None] | None = None) -> None:
        """`cap` bounds how many requests are in progress; `done` is told of an answer that is complete."""
        super().__init__()
        self._exchange, self._cap, self._done = exchange, cap, done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._cap.enter():
            await self._overloaded(scope, receive, send)
            return
        try:
            await self._answer(scope, receive, send)
        finally:
            self._cap.leave()

    async def _overloaded(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = self._exchange
        error = overloaded(exchange.provider)
        exchange.refused(Refused(exchange.request_id, exchange.clock.now(), error.status, "overloaded", error.message))
        await error_response(exchange.provider, error, exchange.request_id)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange, extensions = self._exchange, scope.get("extensions", {})
        kind = _Stream if exchange.call.stream else _Whole
        edge: HardenedProtocol | None = extensions.get(EDGE)
        answer = kind(exchange, send, extensions.get(DIRECT_SEND, send), edge)
        disconnected = asyncio.ensure_future(_disconnect(receive))
        disconnected.add_done_callback(lambda _: answer.fail(_ClientGone()))
        try:
            exchange.submit([partial(answer.deliver, choice) for choice in range(len(exchange.requests))])
            await answer.run()
            if self._done is not None and exchange.entry.outcome == "ok":
                self._done(exchange)
        except _ClientGone:
            pass
        except _Reset:
            assert edge is not None
            edge.reset()
        finally:
            disconnected.cancel()
            answer.pump.close()
            exchange.abandon()


async def _disconnect(receive: Receive) -> Message:
    """Wait until the client goes away; the body has been read before."""
    while (message := await receive())["type"] != "http.disconnect":
        continue
    return message


def _dripping(send: Send, edge: HardenedProtocol, within_s: float) -> Send:
    async def drip(message: Message) -> None:
        await edge.drip(send(message), within_s)

    return drip


class _Answer:
    """What streams and whole bodies have in common: choices that end, and a task that waits for it.

    `edge` is the connection, where there is one.
    """

    def __init__(self, exchange: Exchange, send: Send, send_body: Send, edge: HardenedProtocol | None) -> None:
        self.exchange = exchange
        self.pump = Pump(send, self._wake, send_body)
        self._edge = edge
        self._wounds: Wounds | None = None
        self._head_until = -inf  # when a head that drips out is complete, by plan
        self._ends: list[Finished | None] = [None] * len(exchange.requests)
        self._cache = CacheUse()
        self._over = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    def deliver(self, choice: int, emission: Emission, more: bool) -> None:
        """The driver's callback. A fault in here is this request's, not that of whoever else is due."""
        if self._over:
            return
        try:
            self._take(choice, emission, more)
        except Exception as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End with an error: nothing more is written. A client that has gone is news also when only the socket was full."""
        if isinstance(error, _ClientGone):
            self.pump.give_up()
        if self._over and not (isinstance(error, _ClientGone) and self.pump.stuck):
            return
        self._over, self._error = True, self._error or error
        self._wake()

    async def run(self) -> None:
        """Until the answer is written. Raises what `fail` was given."""
        while not self._over or self.pump.stuck:
            if self.pump.stuck:  # it ends: the socket takes it, or the edge gives the client up (`write_stall_s`)
                await self.pump.drain()
                continue
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self, choice: int, emission: Emission, more: bool) -> None:
        raise NotImplementedError

    def _all_ended(self, choice: int, end: Finished) -> list[Finished] | None:
        """Note the end of a choice; all ends when it was the last."""
        self._ends[choice] = end
        ends = [end for end in self._ends if end is not None]
        return ends if len(ends) == len(self._ends) else None

    def _finish(self) -> None:
        self._over = True
        self._wake()

    def _met(self, passage: Passage | None, at: float) -> None:
        """The answer begins at `at`: what it met on its way is known."""
        self.exchange.met(passage)
        if passage is not None and passage.damage:
            self._wounds = Wounds(passage.damage)
            if self._edge is not None and self._wounds.head_s:
                self._head_until = at + self._wounds.head_s
                self.pump.send_start = _dripping(self.pump.send_start, self._edge, self._wounds.head_s)

    def _cut_unseen(self, end: Cut) -> None:
        """An answer that broke off before anybody saw anything of it."""
        exchange = self.exchange
        exchange.met(end.passage)
        exchange.cut(end, status=500 if end.in_band else None)
        self._no_answer(from_refusal(exchange.provider, 500, "mock_error", "", None) if end.in_band else None)

    def _no_answer(self, error: ApiError | None) -> None:
        """An error in place of an answer, or a reset; nobody can reset what is no connection."""
        if error is None and self._edge is not None:
            self.fail(_Reset())
            return
        self._send_error(error or from_refusal(self.exchange.provider, 0, "", "", None))

    def _refuse(self, refusal: Refused) -> None:
        exchange = self.exchange
        exchange.refused(refusal)
        if refusal.status == 0:
            self._no_answer(None)
            return
        status, kind, message, retry_after_s = refusal[2:6]
        self._send_error(from_refusal(exchange.provider, status, kind, message, retry_after_s, refusal.excess))

    def _send_error(self, error: ApiError) -> None:
        """Instead of an answer; nothing of one was sent."""
        exchange = self.exchange
        response = error_response(
            exchange.provider, error, exchange.request_id, spent_s=self._spent_s(), headers=self._passage_headers()
        )
        start = {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        self.pump.put(start)
        self.pump.put({"type": "http.response.body", "body": bytes(response.body), "more_body": False})
        self._finish()

    def _spent_s(self) -> float:
        return self.exchange.clock.now() - self.exchange.entry.received_at

    def _headers(self) -> dict[str, str]:
        exchange = self.exchange
        headers = provider_headers(exchange.provider, exchange.request_id, self._spent_s())
        return headers | self._passage_headers()

    def _passage_headers(self) -> dict[str, str]:
        exchange = self.exchange
        if exchange.passage is None:
            return {}
        now = exchange.clock.now()
        return passage_headers(exchange.provider, exchange.passage, exchange.clock_epoch, now)

    def _wrote(self, planned_at: float, num_tokens: int) -> None:
        """A content write was handed to the socket just now."""
        entry = self.exchange.entry
        entry.planned_at.append(max(planned_at, self._head_until))
        entry.written_at.append(self.exchange.clock.now())
        entry.num_tokens.append(num_tokens)


class _Stream(_Answer):
    """Server-sent events, each written when its tokens are due; those that are due together leave in one write."""

    def __init__(self, exchange: Exchange, send: Send, send_body: Send, edge: HardenedProtocol | None) -> None:
        super().__init__(exchange, send, send_body, edge)
        self._started = False
        self._held: list[bytes] = []  # events that wait for what leaves with them
        self._held_tokens: list[tuple[float, int]] = []  # (planned at, tokens) of these

    def _take(self, choice: int, emission: Emission, more: bool) -> None:
        if isinstance(emission, Tokens):
            pieces = self.exchange.replies[choice].slices(emission.first, emission.num)
            events = [self.exchange.writer.piece(choice, piece) for piece in pieces]
            self._held += events if self._wounds is None else self._wounds.events(events, emission.num)
            self._held_tokens.append((emission.at, emission.num))
            if not more:
                self._write(more_body=True)
        elif isinstance(emission, Began):
            self._begin(emission)
        elif isinstance(emission, Finished):
            self._end(choice, emission)
        elif isinstance(emission, Refused):
            self._refuse(emission)
        else:
            self._cut(emission)

    def _begin(self, began: Began) -> None:
        """The first token is about to come: headers, and what comes before the words."""
        if self._started:
            return
        self._started, self._cache = True, began.cache
        self._met(began.passage, began.at)
        # The events are ready-made and need no pings between tokens; the response is there for its headers.
        headers = EventSourceResponse(iter(()), headers=self._headers(), ping=0).raw_headers
        self.pump.put({"type": "http.response.start", "status": 200, "headers": headers})
        self._held.append(self.exchange.writer.opening(self.exchange.prompt_usage(began.cache)))

    def _end(self, choice: int, end: Finished) -> None:
        exchange = self.exchange
        said = exchange.writer.end(choice, exchange.end_of(end))
        self._held.append(said)
        ends = self._all_ended(choice, end)
        if ends is None:
            self._write(more_body=True)
            return
        closing = exchange.writer.closing(exchange.usage(ends, self._cache))
        self._held += [closing] if self._wounds is None else self._wounds.closing(said, closing)
        self._write(more_body=False, last=partial(exchange.finished, ends))
        self._finish()

    def _cut(self, end: Cut) -> None:
        if not self._started:
            self._cut_unseen(end)
        elif end.in_band:
            self._break_off(from_refusal(self.exchange.provider, 500, "mock_error", "", None), end)
        elif end.silent:
            self._write(more_body=False, last=partial(self.exchange.cut, end))
            self._finish()
        else:
            self._write(more_body=True, last=partial(self.exchange.cut, end))
            self.fail(StreamCut(self.exchange.request_id))

    def _refuse(self, refusal: Refused) -> None:
        if not self._started:
            super()._refuse(refusal)
            return
        if refusal.status == 0:  # of one of several choices
            self._cut(Cut(refusal.request_id, refusal.at, 0))
            return
        status, kind, message = refusal[2:5]
        error = from_refusal(self.exchange.provider, status, kind, message, None, refusal.excess)
        self._break_off(error, Cut(refusal.request_id, refusal.at, 0, True))

    def _break_off(self, error: ApiError, end: Cut) -> None:
        """End the stream with an error in it."""
        self._held.append(self.exchange.writer.error(error))
        self._write(more_body=False, last=partial(self.exchange.cut, end))
        self._finish()

    def _write(self, *, more_body: bool, last: Callable[[], None] | None = None) -> None:
        """Everything that is held, as one write; `last` closes the ledger's entry when it is out."""
        body = b"".join(self._held)
        sent = partial(self._sent, self._held_tokens, last)
        self._held, self._held_tokens = [], []
        self.pump.put({"type": "http.response.body", "body": body, "more_body": more_body}, sent)

    def _sent(self, tokens: list[tuple[float, int]], last: Callable[[], None] | None) -> None:
        """A write was handed to the socket just now."""
        for planned_at, num_tokens in tokens:
            self._wrote(planned_at, num_tokens)
        if last is not None:
            last()


class _Whole(_Answer):
    """A complete answer as one JSON body."""

    def _take(self, choice: int, emission: Emission, more: bool) -> None:
        if isinstance(emission, Finished):
            self._met(emission.passage, emission.at)
            ends = self._all_ended(choice, emission)
            if ends is not None:
                self._answer(ends)
        elif isinstance(emission, Refused):
            self._refuse(emission)
        elif isinstance(emission, Cut):
            self._met(emission.passage, emission.at)
            self._cut(emission)

    def _answer(self, ends: list[Finished]) -> None:
        exchange = self.exchange
        usage = exchange.usage(ends, ends[0].cache)
        body = exchange.writer.whole([exchange.end_of(end) for end in ends], usage)
        body = body if self._wounds is None else self._wounds.whole(body)
        self._start(body)
        self.pump.put({"type": "http.response.body", "body": body, "more_body": False}, partial(self._written, ends))
        self._finish()

    def _written(self, ends: list[Finished]) -> None:
        self._wrote(max(end.at for end in ends), sum(end.num_output_tokens for end in ends))
        self.exchange.finished(ends)

    def _cut(self, end: Cut) -> None:
        """Half of a whole answer: the length is that of all of it, and then the connection breaks; or it is the half's own."""
        exchange = self.exchange
        if end.in_band:  # there is no stream for the error to be in
            exchange.cut(end, status=500)
            self._send_error(from_refusal(exchange.provider, 500, "mock_error", "", None))
            return
        ends = [end] * len(exchange.replies)
        body = exchange.writer.whole([exchange.end_of(each) for each in ends], exchange.usage(ends, CacheUse()))
        half = body[: len(body) // 2]
        self._start(half if end.silent else body)
        message = {"type": "http.response.body", "body": half, "more_body": not end.silent}
        self.pump.put(message, partial(exchange.cut, end))
        if end.silent:
            self._finish()
        else:
            self.fail(StreamCut(exchange.request_id))

    def _start(self, body: bytes) -> None:
        headers = Response(body, 200, self._headers(), media_type="application/json").raw_headers
        self.pump.put({"type": "http.response.start", "status": 200, "headers": headers})
