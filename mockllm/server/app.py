"""The HTTP application: routes from the dialect table, and what stands beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import IO

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mockllm.building import build_stack
from mockllm.clock import RealClock, clock_pair
from mockllm.content.compose import Composer
from mockllm.content.text import Speaker
from mockllm.deployment import Deployment
from mockllm.server.batch_work import BatchSettings
from mockllm.server.batches import BatchStore, add_batch_routes
from mockllm.server.beside import add_reading_routes, add_token_routes
from mockllm.server.fault_routes import add_fault_routes
from mockllm.server.files import FileStore, add_file_routes
from mockllm.server.inside import inside
from mockllm.server.ledger import Ledger
from mockllm.server.live import add_live_routes
from mockllm.server.message_batches import MessageBatchStore, add_message_batch_routes
from mockllm.server.openapi import add_document_route
from mockllm.server.operator import add_operator_routes
from mockllm.server.protocol import EdgeLimits, StreamCap
from mockllm.server.reading import MAX_BODY_BYTES, read_limited
from mockllm.server.replies import error_response
from mockllm.server.respond import DIRECT_SEND, Answering
from mockllm.server.server import Server
from mockllm.server.stored import StoredResponses, add_stored_routes
from mockllm.streams import Streams
from mockllm.tokens import o200k
from mockllm.wire.dialect import Dialect
from mockllm.wire.errors import ApiError
from mockllm.wire.table import DIALECTS

__all__ = ["create_app"]

# Reading, counting and composing take about a millisecond for so many bytes; longer ones are done in a thread, so that the
# tokens of others are not late.
_LARGE_BODY_BYTES = 24 * 1024


class _App(FastAPI):
    """The application, which lets answers write to the server directly: three wrappers a token are a tenth of its cost."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("extensions", {})[DIRECT_SEND] = send
        await super().__call__(scope, receive, send)


def create_app(
    deployment: Deployment,
    *,
    seed: int | None = None,
    ledger_file: IO[bytes] | None = None,
    streams: StreamCap | None = None,
) -> FastAPI:
    """The application that serves a deployment. `seed` overrides the deployment's; `streams` bounds what is in progress."""
    clock = RealClock()
    draws = Streams(deployment.seed if seed is None else seed)
    server = Server(
        deployment,
        build_stack(deployment, seed=seed, every_token=True),
        Ledger(monotonic_origin=clock.monotonic_origin, file=ledger_file),
        clock,
        Composer(Speaker(draws), draws, o200k()),
        draws,
        o200k(),
        int(clock_pair()["wall"]),
        streams or StreamCap(EdgeLimits().max_streams),
    )
    files = FileStore(BatchSettings(), server.epoch)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        server.composer.warm_up()
        yield
        stored.close()
        await batches.close()
        await message_batches.close()

    # No interactive documentation: it would load scripts from a public CDN. The document itself is our own.
    app = _App(title="mockllm", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life, redirect_slashes=False)
    app.state.server = server
    complete = inside(app)
    batches = BatchStore(files, complete, clock, server.epoch, BatchSettings(), server.serves)
    message_batches = MessageBatchStore(complete, clock, server.epoch, BatchSettings())
    stored = StoredResponses(server)
    add_file_routes(app, files)
    add_batch_routes(app, batches)
    add_message_batch_routes(app, message_batches)
    for path, dialect in DIALECTS.items():
        answer = _completion(server, dialect, stored)
        app.add_api_route(path, answer, methods=["POST"], name=dialect.name, response_model=None)
    add_stored_routes(app, stored)
    add_token_routes(app, server)
    add_reading_routes(app, server)
    add_operator_routes(app, server)
    add_fault_routes(app, server)
    add_live_routes(app, server)
    add_document_route(app, next(iter(server.engine.models)))
    app.add_exception_handler(HTTPException, _http_error)
    return app


def _completion(server: Server, dialect: Dialect, stored: StoredResponses) -> Callable[[Request], Awaitable[Response]]:
    async def complete(http: Request) -> Response:
        received_at, request_id = server.clock.now(), server.next_id()

        def refuse(error: ApiError) -> Response:
            spent_s = server.clock.now() - received_at
            return error_response(dialect.provider, error, request_id, spent_s=spent_s)

        body = await read_limited(http, MAX_BODY_BYTES)
        if isinstance(body, ApiError):
            return refuse(body)
        aside = len(body) > _LARGE_BODY_BYTES or dialect.name == "openai-embeddings"
        call = await asyncio.to_thread(dialect.parse, body) if aside else dialect.parse(body)
        if not isinstance(call, ApiError) and dialect.name == "openai-responses":
            call = stored.resolve(call)
        if isinstance(call, ApiError):
            return refuse(call)
        driver = server.driver  # made on first use, and here: inside the loop
        parts = (dialect, call, http.headers, body, request_id, received_at, driver)
        exchange = await asyncio.to_thread(server.exchange, *parts) if aside else server.exchange(*parts)
        if isinstance(exchange, ApiError):
            return refuse(exchange)
        return stored.answer(exchange) if dialect.name == "openai-responses" else Answering(exchange, server.cap)

    return complete


async def _http_error(http: Request, error: Exception) -> Response:
    """Unknown paths and methods, in the provider's shape."""
    assert isinstance(error, HTTPException)
    server: Server = http.app.state.server
    messages = http.url.path.lstrip("/").lower().startswith("v1/messages")
    provider = "anthropic" if messages or "anthropic-version" in http.headers else "openai"
    message = f"Invalid URL ({http.method} {http.url.path})" if error.status_code in (404, 405) else str(error.detail)
    return error_response(
        provider, ApiError(error.status_code, message), server.next_id(), headers=dict(error.headers or {})
    )
