"""As steady.py, where a quarter of the messages between master and workers is lost on its way."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

from locust import events
from locust.rpc.protocol import Message

from harness.streams import keyed_uniform
from tests.survival.steady import SteadyUser

__all__ = ["SteadyUser"]


class _Lossy:
    """A socket that loses a quarter of the messages that are the harness's own."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._numbers = count()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def send(self, packed: bytes, flags: int = 0) -> None:
        if not self._is_lost(packed):
            self._socket.send(packed, flags)

    def send_multipart(self, parts: list[bytes], flags: int = 0) -> None:
        if not self._is_lost(parts[1]):
            self._socket.send_multipart(parts, flags)

    def _is_lost(self, packed: bytes) -> bool:
        ours = str(Message.unserialize(packed).type).startswith("harness_")
        return ours and keyed_uniform(os.getpid(), "lost", str(next(self._numbers))) < 0.25


def _lose_messages(environment: Any, **_: Any) -> None:
    end = environment.runner.server if hasattr(environment.runner, "server") else environment.runner.client
    end.socket = _Lossy(end.socket)


events.init.add_listener(_lose_messages)
