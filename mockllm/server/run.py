"""Serving a deployment with uvicorn until the process is asked to stop."""

from __future__ import annotations

import gc
import logging
import socket
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import uvicorn

from mockllm.deployment import Deployment
from mockllm.errors import ServeError
from mockllm.server.app import create_app
from mockllm.server.respond import StreamCut

__all__ = ["serve"]

GRACEFUL_STOP_S = 5


def serve(
    deployment: Deployment,
    *,
    host: str,
    port: int,
    seed: int | None,
    ledger_path: Path | None,
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM. `ready` gets the root URL once connections are accepted.

    Raises ServeError when the address cannot be had or the ledger cannot be written.
    """
    try:
        listener = socket.create_server((host, port), backlog=4096, family=_family(host))
    except OSError as error:
        raise ServeError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    try:
        # Unbuffered: a line is in the file when the request ends, whatever happens to the process next.
        ledger = ledger_path.open("ab", buffering=0) if ledger_path else None
    except OSError as error:
        listener.close()
        raise ServeError(f"cannot write the ledger {ledger_path}: {error.strerror}") from error
    with listener, ledger or nullcontext():
        app = create_app(deployment, seed=seed, ledger_file=ledger)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=GRACEFUL_STOP_S,
            server_header=False,
        )
        logging.getLogger("uvicorn.error").addFilter(_not_a_cut)
        host_shown, port_shown = listener.getsockname()[:2]
        # What is there now lives as long as the server; walking through it again and again would stop the loop.
        gc.collect()
        gc.freeze()
        ready(f"http://{f'[{host_shown}]' if ':' in host_shown else host_shown}:{port_shown}")
        uvicorn.Server(config).run(sockets=[listener])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _not_a_cut(record: logging.LogRecord) -> bool:
    """A stream that the model breaks off on purpose is no error of the server."""
    return not (record.exc_info and isinstance(record.exc_info[1], StreamCut))
