"""`/mock/state` and the page at `/` that shows it: for people who would rather look.

The page is three files that the mock serves itself. It loads nothing from anywhere else, and every name that it shows
is put there as text: a model may be called what it likes.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import Response

from mockllm.server.replies import json_body
from mockllm.server.server import Server
from mockllm.state import state_of

__all__ = ["add_live_routes"]

_FILES = Path(__file__).parent / "live"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def add_live_routes(app: FastAPI, server: Server) -> None:
    """The state, the page, and the files that the page asks for."""

    async def state() -> Response:
        shown = {"deployment": server.deployment.name, "summary": server.deployment.summary}
        return json_body(shown | state_of(server.engine, server.clock.now()), {"cache-control": "no-store"})

    app.add_api_route("/mock/state", state, methods=["GET"], response_model=None)
    for path, name in (("/", "page.html"), ("/mock/live.css", "live.css"), ("/mock/live.js", "live.js")):
        app.add_api_route(path, _file(_FILES / name), methods=["GET"], response_model=None)


def _file(path: Path):  # type: ignore[no-untyped-def]
    async def serve() -> Response:
        kind = f"{_KINDS[path.suffix]}; charset=utf-8"
        return Response(path.read_bytes(), headers=_HEADERS, media_type=kind)

    return serve
