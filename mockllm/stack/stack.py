"""The stack: every request passes its stages on the way to the models, and again on its way back.

It has the engine's four verbs, so the same driver runs it in real time and in virtual time. A client's request is a
`Flight`; each call that it makes to a model is a `_Call` with a name and a luck of its own, so a retry, a fallback or a
second opinion is a new draw. Whoever is told of a flight hears of one call only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from mockllm.engine.engine import Engine, Replica, ServedModel
from mockllm.engine.stats import Counts
from mockllm.events import EventQueue
from mockllm.model import Began, CacheUse, Cut, Emission, Finished, Forced, Refused, Request, Tokens
from mockllm.passage import Damage, Passage, Quota
from mockllm.stack.fault_kinds import Outage
from mockllm.stack.faults import Faults, Scheduled
from mockllm.stack.pool import Pool
from mockllm.stack.prices import Bill, Price
from mockllm.stack.stage import (
    Again,
    Answered,
    Arrival,
    Beside,
    Check,
    Door,
    End,
    Flight,
    Later,
    Mirrored,
    Refusal,
    Release,
    Stage,
)
from mockllm.stack.timeline import Timeline
from mockllm.streams import Streams

__all__ = ["Stack"]


@dataclass(slots=True, eq=False)
class _Call:
    """One call to a model. `flight` None: a copy that nobody listens to. `doors`: those it went through.

    `cut`: a fault ends the answer so. `from_cache`: the answer is read out of a cache. `held`: tokens of an answer that
    the client gets whole. `where`: who works on it now. `stage`: whose health check it is. `damage`: what faults do to its
    bytes.
    """

    request: Request
    flight: Flight | None
    doors: list[Door] = field(default_factory=list)
    cut: Cut | None = None
    from_cache: bool = False
    num_tokens: int = 0
    held: Tokens | None = None
    over: bool = False
    where: Engine | Replica | None = None
    stage: Stage | None = None
    damage: tuple[Damage, ...] = ()


@dataclass(slots=True, eq=False)
class _Go:
    """A flight goes on with stage number `index`, unless it was taken back since its `turn`."""

    flight: Flight
    index: int
    turn: int


@dataclass(slots=True, eq=False)
class _No:
    """A call is refused at a door, or a flight by a stage, unless it was taken back since its `turn`."""

    whom: _Call | Flight
    refusal: Refusal
    turn: int = 0


class Stack:
    """Stages before an engine. `doors` stand before every model, by its name; `replay` reads answers out of caches."""

    def __init__(
        self,
        engine: Engine,
        stages: Sequence[Stage],
        *,
        replay: Replica,
        models: Mapping[str, ServedModel],
        doors: Mapping[str, Sequence[Door]],
        prices: Mapping[str, Price],
        timeline: Timeline,
        faults: Faults | None = None,
    ) -> None:
        """`models` are the names that clients may ask for: the engine's, and those that a router stands behind. `faults` are
        the first door of every model."""
        self.engine, self.stages, self.models, self.prices, self.timeline = engine, stages, models, prices, timeline
        self.counts = Counts()
        self.bill = Bill()
        self.num_calls = 0
        self.faults = faults or Faults((), engine.models, timeline, Streams(0))
        self._replay = replay
        self._doors = {model: (self.faults, *doors.get(model, ())) for model in engine.models}
        self._flights: dict[str, Flight] = {}
        self._calls: dict[str, _Call] = {}
        self._calls_of: dict[str, list[_Call]] = {}  # by flight
        self._waiting_since: dict[str, float] = {}
        self._held_for: dict[str, Tokens] = {}
        self._events: EventQueue[_Go | _Call | _No] = EventQueue()
        self._num_read_out = 0  # answers that come out of caches now
        self._timed = [stage for stage in stages if type(stage).due is not Stage.due]
        self._heeding = {number for number, stage in enumerate(stages) if type(stage).began is not Stage.began}
        self._now = -inf
        self._next: float | None = None  # what is due next of the engine, where nothing came in since it was worked out
        self._own: float | None = None  # the same of stages, events and caches, where nothing but tokens came since

    # -- the four verbs ------------------------------------------------------------------------------

    def submit(self, request: Request, now: float) -> None:
        """Take a client's request. Raises ValueError for an id that is in flight."""
        if request.request_id in self._flights:
            raise ValueError(f"request_id {request.request_id!r} is in flight already; ids must be unique")
        self._next = self._own = None
        if self.timeline.zero is None:
            self.timeline.begin(now)
            self.faults.advance(now)  # nothing is on its way that could be struck
        self.counts.num_submitted += 1
        self.counts.num_prompt_tokens += request.num_prompt_tokens
        flight = Flight(request, request, now, Passage(request.model), bill=self.bill)
        self._flights[request.request_id] = flight
        self._calls_of[request.request_id] = []
        self._go(flight, 0, now)

    def cancel(self, request_id: str, now: float) -> bool:
        """The client of a request went away; False when the request is over already."""
        flight = self._flights.get(request_id)
        if flight is None:
            return False
        self._next = self._own = None
        self._give_up(flight, now)
        self._leave_to(flight, -1, now)
        self._forget(flight)
        self.counts.num_cancelled += 1
        return True

    def due(self) -> float:
        """The next instant at which something happens."""
        due, by_itself = self._next, self._due_by_itself()
        if due is None:
            due = self._next = self.engine.due()
        return by_itself if by_itself < due else due

    def advance(self, now: float) -> list[Emission]:
        """Everything that happens up to and including `now`, in order of time."""
        out: list[Emission] = []
        while (at := self.due()) <= now:
            self._next = None
            if not self.stages:  # nobody acts on an answer: the models may go on until something else is due
                at = max(at, min(now, self._due_by_itself()))
            self._step(max(at, self._now), out)
        return out

    @property
    def cost_usd(self) -> float:
        """What everything cost so far, also what no client is charged with."""
        return self.bill.usd

    @property
    def backends(self) -> Mapping[str, ServedModel]:
        """The engine's models."""
        return self.engine.models

    @property
    def idle(self) -> bool:
        """Neither a client nor a copy waits for anything."""
        return not self._flights and not self._calls

    # -- one instant ---------------------------------------------------------------------------------

    def _step(self, at: float, out: list[Emission]) -> None:
        """What is due at `at`: answers first, then what waits for its time, then stages that act by themselves, then faults
        that begin or end."""
        self._now = at
        for emission in self.engine.advance(at):
            self._hear(emission, out)
        if self._due_by_itself() > at:
            return
        self._own = None
        for emission in self._replay.advance(at):
            self._hear(emission, out)
        while self._events.due() <= at:
            self._happen(self._events.pop()[1], at, out)
        for stage in self._timed:
            if stage.due() <= at:
                for release in list(stage.advance(at)):
                    self._release(stage, release, at, out)
        if self.faults.due() <= at:
            for fault in self.faults.advance(at):
                self._strike(fault, at, out)

    def _due_by_itself(self) -> float:
        """When something is due that does not come from a model. Asked for every token, so without min()."""
        due = self._own
        if due is None:
            due = self._events.due()
            if self._num_read_out and (at := self._replay.due()) < due:
                due = at
            for stage in self._timed:
                if (at := stage.due()) < due:
                    due = at
            self._own = due
        at = self.faults.due()  # which an operator may have changed
        return at if at < due else due

    def _happen(self, event: _Go | _Call | _No, at: float, out: list[Emission]) -> None:
        if isinstance(event, _Go):
            if not event.flight.over and event.turn == event.flight.turn:
                self._go(event.flight, event.index, at)
        elif isinstance(event, _Call):
            if not event.over:
                self._arrive_late(event, at, out)
        elif event.whom.over:
            return
        elif isinstance(event.whom, _Call):
            self._end_call(event.whom, _refused(event.whom.request, event.refusal, at), out)
        elif event.turn == event.whom.turn:
            self._turn_back(event.whom, _refused(event.whom.asked, event.refusal, at), at, out)

    # -- on the way in -------------------------------------------------------------------------------

    def _go(self, flight: Flight, index: int, now: float) -> None:
        """Through the stages from number `index` on, as far as they let it."""
        self._note_wait(flight, now)
        for number in range(index, len(self.stages)):
            if not self._arrived(flight, number, self.stages[number].arrive(flight, now), now):
                return
        self._call(flight, flight.request, now)

    def _note_wait(self, flight: Flight, now: float) -> None:
        """Whoever waits, waits in the innermost stage that it is in."""
        since = self._waiting_since.pop(flight.asked.request_id, None)
        if since is not None:
            name, waited = self.stages[flight.entered[-1]].name, flight.passage.waited_s
            waited[name] = waited.get(name, 0.0) + now - since

    def _arrived(self, flight: Flight, number: int, step: Arrival, now: float) -> bool:
        """Do what a stage says; True when the next one is to be asked at once."""
        if isinstance(step, Answered):
            self._read_out(flight, step)
            return False
        if isinstance(step, Refusal):
            self._events.push(now, _No(flight, step, flight.turn))
            return False
        flight.entered.append(number)
        if step is None:
            return True
        if isinstance(step, Mirrored):
            for copy in step.copies:
                self._call(None, copy, now)
            return True
        self._waiting_since[flight.asked.request_id] = now
        if isinstance(step, Later):
            self._events.push(max(step.at, now), _Go(flight, number + 1, flight.turn))
        return False

    def _release(self, stage: Stage, release: Release, now: float, out: list[Emission]) -> None:
        """What a stage does by itself with a request that is in it, at the moment or further in."""
        if isinstance(release, Check):
            self._call(None, release.request, now, stage)
            return
        flight, step = release
        if flight.over:
            return
        number = self.stages.index(stage)
        if step is None:
            self._go(flight, number + 1, now)
        elif isinstance(step, Beside):
            if self._calls_of[flight.asked.request_id] and not flight.began:
                self._call(flight, step.request, now)
        elif isinstance(step, Again):
            self._give_up(flight, now)
            self._leave_to(flight, number, now)
            self._go_again(flight, number, step, now)
        else:
            self._give_up(flight, now)
            self._leave_to(flight, number - 1, now)
            if isinstance(step, Answered):
                self._read_out(flight, step)
            else:
                self._turn_back(flight, _refused(flight.asked, step, now), now, out)

    def _call(self, flight: Flight | None, request: Request, now: float, stage: Stage | None = None) -> None:
        """Call a model. The first call of a flight has its name and its luck, each further one another, and each copy. A
        health check of `stage` is called what the stage called it."""
        name, key, number = request.request_id, request.key, 0
        if flight is not None:
            flight.passage.num_attempts += 1
            number = flight.passage.num_attempts - 1
        self.num_calls += 1
        if number or (flight is None and stage is None):
            mark = f"~{number}" if flight is not None else "~copy"
            shared, choice, rest = key.partition("\x00")
            # A copy may outlive its request, so its name is new; its luck does not hang on how many calls came before.
            name, key = f"{name}{mark}{self.num_calls if flight is None else ''}", f"{shared}{mark}{choice}{rest}"
        watched = flight is not None and flight.asked.watched and not flight.hold_back
        if number or watched != request.watched or name != request.request_id:  # a copy is dear
            request = replace(request, request_id=name, key=key, watched=watched)
        call = _Call(request, flight, stage=stage)
        self._calls[name] = call
        if flight is not None:
            self._calls_of[flight.asked.request_id].append(call)
        self._enter_doors(call, now)

    def _enter_doors(self, call: _Call, now: float) -> None:
        model = call.request.model
        if model not in self.engine.models:
            message = f"The model `{model}` does not exist: no stage of the stack chose one that does."
            self._events.push(now, _No(call, Refusal(404, "model_not_found", message)))
            return
        delay, quotas = 0.0, list[Quota]()
        for door in self._doors.get(model, ()):
            met = door.enter(call.request, now)
            quotas += () if met is None else met.quotas
            if met is not None and call.flight is not None:
                call.flight.passage.notes += met.notes
            if isinstance(met, Refusal):
                _tell_quotas(call, quotas)
                self._events.push(now + delay, _No(call, met))
                return
            call.doors.append(door)
            if met is not None:
                delay += met.delay_s
                call.cut = met.cut or call.cut
                call.damage += met.damage
        _tell_quotas(call, quotas)
        if call.cut is not None:  # the model gives no more than what will be seen
            limit = call.cut.num_output_tokens
            given = call.request.max_tokens
            call.request = replace(call.request, max_tokens=limit if given is None else min(limit, given))
        if delay > 0:
            self._events.push(now + delay, call)
        else:
            self._dispatch(call, now)

    def _arrive_late(self, call: _Call, now: float, out: list[Emission]) -> None:
        """A call that was held up at a door comes to its model, whose last replica may have gone down meanwhile."""
        refusal = self.faults.no_replica_left(call.request, now)
        if refusal is None:
            self._dispatch(call, now)
            return
        if call.flight is not None:
            call.flight.passage.notes += refusal.notes
        self._end_call(call, _refused(call.request, refusal, now), out)

    def _dispatch(self, call: _Call, now: float) -> None:
        call.where = self.engine
        self.engine.submit(call.request, now)

    def _read_out(self, flight: Flight, answer: Answered) -> None:
        """A cache answers: what it kept is let out at its own pace."""
        flight.passage.source, flight.passage.payload = answer.source, answer.payload
        name = f"{flight.asked.request_id}~cache"
        pace = replace(flight.asked.forced or Forced(), ttft_s=0.0, itl_s=answer.token_s)
        request = replace(flight.request, request_id=name, watched=flight.asked.watched, forced=pace)
        call = _Call(request, flight, from_cache=True, where=self._replay)
        self._calls[name] = call
        self._calls_of[flight.asked.request_id].append(call)
        self._num_read_out += 1
        self._replay.submit(request, answer.num_tokens, answer.reason, ready_at=max(answer.at, self._now))

    # -- on the way out ------------------------------------------------------------------------------

    def _hear(self, emission: Emission, out: list[Emission]) -> None:
        """Something came from a model or a cache."""
        call = self._calls.get(emission.request_id)
        if call is None:
            return
        if isinstance(emission, Tokens):
            call.num_tokens += emission.num
            if call.flight is not None:
                self._hear_tokens(call, call.flight, emission, out)
            return
        self._own = None
        if isinstance(emission, Began):
            if call.flight is not None:
                self._choose(call, call.flight, emission.at)
                self._begin(call, call.flight, emission, out)
        else:
            self._end_call(call, emission, out)

    def _hear_tokens(self, call: _Call, flight: Flight, tokens: Tokens, out: list[Emission]) -> None:
        if not call.request.watched:
            call.held = tokens
            return
        name = flight.asked.request_id
        if not flight.began:
            self._choose(call, flight, tokens.at)
            flight.began = True
        flight.num_tokens += tokens.num
        self.counts.num_output_tokens += tokens.num
        out.append(tokens if tokens.request_id == name else tokens._replace(request_id=name))

    def _begin(self, call: _Call, flight: Flight, began: Began, out: list[Emission]) -> None:
        passage = flight.passage
        passage.replica = began.replica
        passage.damage = call.damage
        if not call.from_cache:
            passage.model = call.request.model
        if call.request.watched:
            flight.began = True
        if call.request.watched or (flight.asked.tell_first and not flight.asked.watched):
            self._emit(began._replace(request_id=flight.asked.request_id, passage=passage), out)
        for number in flight.entered:
            if number in self._heeding:
                self.stages[number].began(flight, call.request, began.at)

    def _choose(self, call: _Call, flight: Flight, now: float) -> None:
        """The first call to begin answers; the others are cancelled."""
        calls = self._calls_of[flight.asked.request_id]
        if len(calls) > 1:
            for other in list(calls):
                if other is not call:
                    self._drop(other, now)

    def _end_call(self, call: _Call, end: Finished | Refused | Cut, out: list[Emission]) -> None:
        """A call is over; the flight goes back, unless another call is on its way for it."""
        if isinstance(end, Finished) and call.cut is not None and end.num_output_tokens >= call.cut.num_output_tokens:
            end = call.cut._replace(at=end.at, num_output_tokens=end.num_output_tokens, replica=end.replica)
        cache = end.cache if isinstance(end, Finished) else CacheUse()
        self._close_call(call, end, end.at, cache)
        flight = call.flight
        if call.stage is not None:
            call.stage.checked(call.request, end, end.at)
        if flight is None:
            return
        if isinstance(end, Finished):
            self._choose(call, flight, end.at)
        calls = self._calls_of[flight.asked.request_id]
        calls.remove(call)
        if calls:
            return
        flight.passage.damage = call.damage
        if not call.from_cache:
            flight.passage.model = call.request.model
        if isinstance(end, Finished | Cut):
            flight.passage.replica = end.replica or flight.passage.replica
        if call.held is not None:
            self._held_for[flight.asked.request_id] = call.held
        self._turn_back(flight, end, end.at, out)

    def _turn_back(self, flight: Flight, end: Finished | Refused | Cut, now: float, out: list[Emission]) -> None:
        """Out through the stages it went on from, innermost first."""
        while flight.entered:
            number = flight.entered[-1]
            step = self.stages[number].leave(flight, end, now)
            if step is not None and not flight.began:
                self._held_for.pop(flight.asked.request_id, None)
                if isinstance(step, Again):
                    self._go_again(flight, number, step, now)
                    return
                flight.entered.pop()
                self._read_out(flight, step)
                return
            flight.entered.pop()
        self._conclude(flight, end, now, out)

    def _go_again(self, flight: Flight, number: int, step: Again, now: float) -> None:
        flight.passage.source, flight.passage.payload = "model", None  # a cache's answer is thrown away as any other
        if step.at > now:
            self._waiting_since[flight.asked.request_id] = now
        self._events.push(max(step.at, now), _Go(flight, number + 1, flight.turn))

    def _conclude(self, flight: Flight, end: Finished | Refused | Cut, now: float, out: list[Emission]) -> None:
        """Tell the client."""
        name, passage = flight.asked.request_id, flight.passage
        held = self._held_for.pop(name, None)
        if held is not None:
            if flight.asked.watched and isinstance(end, Finished):  # an answer that a policy wanted to see first
                self._emit(Began(name, now, end.cache, end.replica, passage), out)
                held = Tokens(name, now, 0, held.num)
            self._emit(held._replace(request_id=name), out)
        self._forget(flight)
        self._emit(end._replace(request_id=name, at=now, passage=passage), out)

    def _emit(self, emission: Emission, out: list[Emission]) -> None:
        self.counts.count(emission)
        out.append(emission)

    # -- faults --------------------------------------------------------------------------------------

    def _strike(self, fault: Scheduled, now: float, out: list[Emission]) -> None:
        """A fault begins: what it does to the calls that are on their way."""
        for call in list(self._calls.values()):
            if call.over or call.from_cache or not self.faults.reaches(fault, call.request, self._replica_of(call)):
                continue
            fault.num_struck += 1
            if call.flight is not None:
                call.flight.passage.notes.append(fault.note)
            if isinstance(fault.fault, Outage):
                self._break_off(call, fault.fault.refusal(), now, out)

    def _replica_of(self, call: _Call) -> str | None:
        """The one that has it, where there are several."""
        model = self.engine.models.get(call.request.model)
        return model.replica.where(call.request.request_id) if model and isinstance(model.replica, Pool) else None

    def _break_off(self, call: _Call, refusal: Refusal, now: float, out: list[Emission]) -> None:
        """The connection of a call breaks: an answer that its client has seen a part of ends there, another is refused."""
        request, cut = call.request, Cut(call.request.request_id, now, 0)
        for emission in [] if call.where is None else call.where.break_off(request.request_id, now):
            if isinstance(emission, Tokens) and request.watched:
                self._hear(emission, out)
            elif isinstance(emission, Cut):
                cut = emission
        seen = call.num_tokens > 0
        self._end_call(
            call, cut._replace(num_output_tokens=call.num_tokens) if seen else _refused(request, refusal, now), out
        )

    # -- giving up -----------------------------------------------------------------------------------

    def _give_up(self, flight: Flight, now: float) -> None:
        """Cancel every call that is on its way for a flight, and all that was planned for it."""
        flight.turn += 1
        self._note_wait(flight, now)
        for call in list(self._calls_of[flight.asked.request_id]):
            self._drop(call, now)

    def _drop(self, call: _Call, now: float) -> None:
        flight, name = call.flight, call.request.request_id
        assert flight is not None
        if call.where is not None and call.request.watched and flight.began:
            for emission in call.where.break_off(name, now):
                if isinstance(emission, Cut):  # in virtual time nobody has counted its tokens yet
                    flight.num_tokens += emission.num_output_tokens - call.num_tokens
                    call.num_tokens = emission.num_output_tokens
        elif call.where is not None:
            call.where.cancel(name, now)
        self._calls_of[flight.asked.request_id].remove(call)
        self._close_call(call, None, now, CacheUse())

    def _leave_to(self, flight: Flight, number: int, now: float) -> None:
        """Leave all stages that lie further in than stage `number`; their calls were given up."""
        self._held_for.pop(flight.asked.request_id, None)
        while flight.entered and flight.entered[-1] > number:
            self.stages[flight.entered.pop()].leave(flight, None, now)

    def _close_call(self, call: _Call, end: End, now: float, cache: CacheUse) -> None:
        """Doors, books and bill of a call that is over."""
        call.over = True
        self._num_read_out -= call.from_cache
        del self._calls[call.request.request_id]
        left = end or Cut(call.request.request_id, now, call.num_tokens)
        for door in reversed(call.doors):
            door.left(call.request, left, now)
        price = self.prices.get(call.request.model)
        if price is None or call.from_cache or call.where is None or isinstance(end, Refused):
            return  # a call that was refused, or never got through, costs nothing
        num_prompt = call.request.num_prompt_tokens
        if call.request.choice > 0:  # the choices of one request share its prompt, which is paid once
            num_prompt, cache = 0, CacheUse()
        usd = price.of(num_prompt, call.num_tokens, cache, batch=call.request.batch)
        if call.flight is not None:
            call.flight.charge(usd)
        else:
            self.bill.usd += usd

    def _forget(self, flight: Flight) -> None:
        name = flight.asked.request_id
        flight.over = True
        del self._flights[name]
        del self._calls_of[name]
        self._waiting_since.pop(name, None)
        self._held_for.pop(name, None)


def _tell_quotas(call: _Call, quotas: Sequence[Quota]) -> None:
    """The limits of the model that is called now, in place of those of one that was called before."""
    if call.flight is not None:
        passage = call.flight.passage
        passage.quotas = (*(each for each in passage.quotas if each.scope != "model"), *quotas)


def _refused(request: Request, refusal: Refusal, at: float) -> Refused:
    status, kind, message, retry_after_s, excess, *_ = refusal
    return Refused(request.request_id, at, status, kind, message, retry_after_s, excess=excess)
