"""Responses that are kept: the endpoints to read, list and forget them, and the conversations they make."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import Response

from mockllm.call import Call
from mockllm.content.prompt import read_prompt
from mockllm.server.exchange import Exchange
from mockllm.server.reading import MAX_BODY_BYTES, query_integer, read_limited
from mockllm.server.replies import error_response
from mockllm.server.server import Server
from mockllm.wire.conversations import Conversations, deleted_body, response_not_found
from mockllm.wire.errors import ApiError, invalid, model_not_found
from mockllm.wire.openai_responses import ResponsesWriter, input_tokens_body, parse_count

__all__ = ["StoredResponses", "add_stored_routes"]


class StoredResponses:
    """The memory of the Responses API and its endpoints."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._conversations = Conversations()

    def resolve(self, call: Call) -> Call | ApiError:
        """The call with everything that was said before it."""
        return self._conversations.resolve(call)

    def remember(self, exchange: Exchange) -> None:
        """Keep a complete answer."""
        writer = exchange.writer
        assert isinstance(writer, ResponsesWriter)
        if writer.finished is not None:
            self._conversations.remember(exchange.call, writer.finished)

    async def get(self, http: Request, response_id: str) -> Response:
        body = self._conversations.get(response_id)
        if body is not None and http.query_params.get("stream") == "true":  # our wording
            message = "Only a response that was created with 'background' and 'stream' can be streamed again."
            return self._answer(invalid(message, "stream", "unsupported_value"))
        return self._answer(body or response_not_found(response_id))

    async def delete(self, response_id: str) -> Response:
        known = self._conversations.delete(response_id)
        return self._answer(deleted_body(response_id) if known else response_not_found(response_id))

    async def cancel(self, response_id: str) -> Response:
        if self._conversations.get(response_id) is None:
            return self._answer(response_not_found(response_id))
        return self._answer(invalid("Only responses that run in the background can be cancelled.", "response_id"))

    async def input_items(self, http: Request, response_id: str) -> Response:
        params = http.query_params
        limit = query_integer(params, "limit", 20, 1, 100)
        if isinstance(limit, ApiError):
            return self._answer(limit)
        order = "asc" if params.get("order") == "asc" else "desc"
        page = self._conversations.input_items(response_id, order=order, limit=limit, after=params.get("after"))
        return self._answer(page or response_not_found(response_id))

    async def input_tokens(self, http: Request) -> Response:
        body = await read_limited(http, MAX_BODY_BYTES)
        call = body if isinstance(body, ApiError) else parse_count(body)
        if not isinstance(call, ApiError):
            call = self.resolve(call)
        if isinstance(call, ApiError):
            return self._answer(call)
        if not self._server.serves(call.model):
            return self._answer(model_not_found(call.model))
        return self._answer(input_tokens_body(read_prompt(call, self._server.tokenizer).num_tokens))

    def _answer(self, body: bytes | ApiError) -> Response:
        if isinstance(body, ApiError):
            return error_response("openai", body, self._server.next_id())
        return Response(body, media_type="application/json")


def add_stored_routes(app: FastAPI, stored: StoredResponses) -> None:
    """`/v1/responses/{id}` and what is below it, and `/v1/responses/input_tokens`."""
    for method, path, handler in (
        ("POST", "/v1/responses/input_tokens", stored.input_tokens),
        ("GET", "/v1/responses/{response_id}", stored.get),
        ("DELETE", "/v1/responses/{response_id}", stored.delete),
        ("POST", "/v1/responses/{response_id}/cancel", stored.cancel),
        ("GET", "/v1/responses/{response_id}/input_items", stored.input_items),
    ):
        app.add_api_route(path, handler, methods=[method], response_model=None)
