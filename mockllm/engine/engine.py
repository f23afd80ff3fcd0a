"""The serving model: told the time, never asks for it.

    submit   a request comes in at `now`
    cancel   its client went away
    due      the next instant at which something happens, inf when idle
    advance  make everything happen that is due by `now`, in order, and return what clients would see

Behind HTTP a driver sleeps until `due()`; in virtual time a loop jumps there. Same engine, same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from mockllm.engine.length import AnswerLength, ReasoningLength
from mockllm.engine.stats import Counts
from mockllm.events import EventQueue
from mockllm.model import Began, Cut, Emission, Forced, Refused, Request, Tokens
from mockllm.streams import Streams

__all__ = ["Engine", "Overhead", "Replica", "ServedModel", "Serving"]


class Serving(Protocol):
    """What a driver drives: an engine, or a stack in front of one."""

    counts: Counts

    @property
    def models(self) -> Mapping[str, ServedModel]: ...  # by the names that clients may ask for
    @property
    def backends(self) -> Mapping[str, ServedModel]: ...  # those that have replicas of their own
    @property
    def idle(self) -> bool: ...  # nothing is on its way, though something may be due: a health check, a schedule
    def submit(self, request: Request, now: float) -> None: ...
    def cancel(self, request_id: str, now: float) -> bool: ...
    def due(self) -> float: ...
    def advance(self, now: float) -> list[Emission]: ...


class Replica(Protocol):
    """One copy of a model, or a hosted API that stands for many."""

    def submit(self, request: Request, size: int, reason: str, *, ready_at: float) -> None: ...
    def cancel(self, request_id: str, now: float) -> bool: ...
    def due(self) -> float: ...
    def advance(self, now: float) -> list[Emission]: ...
    def break_off(self, request_id: str, now: float) -> list[Emission]: ...  # its tokens, if untold, and a Cut
    def slow(self, factor: float, now: float) -> None: ...  # everything takes so many times as long from now on
    def stall(self, until: float, now: float) -> None: ...  # nothing happens until then
    @property
    def num_running(self) -> int: ...
    @property
    def num_waiting(self) -> int | None: ...  # None where there is no queue to look into
    def parts(self) -> Sequence[tuple[str, Replica]]: ...  # what it is made of, by name; itself if it is one


@dataclass(frozen=True, slots=True)
class Overhead:
    """Time between the request's arrival and the scheduler: parsing, tokenizing, process hops. Lognormal."""

    median_s: float = 0.0
    sigma: float = 0.0


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model under its public name: how long its answers are, and what produces them.

    `block_size` is that of its KV cache, None where nobody can look into one; `prefix_caching`: it knows blocks by name.
    """

    name: str
    length: AnswerLength
    overhead: Overhead
    replica: Replica
    aside: Replica  # for requests that demand their own timing: beside the queue
    reasoning: ReasoningLength
    block_size: int | None = None
    prefix_caching: bool = False


class Engine:
    """All models of a deployment behind four verbs."""

    def __init__(self, models: Mapping[str, ServedModel], streams: Streams) -> None:
        self.models = models
        self.counts = Counts()
        self._replicas = list(dict.fromkeys(r for model in models.values() for r in (model.replica, model.aside)))
        self._streams = streams
        self._refusals: EventQueue[Refused] = EventQueue()  # decided at submit
        self._refused: dict[str, Refused] = {}
        self._where: dict[str, Replica] = {}

    def submit(self, request: Request, now: float) -> None:
        """Take a request at `now`. What becomes of it comes out of `advance`.

        Raises ValueError for an id that is in flight, KeyError for a model that is not served.
        """
        if request.request_id in self._where or request.request_id in self._refused:
            raise ValueError(f"request_id {request.request_id!r} is in flight already; ids must be unique")
        model = self.models[request.model]
        self.counts.num_submitted += 1
        self.counts.num_prompt_tokens += request.num_prompt_tokens
        if request.forced is not None and request.forced.status is not None:
            self._refuse(_demanded(request, request.forced, now))
            return
        if request.num_prompt_tokens >= model.length.max_model_len:
            self._refuse(_too_long(request, model.length.max_model_len, now))
            return
        planned = model.length.plan(request, self._streams)
        overhead = self._streams.lognormal(
            "overhead", request.shared_key, model.overhead.median_s, model.overhead.sigma
        )
        replica = model.replica
        if request.forced is not None:
            replica = model.aside
            overhead = 0.0 if request.forced.ttft_s is not None else overhead
        replica.submit(request, planned.num_tokens, planned.reason, ready_at=now + overhead)
        self._where[request.request_id] = replica

    def cancel(self, request_id: str, now: float) -> bool:
        """The client of a request went away; False when the request is over already."""
        if (refused := self._refused.pop(request_id, None)) is not None:
            self._refusals.discard(refused)
        elif (replica := self._where.pop(request_id, None)) is None or not replica.cancel(request_id, now):
            return False
        self.counts.num_cancelled += 1
        return True

    def break_off(self, request_id: str, now: float) -> list[Emission]:
        """The connection behind an answer breaks: its tokens, if nobody was told of them, and the Cut; nothing if it is over."""
        if (refused := self._refused.pop(request_id, None)) is not None:
            self._refusals.discard(refused)
            out: list[Emission] = [Cut(request_id, now, 0)]
        else:
            replica = self._where.pop(request_id, None)
            out = [] if replica is None else replica.break_off(request_id, now)
        for emission in out:
            self.counts.count(emission)
        return out

    @property
    def backends(self) -> Mapping[str, ServedModel]:
        """All models: every name is a model's own."""
        return self.models

    @property
    def idle(self) -> bool:
        """Nothing is on its way."""
        return not self._where and not self._refused

    def due(self) -> float:
        """The next instant at which something happens; inf when idle."""
        due = self._refusals.due()
        for replica in self._replicas:
            at = replica.due()
            if at < due:  # not min(): this is asked for every token
                due = at
        return due

    def advance(self, now: float) -> list[Emission]:
        """Everything that happens up to and including `now`, in order of time."""
        out: list[Emission] = []
        while self._refusals.due() <= now:
            out.append(self._refusals.pop()[1])
        for replica in self._replicas:
            if replica.due() <= now:
                out.extend(replica.advance(now))
        out.sort(key=attrgetter("at"))  # stable: one replica's order is kept within an instant
        for emission in out:
            self.counts.count(emission)
            if not isinstance(emission, Tokens | Began):
                self._where.pop(emission.request_id, None)
                self._refused.pop(emission.request_id, None)
        return out

    def _refuse(self, refused: Refused) -> None:
        self._refused[refused.request_id] = refused
        self._refusals.push(refused.at, refused)


def _too_long(request: Request, max_model_len: int, now: float) -> Refused:
    message = (
        f"This model's maximum context length is {max_model_len} tokens. However, your messages resulted in "
        f"{request.num_prompt_tokens} tokens. Please reduce the length of the messages."
    )
    return Refused(request.request_id, now, 400, "context_length_exceeded", message)


def _demanded(request: Request, demand: Forced, now: float) -> Refused:
    assert demand.status is not None
    message = f"This request asked the mock for HTTP status {demand.status}."
    at = now + (demand.ttft_s or 0.0)
    return Refused(request.request_id, at, demand.status, "mock_error", message, demand.retry_after_s)
