"""As steady.py, for a worker that believes to be on another machine: another boot, another monotonic clock, and a wall clock
that is a minute slow. What is really the same machine lets the test look at the truth.

Once it has closed its files it beats only every 0.8 s: a master that does not wait for the next beat misses it."""

from __future__ import annotations

import os
import time

AHEAD_S = 5000.0
LATE_BEAT_S = 0.8
IS_ELSEWHERE = "SURVIVAL_ELSEWHERE" in os.environ

if IS_ELSEWHERE:
    import harness.clock

    monotonic, wall = time.monotonic, time.time
    time.monotonic = lambda: monotonic() + AHEAD_S
    time.time = lambda: wall() - 60.0
    harness.clock.boot_id = lambda: "another-boot"

from tests.survival.steady import SteadyUser  # noqa: E402 - when the clocks are wrong

if IS_ELSEWHERE:
    from harness.swarm.worker import WorkerEnd

    send_beat = WorkerEnd._send_beat
    silent_until: dict[WorkerEnd, float] = {}

    def send_seldom(worker: WorkerEnd) -> None:
        if worker._state == "closed":
            if monotonic() < silent_until.get(worker, 0.0):
                return
            silent_until[worker] = monotonic() + LATE_BEAT_S
        send_beat(worker)

    WorkerEnd._send_beat = send_seldom  # type: ignore[assignment, method-assign]

__all__ = ["SteadyUser"]
