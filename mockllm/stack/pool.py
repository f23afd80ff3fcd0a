"""Several replicas behind one model name. To the engine a pool is a replica."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Literal

from mockllm.engine.engine import Replica
from mockllm.fields import Count, Strict
from mockllm.model import Began, Cut, Emission, Finished, Request, Tokens
from mockllm.stack.balancing import Balancer, Member, RoundRobin

__all__ = ["Pool", "PoolSettings", "build_pool"]


class PoolSettings(Strict):
    """`count` replicas, and the rule by which they share the requests."""

    count: Count = 1
    balance: Literal["round_robin"] = "round_robin"


def build_pool(name: str, settings: PoolSettings, make: Callable[[str], Replica]) -> Pool:
    """The pool of one model; `make` builds a replica by its name."""
    return Pool(name, make, settings.count, RoundRobin())


class Pool:
    """`make` builds a replica by its name, each with luck of its own."""

    def __init__(self, name: str, make: Callable[[str], Replica], num: int, balancer: Balancer) -> None:
        names = [f"{name}-{number}" for number in range(num)]
        self.members = [Member(each, make(each)) for each in names]
        self._balancer = balancer
        self._where: dict[str, tuple[Member, int]] = {}

    def submit(self, request: Request, size: int, reason: str, *, ready_at: float) -> None:
        member = self._balancer.pick(self.members, request)
        tokens = request.num_prompt_tokens + size
        member.replica.submit(request, size, reason, ready_at=ready_at)
        member.num_requests += 1
        member.num_tokens += tokens
        self._where[request.request_id] = member, tokens

    def cancel(self, request_id: str, now: float) -> bool:
        """Forget a request."""
        member = self._leave(request_id)
        return member is not None and member.replica.cancel(request_id, now)

    def due(self) -> float:
        return min(member.replica.due() for member in self.members)

    def advance(self, now: float) -> list[Emission]:
        """What the replicas let out, in order of time, with the name of each."""
        out: list[Emission] = []
        for member in self.members:
            if member.replica.due() <= now:
                out += [self._named(emission, member) for emission in member.replica.advance(now)]
        out.sort(key=attrgetter("at"))
        return out

    def parts(self) -> Sequence[tuple[str, Replica]]:
        return [(member.name, member.replica) for member in self.members]

    @property
    def num_running(self) -> int:
        return sum(member.replica.num_running for member in self.members)

    @property
    def num_waiting(self) -> int | None:
        waiting = [member.replica.num_waiting for member in self.members]
        known = [num for num in waiting if num is not None]
        return sum(known) if known else None

    def _named(self, emission: Emission, member: Member) -> Emission:
        if isinstance(emission, Tokens):
            return emission
        if not isinstance(emission, Began):
            self._leave(emission.request_id)
        return emission._replace(replica=member.name) if isinstance(emission, Began | Finished | Cut) else emission

    def _leave(self, request_id: str) -> Member | None:
        member, tokens = self._where.pop(request_id, (None, 0))
        if member is not None:
            member.num_requests -= 1
            member.num_tokens -= tokens
        return member
