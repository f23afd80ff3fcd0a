"""HTTP under gevent. The transport knows no protocol above HTTP/1.1.

Why not Locust's own client: `FastHttpSession.iter_lines` waits for 1,024 bytes and so reports the first token
too late by everything that fits into them. Here every read of the socket is stamped and parsed by
geventhttpclient's parser (llhttp); nobody looks into the body before the answer has ended, but for a client that leaves
after so many tokens. No proxy of the environment is used, and certificates are verified.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

import gevent
import gevent.socket
import gevent.ssl
from geventhttpclient.response import HTTPParseError

from harness.errors import UsageError
from harness.exchange import Exchange
from harness.outcome import Ending
from harness.plan import Conduct
from harness.rxstamp import KernelClock, LoopWatch, switch_on
from harness.swarm.receive import Answer, Ears, GoneAway, receive, receive_slowly

__all__ = ["Exchange", "Target", "Timeouts", "Transport", "api_key", "parse_target"]

# What a client that reads slowly lets the kernel take in for it, so that the server soon feels it; the kernel doubles it.
_SLOW_BUFFER_BYTES = 4096
_READER = Conduct()
# What this machine has not got for us: descriptors, ports, memory. It says nothing about the server.
_OUR_LACK = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})


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
    """The API key of the server under test, from the environment and from nowhere else; without the white space and the
    line end that a file has. Raises UsageError for what no header can carry."""
    key = os.environ.get("HARNESS_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UsageError("HARNESS_API_KEY holds characters that no header can carry; copy the key again")
    return key or None


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
    try:
        parts.hostname.encode("idna")
    except UnicodeError as error:
        raise UsageError(f"{url!r}: {parts.hostname!r} is no host name: {error}") from None
    base = parts.path.rstrip("/").removesuffix("/v1")
    if not (base.isascii() and base.isprintable()) or " " in base:
        raise UsageError(f"{url!r}: write the path percent-encoded")
    return Target(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80), base)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: until connected, and between two reads of an answer."""

    connect_s: float = 10.0
    read_s: float = 300.0


class _StaleSocket(Exception):  # noqa: N818
    """A reused connection was dead before a byte of the answer came."""


