"""The driver's alarm in real time.

Event loops wait in whole milliseconds. Where the kernel has timer descriptors (Linux) the alarm is one of
those, which ring within some ten microseconds; elsewhere it is the loop's own timer.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from typing import Any

from mockllm.clock import Clock
from mockllm.server.driver import Timer

__all__ = ["DescriptorTimer", "LoopTimer", "best_timer"]

_CLOCK_MONOTONIC = 1
# Rings are at least this far apart. Under heavy load one ring then lets out several chunks, which costs less than a
# ring for each, and nobody waits longer than this for it.
_BETWEEN_RINGS_S = 0.0003
_SOON_NS = 1000  # a timer set to 0 would be disarmed


class LoopTimer:
    """An alarm on asyncio's loop. It may ring up to a millisecond early or late; the driver copes with both."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._handle: asyncio.TimerHandle | None = None

    def arm(self, at: float, ring: Callable[[], None]) -> None:
        self.disarm()
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(max(0.0, at - self._clock.now()), ring)

    def disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class DescriptorTimer:
    """An alarm on a timerfd. Made inside a running loop. Raises OSError where the kernel has none."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._ring: Callable[[], None] | None = None
        self._spec = _Itimerspec()
        self._rang_at = -_BETWEEN_RINGS_S
        try:
            self._descriptor = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError as error:
            raise OSError("this system has no timer descriptors") from error
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        asyncio.get_running_loop().add_reader(self._descriptor, self._rang)

    def arm(self, at: float, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._set(max(_SOON_NS, int((max(at, self._rang_at + _BETWEEN_RINGS_S) - self._clock.now()) * 1e9)))

    def disarm(self) -> None:
        self._ring = None
        self._set(0)

    def _set(self, nanoseconds: int) -> None:
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        self._libc.timerfd_settime(self._descriptor, 0, ctypes.byref(self._spec), None)

    def _rang(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # it was armed anew since the loop saw it
        ring, self._ring = self._ring, None
        if ring is not None:
            self._rang_at = self._clock.now()
            ring()


def best_timer(clock: Clock) -> Timer:
    """The most punctual alarm this system has. Call it inside a running loop."""
    try:
        return DescriptorTimer(clock)
    except OSError:
        return LoopTimer(clock)
