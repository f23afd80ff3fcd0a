"""Several replicas behind one model name. To the engine a pool is a replica.

A request goes to a ready replica, picked by a rule (`balancing.py`), at once. While none is ready it waits in the pool,
first come first served, and goes to the first that is; where `queue_length` wait already it is refused with 503. How many
replicas there are is decided by `autoscale.py`, and what becomes of them is in `fleet.py`. A request that dies with its
replica is cut off if its client has seen tokens of it, and refused with 503 otherwise, as a load balancer says whose
server goes before the headers came (Envoy: 503): what has not begun can be tried again elsewhere.

A pool of fixed size has no timers. What is decided by itself happens at its instant, whoever asks late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from math import inf
from operator import attrgetter
from typing import NamedTuple

from mockllm.engine.batching import BatchedReplica
from mockllm.engine.engine import Replica
from mockllm.errors import DeploymentError
from mockllm.events import EventQueue
from mockllm.fields import duration_text
from mockllm.model import Began, Cut, Emission, Finished, Refused, Request, Tokens
from mockllm.stack.autoscale import Autoscaler, Seen, Wanted
from mockllm.stack.balancing import BALANCERS, Balancer
from mockllm.stack.fleet import Fleet, Member
from mockllm.stack.load import LoadMeter
from mockllm.stack.pool_settings import PoolSettings
from mockllm.stack.timeline import Timeline
from mockllm.streams import Streams

__all__ = ["Pool", "build_pool"]

_NUM_TOLD = 20  # changes that `state` tells of


def build_pool(
    name: str,
    settings: PoolSettings,
    make: Callable[[str], Replica],
    *,
    streams: Streams,
    timeline: Timeline,
    weight_bytes: float | None,
) -> Pool:
    """The pool of one model; `make` builds a replica by its name, `weight_bytes` is what one loads (None: not known).

    Raises DeploymentError for a cold start without a size, and for a signal that these replicas do not have.
    """
    try:
        cold_start = settings.cold_start.plan(weight_bytes) if settings.elastic else None
    except ValueError as error:
        raise DeploymentError(name, str(error), key="replicas") from error
    fleet = Fleet(
        name,
        make,
        settings.num_at_first,
        streams=streams,
        cold_start=cold_start,
        spot=settings.spot,
        price_per_hour=settings.price_per_hour,
    )
    scale, scaler = settings.autoscale, None
    if scale is not None:
        assert cold_start is not None
        scaler = Autoscaler(scale, timeline, cold_start.decision_s + cold_start.total_s)
        if scaler.signal is not None and not LoadMeter.can_read(scaler.signal, make(name)):
            rule = "a hosted API shows none of it, nor does a KV cache without a limit; choose requests or tokens"
            raise DeploymentError(name, f"{scaler.signal!r}: {rule}", key="replicas.autoscale.signal")
    return Pool(fleet, BALANCERS[settings.balance](streams), settings, timeline, scaler)


class _Waiting(NamedTuple):
    """A request for which no replica is ready, or that is on its way to one: `ready_at` is when the replica may have it."""

    request: Request
    size: int
    reason: str
    ready_at: float

    @property
    def num_tokens(self) -> int:
        return self.request.num_prompt_tokens + self.size


class _Given(NamedTuple):
    """A request that a replica has, since `at`."""

    member: Member
    waiting: _Waiting
    at: float


class Pool:
    """`fleet` are the replicas; `scaler` None: as many as there are is how many there shall be."""

    def __init__(
        self,
        fleet: Fleet,
        balancer: Balancer,
        settings: PoolSettings,
        timeline: Timeline,
        scaler: Autoscaler | None = None,
    ) -> None:
        self.fleet, self.timeline, self.scaler = fleet, timeline, scaler
        self._balancer, self._settings = balancer, settings
        self._elastic, self._queue_length = settings.elastic, settings.queue_length
        self._given: dict[str, _Given] = {}
        self._line: dict[str, _Waiting] = {}  # in the order of arrival
        self._refusals: EventQueue[Refused] = EventQueue()
        self._refused: dict[str, Refused] = {}
        self._load = LoadMeter(fleet)
        self._members_due: float | None = None  # None: somebody may have changed a replica since it was worked out
        self._begun = False
        self._idle_since = 0.0
        self._told: deque[dict[str, object]] = deque(maxlen=_NUM_TOLD)
        self._num_refused = self._num_died = self._num_changes = 0

    # -- the four verbs ------------------------------------------------------------------------------

    def submit(self, request: Request, size: int, reason: str, *, ready_at: float) -> None:
        """Give it to a replica, or let it wait for one."""
        waiting = _Waiting(request, size, reason, ready_at)
        self.timeline.begin(ready_at)
        if not self._elastic:
            if self.fleet.ready:
                self._give(waiting, ready_at)
            else:  # it was on its way already when the last replica went down
                self._line[request.request_id] = waiting
            return
        self._begin()
        self._load.num_arrived += 1
        if self.fleet.desired == 0:
            self._change(Wanted(1, "a request came"), ready_at)
        if self.fleet.ready:
            self._give(waiting, ready_at)
        elif len(self._line) < self._queue_length:
            self._line[request.request_id] = waiting
        else:
            self._refuse(request.request_id, ready_at)

    def cancel(self, request_id: str, now: float) -> bool:
        """Forget a request."""
        self._members_due = None
        given = self._given.get(request_id)
        if given is not None:
            found = given.member.replica.cancel(request_id, now)
            self._leave(request_id, now)
            return found
        if (refused := self._refused.pop(request_id, None)) is not None:
            return self._refusals.discard(refused)
        self._idle_since = now
        return self._line.pop(request_id, None) is not None

    def due(self) -> float:
        due = self._members_due
        if due is None:
            due = self._members_due = min([member.replica.due() for member in self.fleet.members], default=inf)
        return min(due, self._timer()) if self._elastic else due

    def advance(self, now: float) -> list[Emission]:
        """What the replicas let out, in order of time, with the name of each."""
        out: list[Emission] = []
        while self._elastic and (at := self._timer()) <= now:
            self._advance_members(at, out)
            self._act(at, out)
        self._advance_members(now, out)
        out.sort(key=attrgetter("at"))
        return out

    # -- what goes wrong -----------------------------------------------------------------------------

    def break_off(self, request_id: str, now: float) -> list[Emission]:
        """End a request with a `Cut`; see `BatchedReplica.break_off`."""
        self._members_due = None
        given = self._given.get(request_id)
        if given is None:
            self.cancel(request_id, now)
            return [Cut(request_id, now, 0)]
        return [self._named(each, given.member) for each in given.member.replica.break_off(request_id, now)]

    def take_out(self, names: Collection[str], now: float) -> None:
        """The replicas of these names are down: they take nothing new, until they are not named any more."""
        self.fleet.take_out(names)
        self._serve_line(now)

    @property
    def can_take(self) -> bool:
        """Whether a request would be taken, if only to wait: not where all that is ready is down."""
        members = self.fleet.members
        starting = any(member.state == "starting" for member in members)
        return bool(self.fleet.ready) or starting or not any(member.down for member in members)

    def where(self, request_id: str) -> str | None:
        """The replica that has a request."""
        given = self._given.get(request_id)
        return None if given is None else given.member.name

    def slow(self, factor: float, now: float) -> None:
        """All replicas take so many times as long, those that come later too."""
        self._members_due = None
        self.fleet.slow(factor, now)

    def stall(self, until: float, now: float) -> None:
        """All replicas stand still until then, those that come later too."""
        self._members_due = None
        self.fleet.stall(until, now)

    # -- what the gauges and the page show -----------------------------------------------------------

    def parts(self) -> Sequence[tuple[str, Replica]]:
        """Those that serve: ready or draining. A fault slows them down or stops them."""
        self._members_due = None
        return [(member.name, member.replica) for member in self.fleet.members if member.state != "starting"]

    @property
    def num_running(self) -> int:
        return sum(member.replica.num_running for member in self.fleet.members)

    @property
    def num_waiting(self) -> int | None:
        waiting = [member.replica.num_waiting for member in self.fleet.members]
        known = [num for num in waiting if num is not None]
        return sum(known) + len(self._line) if known or self._elastic else None

    def replica_hours(self, now: float) -> float:
        """Hours of all replicas that this run had so far; 0 before it begins."""
        self._begin()
        return self.fleet.replica_hours(now)

    def cost_usd(self, now: float) -> float | None:
        """What the replicas cost so far; None where nobody said what an hour costs."""
        self._begin()
        return self.fleet.cost_usd(now)

    def describe(self) -> str:
        """In words, with its numbers."""
        fleet = self.fleet
        words = f"{fleet.desired} replicas" if self.scaler is None else self.scaler.describe()
        words += f", {self._settings.balance.replace('_', ' ')}"
        if fleet.spot is not None:
            words += f", {fleet.spot.share:.0%} of them spot ({fleet.spot.loss_per_hour:g} losses an hour each)"
        return words if fleet.cold_start is None else f"{words}, cold start {duration_text(fleet.cold_start.total_s)}"

    def state(self, now: float) -> dict[str, object]:
        """What `/mock/state` shows. `changes` are the last ones of `desired`, each with its reason."""
        return {
            "desired": self.fleet.desired,
            "members": [self._member(member, now) for member in self.fleet.members],
            "waiting": len(self._line),
            "changes": list(self._told),
            "replica_hours": self.replica_hours(now),
            "cost_usd": self.cost_usd(now),
            "counts": {
                "started": self.fleet.num_started,
                "lost": self.fleet.num_lost,
                "changes": self._num_changes,
                "refused": self._num_refused,
                "died_with_replica": self._num_died,
            },
        }

    def _member(self, member: Member, now: float) -> dict[str, object]:
        kv = member.replica.kv if isinstance(member.replica, BatchedReplica) else None
        stage = None
        if member.state == "starting" and self.fleet.cold_start is not None:
            stage = self.fleet.cold_start.stage_at(now - member.paid_from)
        return {
            "name": member.name,
            "state": "down" if member.down else member.state,
            "stage": stage,
            "spot": member.spot,
            "requests": member.num_requests,
            "tokens": member.num_tokens,
            "kv_usage": None if kv is None or kv.num_blocks is None else kv.usage,
            "started_at": member.paid_from if self._begun else None,
            "ready_at": member.ready_at if self._begun else None,
        }

    # -- requests ------------------------------------------------------------------------------------

    def _give(self, waiting: _Waiting, at: float) -> None:
        request, at = waiting.request, max(at, waiting.ready_at)
        self._members_due = None
        member = self._balancer.pick(self.fleet.ready, request)
        member.replica.submit(request, waiting.size, waiting.reason, ready_at=at)
        member.num_requests += 1
        member.num_tokens += waiting.num_tokens
        self._given[request.request_id] = _Given(member, waiting, at)

    def _serve_line(self, at: float) -> None:
        while self._line and self.fleet.ready:
            self._give(self._line.pop(next(iter(self._line))), at)

    def _refuse(self, request_id: str, at: float) -> None:
        """No place to wait: come back when the next replica is ready."""
        coming = [member.ready_at for member in self.fleet.members if member.state == "starting"]
        message = f"No replica of {self.fleet.name} is ready, and {len(self._line)} requests wait for one already."
        retry_after_s = max(0.0, min(coming) - at) if coming else None
        refused = Refused(request_id, at, 503, "no_replica", message, retry_after_s)
        self._num_refused += 1
        self._refused[request_id] = refused
        self._refusals.push(at, refused)

    def _advance_members(self, now: float, out: list[Emission]) -> None:
        next_due = inf
        for member in list(self.fleet.members):
            due = member.replica.due()
            if due <= now:
                out += [self._named(emission, member) for emission in member.replica.advance(now)]
                due = member.replica.due()
            if due < next_due:
                next_due = due
        self._members_due = next_due

    def _named(self, emission: Emission, member: Member) -> Emission:
        if isinstance(emission, Tokens):
            return emission
        if isinstance(emission, Began):
            return emission._replace(replica=member.name)
        given = self._leave(emission.request_id, emission.at)
        if isinstance(emission, Refused):
            return emission
        if isinstance(emission, Finished):
            self._load.answered(emission.at - given.at - (emission.queue_s or 0.0))
            if waited_s := given.at - given.waiting.ready_at:
                emission = emission._replace(queue_s=waited_s + (emission.queue_s or 0.0))
        return emission._replace(replica=member.name)

    def _leave(self, request_id: str, at: float) -> _Given:
        given = self._given.pop(request_id)
        member = given.member
        member.num_requests -= 1
        member.num_tokens -= given.waiting.num_tokens
        self._idle_since = at
        if member.state == "draining" and member.num_requests == 0:
            self.fleet.remove(member, at)
        return given

    # -- what a pool does by itself ------------------------------------------------------------------

    def _timer(self) -> float:
        if not self._begin():
            return inf
        return min(self.fleet.due(), self._refusals.due(), inf if self.scaler is None else self.scaler.due())

    def _begin(self) -> bool:
        """Know when the run began; False if it has not."""
        if not self._begun and self.timeline.zero is not None:
            self._begun, self._idle_since = True, self.timeline.zero
            self.fleet.begin(self.timeline.zero)
            self._load.begin(self.timeline.zero)
        return self._begun

    def _act(self, at: float, out: list[Emission]) -> None:
        """Replicas come and go, the number of them is decided, and those that wait go to who is ready."""
        for member in self.fleet.advance(at):
            out += self._die(member, at)
        self.fleet.settle(at)
        if self.scaler is not None and self.scaler.due() <= at:
            self._decide(self.scaler, at)
        self._serve_line(at)
        while self._refusals.due() <= at:
            refused = self._refusals.pop()[1]
            del self._refused[refused.request_id]
            out.append(refused)

    def _die(self, member: Member, at: float) -> list[Emission]:
        """The notice is over: a replica goes with everything that it has."""
        out: list[Emission] = []
        for request_id, given in list(self._given.items()):
            if given.member is not member:
                continue
            *tokens, end = self._end_of(given.waiting.request, member, at)
            out += [*tokens, end]
            self._num_died += 1
            self._leave(request_id, at)
        return out

    def _end_of(self, request: Request, member: Member, at: float) -> list[Emission]:
        """What its client is told of a request that dies: all of it that came so far, or that there is nothing."""
        if request.watched:
            *tokens, cut = member.replica.break_off(request.request_id, at)
            if isinstance(cut, Cut) and cut.num_output_tokens:
                return [*tokens, cut._replace(replica=member.name)]
        else:
            member.replica.cancel(request.request_id, at)
        message = f"The replica {member.name} was reclaimed before it answered."
        return [Refused(request.request_id, at, 503, "replica_lost", message)]

    def _decide(self, scaler: Autoscaler, at: float) -> None:
        fleet, busy = self.fleet, bool(self._given or self._line or self._refused)
        load = 0.0 if scaler.signal is None else self._load.read(scaler.signal, self._line.values(), at)
        seen = Seen(
            at=at,
            desired=fleet.desired,
            num_ready=len(fleet.ready),
            num_starting=sum(member.state == "starting" for member in fleet.members),
            load=load,
            num_arrived=self._load.num_arrived,
            num_answered=self._load.num_answered,
            answering_s=self._load.answering_s,
            idle_s=0.0 if busy else at - self._idle_since,
        )
        self._load.decided(at)
        delay_s = fleet.cold_start.decision_s if fleet.cold_start and scaler.signal else 0.0
        wanted = scaler.decide(seen)
        if wanted.num == 0 and self._line:
            wanted = Wanted(1, "requests wait for one")
        self._change(wanted, at, delay_s=delay_s)

    def _change(self, wanted: Wanted, at: float, *, delay_s: float = 0.0) -> None:
        before = self.fleet.desired
        if wanted.num == before:
            return
        self.fleet.desired = wanted.num
        self.fleet.settle(at, delay_s=delay_s)
        self._num_changes += 1
        self._told.append({"at": at, "from": before, "to": wanted.num, "why": wanted.why})
