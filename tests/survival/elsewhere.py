"""As steady.py, for a worker that believes to be on another machine: another boot, another monotonic clock, and a wall clock
that is a minute slow. What is really the same machine lets the test look at the truth."""

from __future__ import annotations

import os
import time

AHEAD_S = 5000.0

if "SURVIVAL_ELSEWHERE" in os.environ:
    import harness.clock

    monotonic, wall = time.monotonic, time.time
    time.monotonic = lambda: monotonic() + AHEAD_S
    time.time = lambda: wall() - 60.0
    harness.clock.boot_id = lambda: "another-boot"

from tests.survival.steady import SteadyUser  # noqa: E402 - when the clocks are wrong

__all__ = ["SteadyUser"]
