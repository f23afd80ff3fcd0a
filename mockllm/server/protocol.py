"""The edge of the server: what a client may send, how long it may take, and how many clients there may be.

uvicorn's protocol has no limit on the time or the size of a request's head, on the time of its body, or on the
patience with a client that does not read. `HardenedProtocol` adds them, and nothing to the path of an answer: a write
goes through uvicorn's code alone. What a stream costs in the application is bounded by `StreamCap`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from mockllm.server.reading import MAX_BODY_BYTES
from mockllm.wire.errors import ApiError, error_body

__all__ = ["EDGE", "Connections", "EdgeLimits", "HardenedProtocol", "StreamCap", "hardened"]


# In the scope's extensions: the connection itself, for faults that a well-behaved server has no words for.
EDGE = "mockllm.edge"


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """Limits of the HTTP edge. Judgement, but for the body: 32 MB is what Anthropic documents.

    `idle_s` is long so that the pooled connections of a load generator outlive its pauses. `write_stall_s` counts from
    the last byte that the client took. `num_reserved` connections above `max_connections` are kept for `/health`,
    `/metrics` and `/mock/…`. `grace_s` is how long running answers may go on after the server was asked to stop.
    """

    header_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 75.0
    write_stall_s: float = 30.0
    linger_s: float = 1.0
    grace_s: float = 5.0
    max_headers: int = 100
    max_header_bytes: int = 16 * 1024
    max_url_bytes: int = 8 * 1024
    max_body_bytes: int = MAX_BODY_BYTES
    max_pipelined: int = 16
    max_connections: int = 10_000
    num_reserved: int = 16
    max_streams: int = 5_000


class StreamCap:
    """How many completion requests are in progress, and how many may be. Counted apart from connections."""

    def __init__(self, max_streams: int) -> None:
        self.num_running = 0
        self.num_refused = 0
        self._max = max_streams

    def enter(self) -> bool:
        """Take a place; False when there is none. Whoever got one must `leave`."""
        if self.num_running >= self._max:
            self.num_refused += 1
            return False
        self.num_running += 1
        return True

    def leave(self) -> None:
        """Give the place back."""
        self.num_running -= 1


class Connections:
    """The open connections of one server.

    Those above the cap share a small reserve, in which the oldest that has not asked for anything yet makes room for the
    newest: silent connections cannot shut out a health check. `num_refused` counts refusals by their error code.
    """

    def __init__(self, limits: EdgeLimits) -> None:
        self.num_refused: Counter[str] = Counter()
        self.stopping = False
        self._limits = limits
        self._open: set[HardenedProtocol] = set()
        self._reserve: dict[HardenedProtocol, None] = {}

    @property
    def num_open(self) -> int:
        """Connections of either kind."""
        return len(self._open) + len(self._reserve)

    def enter(self, connection: HardenedProtocol) -> bool:
        """Take a place under the cap. False when there is none: then it is in the reserve, or was refused already."""
        if len(self._open) < self._limits.max_connections:
            self._open.add(connection)
            return True
        self._reserve[connection] = None
        if len(self._reserve) > self._limits.num_reserved:
            evicted = next(other for other in self._reserve if not other.answering)  # the newest is not, at least
            del self._reserve[evicted]
            evicted.refuse(_TOO_MANY_CONNECTIONS, linger=False)
        return False

    def leave(self, connection: HardenedProtocol) -> None:
        """A connection is lost; one that was pushed out may leave again."""
        self._open.discard(connection)
        self._reserve.pop(connection, None)

    def move_up(self, connection: HardenedProtocol) -> bool:
        """From the reserve to a place under the cap, if one has become free. Whether it has."""
        free = len(self._open) < self._limits.max_connections
        if free:
            del self._reserve[connection]
            self._open.add(connection)
        return free

    def cut(self) -> None:
        """End every connection now, whatever goes on there."""
        for connection in [*self._open, *self._reserve]:
            connection.cut()


class _Await(Enum):
    """What a connection waits for."""

    HEAD = "the rest of a request's head"
    BODY = "the rest of a request's body"
    ANSWER = "our own answer"
    NEXT = "another request"
    CLOSE = "the client's end of a closed conversation"


class _Kept:
    """In place of a transport: keeps what is written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def _settle(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


class _RefusedError(Exception):
    """Raised through the parser to make it stop."""


class _Dropped(list[tuple[bytes, bytes]]):
    """In place of a list of headers when their request has all of them: trailers are read and forgotten."""

    def append(self, header: tuple[bytes, bytes], /) -> None:
        pass


_DROPPED = _Dropped()


_MALFORMED = ApiError(400, "The request is not valid HTTP/1.1.", code="malformed_request")
_NO_HOST = ApiError(400, "The request must have exactly one Host header.", code="malformed_request")
_PIPELINED = ApiError(400, "Too many requests were sent ahead of their answers.", code="too_many_pipelined")
_LATE_HEAD = ApiError(408, "The request's headers did not arrive in time.", code="request_timeout")
_LATE_BODY = ApiError(408, "The request's body did not arrive in time.", code="request_timeout")
_BODY_TOO_LARGE = ApiError(413, "The request body is larger than the limit.", code="request_too_large")
_URL_TOO_LONG = ApiError(414, "The request's URL is too long.", code="url_too_long")
_HEAD_TOO_LARGE = ApiError(431, "The request's headers are too many or too large.", code="headers_too_large")
_TOO_MANY_CONNECTIONS = ApiError(
    503,
    "Too many connections are open; try again later.",
    type="service_unavailable_error",
    code="too_many_connections",
    retry_after_s=1,
)
_STOPPING = ApiError(503, "The server is stopping.", type="service_unavailable_error", code="stopping", retry_after_s=1)
_HEALTH, _METRICS, _CONTROL = b"/health", b"/metrics", b"/mock/"
_ANTHROPIC = (b"/v1/messages", b"/v1/messages/")
_STOPPING_HEALTH = b'{"status":"stopping"}'


class HardenedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with limits.

    A connection has one timer, which is moved only to ring earlier: when it rings too early, it is set again. So a
    request on a kept-alive connection costs no timer, and a write costs nothing at all.
    """

    limits: ClassVar[EdgeLimits]
    guard: ClassVar[Connections]
    _waits_for: _Await

    # -- the connection ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio sets this only on sockets that were made with the protocol named. Without it a small write waits for the
        # client to acknowledge the one before: 40 ms on the first token of every stream.
        if (connection := transport.get_extra_info("socket")) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url, self.headers = b"", _DROPPED
        self._running: RequestResponseCycle | None = None
        self._refusal: ApiError | None = None
        self._num_pending = (
            0  # at least the bytes of what the parser has begun and not ended; 0 if it has just ended something
        )
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = self._deadline = self._stalled_at = inf
        self._num_stalled = 0  # bytes waiting to be written when the client was last seen to read
        self._expect(_Await.HEAD, self.limits.header_s)
        self._reserved = not self.guard.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.guard.leave(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._give_up_answer()  # uvicorn tells only the newest request, which may wait behind this one
        self.pipeline.clear()
        if self.scope is not None:
            self.scope.pop("extensions", None)  # or the two would wait for the garbage collector
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server is stopping: an answer may end, a connection without one is not waited for.

        It stays open for a moment, so that a request which is on its way is answered and not met by a reset.
        """
        if self._running is None:
            self.connections.discard(self)
        else:
            self._running.keep_alive = False

    def cut(self) -> None:
        """End the connection now. A request that was not answered yet gets a 503."""
        if self._running is not None and not self._running.response_started:
            self.refuse(_STOPPING, linger=False)
        elif self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    @property
    def answering(self) -> bool:
        """Whether a request was received and its answer is not complete."""
        return self._running is not None

    # -- what the client sends -----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        piece = self.limits.max_header_bytes  # no more than this goes to the parser before it is asked what it has kept
        if len(data) <= piece:
            self._feed(data)
            return
        view = memoryview(data)
        for start in range(0, len(data), piece):
            self._feed(view[start : start + piece])

    def _feed(self, data: bytes | memoryview) -> None:
        if self._waits_for is _Await.CLOSE:
            return
        self._num_pending += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Answered as if it had not asked; what follows may be another protocol.
            self.cycle.keep_alive = False
            self._waits_for, self._deadline = _Await.CLOSE, inf
            return
        except httptools.HttpParserError:
            self.refuse(self._refusal or _MALFORMED)
            return
        running = self._running
        if running is not None and not running.more_body and self.headers is _DROPPED:
            self._num_pending, self._waits_for, self._deadline = 0, _Await.ANSWER, inf
        else:
            self._after_part(len(data))

    def _after_part(self, num_bytes: int) -> None:
        """Something is incomplete after these bytes: keep it within its limits of size and time."""
        limits, running = self.limits, self._running
        self._num_pending = self._num_pending or num_bytes
        if len(self.url) > limits.max_url_bytes:
            self.refuse(_URL_TOO_LONG)
        elif len(self.headers) > limits.max_headers or self._num_pending > 2 * limits.max_header_bytes:
            self.refuse(_HEAD_TOO_LARGE)  # twice: up to a piece of these bytes may belong to what came before
        elif running is not None and running.more_body:
            if self._waits_for is not _Await.BODY:
                self._expect(_Await.BODY, limits.body_s)
        elif self._waits_for is _Await.NEXT:
            self._expect(_Await.HEAD, limits.header_s)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EDGE: self}  # type: ignore[dict-item]

    def on_headers_complete(self) -> None:
        self._refusal = self._wrong_head()
        if self._refusal is None and (self._reserved or self.pipeline or self.guard.stopping):
            self._refusal = self._not_served()
        if self._refusal is not None:
            raise _RefusedError
        super().on_headers_complete()
        self.headers, self._num_pending = _DROPPED, 0
        if self.pipeline:
            self.flow.resume_reading()  # or a client that goes away would not be noticed
        else:
            self._running, self._waits_for = self.cycle, _Await.HEAD
        if self._reserved:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._num_pending = 0
        super().on_body(body)

    def _wrong_head(self) -> ApiError | None:
        limits, headers = self.limits, self.headers
        if len(self.url) > limits.max_url_bytes:
            return _URL_TOO_LONG
        if len(headers) > limits.max_headers or (
            self._num_pending > limits.max_header_bytes
            and sum(len(name) + len(value) + 4 for name, value in headers) > limits.max_header_bytes
        ):
            return _HEAD_TOO_LARGE
        num_hosts = 0
        for name, value in headers:
            if name == b"host":
                num_hosts += 1
            elif name == b"content-length" and int(value) > limits.max_body_bytes:
                return _BODY_TOO_LARGE
        if num_hosts != 1 and (num_hosts > 1 or self.parser.get_http_version() != "1.0"):
            return _NO_HOST
        return None

    def _not_served(self) -> ApiError | None:
        """A sound request that is refused because of the server's state."""
        if len(self.pipeline) >= self.limits.max_pipelined:
            return _PIPELINED
        if self._reserved:
            self._reserved = not self.guard.move_up(self)
        if self.guard.stopping:
            return None if self._asks_for(_METRICS, _CONTROL) else _STOPPING
        if self._reserved and not self._asks_for(_HEALTH, _METRICS, _CONTROL):
            return _TOO_MANY_CONNECTIONS
        return None

    def _asks_for(self, *places: bytes) -> bool:
        """Whether the path is one of these, or under one that ends in a slash."""
        path = self.url.partition(b"?")[0]
        return path in places or any(path.startswith(place) for place in places if place.endswith(b"/"))

    # -- what the server sends -----------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """In uvicorn's place: it would set a timer for every request."""
        self._running = None
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._running, app = self.pipeline.pop()
            self._start_asgi_task(self._running, app)
            if self._running.more_body:
                self._expect(_Await.BODY, self.limits.body_s)
        elif self._waits_for is _Await.ANSWER:
            self._expect(_Await.NEXT, self.limits.idle_s)

    def reset(self) -> None:
        """End the connection with a TCP reset, as one does that breaks: nothing of what waits to be written is."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None:  # closed with a linger of no seconds, a socket sends RST and not FIN
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._give_up_answer()
        self.transport.abort()

    async def drip(self, sending: Awaitable[None], within_s: float) -> None:
        """Await `sending`, which writes the head of the answer in progress, but let its bytes out one by one."""
        cycle, head = self.cycle if self._running is None else self._running, _Kept()
        cycle.transport = head  # type: ignore[assignment]
        try:
            await sending
        finally:
            cycle.transport = self.transport
        began = self.loop.time()
        for number, byte in enumerate(head.data, start=1):
            if self.transport.is_closing():
                return
            self.transport.write(bytes((byte,)))
            turn = self.loop.create_future()
            self.loop.call_at(began + within_s * number / len(head.data), _settle, turn)
            await turn

    def refuse(self, error: ApiError, *, linger: bool = True) -> None:
        """Answer with an error in place of the application, and close.

        A connection that is closed with unread bytes is reset, and the client may never see the answer; so the rest is
        read and dropped for a moment. Where an answer has begun there is no place for another, and the connection is cut.
        """
        self.guard.num_refused[error.code or str(error.status)] += 1
        if self.transport.is_closing():
            return
        begun = self._running is not None and (self._running.response_started or self._running is not self.cycle)
        self._give_up_answer()
        self.pipeline.clear()
        if begun:
            self.transport.close()
            return
        self.transport.write(self._closing_answer(error))
        if linger and self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
            self._expect(_Await.CLOSE, self.limits.linger_s)
        else:
            self.transport.close()

    def _closing_answer(self, error: ApiError) -> bytes:
        health = error is _STOPPING and self._asks_for(_HEALTH)
        provider = "anthropic" if self._asks_for(*_ANTHROPIC) else "openai"
        request_id = f"req_edge{self.guard.num_refused.total():08x}"
        body = _STOPPING_HEALTH if health else error_body(provider, error, request_id)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", str(round(error.retry_after_s)).encode()))
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        return STATUS_LINE[error.status] + lines + b"\r\n" + body

    def _give_up_answer(self) -> None:
        """Tell the application that nobody waits for the answer in progress."""
        running, self._running = self._running, None
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writes()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stalled_at = inf

    # -- time --------------------------------------------------------------------------------------------

    def _expect(self, waits_for: _Await, within_s: float) -> None:
        self._waits_for = waits_for
        self._deadline = self.loop.time() + within_s
        if self._deadline < self._rings_at:
            self._ring_by(self._deadline)

    def _watch_writes(self) -> None:
        self._num_stalled = self.transport.get_write_buffer_size()
        self._stalled_at = self.loop.time() + self.limits.write_stall_s
        self._ring_by(self._stalled_at)

    def _ring_by(self, at: float) -> None:
        if at < self._rings_at:
            if self._timer is not None:
                self._timer.cancel()
            self._rings_at, self._timer = at, self.loop.call_at(at, self._rang)

    def _rang(self) -> None:
        self._rings_at, self._timer = inf, None
        now = self.loop.time()
        if self._stalled_at == inf and self.transport.is_closing():
            # It closes when all is written, which a client that does not read could put off for ever.
            self._deadline = inf
            self._watch_writes()
        elif now >= self._stalled_at:
            if self.transport.get_write_buffer_size() >= self._num_stalled:
                self.guard.num_refused["write_stalled"] += 1
                self.transport.abort()
                return
            self._watch_writes()
        elif now >= self._deadline:
            self._expired()
        # At least once in a while, for a connection that began to close meanwhile.
        self._ring_by(min(self._deadline, self._stalled_at, now + self.limits.write_stall_s))

    def _expired(self) -> None:
        self._deadline = inf
        match self._waits_for:
            case _Await.HEAD if self._num_pending:
                self.refuse(_LATE_HEAD)
            case _Await.BODY if self._running is not None:
                self.refuse(_LATE_BODY)
            case _Await.CLOSE:
                self.transport.abort()
            case _:
                self.transport.close()


def hardened(limits: EdgeLimits, guard: Connections) -> type[HardenedProtocol]:
    """The protocol class of one server, for `uvicorn.Config(http=…)`."""

    class Hardened(HardenedProtocol):
        pass

    Hardened.limits, Hardened.guard = limits, guard
    return Hardened
