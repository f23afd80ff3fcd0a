"""The page at `/` in a real browser, with requests on their way and names that would like to be markup."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest

from tests.browser import rendered
from tests.contract.server import MockServer, serve

pytestmark = pytest.mark.realtime

_HOSTILE = "<img src=x onerror=alert(1)>"
_STACK = f"""\
seed: 1
summary: A stack to look at.
models:
  - {{name: small, profile: golden, replicas: {{count: 2}}, price: {{input: 1, output: 2}}}}
  - {{name: "{_HOSTILE}", profile: instant}}
stack:
  - exact_cache: {{ttl: 10m}}
"""


def _body(model: str, text: str) -> bytes:
    return f'{{"model": "{model}", "max_tokens": 400, "messages": [{{"role": "user", "content": "{text}"}}]}}'.encode()


def test_the_page_shows_what_is_going_on(tmp_path: Path) -> None:
    file = tmp_path / "stack.yaml"
    file.write_text(_STACK)
    with serve(str(file)) as mock:
        for _ in range(2):
            assert mock.ask("POST", "/v1/chat/completions", _body("small", "again")).status == 200
        slow = Thread(target=_ask_slowly, args=(mock,))
        slow.start()
        document, console = rendered(f"{mock.url}/", tmp_path / "profile", waits_ms=4000)
        slow.join()
    assert console == []  # nothing that the page's own policy had to keep out, and no error in its script
    assert "A stack to look at." in document
    assert "exact_cache" in document
    assert "small-1" in document
    assert "<dt>submitted</dt><dd>3</dd>" in document
    assert "<img" not in document
    assert "&lt;img src=x onerror=alert(1)&gt;" in document


def _ask_slowly(mock: MockServer) -> None:
    mock.ask("POST", "/v1/chat/completions", _body("small", "another question"), {"X-Mock-TTFT-MS": "3000"})


def test_the_page_loads_nothing_from_elsewhere() -> None:
    with serve("instant") as mock:
        for path in ("/", "/mock/live.css", "/mock/live.js"):
            answer = mock.ask("GET", path)
            assert answer.status == 200
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
            assert b"http://" not in answer.body.replace(b"http://www.w3.org/2000/svg", b"")
            assert b"https://" not in answer.body
