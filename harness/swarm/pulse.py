"""What the load process notices about itself and its machine, once a second."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import msgspec
import psutil

from harness.rxstamp import LoopWatch
from harness.store import Sample

__all__ = ["Pulse"]

_PROBE_S = 0.02
_ROUNDING_S = 0.001  # epoll counts in milliseconds and rounds up


class Pulse:
    """Sleeps briefly again and again; by how much it wakes late, and the longest time between two polls of the event loop,
    is the lag that sends suffer from, and stamps that are not the kernel's."""

    def __init__(
        self,
        path: Path,
        now: Callable[[], float],
        num_in_flight: Callable[[], int],
        tell: Callable[[Sample], None] = lambda _: None,
        watch: LoopWatch | None = None,
    ) -> None:
        self._now = now
        self._tell = tell
        self._watch = watch or LoopWatch(now)
        self._num_in_flight = num_in_flight
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        self._greenlet.kill()
        os.close(self._descriptor)

    def _run(self) -> None:
        watch = self._watch
        since, cpu_since, worst, worst_before = self._now(), time.process_time(), 0.0, 0.0
        machine, waited = _Machine(), _waited_s()
        watch.worst_s = 0.0
        while True:
            before = self._now()
            gevent.sleep(_PROBE_S)
            now = self._now()
            worst = max(worst, now - before - _PROBE_S)
            # What the machine did in the last second or two, it may do again.
            watch.wake_s = max(0.0, worst - _ROUNDING_S, worst_before - _ROUNDING_S)
            if now - since < 1.0:
                continue
            seconds, cpu, waited_now = now - since, time.process_time(), _waited_s()
            busy, stolen = machine.shares()
            sample = Sample(
                at=round(now, 3),
                cpu=round((cpu - cpu_since) / seconds, 4),
                loop_lag_s=round(max(worst, watch.worst_s), 6),
                num_in_flight=self._num_in_flight(),
                machine_cpu=busy,
                stolen_cpu=stolen,
                cpu_wait=None if waited is None or waited_now is None else round((waited_now - waited) / seconds, 4),
            )
            os.write(self._descriptor, msgspec.json.encode(sample) + b"\n")
            self._tell(sample)
            since, cpu_since, waited, worst_before, worst, watch.worst_s = now, cpu, waited_now, worst, 0.0, 0.0


class _Machine:
    """What all processors of the machine did between two looks."""

    def __init__(self) -> None:
        self._last = psutil.cpu_times()

    def shares(self) -> tuple[float | None, float | None]:
        """The share of the processors' time in which they were not idle, and that a hypervisor gave to others; None where
        no time has passed by their coarse clock, or nobody says."""
        try:
            last, self._last = self._last, psutil.cpu_times()
        except OSError:  # a process without a free descriptor; the other figures are still to be had
            return None, None
        spent = {name: getattr(self._last, name) - getattr(last, name) for name in self._last._fields}
        for name in ("guest", "guest_nice"):  # counted in user and nice already
            spent.pop(name, None)
        total = sum(spent.values())
        if total <= 0:
            return None, None
        idle = spent["idle"] + spent.get("iowait", 0.0)
        return round(1 - idle / total, 4), round(spent.get("steal", 0.0) / total, 4)


def _waited_s() -> float | None:
    """Seconds that this thread was ready to run and the machine ran somebody else; None where no kernel says it."""
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None
