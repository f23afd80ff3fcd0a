"""Hedged requests: when the first token is slow to come, the same is asked a second time; the first to begin answers.

After `delay`, or when a request has waited longer for its first token than the share `quantile` of the recent ones did, a
second call goes to the same model, or to the model `to`. The call that begins later is cancelled, and paid for like any
call that is broken off. J. Dean and L. A. Barroso, "The Tail at Scale" (CACM 56/2, 2013), hedge at the 95th percentile, which
adds 5 % to the load at most; Finagle's BackupRequestFilter works alike.

`budget` bounds the share of requests that may be hedged, so that a slowdown of everything does not double the load: each
request puts `budget` in, a hedge takes 1 out, and at most 10 are kept for later. So at every instant

    hedges <= budget * requests

The quantile is the sample's own (inverse of the empirical distribution: type 1 in R. J. Hyndman and Y. Fan, "Sample Quantiles
in Statistical Packages", 1996) over the last 1,000 first tokens of that model; nothing is hedged before 1 / (1 - quantile)
were seen. A hedge does not bend it: what a hedged request waits is longer than the quantile, whoever answers.

The second call goes straight to its model, so this stage belongs behind all those that wait or change the request.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Annotated

from pydantic import Field, model_validator

from mockllm.events import EventQueue
from mockllm.fields import Duration, ModelName, duration_text
from mockllm.model import Request
from mockllm.stack.parts import KeyPath, Parts, StageSettings
from mockllm.stack.stage import Arrival, Beside, End, Flight, Leaving, Release, Stage

__all__ = ["Hedge", "HedgeSettings", "RecentQuantile"]

_NUM_RECENT = 1000
_MOST_KEPT = 10.0  # hedges that may come at once after a quiet time: judgement
_ROUNDING = 1e-9  # 0.95 and the like are no binary fractions: 100 * 0.55 is not above 55


class HedgeSettings(StageSettings):
    """Either `delay` or `quantile` (0.95: the slowest 5 %). `models` None: requests for every model are hedged.

    `to` None: the second call goes to the model of the first.
    """

    delay: Annotated[Duration, Field(gt=0)] | None = None
    quantile: Annotated[float, Field(ge=0.5, lt=1)] | None = None
    budget: Annotated[float, Field(gt=0, le=1)] = 0.1
    models: Annotated[list[ModelName], Field(min_length=1)] | None = None
    to: ModelName | None = None

    @model_validator(mode="after")
    def _one_delay(self) -> HedgeSettings:
        if (self.delay is None) == (self.quantile is None):
            raise ValueError("needs either `delay` (delay: 800ms) or `quantile` (quantile: 0.95), and not both")
        return self

    def references(self) -> Iterator[tuple[KeyPath, str]]:
        for position, model in enumerate(self.models or ()):
            yield ("models", position), model
        if self.to is not None:
            yield ("to",), self.to


class RecentQuantile:
    """A quantile of the last 1,000 values: the smallest of them that a share `quantile` of them does not exceed."""

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._recent: deque[float] = deque()
        self._ordered: list[float] = []

    def add(self, value: float) -> None:
        """One more; the oldest is forgotten."""
        if len(self._recent) == _NUM_RECENT:
            del self._ordered[bisect_left(self._ordered, self._recent.popleft())]
        self._recent.append(value)
        insort(self._ordered, value)

    def value(self) -> float | None:
        """None: too few to tell."""
        num = len(self._ordered)
        if num * (1 - self._quantile) < 1 - _ROUNDING:
            return None
        return self._ordered[ceil(num * self._quantile - _ROUNDING) - 1]


@dataclass(slots=True, eq=False)
class _Wait:
    """A request without its first token. `hedge` is the name of the second call; None: there is none."""

    flight: Flight
    model: str
    since: float
    hedge: str | None = None
    over: bool = False


class Hedge(Stage):
    """The stage."""

    def __init__(self, settings: HedgeSettings, parts: Parts) -> None:
        self.name = parts.name
        self._settings = settings
        self._firsts: dict[str, RecentQuantile] = {}  # waits for first tokens, by model
        self._waits: dict[str, _Wait] = {}  # by request id
        self._timers: EventQueue[_Wait] = EventQueue()
        self._budget = 0.0
        self._counts = dict.fromkeys(("requests", "hedged", "won", "lost", "over_budget"), 0)

    def arrive(self, flight: Flight, now: float) -> Arrival:
        settings, model = self._settings, flight.request.model
        if settings.models is not None and model not in settings.models:
            return None
        self._counts["requests"] += 1
        self._budget = min(self._budget + settings.budget, _MOST_KEPT)
        flight.request = replace(flight.request, tell_first=True)
        wait = _Wait(flight, model, now)
        self._waits[flight.asked.request_id] = wait
        recent = self._firsts.get(model)
        delay = recent.value() if recent is not None else settings.delay
        if delay is not None:
            self._timers.push(now + delay, wait)
        return None

    def began(self, flight: Flight, request: Request, now: float) -> None:
        wait = self._waits.pop(flight.asked.request_id, None)
        if wait is None:
            return
        wait.over = True
        quantile = self._settings.quantile
        if quantile is not None:
            self._firsts.setdefault(wait.model, RecentQuantile(quantile)).add(now - wait.since)
        if wait.hedge is not None:
            won = request.request_id.startswith(wait.hedge)
            self._counts["won" if won else "lost"] += 1
            flight.passage.notes.append(f"{self.name}: the {'second' if won else 'first'} call began first")

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        wait = self._waits.pop(flight.asked.request_id, None)
        if wait is not None:  # it is over without a first token
            wait.over = True
        return None

    def due(self) -> float:
        while len(self._timers) and self._timers.head().over:
            self._timers.pop()
        return self._timers.due()

    def advance(self, now: float) -> Iterator[Release]:
        while self._timers.due() <= now:
            wait = self._timers.pop()[1]
            if not wait.over:
                yield from self._hedge(wait, now)

    def _hedge(self, wait: _Wait, now: float) -> Iterator[Release]:
        if self._budget < 1:
            self._counts["over_budget"] += 1
            return
        self._budget -= 1
        self._counts["hedged"] += 1
        flight, model = wait.flight, self._settings.to or wait.model
        wait.hedge = f"{flight.request.request_id}~{self.name}"
        flight.passage.notes.append(f"{self.name}: a second call to {model} after {now - wait.since:.3f} s")
        yield flight, Beside(replace(flight.request, request_id=wait.hedge, model=model))

    def describe(self) -> str:
        settings = self._settings
        if settings.quantile is not None:
            when = f"p{100 * settings.quantile:g} of the recent first tokens"
        else:
            when = f"{duration_text(settings.delay or 0.0)}"
        whose = f" for {', '.join(settings.models)}" if settings.models else ""
        to = settings.to or "the same model"
        return f"a second call{whose} to {to} after {when}, for {settings.budget:.0%} of requests at most"

    def state(self, now: float) -> dict[str, object]:
        delays = {model: recent.value() for model, recent in self._firsts.items()}
        return {
            "waiting": len(self._waits),
            "delay_s": self._settings.delay,
            "quantile_s": delays,
            "budget_left": self._budget,
            "counts": dict(self._counts),
        }
