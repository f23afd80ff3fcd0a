"""Which replica takes a request: one small class a rule.

    round_robin        one after the other
    least_connections  fewest requests that are not over
    least_tokens       fewest tokens of such requests, prompt and answer: the mock knows an answer's length before it is
                       given; who can only guess it does a little worse
    least_kv           no queue, then the smallest share of KV blocks in use; where nobody can look into a cache, fewest
                       requests
    prefix_affinity    the longest beginning of the prompt that a replica was given lately, unless it has too much to do
    sticky             a session, else a user, keeps its replica as long as that is there; others: fewest requests

Only ready replicas are offered to a rule: none that starts, drains or is gone. The first of equals is picked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from mockllm.engine.batching import BatchedReplica
from mockllm.model import Request
from mockllm.stack.fleet import Member
from mockllm.streams import Streams

__all__ = [
    "BALANCERS",
    "BalanceRule",
    "Balancer",
    "LeastConnections",
    "LeastKv",
    "LeastTokens",
    "PrefixAffinity",
    "RoundRobin",
    "Sticky",
]


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


class LeastConnections:
    """Fewest requests that are not over."""

    def pick(self, members: Sequence[Member], request: Request) -> Member:
        return min(members, key=lambda member: member.num_requests)


class LeastTokens:
    """Fewest tokens of requests that are not over."""

    def pick(self, members: Sequence[Member], request: Request) -> Member:
        return min(members, key=lambda member: member.num_tokens)


class LeastKv:
    """Fewest requests that wait in its queue, then the smallest share of KV blocks in use, as in the Kubernetes Gateway API
    Inference Extension (queue filter before KV cache filter, 2025). The shares alone lie: a request takes blocks when it is
    admitted, not when it comes, so everybody would run to the replica that looks free."""

    def pick(self, members: Sequence[Member], request: Request) -> Member:
        return min(members, key=self._fullness)

    def _fullness(self, member: Member) -> tuple[int, float, int]:
        replica = member.replica
        usage = replica.kv.usage if isinstance(replica, BatchedReplica) else 0.0
        return replica.num_waiting or 0, usage, member.num_requests


class PrefixAffinity:
    """Cache-aware routing as SGLang's router does it (policy `cache_aware`), over hashed blocks as llm-d's does.

    While one replica has 64 requests and half as many again more than another, the one with the fewest takes the request.
    Otherwise the replica that was given the longest beginning of this prompt, if that is more than .3 of it; if none was,
    the one with the fewest. Thresholds: defaults of SGLang's model gateway, 2026. The index of what was given where
    keeps 31,250 blocks a replica (llm-d's `lruCapacityPerServer`), the least recently used are forgotten first, the
    ends of prompts before their beginnings. It is what the router believes: a replica may have evicted a block since.
    """

    def __init__(self, blocks_per_replica: int = 31_250) -> None:
        self._blocks_per_replica = blocks_per_replica
        self._given: OrderedDict[int, set[str]] = OrderedDict()  # replicas by block, the latest last

    def pick(self, members: Sequence[Member], request: Request) -> Member:
        nearest = self._nearest(members, request.block_hashes)
        member = min(nearest, key=lambda member: member.num_requests)
        self._note(member.name, request.block_hashes, {member.name for member in members})
        return member

    def _nearest(self, members: Sequence[Member], hashes: Sequence[int]) -> Sequence[Member]:
        """Those that may be picked: who has most of the prompt, or everybody."""
        loads = [member.num_requests for member in members]
        if max(loads) - min(loads) > 64 and max(loads) > 1.5 * min(loads):
            return members
        depth, names = 0, {member.name for member in members}
        for content in hashes:
            holders = names & self._given.get(content, set())
            if not holders:
                break
            depth, names = depth + 1, holders
        if depth <= 0.3 * len(hashes):
            return members
        return [member for member in members if member.name in names]

    def _note(self, name: str, hashes: Sequence[int], present: set[str]) -> None:
        for content in reversed(hashes):
            holders = self._given.setdefault(content, set())
            holders.add(name)
            if len(holders) > len(present):
                holders &= present  # the others are gone
            self._given.move_to_end(content)
        while len(self._given) > self._blocks_per_replica * len(present):
            self._given.popitem(last=False)


class Sticky:
    """Rendezvous hashing (Thaler and Ravishankar, 1996): the replica with the largest hash of (session, replica) takes
    the request. When a replica goes, only its own sessions move; a new one of n takes 1/n of them, from all others alike."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._otherwise = LeastConnections()

    def pick(self, members: Sequence[Member], request: Request) -> Member:
        who = request.tenant.session or request.tenant.user
        if who is None:
            return self._otherwise.pick(members, request)
        return max(members, key=lambda member: self._streams.integer("sticky", f"{who}\x00{member.name}"))


BalanceRule = Literal["round_robin", "least_connections", "least_tokens", "least_kv", "prefix_affinity", "sticky"]

BALANCERS: dict[BalanceRule, Callable[[Streams], Balancer]] = {
    "round_robin": lambda _: RoundRobin(),
    "least_connections": lambda _: LeastConnections(),
    "least_tokens": lambda _: LeastTokens(),
    "least_kv": lambda _: LeastKv(),
    "prefix_affinity": lambda _: PrefixAffinity(),
    "sticky": Sticky,
}
