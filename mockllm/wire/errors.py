"""What a provider answers when it does not answer: status, body and headers in each provider's shape."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mockllm.passage import Excess
from mockllm.wire.ratelimits import rate_limit_words

__all__ = [
    "ApiError",
    "anthropic_error_body",
    "error_body",
    "from_refusal",
    "invalid",
    "model_not_found",
    "openai_error_body",
    "overloaded",
]


@dataclass(frozen=True, slots=True)
class ApiError:
    """An error a client will see. `param` is the field at fault as the client wrote it."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    retry_after_s: float | None = None
    details: dict[str, object] | None = None  # Anthropic's; clients read an `error_code` in it


# By HTTP status: OpenAI's type and code, with the words that their API is known to use.
_OPENAI: dict[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "The request is invalid."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", None, "You are not allowed to access this resource."),
    404: ("invalid_request_error", None, "The requested resource does not exist."),
    408: ("invalid_request_error", "request_timeout", "The request was not complete in time."),
    409: ("invalid_request_error", None, "The resource was changed meanwhile; try again."),
    413: ("invalid_request_error", "request_too_large", "The request body is too large."),
    422: ("invalid_request_error", None, "The request could not be processed."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("service_unavailable_error", None, "The engine is currently overloaded, please try again later."),
}
# Anthropic's error types by HTTP status (anthropic-sdk-python, types/shared/error_type.py).
_ANTHROPIC: dict[int, tuple[str, str]] = {
    400: ("invalid_request_error", "The request is invalid."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "The requested resource could not be found."),
    408: ("timeout_error", "The request was not complete in time."),
    413: ("request_too_large", "Request exceeds the maximum allowed number of bytes."),
    429: ("rate_limit_error", "This request would exceed your account's rate limit. Please try again later."),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that breaks the contract: HTTP 400."""
    return ApiError(400, message, param=param, code=code)


def model_not_found(model: str) -> ApiError:
    """HTTP 404 for a model that is not served."""
    shown = model if len(model) <= 200 else model[:200] + "…"
    message = f"The model `{shown}` does not exist or you do not have access to it."
    return ApiError(404, message, param="model", code="model_not_found")


def from_refusal(
    provider: str, status: int, kind: str, message: str, retry_after_s: float | None, excess: Excess | None = None
) -> ApiError:
    """A refusal as a provider would word it; `mock_error`: whatever this status means to this provider. `excess`: the
    limit that said no."""
    if excess is not None:
        type_, code, words = rate_limit_words(provider, excess)
        return ApiError(status, words, type_, code=code, retry_after_s=retry_after_s)
    if kind == "mock_error":
        fallback = 500 if status >= 500 else 400
        type_, code, words = _OPENAI.get(status, _OPENAI[fallback])
        if provider == "anthropic":
            type_, words = _ANTHROPIC.get(status, _ANTHROPIC[fallback])
        return ApiError(status, words, type_, code=code, retry_after_s=retry_after_s)
    if status == 0:  # a reset, told to somebody who has no connection that could be
        return ApiError(502, "The connection to the model was reset.", "server_error")
    if status == 400:
        return ApiError(400, message, param="messages", code=kind)
    return ApiError(status, message, type=kind, retry_after_s=retry_after_s)


def overloaded(provider: str) -> ApiError:
    """No place for one more request: 503 at OpenAI, 529 at Anthropic."""
    if provider == "anthropic":
        return ApiError(529, "Overloaded", "overloaded_error", retry_after_s=1)
    type_, code, message = _OPENAI[503]
    return ApiError(503, message, type_, code=code, retry_after_s=1)


def openai_error_body(error: ApiError) -> bytes:
    """`{"error": {message, type, param, code}}`; all four are always there (OpenAI's ErrorResponse schema)."""
    inner = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return msgspec.json.encode({"error": inner})


def anthropic_error_body(error: ApiError, request_id: str) -> bytes:
    """`{"type": "error", "error": {type, message}, "request_id"}` with Anthropic's type for the status."""
    fallback = "api_error" if error.status >= 500 else "invalid_request_error"
    type_, _ = _ANTHROPIC.get(error.status, (fallback, ""))
    message = error.message
    if error.param and error.param not in message:
        message = f"{error.param}: {message}"
    inner: dict[str, object] = {"type": type_, "message": message}
    if error.details is not None:
        inner["details"] = error.details
    return msgspec.json.encode({"type": "error", "error": inner, "request_id": request_id})


def error_body(provider: str, error: ApiError, request_id: str) -> bytes:
    """The body of an error in the provider's shape."""
    return anthropic_error_body(error, request_id) if provider == "anthropic" else openai_error_body(error)
