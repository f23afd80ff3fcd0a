"""What the load process notices about itself, once a second: CPU, the event loop's lag, requests in flight."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import msgspec

from harness.store import Sample

__all__ = ["Pulse"]

_PROBE_S = 0.02


class Pulse:
    """Sleeps briefly again and again; by how much it wakes late is the lag that stamps suffer from."""

    def __init__(self, path: Path, now: Callable[[], float], num_in_flight: Callable[[], int]) -> None:
        self._now = now
        self._num_in_flight = num_in_flight
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        self._greenlet.kill()
        os.close(self._descriptor)

    def _run(self) -> None:
        since, cpu_since, worst = self._now(), time.process_time(), 0.0
        while True:
            before = self._now()
            gevent.sleep(_PROBE_S)
            now = self._now()
            worst = max(worst, now - before - _PROBE_S)
            if now - since >= 1.0:
                cpu = time.process_time()
                share = (cpu - cpu_since) / (now - since)
                sample = Sample(
                    at=round(now, 3),
                    cpu=round(share, 4),
                    loop_lag_s=round(worst, 6),
                    num_in_flight=self._num_in_flight(),
                )
                os.write(self._descriptor, msgspec.json.encode(sample) + b"\n")
                since, cpu_since, worst = now, cpu, 0.0
