"""When bytes arrived: the kernel's receive stamps on the run's clock, and what the event loop did meanwhile.

With SO_TIMESTAMPNS Linux stamps TCP data as it comes in. A read is given the stamp of the last byte that it returns, also
when several segments were waiting (Linux commit 98aaa913b4ed: the kernel keeps the stamp of the appended one). So the
stamp is exact for the last event in a read, however late the process comes to read it, and an upper bound for the
events before it. TLS and systems other than Linux have no stamps.
"""

from __future__ import annotations

import socket as sockets
import struct
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["ANCILLARY_BYTES", "KernelClock", "LoopWatch", "have_stamps", "stamp_of", "switch_on"]

# Linux, asm-generic/socket.h; the socket module has no name for it. A timespec is two longs, of 64 bits here.
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("=qq")
ANCILLARY_BYTES = sockets.CMSG_SPACE(_TIMESPEC.size) if hasattr(sockets, "CMSG_SPACE") else 0

have_stamps = sys.platform.startswith("linux") and struct.calcsize("l") == 8

_SAME_S = 50e-6  # two clocks that were read one after the other differ by less, unless the process was interrupted
_STEP_S = 1e-3
_SLEW = 1e-3  # NTP moves a clock by at most 500 ppm
_TRIES = 10
_LONGEST_WAIT_S = 1.0  # for the interpreter; more is a wall clock that was set


def switch_on(socket: Any) -> bool:
    """Ask for stamps on a socket; whether there are any."""
    if not have_stamps:
        return False
    try:
        socket.setsockopt(sockets.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def stamp_of(ancillary: list[tuple[int, int, bytes]]) -> float | None:
    """The wall-clock stamp that came with a read; None: there is none."""
    for level, kind, data in ancillary:
        if kind == _SO_TIMESTAMPNS and level == sockets.SOL_SOCKET and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return float(seconds + nanoseconds * 1e-9)
    return None


class KernelClock:
    """Maps the wall clock of the stamps to the run's clock, and refuses what it cannot prove.

    The two clocks are read at every read of a socket; where their difference is not what it was, they are read again until
    nothing came between. A wall clock that was stepped makes the stamps before the step worthless; `num_steps` counts.
    """

    def __init__(self, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self._now, self._wall = now, wall
        self.num_steps = 0
        self._offset, self._paired_at = self._pair()
        self._good_from = -float("inf")

    def at(self, stamp: float, now: float) -> float | None:
        """The instant of a stamp that was read at `now`; None where it is none: in the future, or before a step."""
        offset = self._wall() - now
        if not -_SAME_S < offset - self._offset < _SAME_S:
            self._again()
        at = stamp - self._offset
        if at > now:
            return now if at - now < _SAME_S else None
        return at if at >= self._good_from else None

    def _again(self) -> None:
        """The difference of the clocks seems to have changed: by our being interrupted, slowly, or by a step."""
        old, since = self._offset, self._paired_at
        self._offset, self._paired_at = self._pair()
        if abs(self._offset - old) > _STEP_S + _SLEW * (self._paired_at - since):
            self.num_steps += 1
            self._good_from = self._paired_at

    def _pair(self) -> tuple[float, float]:
        """Wall minus run clock, read with as little as possible between; and when."""
        best, found = float("inf"), (0.0, 0.0)
        for _ in range(_TRIES):
            before, wall, after = self._now(), self._wall(), self._now()
            if after - before < best:
                best, found = after - before, (wall - (before + after) / 2, after)
            if best < _SAME_S / 5:
                break
        return found


class LoopWatch:
    """When the event loop last asked the kernel what is ready, so that a read knows how long its bytes may have waited.

    What a poll does not report was not there: bytes that one poll reports came after the one before had returned. `wake_s`
    is by how much the machine has lately woken this process too late (the pulse measures it). `watch` follows a gevent loop;
    without, every read is taken for prompt.
    """

    _BLOCKED_S = 1e-4

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.wake_s = 0.0
        self.worst_s = 0.0  # the longest time between two polls since somebody set it back
        self._returned = self._returned_before = self._entered = now()
        self._watchers: list[Any] = []

    def watch(self, loop: Any, wall: Callable[[], float]) -> None:
        """Follow a loop. Of everything in an iteration the first and the last thing done are ours.

        The loop's own `now` is the wall clock when the poll came back; a thread that had the interpreter then let us wait.
        """
        check = loop.check(ref=False, priority=loop.MAXPRI)
        prepare = loop.prepare(ref=False, priority=loop.MINPRI)
        self._watchers = [check, prepare]
        self._returned = self._now()
        check.start(lambda: self.returned(wall() - loop.now()))
        prepare.start(self.entered)

    def stop(self) -> None:
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        self._watchers.clear()

    def entered(self) -> None:
        """The loop asks what is ready."""
        self._entered = self._now()
        busy = self._entered - self._returned
        if busy > self.worst_s:
            self.worst_s = busy

    def returned(self, ago_s: float = 0.0) -> None:
        """Something is, or was `ago_s` ago."""
        now = self._now()
        self._returned_before = self._returned
        self._returned = max(self._entered, now - ago_s) if 0 < ago_s < _LONGEST_WAIT_S else now

    def earliest(self) -> float:
        """The earliest instant at which bytes can have come that the last poll reported."""
        if self._returned - self._entered > self._BLOCKED_S:  # the loop waited for them and was woken
            return self._returned - self.wake_s
        return self._returned_before
