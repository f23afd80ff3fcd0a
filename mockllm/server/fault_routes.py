"""Faults by hand: `/mock/faults` adds, replaces, shows and takes back faults while the mock runs; `/mock/timeline` begins the
run anew.

    GET     /mock/faults         every fault: scheduled, active or over, and how many calls it struck
    POST    /mock/faults         one more, or a list of them
    PUT     /mock/faults         these and no others
    DELETE  /mock/faults         none; /mock/faults/{id}: this one
    GET     /mock/timeline       how long the run has lasted
    POST    /mock/timeline       it begins now, and with it all faults

A fault is written as in a deployment file (`stack/fault_kinds.py`); without `at` it begins now. A body that breaks a rule
changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from fastapi import FastAPI, Request
from starlette.responses import Response

from mockllm.deployment import read_faults
from mockllm.errors import DeploymentError
from mockllm.server.reading import read_limited, shown
from mockllm.server.replies import error_response, json_body
from mockllm.server.server import Server
from mockllm.stack.fault_kinds import Fault
from mockllm.strictyaml import Document
from mockllm.wire.errors import ApiError, invalid

__all__ = ["add_fault_routes"]

T = TypeVar("T")

_MAX_BYTES = 1_000_000
_MAX_RULE = 500
_MAX_FAULTS = 1000


def add_fault_routes(app: FastAPI, server: Server) -> None:
    """`/mock/faults` and `/mock/timeline`."""
    desk = _Desk(server)
    for path, handler, method in (
        ("/mock/faults", desk.show, "GET"),
        ("/mock/faults", desk.add, "POST"),
        ("/mock/faults", desk.replace, "PUT"),
        ("/mock/faults", desk.clear, "DELETE"),
        ("/mock/faults/{fault_id}", desk.remove, "DELETE"),
        ("/mock/timeline", desk.timeline, "GET"),
        ("/mock/timeline", desk.restart, "POST"),
    ):
        app.add_api_route(path, handler, methods=[method], response_model=None)


class _Desk:
    """Where an operator orders faults."""

    def __init__(self, server: Server) -> None:
        self._server, self._faults = server, server.engine.faults

    async def show(self) -> Response:
        return self._all()

    async def add(self, http: Request) -> Response:
        given = await _read(http, self._server)
        if not isinstance(given, ApiError) and len(self._faults.scheduled) + len(given) > _MAX_FAULTS:
            given = _too_many()
        if isinstance(given, ApiError):
            return self._refuse(given)
        added = self._change(lambda now: [self._faults.shown(each, now) for each in self._faults.add(given, now)])
        return json_body({"faults": added})

    async def replace(self, http: Request) -> Response:
        given = await _read(http, self._server)
        if isinstance(given, ApiError):
            return self._refuse(given)
        self._change(lambda now: self._faults.replace(given, now))
        return self._all()

    async def clear(self) -> Response:
        self._change(lambda now: self._faults.replace((), now))
        return self._all()

    async def remove(self, fault_id: str) -> Response:
        if not self._change(lambda now: self._faults.remove(fault_id, now)):
            message = f"There is no fault '{shown(fault_id)}'; GET /mock/faults lists them."
            return self._refuse(ApiError(404, message, param="id", code="fault_not_found"))
        return self._all()

    async def timeline(self) -> Response:
        return json_body({"run_s": self._run_s()})

    async def restart(self) -> Response:
        self._change(self._faults.restart)
        return json_body({"run_s": self._run_s()})

    def _change(self, act: Callable[[float], T]) -> T:
        return self._server.driver.change(act)

    def _run_s(self) -> float | None:
        return self._server.engine.timeline.run_s(self._server.clock.now())

    def _all(self) -> Response:
        return json_body({"run_s": self._run_s(), "faults": self._faults.state(self._server.clock.now())})

    def _refuse(self, error: ApiError) -> Response:
        return error_response("openai", error, self._server.next_id())


async def _read(http: Request, server: Server) -> tuple[Fault, ...] | ApiError:
    """The faults of a body, one or a list; every rule that a file is held to."""
    body = await read_limited(http, _MAX_BYTES)
    if isinstance(body, ApiError):
        return body
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return invalid(f"The body must be a fault or a list of faults in JSON: {error}", code="invalid_fault")
    entries = value if isinstance(value, list) else [value]
    if len(entries) > _MAX_FAULTS:
        return _too_many()
    try:
        return read_faults(Document(Path("body"), {"faults": entries}, {}), entries, server.deployment)
    except DeploymentError as error:
        message = f"Invalid fault: {_short(error.rule)}. Nothing was changed."
        return invalid(message, shown(error.key or ""), "invalid_fault")


def _short(rule: str) -> str:
    """A rule repeats what the client wrote, which may be long, and no text at all."""
    whole = rule.encode("utf-8", "replace").decode()
    return whole if len(whole) <= _MAX_RULE else whole[:_MAX_RULE] + "…"


def _too_many() -> ApiError:
    return invalid(f"There may be {_MAX_FAULTS} faults at most. Nothing was changed.", code="too_many_faults")
