"""Small answers: errors in the provider's shape, JSON bodies, and the headers that providers put on everything."""

from __future__ import annotations

from math import ceil

import msgspec
from starlette.responses import Response

from mockllm.passage import Passage
from mockllm.wire.errors import ApiError, error_body
from mockllm.wire.ratelimits import ANTHROPIC_ORGANIZATION, OPENAI_ORGANIZATION, rate_limit_headers

__all__ = ["error_response", "json_body", "passage_headers", "provider_headers"]

_OPENAI_VERSION = "2020-10-01"


def provider_headers(provider: str, request_id: str, spent_s: float) -> dict[str, str]:
    """What the provider's own answers carry; `spent_s` is how long the server has had the request."""
    if provider == "anthropic":
        return {"request-id": request_id, "anthropic-organization-id": ANTHROPIC_ORGANIZATION}
    return {
        "x-request-id": request_id,
        "openai-version": _OPENAI_VERSION,
        "openai-organization": OPENAI_ORGANIZATION,
        "openai-processing-ms": str(max(0, round(spent_s * 1000))),
    }


def passage_headers(provider: str, passage: Passage, clock_epoch: float, now: float) -> dict[str, str]:
    """The limits that a request met, in the provider's words, and what a gateway says of the way that it took.

    `clock_epoch` is the second of the epoch at which the clock of `now` was 0. Names that do not fit into a header are
    left out.
    """
    limits = rate_limit_headers(provider, passage.quotas, clock_epoch, now)
    waited_ms = 1000 * sum(passage.waited_s.values())
    shown = {
        "x-mock-model": passage.model,
        "x-mock-source": passage.source,
        "x-mock-replica": passage.replica,
        "x-mock-cache": passage.cache_outcome,
        "x-mock-attempts": str(passage.num_attempts),
        "x-mock-waited-ms": f"{waited_ms:.3f}",
    }
    return limits | {name: value for name, value in shown.items() if value is not None and _fits(value)}


def _fits(value: str) -> bool:
    return value.isascii() and value.isprintable()


def error_response(
    provider: str, error: ApiError, request_id: str, *, spent_s: float = 0.0, headers: dict[str, str] | None = None
) -> Response:
    """A provider-shaped error."""
    extra = dict(headers or {}) | provider_headers(provider, request_id, spent_s)
    if error.retry_after_s is not None:
        # Rounded up: who comes back exactly then is let in. The SDKs honour milliseconds before seconds.
        extra["retry-after"] = str(max(1, ceil(error.retry_after_s)))
        if provider == "openai":
            extra["retry-after-ms"] = str(max(1, ceil(error.retry_after_s * 1000 - 1e-6)))
    body = error_body(provider, error, request_id)
    return Response(body, error.status, extra, media_type="application/json")


def json_body(value: object, headers: dict[str, str] | None = None) -> Response:
    """A body that is ready to be encoded."""
    return Response(msgspec.json.encode(value), 200, headers, media_type="application/json")
