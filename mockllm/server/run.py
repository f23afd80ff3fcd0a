"""Serving a deployment with uvicorn until the process is asked to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import FrameType

import uvicorn

from mockllm.deployment import Deployment
from mockllm.errors import ServeError
from mockllm.server.app import create_app
from mockllm.server.protocol import Connections, EdgeLimits, StreamCap, hardened
from mockllm.server.respond import StreamCut

__all__ = ["serve"]

_SWITCH_S = 0.0005  # how long a thread that reads a large body may keep the loop from its tokens
_BACKLOG = 4096
_ACCEPTED_AT_ONCE = 16  # a turn of the loop, two turns before the cap is asked: descriptors that must be to spare
_OTHER_DESCRIPTORS = 96  # the listener, the ledger, the loop's own, and some to spare


def serve(
    deployment: Deployment,
    *,
    host: str,
    port: int,
    seed: int | None,
    ledger_path: Path | None,
    ready: Callable[[str], None],
    limits: EdgeLimits | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. `ready` gets the root URL once connections are accepted.

    Asked to stop, it lets running answers go on for a while (`EdgeLimits.grace_s`); asked again, it ends at once.

    Raises ServeError when the address cannot be had or the ledger cannot be written.
    """
    try:
        listener = socket.create_server((host, port), backlog=_BACKLOG, family=_family(host))
    except OSError as error:
        raise ServeError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    try:
        # Unbuffered: a line is in the file when the request ends, whatever happens to the process next.
        ledger = ledger_path.open("ab", buffering=0) if ledger_path else None
    except OSError as error:
        listener.close()
        raise ServeError(f"cannot write the ledger {ledger_path}: {error.strerror}") from error
    limits = _affordable(limits or EdgeLimits())
    guard = Connections(limits)
    with listener, ledger or nullcontext():
        app = create_app(deployment, seed=seed, ledger_file=ledger, streams=StreamCap(limits.max_streams))
        config = uvicorn.Config(
            app,
            log_level="warning",
            # uvloop keeps what is written until its turn ends: a ring's first chunk would leave after its last, up to
            # milliseconds after the instant that the ledger states. asyncio's own loop writes at once, at the same cost.
            loop="asyncio",
            backlog=_ACCEPTED_AT_ONCE,
            access_log=False,
            http=hardened(limits, guard),
            ws="none",
            timeout_graceful_shutdown=math.ceil(limits.grace_s) + 1,  # what has not ended by then is cancelled
            server_header=False,
        )
        logging.getLogger("uvicorn.error").addFilter(_not_a_cut)
        host_shown, port_shown = listener.getsockname()[:2]
        # What is there now lives as long as the server; walking through it again and again would stop the loop.
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(_SWITCH_S)
        ready(f"http://{f'[{host_shown}]' if ':' in host_shown else host_shown}:{port_shown}")
        _Server(config, guard, limits.grace_s).run(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server, which stops as clients can bear it: uvicorn closes the listener and waits, the rest is here."""

    def __init__(self, config: uvicorn.Config, guard: Connections, grace_s: float) -> None:
        super().__init__(config)
        self._guard, self._grace_s = guard, grace_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(_BACKLOG)  # asyncio takes one number for the kernel's queue and for what it accepts at once

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._guard.stopping = True
        end = asyncio.get_running_loop().call_later(self._grace_s, self._guard.cut)
        await super().shutdown(sockets)
        end.cancel()
        self._guard.cut()  # the idle connections, which nobody waited for


def _affordable(limits: EdgeLimits) -> EdgeLimits:
    """The limits with no more connections than this process can have descriptors for: one that cannot be accepted
    cannot be answered either."""
    try:
        import resource  # not on Windows
    except ImportError:
        return limits
    others = limits.num_reserved + _OTHER_DESCRIPTORS
    wanted = limits.max_connections + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):  # a system may allow less than it says
        allowed = soft
    if allowed < wanted:
        message = "at most %d connections, not %d: this process may have %d open files; raise `ulimit -n`"
        logging.getLogger("mockllm").warning(message, max(1, allowed - others), limits.max_connections, allowed)
    return replace(limits, max_connections=min(limits.max_connections, max(1, allowed - others)))


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _not_a_cut(record: logging.LogRecord) -> bool:
    """A stream that the model breaks off on purpose is no error of the server."""
    return not (record.exc_info and isinstance(record.exc_info[1], StreamCut))
