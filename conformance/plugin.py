"""A pytest plugin for the suites: it puts the stand-ins into requests, and notes what each test asked and got.

It runs inside the suites' own virtual environment (`-p conformance.plugin`). The base URL is the suites' own variable,
TEST_API_BASE_URL; CONFORMANCE_SDK names the SDK, CONFORMANCE_OUT the file for one JSON line a test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from conformance.objects import Objects
from conformance.stand_ins import STAND_INS, Ask

__all__ = ["pytest_configure"]

_PROPERTY = "conformance"
_MAX_MESSAGE = 400


@dataclass
class _Notes:
    """What one test did: the statuses of the answers it got from the server, and the stand-ins it met."""

    statuses: list[int] = field(default_factory=list)
    stand_ins: list[str] = field(default_factory=list)


class _Plugin:
    """Watches the clients that the suites make, on behalf of the test that runs."""

    def __init__(self, sdk: str, root: str) -> None:
        self._stand_ins = STAND_INS[sdk]
        self._root = root.rstrip("/")
        self._objects = Objects(root)
        self._notes = _Notes()
        self._mocked = False  # the suite answers this test itself; nothing reaches the server

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._notes = _Notes()
        self._mocked = any("respx" in name for name in getattr(item, "fixturenames", ()))
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        client = yield
        if fixturedef.argname in ("client", "async_client"):
            self._watch(client)
        return client

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.when == "call":
            item.user_properties.append((_PROPERTY, asdict(self._notes)))

    def _watch(self, client: Any) -> None:
        http, strict = client._client, bool(client._strict_response_validation)
        hooks = http.event_hooks
        if isinstance(http, httpx2.AsyncClient):

            async def asked(request: httpx2.Request) -> None:
                self._before(request, strict)

            async def answered(response: httpx2.Response) -> None:
                self._after(response)

            added: dict[str, Any] = {"request": asked, "response": answered}
        else:
            added = {"request": lambda request: self._before(request, strict), "response": self._after}
        http.event_hooks = {name: [*hooks[name], hook] for name, hook in added.items()}

    def _before(self, request: httpx2.Request, strict: bool) -> None:
        if self._mocked:
            return
        url = str(request.url.copy_with(query=None))
        assert url.startswith(self._root), url
        is_json = request.headers.get("content-type", "").startswith("application/json")
        body = json.loads(request.content) if is_json and request.content else None
        query = request.url.params.multi_items()
        ask = Ask(request.method, url.removeprefix(self._root), query, body, strict)
        applied = [each.name for each in self._stand_ins if each.apply(ask, self._objects)]
        if applied:
            self._notes.stand_ins += applied
            _rewrite(request, self._root + ask.path, ask)

    def _after(self, response: httpx2.Response) -> None:
        if not self._mocked:
            self._notes.statuses.append(response.status_code)


def _rewrite(request: httpx2.Request, url: str, ask: Ask) -> None:
    request.url = httpx2.URL(url, params=ask.query) if ask.query else httpx2.URL(url)
    if ask.body is None:
        return
    changed = httpx2.Request(request.method, request.url, json=ask.body)
    request.stream, request._content = changed.stream, changed.content  # transports read the one or the other
    request.headers["content-length"] = changed.headers["content-length"]
    request.headers["content-type"] = changed.headers["content-type"]


class _Recorder:
    """Writes down every test that ended; only in the process that gathers the reports of the workers."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        notes = dict(report.user_properties).get(_PROPERTY) or asdict(_Notes())
        assert isinstance(notes, dict)
        line = {"test": report.nodeid, "when": report.when, "outcome": report.outcome, "message": _message(report)}
        with self._path.open("a") as file:
            file.write(json.dumps(line | notes) + "\n")


def _message(report: pytest.TestReport) -> str:
    """Why a test failed or was skipped, on one line."""
    if report.passed:
        return ""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    return " ".join(text.split())[:_MAX_MESSAGE]


def pytest_configure(config: pytest.Config) -> None:
    """Begin watching."""
    root = os.environ["TEST_API_BASE_URL"]
    assert urlsplit(root).hostname == "127.0.0.1", root  # these suites are for the mock on this machine only
    config.pluginmanager.register(_Plugin(os.environ["CONFORMANCE_SDK"], root), "conformance-plugin")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(Path(os.environ["CONFORMANCE_OUT"])), "conformance-recorder")
