"""Writing to a socket at the instant a token is due, without a task switch.

An ASGI server's `send` is a coroutine that almost never waits: it waits only while the client's socket takes nothing.
So the driver's callback steps it by hand, once; what the socket did not take is carried on by the response's own task,
and everything after it queues behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any

from starlette.types import Message, Send

__all__ = ["Pump"]

Sent = Callable[[], None]


class Pump:
    """Sends messages in order. `blocked` is called when the socket is full: somebody must then await `drain`.

    `send_body` may be a shorter way for what comes after the start of a response; `send_start` is the way of the start.
    """

    def __init__(self, send: Send, blocked: Callable[[], None], send_body: Send | None = None) -> None:
        self.send_start, self._send_body, self._blocked = send, send_body or send, blocked
        self._stuck: tuple[Coroutine[Any, Any, None], Any, Sent | None] | None = None
        self._queue: deque[tuple[Message, Sent | None]] = deque()
        self._given_up = False

    def put(self, message: Message, sent: Sent | None = None) -> None:
        """Send a message now, or as soon as the socket takes it; `sent` is called when the server has it."""
        if self._stuck is not None:
            self._queue.append((message, sent))
            return
        send = self.send_start if message["type"] == "http.response.start" else self._send_body
        sending: Any = send(message)
        try:
            waits_for = sending.send(None)
        except StopIteration:
            if sent is not None:
                sent()
            return
        self._stuck = sending, waits_for, sent
        self._blocked()

    @property
    def stuck(self) -> bool:
        return self._stuck is not None

    async def drain(self) -> None:
        """Wait until everything that was put is sent."""
        while self._stuck is not None:
            sending, waits_for, sent = self._stuck
            await _carry_on(sending, waits_for)
            # A server lets go of what waits also when the client has gone. Let that news arrive before anything counts as sent.
            await _turn()
            await _turn()
            self._stuck = None
            if self._given_up:
                return
            if sent is not None:
                sent()
            while self._queue and self._stuck is None:
                self.put(*self._queue.popleft())

    def give_up(self) -> None:
        """Nobody reads any more: what is stuck or waits was not sent."""
        self._given_up = True
        self._queue.clear()

    def close(self) -> None:
        """Give up what is stuck. Nobody is told any more: whoever was is free to go, without a garbage collector."""
        self._blocked = _tell_nobody
        if self._stuck is not None:
            self._stuck[0].close()
            self._stuck = None
        self._queue.clear()


def _tell_nobody() -> None:
    pass


@coroutine
def _turn() -> Generator[None, None, None]:
    """One turn of the event loop."""
    yield


@coroutine
def _carry_on(sending: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Await the rest of a coroutine that was stepped once and waits for a future."""
    while True:
        answer = yield waits_for
        try:
            waits_for = sending.send(answer)
        except StopIteration:
            return
