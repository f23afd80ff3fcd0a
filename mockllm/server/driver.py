"""The real-time driver: the engine's verbs tied to a clock and a timer.

The same rules as `mockllm.simulate`: what is due happens first, then the arrival. The driver holds no
event loop; it is given a timer, so that a test can run it under a clock that stands still.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol, TypeVar

from mockllm.clock import Clock
from mockllm.engine.engine import Serving
from mockllm.model import Began, Emission, Request, Tokens

__all__ = ["Deliver", "Driver", "Timer"]

T = TypeVar("T")

# `more` says that the very next emission is for the same request: both can leave in one write.
Deliver = Callable[[Emission, bool], None]


class Timer(Protocol):
    """One alarm. Arming it again replaces it; `at` is on the driver's clock."""

    def arm(self, at: float, ring: Callable[[], None]) -> None: ...
    def disarm(self) -> None: ...


class Driver:
    """Runs one engine in real time and hands every emission to the request it belongs to."""

    def __init__(self, engine: Serving, clock: Clock, timer: Timer) -> None:
        self.engine = engine
        self.clock = clock
        self._timer = timer
        self._armed = inf
        self._listeners: dict[str, Deliver] = {}

    def submit(self, request: Request, deliver: Deliver) -> float:
        """Give a request to the engine now; `deliver` gets its emissions, and must not wait. Returns now."""
        now = self.clock.now()
        self._advance(now)
        self.engine.submit(request, now)
        self._listeners[request.request_id] = deliver
        self._arm()
        return now

    def cancel(self, request_id: str) -> None:
        """The client went away."""
        if request_id not in self._listeners:
            return
        now = self.clock.now()
        self._advance(now)  # what is due happens first: the answer may be complete by now
        if self._listeners.pop(request_id, None) is not None:
            self.engine.cancel(request_id, now)
        self._arm()

    def change(self, act: Callable[[float], T]) -> T:
        """Let an operator change the engine now; what is due happens first."""
        now = self.clock.now()
        self._advance(now)
        try:
            return act(now)
        finally:
            self._arm()

    def ring(self) -> None:
        """The timer's alarm: let happen what is due."""
        self._armed = inf
        try:
            self._advance(self.clock.now())
        finally:  # whatever went wrong, the others are still waiting
            self._arm()

    def _advance(self, now: float) -> None:
        emissions = self.engine.advance(now)
        for emission, following in zip(emissions, [*emissions[1:], None], strict=False):
            if isinstance(emission, Tokens | Began):
                deliver = self._listeners.get(emission.request_id)
            else:
                deliver = self._listeners.pop(emission.request_id, None)
            if deliver is not None:
                deliver(emission, following is not None and following.request_id == emission.request_id)

    def _arm(self) -> None:
        due = self.engine.due()
        if due == self._armed:
            return
        self._armed = due
        if due == inf:
            self._timer.disarm()
        else:
            self._timer.arm(due, self.ring)
