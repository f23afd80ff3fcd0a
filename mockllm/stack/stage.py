"""What a policy is: a stage that every request passes on its way to the models, and again on its way back.

    arrive   a request comes in: it goes on (None), waits, is held, is answered here, or is refused
    leave    its answer, or what came instead, goes back out; the stage may try again, or answer in its place
    due, advance   for stages that act by themselves, a queue for instance: told the time like everything else

A stage that a request went on from is left exactly once for it, whatever becomes of the request. The order of stages is
the list in the deployment file. Times are seconds on the clock of whoever drives the stack.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, Protocol

from mockllm.model import Cut, Finished, Refused, Request
from mockllm.passage import Damage, Excess, Passage, Quota
from mockllm.stack.prices import Bill

__all__ = [
    "HELD",
    "Again",
    "Answered",
    "Arrival",
    "Beside",
    "Check",
    "Door",
    "End",
    "Flight",
    "Held",
    "Later",
    "Leaving",
    "Mirrored",
    "Refusal",
    "Release",
    "Stage",
    "Strike",
]

End = Finished | Refused | Cut | None  # None: the client went away


@dataclass(slots=True, eq=False)
class Flight:
    """One client's request on its way. `asked` is as the client sent it; policies replace `request`.

    `began`: tokens went out to the client, so nothing can be tried again. `hold_back`: a policy wants to see the whole
    answer before the client sees anything. `entered`: the stages it is in, by index, innermost last. `bill`: the stack's.
    `turn`: how often all that was on its way and planned for it was given up. `num_tokens` went out to the client.
    """

    asked: Request
    request: Request
    submitted_at: float
    passage: Passage
    began: bool = False
    hold_back: bool = False
    over: bool = False
    entered: list[int] = field(default_factory=list)
    bill: Bill = field(default_factory=Bill)
    turn: int = 0
    num_tokens: int = 0

    def charge(self, usd: float) -> None:
        """A call or a fee: its price goes on the request's account, and on the stack's bill."""
        self.bill.usd += usd
        self.passage.cost_usd = (self.passage.cost_usd or 0.0) + usd

    def credit(self, stage: str, usd: float) -> None:
        """So much more the request would have cost without this stage; less than 0 where the stage made it dearer."""
        saved = self.passage.saved_usd
        saved[stage] = saved.get(stage, 0.0) + usd


class Later(NamedTuple):
    """Goes on to the next stage at `at`."""

    at: float


class Held:
    """The stage keeps the request and lets it go from `advance`."""


HELD = Held()


class Answered(NamedTuple):
    """The answer is here: its first token leaves at `at`, the others `token_s` apart each."""

    at: float
    source: str
    num_tokens: int
    reason: str = "stop"
    payload: object | None = None
    token_s: float = 0.0


class Refusal(NamedTuple):
    """No answer. `status` 0 resets the connection; see `model.Refused`. `quotas` and `notes`: of a door."""

    status: int
    kind: str
    message: str
    retry_after_s: float | None = None
    excess: Excess | None = None
    quotas: tuple[Quota, ...] = ()
    notes: tuple[str, ...] = ()


class Mirrored(NamedTuple):
    """Goes on, and copies are sent to models; nobody sees their answers."""

    copies: tuple[Request, ...]


class Again(NamedTuple):
    """What is on its way is given up, and `flight.request` goes on from this stage at `at`. Not once it has begun."""

    at: float


class Beside(NamedTuple):
    """Another call beside those on their way: the first to begin answers, the others are cancelled. Where none is on its
    way, because the request waits further in, or one has begun, nothing is sent."""

    request: Request


class Check(NamedTuple):
    """A call of the stage's own, for no client: a health check. How it ends is told to `checked`."""

    request: Request


Arrival = Later | Held | Answered | Refusal | Mirrored | None
Leaving = Again | Answered | None
Release = tuple[Flight, Refusal | Answered | Again | Beside | None] | Check


class Stage:
    """A policy that does nothing: real ones override what they need. `name` is unique in the deployment."""

    name: str = "stage"

    def arrive(self, flight: Flight, now: float) -> Arrival:
        """A request comes in; what becomes of it."""
        return None

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        """A request that went on from here is over with `end`. What is returned counts only if `flight.began` is false
        and `end` is not None."""
        return None

    def began(self, flight: Flight, request: Request, now: float) -> None:
        """The first token of the call `request` is there, for a request that went on from here. A stage that wants to
        hear of it asks for it with `flight.request.tell_first`; otherwise it may hear of it only in real time."""

    def checked(self, request: Request, end: End, now: float) -> None:
        """A `Check` of this stage is over with `end`."""

    def due(self) -> float:
        """When the stage wants to act by itself; after `advance(now)` later than `now`."""
        return inf

    def advance(self, now: float) -> Iterable[Release]:
        """The requests that it lets go, or does something about, at `now`."""
        return ()

    def describe(self) -> str:
        """One line for `mockllm explain`: what it does, with its numbers."""
        return ""

    def state(self, now: float) -> dict[str, object]:
        """What `/mock/state` shows: plain values. Counters stand under `counts`, as name and number."""
        return {}


class Strike(NamedTuple):
    """What happens to a call at a model's door: it comes later, and its answer ends after `cut` tokens. `notes` are for its
    passage."""

    delay_s: float = 0.0
    cut: Cut | None = None  # how many tokens, and how it ends; names and instants in it do not count
    damage: tuple[Damage, ...] = ()
    quotas: tuple[Quota, ...] = ()
    notes: tuple[str, ...] = ()


class Door(Protocol):
    """What stands directly before a model, met by every call: the provider's own quotas, and faults.

    A call that is given up ends, for a door, as a `Cut` after as many tokens as had come.
    """

    def enter(self, request: Request, now: float) -> Refusal | Strike | None: ...
    def left(self, request: Request, end: Finished | Refused | Cut, now: float) -> None: ...
