"""The serving model: told the time, never asks for it.

    submit   a request comes in at `now`
    cancel   its client went away
    due      the next instant at which something happens, inf when idle
    advance  make everything happen that is due by `now`, in order, and return what clients would see

Behind HTTP a driver sleeps until `due()`; in virtual time a loop jumps there. Same engine, same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from typing import Protocol

from mockllm.engine.length import AnswerLength
from mockllm.engine.stats import Counts
from mockllm.model import Emission, Refused, Request, Tokens
from mockllm.streams import Streams

__all__ = ["Engine", "Overhead", "Replica", "ServedModel"]


class Replica(Protocol):
    """One copy of a model, or a hosted API that stands for many."""

    def submit(self, request: Request, size: int, reason: str, *, ready_at: float) -> None: ...
    def cancel(self, request_id: str, now: float) -> bool: ...
    def due(self) -> float: ...
    def advance(self, now: float) -> list[Emission]: ...
    @property
    def num_running(self) -> int: ...
    @property
    def num_waiting(self) -> int | None: ...  # None where there is no queue to look into


@dataclass(frozen=True, slots=True)
class Overhead:
    """Time between the request's arrival and the scheduler: parsing, tokenizing, process hops. Lognormal."""

    median_s: float = 0.0
    sigma: float = 0.0


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model under its public name: how long its answers are, and what produces them."""

    name: str
    length: AnswerLength
    overhead: Overhead
    replica: Replica


class Engine:
    """All models of a deployment behind four verbs."""

    def __init__(self, models: Mapping[str, ServedModel], streams: Streams) -> None:
        self.models = models
        self.counts = Counts()
        self._streams = streams
        self._refused: list[Emission] = []  # refusals decided at submit, told by the next advance
        self._where: dict[str, Replica] = {}

    def submit(self, request: Request, now: float) -> None:
        """Take a request at `now`. What becomes of it comes out of `advance`.

        Raises ValueError for an id that is in flight, KeyError for a model that is not served.
        """
        if request.request_id in self._where:
            raise ValueError(f"request_id {request.request_id!r} is in flight already; ids must be unique")
        model = self.models[request.model]
        self.counts.num_submitted += 1
        self.counts.num_prompt_tokens += request.num_prompt_tokens
        if request.num_prompt_tokens >= model.length.max_model_len:
            self._refused.append(_too_long(request, model.length.max_model_len, now))
            return
        planned = model.length.plan(request, self._streams)
        overhead = self._streams.lognormal("overhead", request.key, model.overhead.median_s, model.overhead.sigma)
        model.replica.submit(request, planned.num_tokens, planned.reason, ready_at=now + overhead)
        self._where[request.request_id] = model.replica

    def cancel(self, request_id: str, now: float) -> bool:
        """The client of a request went away; False when the request is over already."""
        replica = self._where.pop(request_id, None)
        if replica is None or not replica.cancel(request_id, now):
            return False
        self.counts.num_cancelled += 1
        return True

    def due(self) -> float:
        """The next instant at which something happens; inf when idle."""
        if self._refused:
            return self._refused[0].at
        return min((model.replica.due() for model in self.models.values()), default=inf)

    def advance(self, now: float) -> list[Emission]:
        """Everything that happens up to and including `now`, in order of time."""
        out, self._refused = self._refused, []
        for model in self.models.values():
            if model.replica.due() <= now:
                out.extend(model.replica.advance(now))
        out.sort(key=attrgetter("at"))  # stable: one replica's order is kept within an instant
        for emission in out:
            self.counts.count(emission)
            if not isinstance(emission, Tokens):
                self._where.pop(emission.request_id, None)
        return out


def _too_long(request: Request, max_model_len: int, now: float) -> Refused:
    message = (
        f"This model's maximum context length is {max_model_len} tokens. However, your messages resulted in "
        f"{request.num_prompt_tokens} tokens. Please reduce the length of the messages."
    )
    return Refused(request.request_id, now, 400, "context_length_exceeded", message)
