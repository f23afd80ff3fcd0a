"""Which replica takes a request: one small class a rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mockllm.engine.engine import Replica
from mockllm.model import Request

__all__ = ["Balancer", "Member", "RoundRobin"]


class Member:
    """One replica of a pool. `num_requests` and `num_tokens` are those that were given to it and are not over:
    prompt and answer of each."""

    __slots__ = ("name", "num_requests", "num_tokens", "replica")

    def __init__(self, name: str, replica: Replica) -> None:
        self.name, self.replica = name, replica
        self.num_requests = self.num_tokens = 0


class Balancer(Protocol):
    """A rule. `members` are those that can take a request, at least one, in the order in which they came to be."""

    def pick(self, members: Sequence[Member], request: Request) -> Member: ...


class RoundRobin:
    """One after the other."""

    def __init__(self) -> None:
        self._next = 0

    def pick(self, members: Sequence[Member], request: Request) -> Member:
        self._next += 1
        return members[(self._next - 1) % len(members)]
