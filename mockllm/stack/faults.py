"""Faults on a timeline: what goes wrong, when, and for whom. It stands before every model, as the outermost door.

A fault is active from its `at` on the run's clock for as long as it lasts; its first instant belongs to it, its last does
not. Which calls it strikes is drawn by the fault's name and the request's key, so the same requests are struck whatever the
order in which they come; a retry is another request to luck. Several faults at once compose in this order:

1. of those that leave no answer (outage, refuse_connections, reset, errors, rate_limit_storm) the first in the list strikes,
   and nothing else does; then outages of single replicas, if they took the last one
2. delays add up
3. of those that end an answer early (cut, truncate, in_band_error) the one after the fewest tokens does, then the first
4. every damage to the bytes is done
5. the factors of brownouts multiply, and a replica stands still until the last of its stalls is over

Replicas are told to slow down or to stand still at the instants at which faults begin and end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, prod

from mockllm.engine.engine import ServedModel
from mockllm.model import Cut, Finished, Refused, Request
from mockllm.stack.fault_kinds import Brownout, Fault, Outage, Stall
from mockllm.stack.pool import Pool
from mockllm.stack.stage import Refusal, Strike
from mockllm.stack.timeline import Timeline
from mockllm.streams import Streams

__all__ = ["Faults", "Scheduled"]


class Scheduled:
    """A fault in its place: `at` and `ends` are seconds of the run. `begun`: in this run.

    `num_struck` are calls so far: those that came in, and those in progress when an outage or a stall began. A brownout of
    one replica counts the answers that ended there.
    """

    __slots__ = ("at", "begun", "ends", "fault", "name", "num_struck")

    def __init__(self, name: str, fault: Fault, at: float) -> None:
        self.name, self.fault, self.at = name, fault, at
        self.ends = inf if fault.lasts is None else at + fault.lasts
        self.num_struck = 0
        self.begun = False

    @property
    def note(self) -> str:
        """For the passage of whom it strikes."""
        return f"faults: {self.fault.kind} ({self.name})"


class Faults:
    """The faults of one run. `models` are the engine's; the timeline begins with the first request."""

    def __init__(
        self, script: Iterable[Fault], models: Mapping[str, ServedModel], timeline: Timeline, streams: Streams
    ) -> None:
        self.scheduled: list[Scheduled] = []
        self._models, self._timeline, self._streams = models, timeline, streams
        self._num_named = 0
        self._zero: float | None = None  # of the run that `_due` is of
        self._done_at = -inf  # what begins or ends up to here was dealt with
        self._due = inf
        for fault in script:
            self._schedule(fault, 0.0)

    # -- what an operator changes --------------------------------------------------------------------

    def add(self, faults: Iterable[Fault], now: float) -> list[Scheduled]:
        """More faults; those without `at` begin now."""
        added = [self._schedule(fault, self._timeline.at(now)) for fault in faults]
        self._changed(now)
        return added

    def replace(self, faults: Iterable[Fault], now: float) -> None:
        """These faults and no others; names are given anew."""
        self.scheduled.clear()
        self._num_named = 0
        self.add(faults, now)

    def remove(self, name: str, now: float) -> bool:
        """Take a fault back; what it did is done. False when there is none of this name."""
        left = [each for each in self.scheduled if each.name != name]
        found = len(left) < len(self.scheduled)
        self.scheduled = left
        self._changed(now)
        return found

    def restart(self, now: float) -> None:
        """The run's clock begins anew: so do all faults and what they count."""
        self._timeline.restart(now)
        for each in self.scheduled:
            each.num_struck, each.begun = 0, False
        self._changed(now)

    # -- the door ------------------------------------------------------------------------------------

    def enter(self, request: Request, now: float) -> Refusal | Strike | None:
        """What a call meets; see the module for the order."""
        if not self.scheduled:
            return None
        met = [(each, each.fault.strike(request)) for each in self.scheduled if self._strikes(each, request, now)]
        for each, effect in met:
            if isinstance(effect, Refusal):
                each.num_struck += 1
                return effect._replace(notes=(each.note,))
        if (refusal := self.no_replica_left(request, now)) is not None:
            return refusal
        strikes = [(each, effect) for each, effect in met if isinstance(effect, Strike)]
        for each, _ in strikes:
            each.num_struck += 1
        return _together(strikes) if strikes else None

    def left(self, request: Request, end: Finished | Refused | Cut, now: float) -> None:
        """Whom a slow replica answered is known only now."""
        replica = end.replica if isinstance(end, Finished | Cut) else None
        for each in self.scheduled if replica is not None else ():
            each.num_struck += (
                isinstance(each.fault, Brownout) and each.fault.part == replica and self._active(each, now)
            )

    def reaches(self, scheduled: Scheduled, request: Request, replica: str | None) -> bool:
        """Whether a fault strikes a call that is on its way, on this replica where there are several."""
        fault = scheduled.fault
        return (fault.part is None or fault.part == replica) and self._drawn(scheduled, request)

    def _strikes(self, scheduled: Scheduled, request: Request, now: float) -> bool:
        return self._active(scheduled, now) and self._drawn(scheduled, request)

    def _drawn(self, scheduled: Scheduled, request: Request) -> bool:
        fault = scheduled.fault
        if not fault.concerns(request):
            return False
        return fault.odds >= 1 or self._streams.uniform(f"fault {scheduled.name}", request.shared_key) < fault.odds

    def no_replica_left(self, request: Request, now: float) -> Refusal | None:
        """Outages of single replicas may have taken the last one."""
        pool = self._models[request.model].replica
        if not isinstance(pool, Pool) or pool.can_take:
            return None
        for each in self.scheduled:
            fault = each.fault
            if isinstance(fault, Outage) and fault.part and fault.concerns(request) and self._active(each, now):
                each.num_struck += 1
                return fault.refusal()._replace(notes=(each.note,))
        return None

    # -- time ----------------------------------------------------------------------------------------

    def due(self) -> float:
        """The next instant at which a fault begins or ends; inf before the run has begun."""
        if self._timeline.zero != self._zero:
            self._plan()
        return self._due

    def advance(self, now: float) -> list[Scheduled]:
        """What begins and ends at `now`. Returns the outages and stalls that begin: they strike what is on its way."""
        self._done_at = now
        self._plan()
        self._tell_replicas(now)
        begins = [each for each in self.scheduled if not each.begun and self._active(each, now)]
        for each in begins:
            each.begun = True
        return [each for each in begins if isinstance(each.fault, Outage | Stall)]

    def _schedule(self, fault: Fault, now_at: float) -> Scheduled:
        self._num_named += 1
        scheduled = Scheduled(f"fault-{self._num_named}", fault, now_at if fault.at is None else fault.at)
        self.scheduled.append(scheduled)
        return scheduled

    def _changed(self, now: float) -> None:
        """Look at once what that means, if the run has begun."""
        self._plan()
        self._due = inf if self._zero is None else now

    def _plan(self) -> None:
        """When the next fault of this run begins or ends: the very sums that `_active` compares with, so that rounding
        cannot put an instant on both sides."""
        zero = self._zero = self._timeline.zero
        if zero is None:
            self._due = inf
            return
        edges = [zero + at for each in self.scheduled for at in (each.at, each.ends)]
        self._due = min((edge for edge in edges if edge > self._done_at), default=inf)

    def _active(self, scheduled: Scheduled, now: float) -> bool:
        zero = self._timeline.zero
        return zero is not None and zero + scheduled.at <= now < zero + scheduled.ends

    # -- replicas ------------------------------------------------------------------------------------

    def _tell_replicas(self, now: float) -> None:
        active = [each for each in self.scheduled if self._active(each, now)]
        for model, served in self._models.items():
            mine = [each for each in active if each.fault.model in (None, model)]
            named = {each.fault.part for each in mine if each.fault.part is not None}
            if isinstance(served.replica, Pool):
                down = {each.fault.part for each in mine if isinstance(each.fault, Outage)}
                served.replica.take_out(named & down, now)
            parts = served.replica.parts() if named else [(None, served.replica)]
            for name, replica in parts:
                replica.slow(_slowness(mine, name), now)
                replica.stall(self._still_until(mine, name, now), now)

    def _still_until(self, active: Iterable[Scheduled], name: str | None, now: float) -> float:
        assert self._zero is not None
        ends = [self._zero + each.ends for each in active if isinstance(each.fault, Stall) and _on(each, name)]
        return max(ends, default=now)

    # -- what is shown -------------------------------------------------------------------------------

    def state(self, now: float) -> list[dict[str, object]]:
        """Every fault: its name, whether it is scheduled, active or over, whom it struck so far, and itself."""
        return [self.shown(each, now) for each in self.scheduled]

    def shown(self, scheduled: Scheduled, now: float) -> dict[str, object]:
        """One fault, as plain values. `fault` is as it would stand in a file."""
        active = self._active(scheduled, now)
        over = self._timeline.zero is not None and now >= self._timeline.zero + scheduled.ends
        return {
            "id": scheduled.name,
            "state": "active" if active else "over" if over else "scheduled",
            "begins_s": scheduled.at,
            "ends_s": None if scheduled.ends == inf else scheduled.ends,
            "num_struck": scheduled.num_struck,
            "fault": scheduled.fault.written(),
        }


def _on(scheduled: Scheduled, name: str | None) -> bool:
    """Whether a fault acts on the replica of this name; None: on all of the model."""
    return scheduled.fault.part is None or scheduled.fault.part == name


def _slowness(active: Iterable[Scheduled], name: str | None) -> float:
    return prod(each.fault.factor for each in active if isinstance(each.fault, Brownout) and _on(each, name))


def _together(strikes: list[tuple[Scheduled, Strike]]) -> Strike:
    cuts = [strike.cut for _, strike in strikes if strike.cut is not None]
    return Strike(
        delay_s=sum(strike.delay_s for _, strike in strikes),
        cut=min(cuts, key=lambda cut: cut.num_output_tokens, default=None),
        damage=tuple(damage for _, strike in strikes for damage in strike.damage),
        notes=tuple(each.note for each, _ in strikes),
    )
