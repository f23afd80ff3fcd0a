"""Whether the other end of a distributed run still lives, judged by how long it has been silent."""

from __future__ import annotations

__all__ = ["Lifeline"]


class Lifeline:
    """Broken once nothing was heard for more than `silence_s`, and broken for good: who was left alone, or was stopped
    itself for so long, must not take the load up again because a late word comes."""

    def __init__(self, silence_s: float, at: float) -> None:
        self._silence_s = silence_s
        self._heard_at = at
        self._broken = False

    def heard(self, at: float) -> None:
        """A word came at `at`, seconds of any monotonic clock."""
        if not self.broken(at):
            self._heard_at = at

    def broken(self, at: float) -> bool:
        """Whether the silence has been too long, at `at` or at any instant asked about before."""
        self._broken = self._broken or at - self._heard_at > self._silence_s
        return self._broken
