"""What a provider answers when it does not answer: status, body and headers in OpenAI's shape."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

__all__ = ["ApiError", "from_refusal", "invalid", "model_not_found", "openai_error_body"]


@dataclass(frozen=True, slots=True)
class ApiError:
    """An error a client will see. `param` is the field at fault as the client wrote it."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    retry_after_s: float | None = None


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A request that breaks the contract: HTTP 400."""
    return ApiError(400, message, param=param, code=code)


def model_not_found(model: str) -> ApiError:
    """HTTP 404 for a model that is not served."""
    shown = model if len(model) <= 200 else model[:200] + "…"
    message = f"The model `{shown}` does not exist or you do not have access to it."
    return ApiError(404, message, param="model", code="model_not_found")


def from_refusal(status: int, kind: str, message: str, retry_after_s: float | None) -> ApiError:
    """The engine's refusal as a provider would word it."""
    if status == 400:
        return ApiError(400, message, param="messages", code=kind)
    return ApiError(status, message, type=kind, retry_after_s=retry_after_s)


def openai_error_body(error: ApiError) -> bytes:
    """`{"error": {message, type, param, code}}`; all four are always there (OpenAI's ErrorResponse schema)."""
    inner = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return msgspec.json.encode({"error": inner})
