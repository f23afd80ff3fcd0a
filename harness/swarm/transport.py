"""HTTP under gevent, with a stamp on every read. The transport knows no protocol above HTTP/1.1.

Why not Locust's own client: `FastHttpSession.iter_lines` waits for 1,024 bytes and so reports the first token
too late by everything that fits into them. Here every read of the socket is stamped at once and parsed by
geventhttpclient's parser (llhttp); nobody looks into the body before the answer has ended.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import gevent
import gevent.socket
import gevent.ssl
from geventhttpclient.response import HTTPParseError, HTTPResponse

from harness.errors import UsageError
from harness.outcome import Ending

__all__ = ["Exchange", "Target", "Timeouts", "Transport", "api_key", "parse_target"]

_READ_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Target:
    """The server's root: scheme, host, port and the path before `/v1`."""

    scheme: str
    host: str
    port: int
    base_path: str

    def path(self, path: str) -> str:
        return self.base_path + path

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.base_path}"


def api_key() -> str | None:
    """The API key of the server under test, from the environment and from nowhere else."""
    return os.environ.get("HARNESS_API_KEY") or None


def parse_target(url: str) -> Target:
    """The target a URL names; a trailing `/v1` is left out. Raises UsageError for what is no HTTP root."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is not the root of an HTTP server; write it like http://127.0.0.1:8000")
    if parts.username or parts.password:
        raise UsageError("a URL with credentials would stand in every output; put the key into HARNESS_API_KEY")
    base = parts.path.rstrip("/").removesuffix("/v1")
    return Target(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), base)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: until connected, and between two reads of an answer."""

    connect_s: float = 10.0
    read_s: float = 300.0


@dataclass(slots=True)
class Exchange:
    """One request and what came back, filled as it happens: whoever is killed in the middle still has the facts."""

    sent_at: float | None = None
    connected_at: float | None = None
    first_byte_at: float | None = None
    done_at: float | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    reads: list[tuple[float, bytes]] = field(default_factory=list)
    ending: Ending = "run_ended"
    detail: str | None = None
    num_attempts: int = 0

    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.reads)


class _Response(HTTPResponse):
    """The parser, handing each piece of the body over with the stamp of the read it came in."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange
        self.read_at = 0.0

    def _on_body(self, buf: Any) -> None:
        self._exchange.reads.append((self.read_at, bytes(buf)))


class _StaleSocket(Exception):  # noqa: N818
    """A reused connection was dead before a byte of the answer came."""


class Transport:
    """Sends requests over kept-alive connections, newest first. Shared by all greenlets of a process."""

    def __init__(self, target: Target, now: Callable[[], float], timeouts: Timeouts = Timeouts()) -> None:
        self._target = target
        self._now = now
        self._timeouts = timeouts
        self._idle: list[gevent.socket.socket] = []
        self._tls = gevent.ssl.create_default_context() if target.scheme == "https" else None

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes, exchange: Exchange) -> None:
        """Send one request and read the whole answer into `exchange`. Never raises for what the server does.

        A kept-alive connection that died before any byte came is replaced once; `num_attempts` says so.
        """
        message = self._message(method, path, headers, body)
        try:
            self._attempt(message, exchange, fresh=False)
        except _StaleSocket:
            exchange.sent_at = exchange.connected_at = exchange.done_at = exchange.detail = None
            exchange.ending = "run_ended"
            self._attempt(message, exchange, fresh=True)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    # -- inside --------------------------------------------------------------------------------------

    def _message(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        host = f"[{self._target.host}]" if ":" in self._target.host else self._target.host
        if self._target.port not in (80, 443):
            host += f":{self._target.port}"
        lines = [f"{method} {self._target.path(path)} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def _attempt(self, message: bytes, exchange: Exchange, *, fresh: bool) -> None:
        exchange.num_attempts += 1
        idle = None if fresh else self._take_idle()
        socket = idle or self._connect(exchange)
        if socket is None:
            return
        keep = False
        try:
            if exchange.sent_at is None:
                exchange.sent_at = self._now()
            socket.sendall(message)
            keep = self._read(socket, exchange)
        except TimeoutError:
            exchange.ending, exchange.detail = "timeout", f"no byte for {self._timeouts.read_s:g} s"
        except HTTPParseError as error:
            self._broken(
                exchange,
                "closed" if exchange.ending == "closed" else "bad_http",
                str(error),
                reused=idle is not None,
            )
        except OSError as error:
            ending: Ending = "reset" if error.errno in (errno.ECONNRESET, errno.EPIPE) else "closed"
            self._broken(exchange, ending, error.strerror or str(error), reused=idle is not None)
        finally:
            if exchange.ending != "run_ended":
                exchange.done_at = self._now()
            if keep:
                self._idle.append(socket)
            else:
                socket.close()

    def _read(self, socket: gevent.socket.socket, exchange: Exchange) -> bool:
        """Read one answer. True when the connection can be used again."""
        response = _Response(exchange)
        while not (response.message_complete and response.get_code() >= 200):
            data = socket.recv(_READ_BYTES)
            response.read_at = self._now()
            if not data:
                exchange.ending = "closed"
            elif exchange.first_byte_at is None:
                exchange.first_byte_at = response.read_at
            response.feed(data)
            if response.headers_complete and exchange.status is None and response.get_code() >= 200:
                exchange.status = response.get_code()
                exchange.headers = {name.lower(): value for name, value in response.items()}
            if not data and not response.message_complete:
                raise HTTPParseError("connection closed by the server")
        exchange.ending = "complete"
        return not response.should_close()

    def _broken(self, exchange: Exchange, ending: Ending, detail: str, *, reused: bool) -> None:
        if reused and exchange.first_byte_at is None:
            raise _StaleSocket
        exchange.ending, exchange.detail = ending, detail

    def _take_idle(self) -> gevent.socket.socket | None:
        """The connection that was used last, if the server has not closed it meanwhile."""
        while self._idle:
            socket = self._idle.pop()
            # poll, not select: with many streams a descriptor may well be above 1,024.
            poll = select.poll()
            poll.register(socket.fileno(), select.POLLIN)
            if not poll.poll(0):
                return socket
            socket.close()
        return None

    def _connect(self, exchange: Exchange) -> gevent.socket.socket | None:
        """A new connection; None when there is none to be had, which `exchange` then says."""
        exchange.sent_at = self._now()
        address = (self._target.host, self._target.port)
        socket = None
        try:
            socket = gevent.socket.create_connection(address, timeout=self._timeouts.connect_s)
            socket.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
            if self._tls is not None:
                socket = self._tls.wrap_socket(socket, server_hostname=self._target.host)
            socket.settimeout(self._timeouts.read_s)
        except (OSError, UnicodeError) as error:  # a host name may be no name at all
            if socket is not None:
                socket.close()
            exchange.ending, exchange.done_at = "unreachable", self._now()
            exchange.detail = f"{self._target}: {getattr(error, 'strerror', None) or error}"
            return None
        exchange.connected_at = self._now()
        return socket
