"""The virtual-time driver: the clock jumps from event to event, nothing sleeps, same answer every time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf

from mockllm.engine.engine import Serving
from mockllm.model import Emission, Request

__all__ = ["simulate"]


def simulate(engine: Serving, arrivals: Iterable[tuple[float, Request]]) -> Iterator[Emission]:
    """Drive the engine through `(instant, request)` pairs in order of time, until it is idle.

    What is due at the instant of an arrival happens before the arrival, as in `server.driver`.
    Raises ValueError when an arrival lies before the previous one.
    """
    now = -inf
    for at, request in arrivals:
        if at < now:
            raise ValueError(f"arrival of {request.request_id!r} at {at} s lies before the previous one at {now} s")
        while (due := engine.due()) <= at:
            yield from engine.advance(due)
        engine.submit(request, at)
        now = at
    while not engine.idle:
        due = engine.due()
        if due == inf:
            raise RuntimeError(
                "requests are on their way and nothing will ever happen to them; this is a fault of the engine"
            )
        yield from engine.advance(due)
