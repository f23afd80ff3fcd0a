"""Reads one answer from a socket: stamps every read, feeds the HTTP parser, and knows when the answer has ended.

Plain sockets are read in the event loop's own callback, as soon as a poll reports them: no greenlet is switched to before
the answer is over. TLS sockets, and clients that read slowly on purpose, are read by the greenlet itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.hub import Waiter
from geventhttpclient.response import HTTPParseError, HTTPResponse

from harness.exchange import Exchange, Vague
from harness.plan import Conduct
from harness.rxstamp import ANCILLARY_BYTES, KernelClock, LoopWatch, stamp_of

__all__ = ["Answer", "Ears", "GoneAway", "receive", "receive_slowly"]

_READ_BYTES = 65536
_MAX_HEAD_BYTES = 300 * 1024  # curl's limit; the parser has none, and would take in a head without an end
_READABLE = 1  # libev's EV_READ
_VAGUE_S = 1e-3
_SLICE_S = 0.05  # a slow client reads so often
_TO_THE_END = Conduct()


class GoneAway(Exception):  # noqa: N818 - the plan wanted it
    """The client has left, as its plan says."""


@dataclass(slots=True)
class Ears:
    """What hears when bytes come, shared by all answers of a process."""

    now: Callable[[], float]
    clock: KernelClock
    watch: LoopWatch


class _Parser(HTTPResponse):
    """Hands each piece of the body over with the instant of the read that it came in. `over`: the answer has ended, and
    whatever follows on the connection is none of it."""

    def __init__(self, reads: list[tuple[float, bytes]]) -> None:
        super().__init__()
        self._reads = reads
        self.read_at = 0.0
        self.over = self.has_surplus = False

    def feed(self, data: str | bytes) -> None:
        try:
            super().feed(data)
        except HTTPParseError:
            if not self.over:
                raise
            self.has_surplus = True

    def _on_message_begin(self) -> None:
        if self.over:
            raise HTTPParseError("the answer was over")
        super()._on_message_begin()

    def _on_header_field(self, string: str) -> None:
        if not self.headers_complete:  # a trailer is no header, and there may be no end of them
            super()._on_header_field(string)

    def _on_header_value(self, string: str) -> None:
        if not self.headers_complete:
            super()._on_header_value(string)

    def _on_message_complete(self) -> None:
        super()._on_message_complete()
        self.over = self.get_code() >= 200  # 100 Continue and its like: the answer is still to come

    def _on_body(self, buf: Any) -> None:
        self._reads.append((self.read_at, bytes(buf)))


@dataclass(slots=True)
class Answer:
    """An answer that is being read into its exchange. `num_content` tells how many chunks with content a piece of the body
    completes; it is asked only for a client that leaves after so many."""

    exchange: Exchange
    ears: Ears
    conduct: Conduct = _TO_THE_END
    num_content: Callable[[bytes], int] | None = None
    heard_at: float = 0.0  # by our own clock
    _parser: _Parser = field(init=False)
    _last_at: float = 0.0
    _num_head: int = 0
    _num_heard: int = 0
    _num_listened: int = 0

    def __post_init__(self) -> None:
        self._parser = _Parser(self.exchange.reads)

    def begins(self) -> None:
        """The request is being sent: nothing can have come before."""
        self._last_at = self.heard_at = self.ears.now()

    def ended_at(self) -> float:
        """When it was over: a complete answer with its last byte, any other when we saw that it would not be."""
        return self._last_at if self.exchange.ending == "complete" else self.ears.now()

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request."""
        return not self._parser.has_surplus and not self._parser.should_close()

    def take(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> bool:
        """Take in what was just read, b"" for the end of the connection. True when the answer is over.

        Raises HTTPParseError for what is no HTTP answer, and GoneAway when the client has heard enough.
        """
        exchange, parser = self.exchange, self._parser
        self.heard_at = now = self.ears.now()
        if not data:
            exchange.ending = "closed"
            parser.read_at = self._last_at = now
            parser.feed(data)
            if not parser.over:
                raise HTTPParseError("connection closed by the server")
            exchange.ending = "complete"
            return True
        parser.read_at = at = self._arrival(ancillary, now)
        if exchange.first_byte_at is None:
            exchange.first_byte_at = at
        parser.feed(data)
        if exchange.status is None and parser.headers_complete and parser.get_code() >= 200:
            exchange.status = parser.get_code()
            exchange.headers = {name.lower(): value for name, value in parser.items()}
        elif exchange.status is None and (size := self._num_head + len(data)) > _MAX_HEAD_BYTES:
            raise HTTPParseError(f"the head of the answer is longer than {_MAX_HEAD_BYTES} bytes")
        elif exchange.status is None:
            self._num_head = size
        if self.num_content is not None:
            self._listen(self.num_content)
        if parser.over:
            exchange.ending = "complete"
        return parser.over

    def _arrival(self, ancillary: list[tuple[int, int, bytes]], now: float) -> float:
        """When the last of the bytes came: by the kernel's stamp where it proves it, else now."""
        exchange, last, ears = self.exchange, self._last_at, self.ears
        stamp = stamp_of(ancillary) if ancillary else None
        found = None if stamp is None else ears.clock.at(stamp, now)
        if found is None or found < last:  # before the read before, or before the request: a clock was stepped
            at, stamped = now, False
        else:
            at, stamped = found, True
            lag = now - at
            if exchange.read_lag_s is None or lag > exchange.read_lag_s:
                exchange.read_lag_s = lag
        width = at - max(last, ears.watch.earliest())
        if width > _VAGUE_S and self.conduct.read_bytes_per_s is None:  # who reads slowly means to
            exchange.vague[at] = Vague(width, stamped)
        self._last_at = at
        return at

    def _listen(self, num_content: Callable[[bytes], int]) -> None:
        enough = self.conduct.leave_after_tokens
        reads = self.exchange.reads
        for _, piece in reads[self._num_listened :]:
            self._num_heard += num_content(piece)
        self._num_listened = len(reads)
        if enough is not None and self._num_heard >= enough:
            raise GoneAway(f"after {self._num_heard} chunks")


def receive(socket: Any, answer: Answer, read_s: float) -> None:
    """Read a plain socket to the end of the answer. Raises TimeoutError when nothing comes for `read_s`, GoneAway, OSError
    and HTTPParseError."""
    hub = gevent.get_hub()
    waiter: Waiter[None] = Waiter(hub)
    recvmsg, take = socket._sock.recvmsg, answer.take
    readable = hub.loop.io(socket.fileno(), _READABLE)

    def on_readable() -> None:
        try:
            data, ancillary, _, _ = recvmsg(_READ_BYTES, ANCILLARY_BYTES)
            over = take(data, ancillary)
        except BlockingIOError:
            return
        except BaseException as error:
            readable.stop()
            waiter.throw(error)
            return
        if over:
            readable.stop()
            waiter.switch(None)

    silence = _Silence(hub.loop, answer, read_s, waiter)
    leaving = _leave_later(hub.loop, answer, waiter)
    try:
        readable.start(on_readable)
        waiter.get()
    finally:
        readable.stop()
        readable.close()
        silence.close()
        if leaving is not None:
            leaving.close()


class _Silence:
    """Breaks off an answer of which nothing has come for too long. Looks at the clock again only when that could be."""

    def __init__(self, loop: Any, answer: Answer, read_s: float, waiter: Waiter[None]) -> None:
        self._loop, self._answer, self._read_s, self._waiter = loop, answer, read_s, waiter
        self._timer = loop.timer(read_s)
        self._timer.start(self._look)

    def close(self) -> None:
        self._timer.stop()
        self._timer.close()

    def _look(self) -> None:
        answer = self._answer
        left = answer.heard_at + self._read_s - answer.ears.now()
        if left <= 0:
            self._waiter.throw(TimeoutError())
            return
        self.close()
        self._timer = self._loop.timer(left)
        self._timer.start(self._look)


def _leave_later(loop: Any, answer: Answer, waiter: Waiter[None]) -> Any:
    """A timer that makes the client go away; None when it stays."""
    after = answer.conduct.leave_after_s
    if after is None:
        return None
    sent_at = answer.exchange.sent_at or answer.ears.now()
    timer = loop.timer(max(0.0, sent_at + after - answer.ears.now()))
    timer.start(lambda: waiter.throw(GoneAway(f"after {after:g} s")))
    return timer


def receive_slowly(socket: Any, answer: Answer, read_s: float) -> None:
    """Read a socket to the end of the answer, no faster than the client's conduct says. For TLS too, which has no stamps.
    Raises as `receive` does."""
    conduct, now = answer.conduct, answer.ears.now
    rate, began = conduct.read_bytes_per_s, now()
    piece = _READ_BYTES if rate is None else max(1, min(_READ_BYTES, int(rate * _SLICE_S)))
    leave_at = None if conduct.leave_after_s is None else (answer.exchange.sent_at or began) + conduct.leave_after_s
    total = 0
    while True:
        if rate is not None:
            gevent.sleep(max(0.0, _before(began + total / rate, leave_at) - now()))
        left = read_s if leave_at is None else min(read_s, leave_at - now())
        if left <= 0:
            raise GoneAway(f"after {conduct.leave_after_s:g} s")
        socket.settimeout(left)
        try:
            data = socket.recv(piece)
        except TimeoutError:
            if left < read_s:
                continue
            raise
        total += len(data)
        if answer.take(data, []):
            return


def _before(at: float, latest: float | None) -> float:
    return at if latest is None else min(at, latest)
