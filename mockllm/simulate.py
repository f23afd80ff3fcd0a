"""The virtual-time driver: the clock jumps from event to event, nothing sleeps, same answer every time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import Protocol

from mockllm.engine.engine import Serving
from mockllm.model import Emission, Request

__all__ = ["Client", "drive", "simulate"]


class Client(Protocol):
    """Whoever sends requests. It may decide what comes next from what it has heard so far."""

    def next_at(self) -> float: ...  # when it acts next; inf: not before it hears something
    def act(self, serving: Serving, now: float) -> None: ...  # submit or cancel what is to happen at that instant


def drive(serving: Serving, client: Client) -> Iterator[Emission]:
    """Drive the engine and a client until the client wants nothing more and the engine is idle.

    The client must take in every emission before it asks for the next one. What is due at the instant at which the client
    acts happens before, as in `server.driver`. Raises ValueError when the client acts before what it did last.
    """
    now = -inf
    while True:
        at = client.next_at()
        if at == inf and serving.idle:
            return
        due = serving.due()
        if due <= at:
            if due == inf:
                raise RuntimeError(
                    "requests are on their way and nothing will ever happen to them; this is a fault of the engine"
                )
            yield from serving.advance(due)
            continue
        if at < now:
            raise ValueError(f"the client acts at {at} s, before what it did last at {now} s")
        client.act(serving, at)
        now = at


def simulate(engine: Serving, arrivals: Iterable[tuple[float, Request]]) -> Iterator[Emission]:
    """Drive the engine through `(instant, request)` pairs in order of time, until it is idle.

    Raises ValueError when an arrival lies before the previous one.
    """
    return drive(engine, _Script(iter(arrivals)))


class _Script:
    """A client that knows beforehand what it sends."""

    def __init__(self, arrivals: Iterator[tuple[float, Request]]) -> None:
        self._arrivals = arrivals
        self._next = next(arrivals, None)

    def next_at(self) -> float:
        return inf if self._next is None else self._next[0]

    def act(self, serving: Serving, now: float) -> None:
        assert self._next is not None
        _, request = self._next
        self._next = next(self._arrivals, None)
        if self._next is not None and self._next[0] < now:
            at, late = self._next
            raise ValueError(f"arrival of {late.request_id!r} at {at} s lies before the previous one at {now} s")
        serving.submit(request, now)
