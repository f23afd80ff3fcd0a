"""The master's view of its workers during one run: who has a share, how far each is, who is lost. Pure: it is told the time.

Instants are seconds of the master's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.cluster.control import Beat

__all__ = ["READY_WITHIN_S", "SILENCE_S", "Member", "Roster"]

SILENCE_S = 2.0  # a worker from which nothing is heard for so long is lost
READY_WITHIN_S = 60.0  # making a plan may take a while, and blocks the worker's loop
_TAKE_UP_S = 5.0  # a worker that beats and still knows of no run after so long was never told
_STALL_S = 1.0


@dataclass(slots=True)
class Member:
    """One worker with a share. `lost` says why it is given up; what it has written may still come."""

    name: str
    index: int
    heard_at: float
    beat: Beat | None = None  # the last one about this run
    lost: str | None = None

    @property
    def closed(self) -> bool:
        return self.beat is not None and self.beat.state == "closed"

    def __str__(self) -> str:
        if self.beat is None:
            return f"worker {self.index} ({self.name})"
        return f"worker {self.index} ({self.beat.host}, pid {self.beat.pid})"


class Roster:
    """Those who were there when the run started, in the order of their shares. One that comes later has none."""

    def __init__(self, uid: str, names: Sequence[str], at: float) -> None:
        self.uid = uid
        self.origin: float | None = None  # the run's instant zero, once everybody is ready
        self.stop: str | None = None  # why nothing more may be sent
        self.break_off = False  # and what is in flight may not go on
        self.members = {name: Member(name, index, at) for index, name in enumerate(names)}
        self._started_at = self._looked_at = at

    def note(self, name: str, beat: Beat, at: float) -> None:
        """A beat came. Those of strangers, of other runs and those overtaken by a later one change nothing."""
        member = self.members.get(name)
        if member is None:
            return
        if beat.uid != self.uid:
            if beat.state == "idle" and member.beat is None and at - self._started_at > _TAKE_UP_S:
                member.lost = member.lost or f"{member} never took up its share"
            return
        if member.beat is not None and beat.sequence <= member.beat.sequence:
            return
        member.beat, member.heard_at = beat, at
        if beat.stop_reason is not None and not beat.finished:
            self.order_stop(f"{member}: {beat.stop_reason}" if len(self.members) > 1 else beat.stop_reason)
        if member.closed and not beat.finished and self.stop is None:
            member.lost = member.lost or f"{member} quit{self._when(at)}, before its share was done"

    def order_stop(self, reason: str, *, break_off: bool = False) -> None:
        """Nobody may send any more. The first reason stands."""
        self.stop = self.stop or reason
        self.break_off = self.break_off or break_off

    def look(self, at: float) -> None:
        """Give up those who have been silent for too long. To be called a few times a second: for the time that the master
        itself stood still nobody else is blamed."""
        stalled = at - self._looked_at
        self._looked_at = at
        for member in self.members.values():
            if stalled > _STALL_S:
                member.heard_at += stalled
            if member.lost is None and not member.closed:
                member.lost = self._silence(member, at)

    @property
    def ready(self) -> bool:
        """Whether everybody waits for the origin, or is past it."""
        return all(
            member.beat is not None and member.beat.state not in ("idle", "preparing")
            for member in self.members.values()
        )

    @property
    def over(self) -> bool:
        """Whether nobody is left who could still send or read."""
        return all(member.closed or member.lost for member in self.members.values())

    @property
    def complete(self) -> bool:
        """Whether every share was sent, or refused, to its last arrival."""
        return all(member.beat is not None and member.beat.finished for member in self.members.values())

    @property
    def drained(self) -> bool:
        return all(member.beat is not None and member.beat.drained for member in self.members.values())

    @property
    def lost(self) -> list[str]:
        """Who is lost, in words."""
        return [member.lost for member in self.members.values() if member.lost is not None]

    def _silence(self, member: Member, at: float) -> str | None:
        silent = at - member.heard_at
        if member.beat is None or member.beat.state in ("idle", "preparing"):
            return f"{member} did not get ready within {silent:.0f} s" if silent > READY_WITHIN_S else None
        if member.beat.state == "ready" and self.origin is not None and at - self.origin > _TAKE_UP_S:
            return f"{member} did not hear of the start"
        if silent <= SILENCE_S:
            return None
        return f"{member} fell silent{self._when(member.heard_at)}"

    def _when(self, at: float) -> str:
        return " before the run" if self.origin is None else f" {max(0.0, at - self.origin):.1f} s into the run"
