"""The run's clock: faults, schedules and rollouts count from the first request, or from when an operator says so."""

from __future__ import annotations

__all__ = ["Timeline"]


class Timeline:
    """Seconds of the run; it has not begun before the first request."""

    def __init__(self) -> None:
        self.zero: float | None = None

    def begin(self, now: float) -> None:
        """The first request is here; later ones change nothing."""
        if self.zero is None:
            self.zero = now

    def restart(self, now: float) -> None:
        """The run begins anew."""
        self.zero = now

    def run_s(self, now: float) -> float | None:
        """How long the run has lasted; None before it begins."""
        return None if self.zero is None else now - self.zero

    def at(self, now: float) -> float:
        """Seconds since the run began; 0 before that."""
        return 0.0 if self.zero is None else now - self.zero
