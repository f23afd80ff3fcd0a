"""Failover: a chain of providers, the next one asked at once when one does not answer.

It acts on requests for `name`, or without a name on those for the first model of the chain. Several `chains`, as regions need
them that stand in for one another, share what is known of a model's health. The first model whose circuit breaker admits the
request is asked. The next one is asked at once when

    it refuses with a 429 or a 5xx (529 included), or resets the connection
    its answer breaks off before anybody saw a word of it
    its first token is not there within `first_token_timeout`, counted from when the request went on from here: the wait in
    stages further in is the provider's, to whoever waits. The last model that could answer is not given up for being slow.

An answer that has begun is never taken back. When no model is left that a breaker admits, a cache may answer with what it
would not give otherwise (a stale answer). If none can, `when_all_down` decides: with `try`, those marked down are asked all
the same, in the order of the chain, and then those that were only slow once more and with patience, so that no request is
lost that one of them could answer; with `refuse`, they are left in peace, and the client gets the last error. These are the
two panic modes of Envoy's load balancer.

A breaker (`breaker.py`) counts resets, 5xx, cuts and first tokens that were late; 429 sends the request on, but says nothing
about health. With `health_check` a model that is marked down is asked for one token at that interval, past its doors and
through its queue like any call, and paid for: what LLM gateways do. An answer in time ends the cooldown, so that the breaker
lets its probes through; a failure begins it anew, so that no client's request has to find out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import inf
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mockllm.events import EventQueue
from mockllm.fields import Duration, ModelName, duration_text
from mockllm.model import Request
from mockllm.stack.breaker import Breaker, BreakerSettings, fault_of, reason_to_move
from mockllm.stack.parts import KeyPath, Parts, StageSettings
from mockllm.stack.stage import Again, Answered, Arrival, Check, End, Flight, Leaving, Refusal, Release, Stage

__all__ = ["Failover", "FailoverSettings"]


def _once_each(chain: list[str]) -> list[str]:
    twice = next((model for model in chain if chain.count(model) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} stands twice in the chain; name each model once")
    return chain


Chain = Annotated[list[ModelName], Field(min_length=1), AfterValidator(_once_each)]


class FailoverSettings(StageSettings):
    """`chain` in the order of preference, or several `chains`. `name`: what clients ask for instead of the chain's first.

    `first_token_timeout` None: a slow provider is waited for. `health_check` None: breakers wait for their cooldown.
    """

    chain: Chain | None = None
    chains: Annotated[list[Chain], Field(min_length=1)] | None = None
    name: ModelName | None = None
    first_token_timeout: Annotated[Duration, Field(gt=0)] | None = None
    breaker: BreakerSettings = BreakerSettings()
    health_check: Annotated[Duration, Field(gt=0)] | None = None
    when_all_down: Literal["try", "refuse"] = "try"

    @model_validator(mode="after")
    def _has_chains(self) -> FailoverSettings:
        if (self.chain is None) == (self.chains is None):
            raise ValueError("needs either `chain: [a, b]` or `chains: [[a, b], [b, a]]`, and not both")
        if self.chains is not None and self.name is not None:
            raise ValueError(
                f"`name: {self.name}` belongs to one `chain`; of `chains`, each is named by its first model"
            )
        firsts = [chain[0] for chain in self.chains or ()]
        twice = next((model for model in firsts if firsts.count(model) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} begins two of the chains; requests for it can go one way only")
        return self

    @property
    def by_entrance(self) -> dict[str, list[str]]:
        """The chains, by the model that requests must ask for to come to each."""
        if self.chain is not None:
            return {self.name or self.chain[0]: self.chain}
        return {chain[0]: chain for chain in self.chains or ()}

    def aliases(self) -> Iterator[tuple[str, str]]:
        if self.name is not None and self.chain is not None:
            yield self.name, self.chain[0]

    def references(self) -> Iterator[tuple[KeyPath, str]]:
        for position, model in enumerate(self.chain or ()):
            yield ("chain", position), model
        for number, chain in enumerate(self.chains or ()):
            for position, model in enumerate(chain):
                yield ("chains", number, position), model


@dataclass(slots=True, eq=False)
class _Journey:
    """A request on its way along the chain. `asked` is the request as it came here, `untried` who was not asked yet, `slow`
    who was given up.

    Of the call that is on its way: `model`; `permit`, None where its breaker did not admit it; `judged`, the breaker knows how
    it went; `late_at`, when its first token is late, inf where that does not count.
    """

    flight: Flight
    asked: Request
    untried: list[str]
    slow: list[str] = field(default_factory=list)
    model: str = ""
    permit: int | None = None
    judged: bool = False
    late_at: float = inf


class Failover(Stage):
    """The stage."""

    def __init__(self, settings: FailoverSettings, parts: Parts) -> None:
        self.name = parts.name
        self._settings = settings
        self._fallbacks = parts.fallbacks
        self._chains = settings.by_entrance
        self._breakers = {model: Breaker(settings.breaker) for chain in self._chains.values() for model in chain}
        self._journeys: dict[str, _Journey] = {}  # by request id
        self._limits: EventQueue[_Journey] = EventQueue()  # when first tokens are late
        self._checks: EventQueue[str] = EventQueue()  # when models are to be checked
        self._checked_at: dict[str, float] = {}  # models under checks: when the last one began, or when it went down
        events = ("requests", "moved", "late_first_tokens", "stale_answers", "last_resorts", "unanswered")
        self._counts = dict.fromkeys((*events, "checks", "checks_passed"), 0)

    # -- requests ------------------------------------------------------------------------------------

    def arrive(self, flight: Flight, now: float) -> Arrival:
        chain = self._chains.get(flight.request.model)
        if chain is None:
            return None
        self._counts["requests"] += 1
        journey = _Journey(flight, flight.request, list(chain))
        if self._ask_next(journey, now):
            return None
        if (answer := self._stale(journey, now)) is not None:
            return answer
        if self._ask_anybody(journey, now):
            return None
        self._counts["unanswered"] += 1
        wait_s = max(min(self._breakers[model].opens_in(now) for model in chain), 1.0)
        message = f"All models of the chain are marked down: {', '.join(chain)}."
        return Refusal(503, "service_unavailable_error", message, wait_s)

    def began(self, flight: Flight, request: Request, now: float) -> None:
        journey = self._journeys.get(flight.asked.request_id)
        if journey is not None:
            journey.late_at = inf

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        journey = self._journeys.pop(flight.asked.request_id, None)
        if journey is None:
            return None
        journey.late_at = inf
        self._judge(journey, end, now)
        why = reason_to_move(end)
        answer = None
        if why is not None and not flight.began:
            why = f"{journey.model} ({why})"
            if self._ask_next(journey, now, why):
                return Again(now)
            answer = self._stale(journey, now)
            if answer is None and self._ask_anybody(journey, now, why):
                return Again(now)
            self._counts["unanswered"] += answer is None
        flight.request = journey.asked  # a stage further out may send it here once more
        return answer

    def _ask_next(self, journey: _Journey, now: float, why: str | None = None) -> bool:
        """Send a request to the first model whose breaker admits it; False if there is none."""
        for model in journey.untried:
            permit = self._breakers[model].admit(now)
            if permit is not None:
                journey.untried.remove(model)
                self._ask(journey, model, permit, now, self._settings.first_token_timeout)
                if why is not None:
                    self._note(journey, f"from {why} to {model}")
                elif model != self._chains[journey.asked.model][0]:
                    self._note(journey, f"to {model}, those before it are marked down")
                return True
        return False

    def _ask_anybody(self, journey: _Journey, now: float, why: str | None = None) -> bool:
        """Send a request to a model that is marked down or was slow, if that is wanted and one is left."""
        if self._settings.when_all_down == "refuse" or not (journey.untried or journey.slow):
            return False
        if journey.untried:
            model, limit, how = journey.untried.pop(0), self._settings.first_token_timeout, "though it is marked down"
        else:
            model, limit, how = journey.slow.pop(0), None, "once more"
        self._ask(journey, model, None, now, limit)
        self._counts["last_resorts"] += 1
        self._note(journey, f"{f'from {why} ' if why else ''}to {model}, {how}")
        return True

    def _ask(self, journey: _Journey, model: str, permit: int | None, now: float, limit: float | None) -> None:
        asked = journey.asked
        self._counts["moved"] += journey.model != ""
        journey.model, journey.permit, journey.judged = model, permit, False
        journey.flight.request = replace(asked, model=model, tell_first=asked.tell_first or limit is not None)
        self._journeys[journey.flight.asked.request_id] = journey
        if limit is not None:
            journey.late_at = now + limit
            self._limits.push(journey.late_at, journey)

    def _stale(self, journey: _Journey, now: float) -> Answered | None:
        for cache in self._fallbacks:
            if (answer := cache.stale(journey.flight, now)) is not None:
                self._counts["stale_answers"] += 1
                self._note(journey, f"a stale answer of {answer.source}, no model is left")
                return answer
        return None

    def _note(self, journey: _Journey, decision: str) -> None:
        journey.flight.passage.notes.append(f"{self.name}: {decision}")

    # -- health --------------------------------------------------------------------------------------

    def _judge(self, journey: _Journey, end: End, now: float) -> None:
        """Tell the breaker how a call ended, unless it knows already."""
        if journey.judged:
            return
        breaker, permit = self._breakers[journey.model], journey.permit
        if fault_of(end) is not None:
            self._fail(journey, now)
        elif end is None or reason_to_move(end) is not None:
            if permit is not None:
                breaker.withdrawn(permit)
        elif permit is not None:
            breaker.succeeded(permit, now)
        else:
            breaker.let_probe(now)

    def _fail(self, journey: _Journey, now: float) -> None:
        journey.judged = True
        if journey.permit is not None:
            self._breakers[journey.model].failed(journey.permit, now)
        self._watch(journey.model, now)

    def _watch(self, model: str, now: float) -> None:
        """Check a model that is marked down, if models are checked."""
        interval = self._settings.health_check
        if interval is not None and model not in self._checked_at and self._breakers[model].state(now) == "open":
            self._checked_at[model] = now
            self._checks.push(now + interval, model)

    def _check(self, model: str, now: float) -> Iterator[Check]:
        if self._breakers[model].state(now) != "open":  # the cooldown is over: requests probe it
            del self._checked_at[model]
            return
        self._checked_at[model] = now
        self._counts["checks"] += 1
        name = f"~{self.name} check {self._counts['checks']}"
        yield Check(Request(name, name, model, num_prompt_tokens=1, max_tokens=1, num_answer_tokens=1, watched=False))

    def checked(self, request: Request, end: End, now: float) -> None:
        model, limit = request.model, self._settings.first_token_timeout
        began_at, breaker = self._checked_at.pop(model), self._breakers[model]
        if fault_of(end) is None and (limit is None or now - began_at <= limit):
            self._counts["checks_passed"] += 1
            breaker.let_probe(now)
        elif breaker.state(now) != "closed":
            breaker.trip(now)
            self._watch(model, now)

    # -- by itself -----------------------------------------------------------------------------------

    def due(self) -> float:
        limits = self._limits
        while len(limits) and limits.head().late_at != limits.due():
            limits.pop()  # nobody waits for this first token any more
        return min(limits.due(), self._checks.due())

    def advance(self, now: float) -> Iterator[Release]:
        while self._limits.due() <= now:
            at, journey = self._limits.pop()
            if journey.late_at == at:
                yield from self._late(journey, now)
        while self._checks.due() <= now:
            yield from self._check(self._checks.pop()[1], now)

    def _late(self, journey: _Journey, now: float) -> Iterator[Release]:
        """A first token did not come in time: somebody else is asked, if there is anybody."""
        journey.late_at = inf
        self._counts["late_first_tokens"] += 1
        self._fail(journey, now)
        slow = journey.model
        if self._ask_next(journey, now, f"{slow} (no first token in {self._settings.first_token_timeout:g} s)"):
            journey.slow.append(slow)
            yield journey.flight, Again(now)
        elif (answer := self._stale(journey, now)) is not None:
            yield journey.flight, answer

    # -- for people ----------------------------------------------------------------------------------

    def describe(self) -> str:
        settings, breaker = self._settings, self._settings.breaker
        limit, check = settings.first_token_timeout, settings.health_check
        slow = f", no first token in {duration_text(limit)}" if limit is not None else ""
        checked = f", checked every {duration_text(check)}" if check is not None else ""
        chains = "; ".join(f"{entrance}: {' then '.join(chain)}" for entrance, chain in self._chains.items())
        return (
            f"{chains}, on 429, 5xx, reset, cut{slow}; marked down at "
            f"{breaker.failure_share:.0%} failures of at least {breaker.min_calls} calls in {duration_text(breaker.window)}, for "
            f"{duration_text(breaker.cooldown)}, then {breaker.probes} probes{checked}; when all are down: a stale answer, or "
            f"{'they are tried all the same' if settings.when_all_down == 'try' else '503'}"
        )

    def state(self, now: float) -> dict[str, object]:
        models = [
            {"model": model, "breaker": breaker.state(now), "times_opened": breaker.num_opened}
            for model, breaker in self._breakers.items()
        ]
        return {"models": models, "in_flight": len(self._journeys), "counts": dict(self._counts)}
