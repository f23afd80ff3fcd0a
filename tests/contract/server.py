"""A mock server of one's own on loopback, and the means to be rude to it."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from threading import Event
from typing import Any

from harness.clock import monotonic

__all__ = ["Answer", "MockServer", "eventually", "serve"]

_STATUS = re.compile(rb"^HTTP/1\.1 (\d{3}) ")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class MockServer:
    """A running server process."""

    port: int
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """One well-formed HTTP request."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            response: HTTPResponse = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def open(self, data: bytes, timeout_s: float = 20.0) -> socket.socket:
        """A connection on which exactly these bytes were sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)
        try:
            connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # answered and closed before it had read everything: that is the server's right
        except BaseException:
            connection.close()
            raise
        return connection

    def raw_status(self, data: bytes) -> int | None:
        """The status of the answer to exactly these bytes; None when the connection closes without one."""
        with self.open(data) as connection:
            head = b""
            while b"\r\n" not in head:
                try:
                    piece = connection.recv(4096)
                except ConnectionResetError:
                    piece = b""
                if not piece:
                    return None
                head += piece
        found = _STATUS.match(head)
        assert found, head[:80]
        return int(found[1])

    def healthy(self) -> bool:
        return self.process.poll() is None and self.ask("GET", "/health").status == 200

    def metric(self, name: str) -> float:
        """The sum over a metric's labels."""
        lines = self.ask("GET", "/metrics").body.decode().splitlines()
        values = [float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{re.escape(name)}[{{ ]", line)]
        assert values, f"no metric {name}"
        return sum(values)

    def ledger(self) -> list[dict[str, Any]]:
        """The entries of closed requests, oldest first."""
        header, *entries = map(json.loads, self.ask("GET", "/mock/ledger").body.splitlines())
        assert header["kind"] == "header"
        return entries


@contextmanager
def serve(what: str | Path, *, kill: bool = False) -> Iterator[MockServer]:
    """A server of a profile on a free port; `kill` for one that is left with open requests for ever."""
    command = [sys.executable, "-m", "mockllm", "serve", str(what), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        try:
            announced = process.stdout.readline()
            found = re.search(r"at http://127\.0\.0\.1:(\d+) ", announced)
            assert found, f"the server announced {announced!r}"
            yield MockServer(int(found[1]), process)
        finally:
            process.kill() if kill else process.terminate()
            process.wait(timeout=20)


def eventually(check: Callable[[], bool], within_s: float) -> bool:
    """Whether a condition comes true in time, asked again and again."""
    ends, pause = monotonic() + within_s, Event()
    while not check():
        if monotonic() > ends:
            return False
        pause.wait(0.02)
    return True
