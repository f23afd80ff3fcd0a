"""A client that opens N streams at once and reads them to the end as cheaply as it can; a process of its own.

python -m benchmarks.drain HOST PORT NUM_STREAMS NUM_TOKENS [SPREAD_S]
"""

from __future__ import annotations

import asyncio
import json
import sys


class _Reader(asyncio.Protocol):
    """Sends one request and waits for the end of its body; looks at nothing in between."""

    def __init__(self, request: bytes, done: asyncio.Future[None]) -> None:
        self._request, self._done = request, done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"0\r\n\r\n"):
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


async def _drain(host: str, port: int, num_streams: int, num_tokens: int, spread_s: float) -> None:
    loop = asyncio.get_running_loop()
    body = json.dumps(
        {
            "model": "bench",
            "messages": [{"role": "user", "content": "Please read"}],
            "stream": True,
            "max_tokens": num_tokens,
            "ignore_eos": True,
        }
    ).encode()
    waits = []
    for _ in range(num_streams):
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
        done: asyncio.Future[None] = loop.create_future()
        request = head.encode() + body
        await loop.create_connection(lambda request=request, done=done: _Reader(request, done), host, port)  # type: ignore[misc]
        waits.append(done)
        await asyncio.sleep(spread_s / num_streams)
    await asyncio.gather(*waits)


if __name__ == "__main__":
    spread = float(sys.argv[5]) if len(sys.argv) > 5 else 1.0
    asyncio.run(_drain(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), spread))
