"""Locust's port for workers, made fit for strangers: it has no authentication, and a stranger's message must do no harm.

In Locust 2.47 a message that does not unpack, or a known one without its fields, ends the greenlet that reads the port:
the master is deaf from then on. Statistics are taken from anybody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from locust.exception import RPCError, RPCReceiveError
from locust.runners import MasterRunner

__all__ = ["bind_to_loopback", "harden", "warn_of_open_port"]

_LOG = logging.getLogger("harness")
_FOR_WORKERS_ONLY = ("stats", "exception", "logs")


def bind_to_loopback(parser: Any) -> None:
    """Locust's ports are reached from this machine alone, unless asked otherwise (listener of init_command_line_parser)."""
    parser.set_defaults(master_bind_host="127.0.0.1", web_host="127.0.0.1")


def warn_of_open_port(host: str, port: int) -> str | None:
    """What to say about a port for workers that other machines can reach; None when none can."""
    try:
        is_local = ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    if is_local:
        return None
    return (
        f"workers are accepted on {host}:{port} without authentication: whoever reaches it can read the locustfile and "
        "disturb the run; let a firewall or a private network keep others away"
    )


def harden(runner: MasterRunner) -> None:
    """Make the master outlive any message."""
    runner.handle_message = _unshaken(runner, runner.handle_message)
    runner.server.recv_from_client = _readable(runner.server.recv_from_client)
    reset = runner.reset_connection

    def reset_and_harden() -> None:
        reset()
        runner.server.recv_from_client = _readable(runner.server.recv_from_client)

    runner.reset_connection = reset_and_harden


def _unshaken(runner: MasterRunner, handle: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    def handle_or_drop(client_id: str, message: Any) -> None:
        if message.node_id != client_id:
            _LOG.warning("dropped a message that %s sent in the name of another", client_id)
        elif message.type in _FOR_WORKERS_ONLY and client_id not in runner.clients:
            _LOG.warning("dropped a message %r of %s, which is no worker here", message.type, client_id)
        else:
            try:
                handle(client_id, message)
            except Exception as error:
                _LOG.warning("dropped a message %r of %s: %r", message.type, client_id, error)

    return handle_or_drop


def _readable(receive: Callable[[], Any]) -> Callable[[], Any]:
    def receive_or_refuse() -> Any:
        try:
            return receive()
        except (RPCError, RPCReceiveError):
            raise
        except Exception as error:
            # Locust goes on after this one, when it comes without an address.
            raise RPCReceiveError(f"a message that is none: {error!r}", addr=None) from error

    return receive_or_refuse
