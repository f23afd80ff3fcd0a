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
from mockllm.passage import Passage
from mockllm.stack.prices import Price
from mockllm.stack.stage import (
    Again,
    Answered,
    Arrival,
    Beside,
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

__all__ = ["Stack"]


@dataclass(slots=True, eq=False)
class _Call:
    """One call to a model. `flight` None: a copy that nobody listens to. `doors`: those it went through.

    `cut`: a fault ends the answer so. `from_cache`: the answer is read out of a cache. `held`: tokens of an answer that
    the client gets whole. `where`: who works on it now.
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


@dataclass(slots=True, eq=False)
class _Go:
    """A flight goes on with stage number `index`."""

    flight: Flight
    index: int


@dataclass(slots=True, eq=False)
class _No:
    """A call is refused at a door, or a flight by a stage."""

    whom: _Call | Flight
    refusal: Refusal


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
    ) -> None:
        """`models` are the names that clients may ask for: the engine's, and those that a router stands behind."""
        self.engine, self.stages, self.models, self.prices, self.timeline = engine, stages, models, prices, timeline
        self.counts = Counts()
        self.cost_usd = 0.0
        self.num_calls = 0
        self._replay = replay
        self._doors = doors
        self._flights: dict[str, Flight] = {}
        self._calls: dict[str, _Call] = {}
        self._calls_of: dict[str, list[_Call]] = {}  # by flight
        self._waiting_since: dict[str, float] = {}
        self._held_for: dict[str, Tokens] = {}
        self._events: EventQueue[_Go | _Call | _No] = EventQueue()
        self._timed = [stage for stage in stages if type(stage).due is not Stage.due]
        self._now = -inf

    # -- the four verbs ------------------------------------------------------------------------------

    def submit(self, request: Request, now: float) -> None:
        """Take a client's request. Raises ValueError for an id that is in flight."""
        if request.request_id in self._flights:
            raise ValueError(f"request_id {request.request_id!r} is in flight already; ids must be unique")
        self.timeline.begin(now)
        self.counts.num_submitted += 1
        self.counts.num_prompt_tokens += request.num_prompt_tokens
        flight = Flight(request, request, now, Passage(request.model))
        self._flights[request.request_id] = flight
        self._calls_of[request.request_id] = []
        self._go(flight, 0, now)

    def cancel(self, request_id: str, now: float) -> bool:
        """The client of a request went away; False when the request is over already."""
        flight = self._flights.get(request_id)
        if flight is None:
            return False
        self._give_up(flight, now)
        self._leave_to(flight, -1, now)
        self._forget(flight)
        self.counts.num_cancelled += 1
        return True

    def due(self) -> float:
        """The next instant at which something happens."""
        due = min(self.engine.due(), self._replay.due(), self._events.due())
        for stage in self._timed:
            due = min(due, stage.due())
        return due

    def advance(self, now: float) -> list[Emission]:
        """Everything that happens up to and including `now`, in order of time."""
        out: list[Emission] = []
        while (at := self.due()) <= now:
            self._step(max(at, self._now), out)
        return out

    @property
    def backends(self) -> Mapping[str, ServedModel]:
        """The engine's models."""
        return self.engine.models

    @property
    def idle(self) -> bool:
        """Neither a client nor a copy waits for anything."""
        return not self._flights and not self._calls

    @property
    def num_flights(self) -> int:
        """Clients that wait for an answer."""
        return len(self._flights)

    # -- one instant ---------------------------------------------------------------------------------

    def _step(self, at: float, out: list[Emission]) -> None:
        """What is due at `at`: answers first, then what waits for its time, then stages that act by themselves."""
        self._now = at
        for replica in (self.engine, self._replay):
            if replica.due() <= at:
                for emission in replica.advance(at):
                    self._hear(emission, out)
        while self._events.due() <= at:
            self._happen(self._events.pop()[1], at, out)
        for stage in self._timed:
            if stage.due() <= at:
                for release in list(stage.advance(at)):
                    self._release(stage, release, at, out)

    def _happen(self, event: _Go | _Call | _No, at: float, out: list[Emission]) -> None:
        if isinstance(event, _Go):
            if not event.flight.over:
                self._go(event.flight, event.index, at)
        elif isinstance(event, _Call):
            if not event.over:
                self._dispatch(event, at)
        elif event.whom.over:
            return
        elif isinstance(event.whom, _Call):
            self._end_call(event.whom, _refused(event.whom.request, event.refusal, at), out)
        else:
            self._turn_back(event.whom, _refused(event.whom.asked, event.refusal, at), at, out)

    # -- on the way in -------------------------------------------------------------------------------

    def _go(self, flight: Flight, index: int, now: float) -> None:
        """Through the stages from number `index` on, as far as they let it."""
        since = self._waiting_since.pop(flight.asked.request_id, None)
        if since is not None and index > 0:
            name, waited = self.stages[index - 1].name, flight.passage.waited_s
            waited[name] = waited.get(name, 0.0) + now - since
        for number in range(index, len(self.stages)):
            if not self._arrived(flight, number, self.stages[number].arrive(flight, now), now):
                return
        self._call(flight, flight.request, now)

    def _arrived(self, flight: Flight, number: int, step: Arrival, now: float) -> bool:
        """Do what a stage says; True when the next one is to be asked at once."""
        if isinstance(step, Answered):
            self._read_out(flight, step)
            return False
        if isinstance(step, Refusal):
            self._events.push(now, _No(flight, step))
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
            self._events.push(max(step.at, now), _Go(flight, number + 1))
        return False

    def _release(self, stage: Stage, release: Release, now: float, out: list[Emission]) -> None:
        """What a stage does by itself with a request that is in it, at the moment or further in."""
        flight, step = release
        if flight.over:
            return
        number = self.stages.index(stage)
        if step is None:
            self._go(flight, number + 1, now)
        elif isinstance(step, Beside):
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

    def _call(self, flight: Flight | None, request: Request, now: float) -> None:
        """Call a model. The first call of a flight has its name and its luck, each further one another."""
        name, key, number = request.request_id, request.key, 0
        if flight is not None:
            flight.passage.num_attempts += 1
            number = flight.passage.num_attempts - 1
        self.num_calls += 1
        if number or flight is None:
            mark = f"~{number}" if flight is not None else f"~copy{self.num_calls}"
            shared, choice, rest = key.partition("\x00")
            name, key = f"{name}{mark}", f"{shared}{mark}{choice}{rest}"
        watched = flight is not None and flight.asked.watched and not flight.hold_back
        request = replace(request, request_id=name, key=key, watched=watched)
        call = _Call(request, flight)
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
        delay = 0.0
        for door in self._doors.get(model, ()):
            met = door.enter(call.request, now)
            if isinstance(met, Refusal):
                self._events.push(now + delay, _No(call, met))
                return
            call.doors.append(door)
            if met is not None:
                delay += met.delay_s
                call.cut = met.cut or call.cut
                if met.damage is not None and call.flight is not None:
                    call.flight.passage.damage = met.damage
        if call.cut is not None:  # the model gives no more than what will be seen
            limit = call.cut.num_output_tokens
            given = call.request.max_tokens
            call.request = replace(call.request, max_tokens=limit if given is None else min(limit, given))
        if delay > 0:
            self._events.push(now + delay, call)
        else:
            self._dispatch(call, now)

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
        elif isinstance(emission, Began):
            if call.flight is not None:
                self._choose(call, call.flight, emission.at)
                self._begin(call, call.flight, emission, out)
        else:
            self._end_call(call, emission, out)

    def _hear_tokens(self, call: _Call, flight: Flight, tokens: Tokens, out: list[Emission]) -> None:
        if not call.request.watched:
            call.held = tokens
            return
        self._choose(call, flight, tokens.at)
        flight.began = True
        self._emit(tokens._replace(request_id=flight.asked.request_id), out)

    def _begin(self, call: _Call, flight: Flight, began: Began, out: list[Emission]) -> None:
        passage = flight.passage
        passage.replica = began.replica
        if not call.from_cache:
            passage.model = call.request.model
        if call.request.watched:
            flight.began = True
            self._emit(began._replace(request_id=flight.asked.request_id, passage=passage), out)

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
        if flight is None:
            return
        if isinstance(end, Finished):
            self._choose(call, flight, end.at)
        calls = self._calls_of[flight.asked.request_id]
        calls.remove(call)
        if calls:
            return
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
        if step.at > now:
            self._waiting_since[flight.asked.request_id] = now
        self._events.push(max(step.at, now), _Go(flight, number + 1))

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

    # -- giving up -----------------------------------------------------------------------------------

    def _give_up(self, flight: Flight, now: float) -> None:
        """Cancel every call that is on its way for a flight."""
        for call in list(self._calls_of[flight.asked.request_id]):
            self._drop(call, now)

    def _drop(self, call: _Call, now: float) -> None:
        if call.where is not None:
            call.where.cancel(call.request.request_id, now)
        assert call.flight is not None
        self._calls_of[call.flight.asked.request_id].remove(call)
        self._close_call(call, None, now, CacheUse())

    def _leave_to(self, flight: Flight, number: int, now: float) -> None:
        """Leave all stages that lie further in than stage `number`; their calls were given up."""
        self._held_for.pop(flight.asked.request_id, None)
        while flight.entered and flight.entered[-1] > number:
            self.stages[flight.entered.pop()].leave(flight, None, now)

    def _close_call(self, call: _Call, end: End, now: float, cache: CacheUse) -> None:
        """Doors, books and bill of a call that is over."""
        call.over = True
        del self._calls[call.request.request_id]
        for door in reversed(call.doors):
            door.left(call.request, end, now)
        price = self.prices.get(call.request.model)
        if price is None or call.from_cache or call.where is None or isinstance(end, Refused):
            return  # a call that was refused, or never got through, costs nothing
        usd = price.of(call.request.num_prompt_tokens, call.num_tokens, cache, batch=call.request.batch)
        self.cost_usd += usd
        if call.flight is not None:
            call.flight.passage.cost_usd = (call.flight.passage.cost_usd or 0.0) + usd

    def _forget(self, flight: Flight) -> None:
        name = flight.asked.request_id
        flight.over = True
        del self._flights[name]
        del self._calls_of[name]
        self._waiting_since.pop(name, None)
        self._held_for.pop(name, None)


def _refused(request: Request, refusal: Refusal, at: float) -> Refused:
    return Refused(request.request_id, at, refusal.status, refusal.kind, refusal.message, refusal.retry_after_s)
