"""Writing without a task switch: at once where the socket takes it, in order where it does not."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from mockllm.server.pump import Pump


class Socket:
    """An ASGI `send` that is full while `open` is not set."""

    def __init__(self) -> None:
        self.taken: list[object] = []
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, message: Message) -> None:
        while not self.open.is_set():
            await self.open.wait()
        self.taken.append(message["body"])


def body(number: int) -> Message:
    return {"type": "http.response.body", "body": number}


def test_a_socket_that_takes_everything_has_it_before_put_returns() -> None:
    async def run() -> None:
        socket, sent = Socket(), []
        pump = Pump(socket.send, lambda: pytest.fail("not full"))
        for number in range(3):
            pump.put(body(number), lambda number=number: sent.append(number))  # type: ignore[misc]
            assert socket.taken == sent == list(range(number + 1))
        assert not pump.stuck

    asyncio.run(run())


def test_a_full_socket_gets_the_rest_in_order_later() -> None:
    async def run() -> None:
        socket, sent, blocked = Socket(), [], []
        pump = Pump(socket.send, lambda: blocked.append(True))
        socket.open.clear()
        for number in range(5):
            pump.put(body(number), lambda number=number: sent.append(number))  # type: ignore[misc]
        assert (socket.taken, sent, blocked, pump.stuck) == ([], [], [True], True)
        draining = asyncio.ensure_future(pump.drain())
        await asyncio.sleep(0)
        pump.put(body(5))
        socket.open.set()
        await draining
        assert socket.taken == [0, 1, 2, 3, 4, 5]
        assert sent == [0, 1, 2, 3, 4]
        assert not pump.stuck

    asyncio.run(run())


def test_a_socket_that_fills_up_again_while_it_drains() -> None:
    async def run() -> None:
        socket = Socket()
        pump = Pump(socket.send, lambda: None)
        socket.open.clear()
        pump.put(body(0))
        pump.put(body(1), socket.open.clear)
        pump.put(body(2))
        draining = asyncio.ensure_future(pump.drain())
        await asyncio.sleep(0)
        socket.open.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert socket.taken == [0, 1]
        assert not draining.done()
        socket.open.set()
        await draining
        assert socket.taken == [0, 1, 2]

    asyncio.run(run())


def test_an_error_of_the_server_reaches_the_caller() -> None:
    async def broken(_: Message) -> None:
        raise ConnectionResetError

    async def run() -> None:
        with pytest.raises(ConnectionResetError):
            Pump(broken, lambda: None).put(body(0))

    asyncio.run(run())


def test_giving_up_leaves_nothing_behind() -> None:
    async def run() -> None:
        socket = Socket()
        pump = Pump(socket.send, lambda: None)
        socket.open.clear()
        pump.put(body(0))
        pump.put(body(1))
        pump.close()
        assert not pump.stuck
        socket.open.set()
        await pump.drain()
        assert socket.taken == []

    asyncio.run(run())  # a coroutine that was never finished would be a warning, and so an error
