"""A circuit breaker: who fails too often is left alone for a while, then tried with a few calls.

    closed      calls go through; when the share of failures among those that ended within the last `window` reaches
                `failure_share`, and they are at least `min_calls`, the breaker opens
    open        no call goes through for `cooldown`
    half-open   `probes` calls go through: one failure opens it again, `probes` successes close it

States and terms are those of Nygard, "Release It!" (2007), the rate over a sliding window and the defaults of
resilience4j's time-based breaker (50 %), on a scale of 10 calls in 30 s where it asks for 100. It judges calls by their
ends; a call that was given up by its own client says nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Annotated, Literal

from pydantic import Field

from mockllm.fields import Count, Duration, Strict
from mockllm.model import Cut, Refused
from mockllm.stack.stage import End

__all__ = ["Breaker", "BreakerSettings", "BreakerState", "fault_of", "reason_to_move"]

BreakerState = Literal["closed", "open", "half-open"]


class BreakerSettings(Strict):
    """When a breaker opens, for how long, and how many probes close it."""

    window: Annotated[Duration, Field(gt=0)] = 30.0
    failure_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    min_calls: Count = 10
    cooldown: Annotated[Duration, Field(gt=0)] = 30.0
    probes: Count = 3


def fault_of(end: End) -> str | None:
    """What is wrong with a provider whose call ended so: a reset, a 5xx or an answer broken off; None: nothing.

    A 429 is no fault: the provider is up, and says so. The same choice as Envoy's outlier detection.
    """
    if isinstance(end, Cut):
        return "cut"
    if isinstance(end, Refused):
        return "reset" if end.status == 0 else str(end.status) if end.status >= 500 else None
    return None


def reason_to_move(end: End) -> str | None:
    """Why somebody else is asked after a call that ended so: a fault, or a 429; None: this end is the answer."""
    return "429" if isinstance(end, Refused) and end.status == 429 else fault_of(end)


class Breaker:
    """The breaker of one provider. A caller that is admitted hands its permit back exactly once."""

    def __init__(self, settings: BreakerSettings) -> None:
        self.settings = settings
        self.num_opened = 0
        self._half_open_at: float | None = None  # None: closed
        self._term = 0  # permits of an earlier term are worth nothing: those calls began under another state
        self._ended: deque[tuple[float, bool]] = deque()  # when, and whether it failed
        self._num_failed = self._num_probing = self._num_passed = 0

    def state(self, now: float) -> BreakerState:
        """Closed, open, or half-open."""
        if self._half_open_at is None:
            return "closed"
        return "open" if now < self._half_open_at else "half-open"

    def opens_in(self, now: float) -> float:
        """Seconds until the first probe may go through; 0 where calls go through already."""
        return 0.0 if self._half_open_at is None else max(self._half_open_at - now, 0.0)

    def admit(self, now: float) -> int | None:
        """A permit for one call, to be handed back when it is over; None: not now."""
        if self._half_open_at is None:
            return self._term
        if now < self._half_open_at or self._num_probing + self._num_passed >= self.settings.probes:
            return None
        self._num_probing += 1
        return self._term

    def succeeded(self, permit: int, now: float) -> None:
        """The call went well."""
        if permit != self._term:
            return
        if self._half_open_at is None:
            self._note(now, failed=False)
            return
        self._num_probing -= 1
        self._num_passed += 1
        if self._num_passed == self.settings.probes:
            self._half_open_at = None
            self._begin_term()

    def failed(self, permit: int, now: float) -> None:
        """The call failed."""
        if permit != self._term:
            return
        if self._half_open_at is not None:
            self.trip(now)
            return
        self._note(now, failed=True)
        num = len(self._ended)
        if num >= self.settings.min_calls and self._num_failed >= self.settings.failure_share * num:
            self.trip(now)

    def withdrawn(self, permit: int) -> None:
        """The call ended without a verdict."""
        if permit == self._term and self._half_open_at is not None:
            self._num_probing -= 1

    def trip(self, now: float) -> None:
        """Nothing goes through for the cooldown from now on."""
        if self._half_open_at is None or now >= self._half_open_at:
            self.num_opened += 1
        self._half_open_at = now + self.settings.cooldown
        self._begin_term()

    def let_probe(self, now: float) -> None:
        """There is a sign of life: the cooldown of an open breaker is over."""
        if self._half_open_at is not None:
            self._half_open_at = min(self._half_open_at, now)

    def _begin_term(self) -> None:
        self._term += 1
        self._ended.clear()
        self._num_failed = self._num_probing = self._num_passed = 0

    def _note(self, now: float, *, failed: bool) -> None:
        """The window is what ended after `now - window`, up to and including now."""
        self._ended.append((now, failed))
        self._num_failed += failed
        while self._ended[0][0] <= now - self.settings.window:
            self._num_failed -= self._ended.popleft()[1]
