"""The HTTP application: routes from the dialect table, health, models, metrics and the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import IO

import msgspec
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Message

from mockllm import model
from mockllm.clock import RealClock, clock_pair
from mockllm.content.text import Speaker
from mockllm.deployment import Deployment, build_engine
from mockllm.engine.engine import Engine
from mockllm.server.alarm import best_timer
from mockllm.server.driver import Driver
from mockllm.server.ledger import Entry, Ledger
from mockllm.server.metrics import exposition
from mockllm.server.respond import Answering, Exchange, error_response, event_stream
from mockllm.streams import Streams
from mockllm.tokens import TokenCounter, o200k_counter
from mockllm.wire import DIALECTS, Dialect
from mockllm.wire.errors import ApiError, model_not_found

__all__ = ["Server", "create_app"]

MAX_BODY_BYTES = 32 * 1024 * 1024
_MAX_SEEN = 100_000


@dataclass
class Server:
    """The parts of one running mock."""

    deployment: Deployment
    engine: Engine
    ledger: Ledger
    clock: RealClock
    speaker: Speaker
    count_tokens: TokenCounter
    started_at_epoch: int
    _driver: Driver | None = None
    _seen: dict[str, int] = field(default_factory=dict)
    _num_requests: int = 0

    @property
    def driver(self) -> Driver:
        """Made on first use, inside the running loop: its alarm belongs to the loop."""
        if self._driver is None:
            self._driver = Driver(self.engine, self.clock, best_timer(self.clock))
        return self._driver

    def next_id(self) -> str:
        """A request id that is unique in this process."""
        self._num_requests += 1
        return f"{self._num_requests:08x}"

    def draw_key(self, client_request_id: str | None, body: bytes) -> str:
        """The request's identity for random draws: the client's own id, else its content and how often it came."""
        if client_request_id is not None:
            return client_request_id
        content = blake2b(body, digest_size=12).hexdigest()
        times = self._seen.pop(content, 0) + 1
        self._seen[content] = times  # at the end: the bodies that were not seen for longest are forgotten first
        if len(self._seen) > _MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        return f"{content}#{times}"


def create_app(deployment: Deployment, *, seed: int | None = None, ledger_file: IO[bytes] | None = None) -> FastAPI:
    """The application that serves a deployment. `seed` overrides the deployment's."""
    clock = RealClock()
    engine = build_engine(deployment, seed=seed, every_token=True)
    server = Server(
        deployment,
        engine,
        Ledger(monotonic_origin=clock.monotonic_origin, file=ledger_file),
        clock,
        Speaker(Streams(deployment.seed if seed is None else seed)),
        o200k_counter(),
        int(clock_pair()["wall"]),
    )
    # No interactive documentation: it would load scripts from a public CDN.
    app = FastAPI(title="mockllm", docs_url=None, redoc_url=None, lifespan=_warm_up, redirect_slashes=False)
    app.state.server = server
    for path, dialect in DIALECTS.items():
        app.add_api_route(path, _completion(server, dialect), methods=["POST"], name=dialect.name, response_model=None)
    _add_reading_routes(app, server)
    app.add_exception_handler(HTTPException, _http_error)
    return app


@asynccontextmanager
async def _warm_up(app: FastAPI) -> AsyncIterator[None]:
    """Walk the streaming path once before the first client does: its first answer would be 20 ms late otherwise."""
    server: Server = app.state.server
    server.speaker.answer("warm-up")

    async def events() -> AsyncIterator[bytes]:
        yield b": warm-up\n\n"

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("never set")

    async def send(_: Message) -> None:
        return

    await event_stream(events(), {})({"type": "http", "method": "POST"}, receive, send)
    yield


def _completion(server: Server, dialect: Dialect):  # type: ignore[no-untyped-def]
    async def complete(http: Request) -> Response:
        received_at = server.clock.now()
        body = await _read_body(http)
        if isinstance(body, ApiError):
            return error_response(body)
        call = dialect.parse(body)
        if isinstance(call, ApiError):
            return error_response(call)
        if call.model not in server.deployment.profiles:
            return error_response(model_not_found(call.model))
        client_request_id = http.headers.get("x-client-request-id")
        request = model.Request(
            request_id=f"req_{server.next_id()}",
            key=server.draw_key(client_request_id, body),
            model=call.model,
            num_prompt_tokens=max(1, sum(server.count_tokens(text) for text in call.texts)),
            max_tokens=call.max_tokens,
            min_tokens=call.min_tokens,
            ignore_eos=call.ignore_eos,
            watched=call.stream,
        )
        entry = Entry(
            request_id=request.request_id,
            client_request_id=client_request_id,
            protocol=dialect.name,
            model=call.model,
            stream=call.stream,
            received_at=round(received_at, 6),
            submitted_at=0.0,
            num_prompt_tokens=request.num_prompt_tokens,
        )
        created = server.started_at_epoch + int(received_at)
        writer = dialect.writer(call, dialect.tag_prefix + request.request_id, created)
        answer = server.speaker.answer(request.key)
        return Answering(Exchange(request, entry, writer, answer, server.driver, server.ledger, server.clock))

    return complete


async def _read_body(http: Request) -> bytes | ApiError:
    """The body, up to the limit; the rest of a larger one is not read."""
    pieces, size = [], 0
    try:
        async for piece in http.stream():
            size += len(piece)
            if size > MAX_BODY_BYTES:
                message = f"The request body is larger than {MAX_BODY_BYTES} bytes."
                return ApiError(413, message, code="request_too_large")
            pieces.append(piece)
    except ClientDisconnect:
        return ApiError(400, "The client went away before its request was complete.", code="client_disconnected")
    return b"".join(pieces)


def _add_reading_routes(app: FastAPI, server: Server) -> None:
    models = [
        {"id": name, "object": "model", "created": server.started_at_epoch, "owned_by": "mockllm"}
        for name in server.deployment.profiles
    ]

    async def list_models() -> Response:
        return _json({"object": "list", "data": models})

    async def get_model(name: str) -> Response:
        found = next((entry for entry in models if entry["id"] == name), None)
        return _json(found) if found else error_response(model_not_found(name))

    async def health() -> Response:
        return _json({"status": "ok"})

    async def metrics() -> Response:
        text = exposition(server.engine, server.ledger)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def ledger() -> Response:
        async def lines() -> AsyncIterator[bytes]:
            for line in server.ledger.lines():
                yield line

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    for path, handler in (
        ("/v1/models", list_models),
        ("/v1/models/{name:path}", get_model),
        ("/health", health),
        ("/metrics", metrics),
        ("/mock/ledger", ledger),
    ):
        app.add_api_route(path, handler, methods=["GET"], response_model=None)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def _http_error(http: Request, error: Exception) -> Response:
    """Unknown paths and methods, in the provider's shape."""
    assert isinstance(error, HTTPException)
    message = f"Invalid URL ({http.method} {http.url.path})" if error.status_code in (404, 405) else str(error.detail)
    return error_response(ApiError(error.status_code, message), dict(error.headers or {}))
