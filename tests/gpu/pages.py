"""Pages that answer well and badly, on loopback, in one thread."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Pages", "serving_pages"]

_GOOD = b'DCGM_FI_DEV_POWER_USAGE{gpu="0",UUID="GPU-page"} 123.5\n'


class Pages:
    """What was asked, and how often; `headers` of all requests together, in small letters."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: Counter[str] = Counter()
        self.queries: dict[str, str] = {}
        self.headers = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.headers += head.decode("latin-1").lower()
                path, _, query = head.split(b" ", 2)[1].decode().partition("?")
                self.queries[path] = query
                self.asked[path] += 1
                if not await self._page(path, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            writer.close()

    async def _page(self, path: str, writer: asyncio.StreamWriter) -> bool:
        """Write the answer; says whether the connection goes on."""
        match path:
            case "/good":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_GOOD), _GOOD))
            case "/late" if self.asked[path] == 1:  # not there yet
                writer.write(b"HTTP/1.1 503 Starting\r\nContent-Length: 0\r\n\r\n")
            case "/late":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_GOOD), _GOOD))
            case "/elsewhere":
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: /good\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
            case "/garbage":
                writer.write(b"\x00\xff\x16\x03\x01 this is no HTTP\r\n\r\n")
                return False
            case "/nonsense":
                body = b'DCGM_FI_DEV_POWER_USAGE{gpu="0'
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            case "/endless":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                piece = b"# " + b"x" * 65_534
                while True:
                    writer.write(b"10000\r\n" + piece + b"\r\n")
                    await writer.drain()
            case "/silent":
                await asyncio.Event().wait()
            case _:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        return True


@contextmanager
def serving_pages() -> Iterator[Pages]:
    """Serve them on a free port until the block ends."""
    pages, started = Pages(), threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        server = await asyncio.start_server(pages.answer, "127.0.0.1", 0)
        pages.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        started.set()
        await stop.wait()
        server.close()
        answering = asyncio.all_tasks() - {asyncio.current_task()}
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)

    def run() -> None:
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(10)
    try:
        yield pages
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
