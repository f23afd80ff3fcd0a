"""Clocks. The only file of this package that reads one; everything else is told the time."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "RealClock", "boot_id", "clock_pair"]


class Clock(Protocol):
    """Seconds from an origin of the clock's own choice; never runs backwards."""

    def now(self) -> float: ...


class RealClock:
    """The machine's monotonic clock, from the moment of construction.

    `monotonic_origin` is what `time.monotonic()` read at 0, so that another process of the same
    machine can place these times on its own axis exactly (Linux: one CLOCK_MONOTONIC for all).
    """

    def __init__(self) -> None:
        self.monotonic_origin = time.monotonic()

    def now(self) -> float:
        return time.monotonic() - self.monotonic_origin


class ManualClock:
    """A clock that stands still until it is moved: for tests, and for anyone who drives the engine by hand."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def move_to(self, instant: float) -> None:
        """Set the time. Raises ValueError for an instant in the past."""
        if instant < self._now:
            raise ValueError(f"move_to({instant}): time can't go backwards from {self._now}")
        self._now = instant


def clock_pair() -> dict[str, float]:
    """One reading of both clocks, to translate between processes and machines: monotonic and wall seconds."""
    return {"monotonic": time.monotonic(), "wall": time.time()}


def boot_id() -> str | None:
    """The kernel's id of this boot: equal ids mean monotonic clocks may be compared. None where unknown."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None