class Transport:
    """Sends requests over kept-alive connections, newest first, or over a new one each when `fresh`. Shared by all
    greenlets of a process."""

    def __init__(
        self,
        target: Target,
        now: Callable[[], float],
        timeouts: Timeouts = Timeouts(),
        *,
        fresh: bool = False,
        wall: Callable[[], float] = time.time,
        permits: Callable[[str], bool] = lambda _: True,  # whether a connection may end at this address
    ) -> None:
        self._target = target
        self._now = now
        self._timeouts = timeouts
        self._fresh = fresh
        self._permits = permits
        self.has_connected = False
        self._idle: list[gevent.socket.socket] = []
        self._wall = wall
        self._tls = gevent.ssl.create_default_context() if target.scheme == "https" else None
        # Linux stamps packets only while some socket wants it, and begins a little after: this one wants it all the time.
        self._wants_stamps = gevent.socket.socket(gevent.socket.AF_INET, gevent.socket.SOCK_DGRAM)
        self._stamps = self._tls is None and switch_on(self._wants_stamps)

    @cached_property
    def _ears(self) -> Ears:
        """Made when the run's clock goes, with the first request or when somebody wants to watch."""
        ears = Ears(self._now, KernelClock(self._now, self._wall), LoopWatch(self._now))
        ears.watch.watch(gevent.get_hub().loop, self._wall)
        return ears

    @property
    def watch(self) -> LoopWatch:
        """What the event loop does between two polls."""
        return self._ears.watch

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        exchange: Exchange,
        conduct: Conduct | None = None,
        num_content: Callable[[bytes], int] | None = None,
    ) -> None:
        """Send one request and read the whole answer into `exchange`. Never raises for what the server does.

        A kept-alive connection that died before any byte came is replaced once; `num_stale_sockets` says so. `conduct`: how
        the client reads; `num_content` is needed where it leaves after so many chunks: how many of them end in a piece.
        """
        message = self._message(method, path, headers, body)
        answer = Answer(exchange, self._ears, conduct or _READER, num_content)
        num_steps = self._ears.clock.num_steps
        try:
            self._attempt(message, answer, fresh=self._fresh)
        except _StaleSocket:
            exchange.num_stale_sockets += 1
            exchange.sent_at = None
            exchange.forget_answer()
            self._attempt(message, Answer(exchange, self._ears, conduct or _READER, num_content), fresh=True)
        finally:
            exchange.clock_stepped = exchange.clock_stepped or self._ears.clock.num_steps != num_steps

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()
        if "_ears" in self.__dict__:
            self._ears.watch.stop()
        self._wants_stamps.close()

    # -- inside --------------------------------------------------------------------------------------

    def _message(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        host = f"[{self._target.host}]" if ":" in self._target.host else self._target.host
        if self._target.port != (443 if self._target.scheme == "https" else 80):
            host += f":{self._target.port}"
        lines = [f"{method} {self._target.path(path)} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def _attempt(self, message: bytes, answer: Answer, *, fresh: bool) -> None:
        exchange, slow = answer.exchange, answer.conduct.read_bytes_per_s is not None
        exchange.num_attempts += 1
        idle = None if fresh or slow else self._take_idle()
        socket = idle or self._connect(exchange, slow=slow)
        if socket is None:
            return
        keep = False
        try:
            if exchange.sent_at is None:
                exchange.sent_at = self._now()
            answer.begins()
            unsent = _sent(socket, message)
            read = receive_slowly if slow or self._tls is not None else receive
            try:
                read(socket, answer, self._timeouts.read_s)
            except (OSError, HTTPParseError) as error:
                raise unsent or error from None
            keep = unsent is None and answer.reusable and not slow and not self._fresh
        except GoneAway as error:
            exchange.ending, exchange.detail = "left", str(error)
        except TimeoutError:
            exchange.ending, exchange.detail = "timeout", f"no byte for {self._timeouts.read_s:g} s"
        except HTTPParseError as error:
            ending: Ending = "closed" if exchange.ending == "closed" else "bad_http"
            self._broken(exchange, ending, str(error), reused=idle is not None)
        except OSError as error:
            ending = "reset" if error.errno in (errno.ECONNRESET, errno.EPIPE) else "closed"
            self._broken(exchange, ending, error.strerror or str(error), reused=idle is not None)
        finally:
            if exchange.ending != "run_ended":
                exchange.done_at = answer.ended_at()
            if keep:
                self._idle.append(socket)
            else:
                socket.close()

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

    def _connect(self, exchange: Exchange, *, slow: bool) -> gevent.socket.socket | None:
        """A new connection; None when there is none to be had, which `exchange` then says."""
        if exchange.sent_at is None:
            exchange.sent_at = self._now()
        socket = None
        try:
            socket = self._opened(slow=slow)
            if not self._permits(peer := socket.getpeername()[0]):
                raise OSError(f"it leads to {peer}, which this run may not load (--allow-host, --allow-plain-http)")
            socket.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
            if self._tls is not None:
                socket = self._tls.wrap_socket(socket, server_hostname=self._target.host)
            elif self._stamps:
                switch_on(socket)
            socket.settimeout(self._timeouts.read_s)
        except (OSError, UnicodeError) as error:  # a host name may be no name at all
            if socket is not None:
                socket.close()
            if getattr(error, "errno", None) in _OUR_LACK:
                exchange.ending = "no_socket"
                exchange.sent_at = None if exchange.num_attempts == 1 else exchange.sent_at
            else:
                exchange.ending, exchange.done_at = "unreachable", self._now()
            exchange.detail = f"{self._target}: {getattr(error, 'strerror', None) or error}"
            return None
        exchange.connected_at, self.has_connected = self._now(), True
        return socket

    def _opened(self, *, slow: bool) -> gevent.socket.socket:
        address = (self._target.host, self._target.port)
        if not slow:
            return gevent.socket.create_connection(address, timeout=self._timeouts.connect_s)
        # A small window must be asked for before the connection is made.
        family, kind, protocol, _, found = gevent.socket.getaddrinfo(*address, type=gevent.socket.SOCK_STREAM)[0]
        socket = gevent.socket.socket(family, kind, protocol)
        try:
            socket.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_RCVBUF, _SLOW_BUFFER_BYTES)
            socket.settimeout(self._timeouts.connect_s)
            socket.connect(found)
        except OSError:
            socket.close()
            raise
        return socket


def _sent(socket: gevent.socket.socket, message: bytes) -> OSError | None:
    """Send a message. Returns the error of a server that takes no more of it: it may have said why, as 413 does, before it
    closed. Raises TimeoutError."""
    try:
        socket.sendall(message)
    except TimeoutError:
        raise
    except OSError as error:
        return error
    return None
