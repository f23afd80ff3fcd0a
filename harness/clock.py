"""Clocks of the load side. The only pure-side file that reads one."""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["boot_id", "clock_pair", "day_of", "file_stamp", "monotonic"]


def monotonic() -> float:
    """The machine's monotonic clock in seconds."""
    return time.monotonic()


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


def file_stamp(wall: float) -> str:
    """A wall-clock instant as it stands in file names: 20261121T062600Z."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y%m%dT%H%M%SZ")


def day_of(wall: float) -> str:
    """The day of a wall-clock instant in UTC: 2026-11-21."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d")
