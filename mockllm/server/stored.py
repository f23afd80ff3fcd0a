"""Responses that are kept or run in the background: the endpoints to read, cancel and forget them, and conversations."""

from __future__ import annotations

import msgspec
from fastapi import FastAPI, Request
from starlette.responses import Response

from mockllm.call import Call
from mockllm.content.prompt import read_prompt
from mockllm.server.background import Background, Run, streamed
from mockllm.server.exchange import Exchange
from mockllm.server.reading import MAX_BODY_BYTES, query_integer, read_limited
from mockllm.server.replies import error_response, provider_headers
from mockllm.server.respond import Answering
from mockllm.server.server import Server
from mockllm.wire.conversations import Conversations, deleted_body, items_page, response_not_found
from mockllm.wire.errors import ApiError, invalid, model_not_found
from mockllm.wire.openai_responses import ResponsesWriter, input_tokens_body, parse_count

__all__ = ["StoredResponses", "add_stored_routes"]

_MAX_EVENTS = 999_999_999


class StoredResponses:
    """The memory of the Responses API and its endpoints."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._conversations = Conversations()
        self._background = Background(server, self._remember)

    def resolve(self, call: Call) -> Call | ApiError:
        """The call with everything that was said before it."""
        earlier = call.details.previous_response_id
        run = None if earlier is None else self._background.get(earlier)
        if run is not None and run.status not in ("completed", "incomplete"):  # our wording
            message = f"Previous response with id '{earlier}' is {run.status}; only a complete one can be gone on from."
            return invalid(message, "previous_response_id", "previous_response_not_complete")
        return self._conversations.resolve(call)

    def answer(self, exchange: Exchange) -> Response:
        """The answer to a request of the Responses API, which is kept when it is complete."""
        details = exchange.call.details
        if details.background:
            inputs = self._conversations.shown_inputs(details, exchange.context.tag)
            return self._background.answer(exchange, inputs)
        return Answering(exchange, self._server.cap, self._remember)

    def close(self) -> None:
        """Stop what runs in the background, for the server's end."""
        self._background.close()

    def _remember(self, exchange: Exchange) -> None:
        """Keep a complete answer."""
        writer = exchange.writer
        assert isinstance(writer, ResponsesWriter)
        if writer.finished is not None:
            self._conversations.remember(exchange.call, writer.finished)

    async def get(self, http: Request, response_id: str) -> Response:
        run, body = self._background.get(response_id), self._conversations.get(response_id)
        if run is None and body is None:
            return self._answer(response_not_found(response_id))
        if http.query_params.get("stream") == "true":
            return self._events(http, run)
        return self._answer(run.body if run else body or b"")

    def _events(self, http: Request, run: Run | None) -> Response:
        if run is None:
            reason = "it was not created with background=true or the stream TTL has expired"
            return self._answer(invalid(f"This response cannot be streamed because {reason}.", "stream"))
        if not run.streamed:
            message = "This response cannot be streamed because it was not created with stream=true."
            return self._answer(invalid(message, "stream"))
        after = query_integer(http.query_params, "starting_after", -1, 0, _MAX_EVENTS)
        if isinstance(after, ApiError):
            return self._answer(after)
        return streamed(run, after, provider_headers("openai", self._server.next_id(), 0.0))

    async def delete(self, response_id: str) -> Response:
        run = self._background.get(response_id)
        if run is not None and not self._background.delete(run):
            return self._answer(invalid("Cannot delete an in-flight response.", "response_id"))
        known = self._conversations.delete(response_id) or run is not None
        return self._answer(deleted_body(response_id) if known else response_not_found(response_id))

    async def cancel(self, response_id: str) -> Response:
        """To cancel one that is cancelled already is no error."""
        run, body = self._background.get(response_id), self._conversations.get(response_id)
        if run is not None and (run.cancel() or run.status == "cancelled"):
            return self._answer(run.body)
        body = run.body if run else body
        if body is None:
            return self._answer(response_not_found(response_id))
        kept = msgspec.json.decode(body)
        what = kept["status"] if kept["background"] else "synchronous"
        article = "an" if what == "incomplete" else "a"
        return self._answer(invalid(f"Cannot cancel {article} {what} response.", "response_id"))

    async def input_items(self, http: Request, response_id: str) -> Response:
        params = http.query_params
        limit = query_integer(params, "limit", 20, 1, 100)
        if isinstance(limit, ApiError):
            return self._answer(limit)
        order, after = "asc" if params.get("order") == "asc" else "desc", params.get("after")
        run = self._background.get(response_id)
        if run is not None:
            return self._answer(items_page(run.inputs, order=order, limit=limit, after=after))
        page = self._conversations.input_items(response_id, order=order, limit=limit, after=after)
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
