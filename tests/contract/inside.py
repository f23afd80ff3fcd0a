"""A client of the application without a socket: whatever bytes and headers one likes, and the answer to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI

from mockllm.deployment import load_deployment
from mockllm.server.app import create_app
from mockllm.server.respond import StreamCut

__all__ = ["Answer", "Ask", "Inside", "instant_app"]

PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `body` may come in several pieces, as a chunked body does."""

    body: bytes | Sequence[bytes] = b""
    headers: Mapping[str, str | bytes] = field(default_factory=dict)
    method: str = "POST"
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered; `cut` when the application broke the connection off, as it was told to."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: bool = False


class Inside:
    """The application and an event loop of its own."""

    def __init__(self, app: FastAPI, runner: asyncio.Runner) -> None:
        self.app, self._runner = app, runner

    def ask(self, path: str, ask: Ask) -> Answer:
        """Raises TimeoutError for an answer that does not end."""
        return self._runner.run(_ask(self.app, path, ask))

    def post(self, path: str, body: bytes, headers: Mapping[str, str | bytes] | None = None) -> Answer:
        """One JSON body."""
        return self.ask(path, Ask(body, {"content-type": "application/json", **(headers or {})}))

    def get(self, path: str) -> Answer:
        return self.ask(path, Ask(method="GET"))


@contextmanager
def instant_app(profile: str = "instant") -> Iterator[Inside]:
    """A running application of a bundled profile."""
    with asyncio.Runner() as runner:
        app = create_app(load_deployment(profile))
        life = app.router.lifespan_context(app)
        runner.run(_enter(life))
        try:
            yield Inside(app, runner)
        finally:
            runner.run(_leave(life))


async def _enter(life: Any) -> None:
    await life.__aenter__()


async def _leave(life: Any) -> None:
    await life.__aexit__(None, None, None)


async def _ask(app: FastAPI, path: str, ask: Ask) -> Answer:
    target, _, query = (ask.path or path).partition("?")
    pieces = [ask.body] if isinstance(ask.body, bytes) else list(ask.body) or [b""]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": ask.method,
        "scheme": "http",
        "path": unquote_to_bytes(target).decode(errors="replace"),
        "raw_path": target.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), _latin(value)) for name, value in ask.headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages[-1]["more_body"] = False

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()  # this client stays
        raise AssertionError("never set")

    async def send(message: Any) -> None:
        sent.append(message)

    cut = False
    try:
        async with asyncio.timeout(PATIENCE_S):
            await app(scope, receive, send)
    except StreamCut:
        cut = True
    return _answer(sent, cut=cut)


def _answer(sent: list[Any], *, cut: bool) -> Answer:
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
    assert cut or not bodies[-1].get("more_body"), "the answer has no end"
    return Answer(start["status"], headers, b"".join(message.get("body", b"") for message in bodies), cut)


def _latin(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")
