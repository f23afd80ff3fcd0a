"""A server that answers with exactly the bytes and the timing it was told: right or wrong, HTTP or not.

The first segment of the path names the script; the n-th request for it gets the n-th answer.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Literal

__all__ = ["Answer", "FaultServer", "Pause", "Step", "closed_port", "running"]

_PATIENCE_S = 20.0


@dataclass(frozen=True)
class Pause:
    seconds: float


Step = bytes | Pause


@dataclass(frozen=True)
class Answer:
    """Steps in order, then the connection's fate: `keep` waits for its next request, `hold` for its end."""

    steps: Sequence[Step] = ()
    then: Literal["close", "reset", "keep", "hold"] = "close"


@dataclass
class FaultServer:
    """One listener for all scripts, a thread for each connection."""

    scripts: Mapping[str, Sequence[Answer]]
    listener: socket.socket
    heads: dict[str, list[bytes]] = field(default_factory=dict)
    _num: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)
    _over: Event = field(default_factory=Event)
    _threads: list[Thread] = field(default_factory=list)

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    def accept_all(self) -> None:
        """Serve until the listener is shut."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(_PATIENCE_S)
            thread = Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self._over.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while (name := self._next_request(connection)) is not None:
                    answer = self._answer_for(name)
                    self._send(connection, answer)
                    if answer.then == "reset":
                        # Linger of zero seconds: the kernel sends RST instead of FIN.
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    elif answer.then == "hold":
                        while connection.recv(4096):
                            pass
                    if answer.then != "keep":
                        return
            except OSError:
                return  # the client went away or never came back

    def _next_request(self, connection: socket.socket) -> str | None:
        """Read one request; the script it asks for. None when the client has closed."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        left = -len(body) + sum(int(line[15:]) for line in lines if line.lower().startswith(b"content-length:"))
        while left > 0:
            left -= len(connection.recv(left)) or left
        name = lines[0].split(b" ")[1].split(b"/")[1].decode()
        with self._lock:
            self.heads.setdefault(name, []).append(head)
        return name

    def _answer_for(self, name: str) -> Answer:
        answers = self.scripts[name]
        with self._lock:
            number = self._num[name]
            self._num[name] += 1
        return answers[min(number, len(answers) - 1)]

    def _send(self, connection: socket.socket, answer: Answer) -> None:
        for step in answer.steps:
            if isinstance(step, Pause):
                self._over.wait(step.seconds)
            else:
                connection.sendall(step)


@contextmanager
def running(scripts: Mapping[str, Sequence[Answer]], host: str = "127.0.0.1") -> Iterator[FaultServer]:
    """A fault server on a free port of loopback."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, backlog=256) as listener:
        server = FaultServer(scripts, listener)
        thread = Thread(target=server.accept_all, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join(_PATIENCE_S)


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of loopback on which nobody listens: bound, so that nobody else takes it meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
