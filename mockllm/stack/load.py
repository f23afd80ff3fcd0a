"""How much a pool's replicas have to do: the signals that an autoscaler looks at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from mockllm.engine.batching import BatchedReplica
from mockllm.engine.engine import Replica
from mockllm.stack.autoscale import Signal
from mockllm.stack.fleet import Fleet, Member

__all__ = ["LoadMeter"]


class _InLine(Protocol):
    @property
    def num_tokens(self) -> int: ...


class LoadMeter:
    """Reads the ready replicas, and counts what happens between two decisions."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._since = 0.0
        self._busy_s: dict[str, float] = {}  # by replica, at the last decision
        self.num_arrived = self.num_answered = 0
        self.answering_s = 0.0

    @staticmethod
    def can_read(signal: Signal, replica: Replica) -> bool:
        """Whether replicas like this one have the signal."""
        if signal in ("queue", "utilization"):
            return isinstance(replica, BatchedReplica)
        if signal == "kv_usage":
            return isinstance(replica, BatchedReplica) and replica.kv.num_blocks is not None
        return True

    def begin(self, now: float) -> None:
        """The first interval begins."""
        self._since = now

    def answered(self, seconds: float) -> None:
        """A request was answered, and took so long without its waiting."""
        self.num_answered += 1
        self.answering_s += seconds

    def decided(self, now: float) -> None:
        """The next interval begins."""
        self._since = now
        self._busy_s = {member.name: _busy_s(member, now) for member in self._fleet.ready}
        self.num_arrived = self.num_answered = 0
        self.answering_s = 0.0

    def read(self, signal: Signal, line: Iterable[_InLine], now: float) -> float:
        """The sum over ready replicas, and over what waits in the pool for one where the signal counts that."""
        if signal == "requests":
            return sum(member.num_requests for member in self._fleet.ready) + sum(1 for _ in line)
        if signal == "tokens":
            return sum(member.num_tokens for member in self._fleet.ready) + sum(each.num_tokens for each in line)
        if signal == "queue":
            return sum(member.replica.num_waiting or 0 for member in self._fleet.ready) + sum(1 for _ in line)
        if signal == "running":
            return sum(member.replica.num_running for member in self._fleet.ready)
        if signal == "kv_usage":
            caches = [member.replica.kv for member in self._fleet.ready if isinstance(member.replica, BatchedReplica)]
            return sum(cache.usage for cache in caches)
        return sum(self._utilization(member, now) for member in self._fleet.ready)

    def _utilization(self, member: Member, now: float) -> float:
        """The share of the time since the last decision in which its steps ran."""
        if now <= self._since:
            return 0.0
        return (_busy_s(member, now) - self._busy_s.get(member.name, 0.0)) / (now - self._since)


def _busy_s(member: Member, now: float) -> float:
    return member.replica.busy_s(now) if isinstance(member.replica, BatchedReplica) else 0.0
