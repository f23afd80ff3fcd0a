"""Asking the application from inside: a batch's requests take the same road as a client's, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import ASGIApp, Message

from mockllm.server.batch_work import Complete

__all__ = ["inside"]


def inside(app: ASGIApp) -> Complete:
    """A function that gives the application one POST and returns status, headers and body."""

    async def complete(path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 0),
        }
        unread, status = [body], 0
        answered: dict[str, str] = {}
        pieces: list[bytes] = []

        async def receive() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            await asyncio.Event().wait()  # this client never goes away; its task is cancelled
            raise AssertionError("never set")

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered.update({name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]})
            else:
                pieces.append(message.get("body", b""))

        await app(scope, receive, send)
        return status, answered, b"".join(pieces)

    return complete
