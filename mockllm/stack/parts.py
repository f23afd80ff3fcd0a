"""What policies are built of: their settings, and what the deployment lends them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mockllm.content.embeddings import Embedder
from mockllm.engine.engine import Engine
from mockllm.fields import Strict
from mockllm.stack.prices import Price
from mockllm.stack.stage import Answered, Flight
from mockllm.stack.timeline import Timeline
from mockllm.streams import Streams

__all__ = ["Fallback", "Parts", "StageSettings"]

KeyPath = tuple[str | int, ...]


class StageSettings(Strict):
    """The keys of a policy in a deployment file."""

    def aliases(self) -> Iterator[tuple[str, str]]:
        """Names that clients may ask for and no model has: each with the model that stands for it at first."""
        yield from ()

    def references(self) -> Iterator[tuple[KeyPath, str]]:
        """Models that the policy names, each with where in its settings: the loader looks whether they exist."""
        yield from ()


class Fallback(Protocol):
    """A cache that can answer when nobody else does, with what it would not give otherwise."""

    def stale(self, flight: Flight, now: float) -> Answered | None: ...


@dataclass(frozen=True)
class Parts:
    """`name` is the stage's own, unique in the deployment. Caches add themselves to `fallbacks`; stages before and after
    them look there when they need an answer, not when they are built."""

    name: str
    streams: Streams
    engine: Engine
    timeline: Timeline
    prices: Mapping[str, Price]
    embedder: Callable[[], Embedder]
    fallbacks: list[Fallback] = field(default_factory=list)
