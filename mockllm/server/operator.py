"""Endpoints for whoever runs the mock: metrics, the ledger, and settings that change what every request meets."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

from mockllm.server.control import Settings, changed
from mockllm.server.metrics import Metrics
from mockllm.server.reading import read_limited
from mockllm.server.replies import error_response, json_body
from mockllm.server.server import Server
from mockllm.wire.errors import ApiError

__all__ = ["add_operator_routes"]

_MAX_SETTINGS_BYTES = 1_000_000


def add_operator_routes(app: FastAPI, server: Server) -> None:
    """`/metrics` and `/mock/…`."""
    all_metrics = Metrics(server.engine, server.ledger)

    async def metrics(http: Request) -> Response:
        asked = frozenset(http.query_params.getlist("name[]"))
        text = all_metrics.exposition(server.clock.now(), asked)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def ledger() -> Response:
        async def lines() -> AsyncIterator[bytes]:
            for line in server.ledger.lines():
                yield line

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def settings() -> Response:
        return json_body(server.settings)

    async def change(http: Request) -> Response:
        body = await read_limited(http, _MAX_SETTINGS_BYTES)
        current = Settings() if http.method == "PUT" else server.settings
        known = frozenset(server.engine.models)
        new = body if isinstance(body, ApiError) else changed(current, body, known)
        if isinstance(new, ApiError):
            return error_response("openai", new, server.next_id())
        server.settings = new
        return json_body(new)

    async def reset() -> Response:
        server.settings = Settings()
        return json_body(server.settings)

    for path, handler, methods in (
        ("/metrics", metrics, ["GET"]),
        ("/mock/ledger", ledger, ["GET"]),
        ("/mock/settings", settings, ["GET"]),
        ("/mock/settings", change, ["PATCH", "PUT"]),
        ("/mock/settings", reset, ["DELETE"]),
    ):
        app.add_api_route(path, handler, methods=methods, response_model=None)
