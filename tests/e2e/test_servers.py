"""Servers that are not the friendly mock: one that wants a key, one that breaks a whole answer off."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.conftest import REPOSITORY, mock_server

pytestmark = pytest.mark.realtime

_CUTS = """\
name: cuts
kind: hosted
model: cuts
summary: Every answer is broken off.
as_of: 2026-11-21
sources: [made up for a test]
max_model_len: 1000
answer_length: {median_tokens: 40, sigma: 0}
latency: {floor_s: 0.01, tpot_median_s: 0.001}
faultiness: {cut_rate: 1.0}
"""


class _WantsKey(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        good = self.headers["Authorization"] == "Bearer open-sesame"
        body = json.dumps({"data": [{"id": "locked"}]} if good else {"error": {"message": "no key"}}).encode()
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.send_error(500)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


@pytest.fixture
def locked_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _WantsKey)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(target: str, out: Path, key: str | None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", "run", "scenarios/burst.py", "--target", target]
    command += ["--rate", "5", "--duration", "2s", "--out", str(out)]
    environment = {**os.environ, **({"HARNESS_API_KEY": key} if key else {})}
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.parametrize(("key", "words"), [(None, "is missing"), ("wrong", "was refused")])
def test_a_missing_or_wrong_key_is_said(locked_server: str, tmp_path: Path, key: str | None, words: str) -> None:
    done = run(locked_server, tmp_path / "run", key)
    assert done.returncode == 2
    assert f"answers 401: the key in HARNESS_API_KEY {words}" in done.stderr


def test_the_key_opens_and_stands_in_no_output(locked_server: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run(locked_server, out, "open-sesame")
    assert json.loads((out / "manifest.json").read_text())["model"] == "locked"
    assert done.returncode == 1  # every answer is a 500
    written = [path.read_text() for path in out.iterdir()]
    assert all("open-sesame" not in text for text in [done.stdout, done.stderr, *written])


def test_a_whole_answer_that_is_cut_breaks_on_the_wire(tmp_path: Path) -> None:
    profile = tmp_path / "cuts.yaml"
    profile.write_text(_CUTS)
    with mock_server(str(profile)) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        connection.request(
            "POST", "/v1/chat/completions", b'{"model":"cuts","messages":[{"role":"user","content":"x"}]}'
        )
        answer = connection.getresponse()
        assert answer.status == 200
        with pytest.raises(http.client.IncompleteRead):
            answer.read()
        connection.close()
        connection.request("GET", "/mock/ledger")
        entry = json.loads(connection.getresponse().read().splitlines()[-1])
        connection.close()
    assert (entry["outcome"], entry["num_output_tokens"] < 40) == ("cut", True)
