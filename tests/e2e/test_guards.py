"""Runs that are refused before a byte is sent, or stopped while they go."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, mock_server

pytestmark = pytest.mark.realtime

_PRICES = "instant: {input: 10, output: 1000}\n"


# A proxy would get the key, and its time would be added to every latency. These lead nowhere: whoever uses them fails.
_PROXIES = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")


def _start(out: Path, host: str, *words: str, key: str | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "locust", "-f", "scenarios/burst.py", "--headless", "--only-summary"]
    command += ["--host", host, "--out", str(out), "-r", "40", "-t", "3s", *words]
    environment = {**os.environ, **_PROXIES, **({"HARNESS_API_KEY": key} if key else {})}
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def _end(process: subprocess.Popen[str]) -> str:
    """What it said; every run here ends with the code for an invalid run or command."""
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert "Traceback" not in said
    return said


def _records(out: Path) -> list[dict[str, Any]]:
    lines = [line for path in out.glob("records-*.jsonl") for line in path.read_text().splitlines()]
    return [record for record in map(json.loads, lines) if record["kind"] == "request"]


def test_what_nobody_meant_is_refused(tmp_path: Path) -> None:
    with mock_server("instant") as url:
        started = {
            "on the public internet": _start(tmp_path / "a", "https://192.0.2.1"),
            "metadata service": _start(tmp_path / "b", "http://169.254.169.254"),
            "unencrypted": _start(tmp_path / "c", "http://10.255.255.1:8000", key="k-1234"),
            "--budget 1 needs the price of 'instant', which is not known": _start(tmp_path / "d", url, "--budget", "1"),
            "characters that no header can carry": _start(tmp_path / "e", url, key="ключ-1234"),
            "'a..b' is no host name": _start(tmp_path / "f", "http://a..b"),
            "write the path percent-encoded": _start(tmp_path / "g", f"{url}/a b"),
        }
        said = {complaint: _end(process) for complaint, process in started.items()}
    for complaint, text in said.items():
        assert complaint in text
    assert list(tmp_path.glob("*/records-*")) == []


def test_a_budget_stops_the_run_and_is_never_exceeded(tmp_path: Path) -> None:
    """The bill is added up from the mock's own ledger: what it really read and said."""
    prices, ledger, out = tmp_path / "prices.yaml", tmp_path / "ledger.jsonl", tmp_path / "run"
    prices.write_text(_PRICES)
    with mock_server("instant", "--ledger", str(ledger)) as url:
        _end(_start(out, url, "--prices", str(prices), "--budget", "2.50"))  # not everything that was asked was sent
    manifest = json.loads((out / "manifest.json").read_text())
    assert "the budget of $2.5 is used up" in manifest["stop_reason"]
    served = [json.loads(line) for line in ledger.read_text().splitlines()[1:]]
    bill = sum(entry["num_prompt_tokens"] * 10 + entry["num_output_tokens"] * 1000 for entry in served) / 1e6
    sent = [record for record in _records(out) if record["outcome"] != "refused"]
    assert sum(record["cost_usd"] for record in sent) == pytest.approx(bill, rel=1e-9)
    assert 1.0 < bill <= 2.50
    assert 0 < len(sent) < manifest["num_planned"]
    refused = [record for record in _records(out) if record["outcome"] == "refused"]
    assert {record["error_kind"] for record in refused} <= {"budget"}


class _Forbids(BaseHTTPRequestHandler):
    """Names its models to everybody, and answers nobody."""

    num_asked = 0

    def do_GET(self) -> None:
        self._answer(200, b'{"data": [{"id": "m"}]}')

    def do_POST(self) -> None:
        type(self).num_asked += 1
        self._answer(401, b'{"error": {"message": "wrong key"}}')

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


@pytest.fixture
def forbidding() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Forbids)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_storm_of_refused_keys_is_stopped(forbidding: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    _end(_start(out, forbidding, key="k-123456"))
    reason = json.loads((out / "manifest.json").read_text())["stop_reason"]
    assert reason == "5 answers in a row were 401: the key in HARNESS_API_KEY was refused"
    assert 5 <= _Forbids.num_asked <= 10  # a few were under way
    assert len(_records(out)) >= 5


_REBOUND = """
import sys, time
from harness.swarm.transport import Exchange, Transport, parse_target
exchange = Exchange()
transport = Transport(parse_target(sys.argv[1]), time.monotonic, permits=lambda address: address != "127.0.0.1")
transport.request("POST", "/", {"Authorization": "Bearer k-1234"}, b"{}", exchange)
print(exchange.ending, exchange.detail)
"""


def test_a_name_that_leads_elsewhere_gets_no_byte(tmp_path: Path) -> None:
    """DNS rebinding: the address of every new connection is checked, before anything is sent over it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", _REBOUND, url], cwd=REPOSITORY, capture_output=True, text=True, timeout=30
        )
        assert "unreachable" in done.stdout, done.stderr
        assert "leads to 127.0.0.1, which this run may not load" in done.stdout
        connection, _ = server.accept()
        with connection:
            assert connection.recv(100) == b""
