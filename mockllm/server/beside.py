"""Endpoints beside completions that only read: models in both providers' shapes, tokens, health, version."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import FastAPI, Request
from starlette.responses import Response

from mockllm.content.prompt import read_prompt
from mockllm.server.reading import MAX_BODY_BYTES, query_integer, read_limited
from mockllm.server.replies import error_response, json_body, provider_headers
from mockllm.server.server import Server
from mockllm.wire import anthropic_messages
from mockllm.wire.errors import ApiError, model_not_found
from mockllm.wire.tokenize import detokenize, tokenize

__all__ = ["add_reading_routes", "add_token_routes"]

_VLLM_VERSION = "0.11.0"  # the release whose interface is served


def add_token_routes(app: FastAPI, server: Server) -> None:
    """Counting without answering: `/tokenize`, `/detokenize` and Anthropic's `count_tokens`."""

    async def to_tokens(http: Request) -> Response:
        body = await read_limited(http, MAX_BODY_BYTES)
        longest = max(model.length.max_model_len for model in server.engine.models.values())
        return _json(body if isinstance(body, ApiError) else tokenize(body, server.tokenizer, longest))

    async def to_text(http: Request) -> Response:
        body = await read_limited(http, MAX_BODY_BYTES)
        return _json(body if isinstance(body, ApiError) else detokenize(body, server.tokenizer))

    def _json(answer: bytes | ApiError) -> Response:
        if isinstance(answer, ApiError):
            return error_response("openai", answer, server.next_id())
        return Response(answer, media_type="application/json")

    async def count(http: Request) -> Response:
        request_id = server.next_id()
        body = await read_limited(http, MAX_BODY_BYTES)
        call = body if isinstance(body, ApiError) else anthropic_messages.parse_count(body)
        if not isinstance(call, ApiError) and not server.serves(call.model):
            call = model_not_found(call.model)
        if isinstance(call, ApiError):
            return error_response("anthropic", call, request_id)
        answer = anthropic_messages.count_body(read_prompt(call, server.tokenizer).num_tokens)
        return Response(answer, 200, provider_headers("anthropic", request_id, 0.0), media_type="application/json")

    for path, handler in (
        ("/tokenize", to_tokens),
        ("/detokenize", to_text),
        ("/v1/messages/count_tokens", count),
    ):
        app.add_api_route(path, handler, methods=["POST"], response_model=None)


def add_reading_routes(app: FastAPI, server: Server) -> None:
    """What can be read without a body."""
    # `*` stands for any name and is none itself.
    names = [name for name in server.engine.models if name != "*"] or list(server.engine.models)

    async def list_models(http: Request) -> Response:
        if _is_anthropic(http):
            return _anthropic_models(http, server, names)
        return json_body({"object": "list", "data": [_openai_model(server, name) for name in names]})

    async def get_model(http: Request, name: str) -> Response:
        anthropic = _is_anthropic(http)
        if not server.serves(name):
            provider = "anthropic" if anthropic else "openai"
            return error_response(provider, model_not_found(name), server.next_id())
        return json_body(_anthropic_model(server, name) if anthropic else _openai_model(server, name))

    async def health() -> Response:
        if server.settings.ready:
            return json_body({"status": "ok"})
        return Response(b'{"status":"not ready"}', 503, media_type="application/json")

    async def version() -> Response:
        return json_body({"version": _VLLM_VERSION})

    for path, handler in (
        ("/v1/models", list_models),
        ("/v1/models/{name:path}", get_model),
        ("/health", health),
        ("/ping", health),
        ("/version", version),
    ):
        app.add_api_route(path, handler, methods=["GET"], response_model=None)


def _is_anthropic(http: Request) -> bool:
    """Both providers list models at one path; their clients differ by a header."""
    return "anthropic-version" in http.headers


def _openai_model(server: Server, name: str) -> dict[str, object]:
    model = server.served(name)
    shown: dict[str, object] = {
        "id": name,
        "object": "model",
        "created": server.started_at_epoch,
        "owned_by": "mockllm",
    }
    return shown | ({"max_model_len": model.length.max_model_len} if model else {})


def _anthropic_model(server: Server, name: str) -> dict[str, object]:
    model = server.served(name)
    created = datetime.fromtimestamp(server.started_at_epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    longest = model.length.max_model_len if model else None
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": created,
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "capabilities": None,
        "max_input_tokens": longest,
        "max_tokens": longest,
    }


def _anthropic_models(http: Request, server: Server, names: list[str]) -> Response:
    limit = query_integer(http.query_params, "limit", 20, 1, 1000)
    if isinstance(limit, ApiError):
        return error_response("anthropic", limit, server.next_id())
    after, before = http.query_params.get("after_id"), http.query_params.get("before_id")
    start = names.index(after) + 1 if after in names else 0
    end = names.index(before) if before in names else len(names)
    shown = names[start:end][:limit]
    data = [_anthropic_model(server, name) for name in shown]
    page = {
        "data": data,
        "has_more": len(names[start:end]) > limit,
        "first_id": shown[0] if shown else None,
        "last_id": shown[-1] if shown else None,
    }
    return json_body(page)
