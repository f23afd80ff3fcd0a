"""A server whose every connection is served by a function of the test, and a client process that asks it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

from tests.conftest import REPOSITORY

__all__ = ["Client", "Server", "chunked", "content", "read_request", "serving"]

_CLIENT = Path(__file__).parent / "transport_client.py"
_PATIENCE_S = 20.0
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def content(text: str = "word ") -> bytes:
    return b"data: %s\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode()


def chunked(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def read_request(connection: socket.socket) -> bytes:
    """The head of the next request, its body read too; b"" when the client has closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    left = sum(lengths) - len(body)
    while left > 0:
        left -= len(connection.recv(left))
    return head


Serve = Callable[[socket.socket, int], None]


@dataclass
class Server:
    """`num_connections` were accepted; an exception of the serving function is kept for the test, but for the client's
    going away."""

    listener: socket.socket
    serve: Serve
    wrap: Callable[[socket.socket], socket.socket] = lambda connection: connection
    num_connections: int = 0
    errors: list[BaseException] = field(default_factory=list)
    _threads: list[Thread] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def accept_all(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(_PATIENCE_S)
            thread = Thread(target=self._run, args=(connection, self.num_connections), daemon=True)
            self.num_connections += 1
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    def _run(self, connection: socket.socket, number: int) -> None:
        try:
            with self.wrap(connection) as wrapped:
                self.serve(wrapped, number)
        except OSError:
            return
        except BaseException as error:
            self.errors.append(error)


@contextmanager
def serving(serve: Serve, wrap: Callable[[socket.socket], socket.socket] | None = None) -> Iterator[Server]:
    """Serve on a free port of loopback. Raises what the serving function raised."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        server = Server(listener, serve) if wrap is None else Server(listener, serve, wrap)
        thread = Thread(target=server.accept_all, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join(_PATIENCE_S)
        if server.errors:
            raise server.errors[0]


@dataclass
class Client:
    """A process that asks: importing Locust patches the standard library, which must not happen here."""

    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Client:
        self._process = subprocess.Popen(
            [sys.executable, str(_CLIENT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"], **self.environment},
        )
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        process.wait(_PATIENCE_S)

    def ask(self, server: Server | None = None, *, scheme: str = "http", **job: Any) -> list[dict[str, Any]]:
        """The records of the job's requests."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        url = {} if server is None else {"url": f"{scheme}://127.0.0.1:{server.port}"}
        self._process.stdin.write(json.dumps(url | job) + "\n")
        self._process.stdin.flush()
        records: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return records
