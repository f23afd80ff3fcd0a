"""Asking the server under test what it is, before a request of the plan is sent."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from harness.dialects import bearer
from harness.errors import TargetError
from harness.swarm.transport import Exchange, Timeouts, Transport, api_key, parse_target

__all__ = ["choose_model"]

_TIMEOUTS = Timeouts(connect_s=5.0, read_s=10.0)


def choose_model(host: str, asked: str, headers: Callable[[str | None], dict[str, str]] = bearer) -> str:
    """The model to ask for: the one that was asked, else the first that `/v1/models` names. `headers` carry the key.

    Raises TargetError when the server cannot be reached, or names no model and none was asked.
    """
    exchange = Exchange()
    transport = Transport(parse_target(host), time.monotonic, _TIMEOUTS)
    transport.request("GET", "/v1/models", headers(api_key()), b"", exchange)
    transport.close()
    if exchange.ending == "unreachable":
        raise TargetError(f"nothing answers at {host}: {exchange.detail}. Start the server or correct the URL")
    if asked:
        return asked
    if exchange.status in (401, 403):
        given = "was refused" if api_key() else "is missing"
        raise TargetError(f"{host}/v1/models answers {exchange.status}: the key in HARNESS_API_KEY {given}")
    try:
        return str(msgspec.json.decode(exchange.body())["data"][0]["id"])
    except (msgspec.DecodeError, LookupError, TypeError):
        answer = exchange.status if exchange.status is not None else exchange.detail
        raise TargetError(f"{host}/v1/models names no model (answer: {answer}); name one with --model") from None
