"""Semantic cache: a question that means the same as an answered one gets its answer, without a call.

The last message is embedded; the nearest answered question by cosine, among those with the same words before and the same
parameters, answers from `threshold` on. Near is not the same: "How many days in 2024?" and "... 2023?" have a cosine of .98.
So wrong hits, by the intents that the workload labels, are counted beside the hits, and `mockllm semantic-sweep` shows both
over thresholds. No single threshold is free of them (vCache, arXiv 2502.03771).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from pydantic import model_validator

from mockllm.fields import Count, Positive, Share, duration_text
from mockllm.passage import Query
from mockllm.stack.answers import Latency, Readout, Ttl, kept_of, question_of
from mockllm.stack.neighbours import Neighbours, Vector
from mockllm.stack.parts import Parts, StageSettings
from mockllm.stack.stage import Answered, Arrival, End, Flight, Later, Leaving, Stage

__all__ = ["ROUNDING", "SemanticCache", "SemanticCacheSettings"]

ROUNDING = 1e-6  # of a cosine in single precision: the same words are found at a threshold of 1
_MAX_CHARACTERS = 32_000  # what is embedded of a text: about the 8,191 tokens that OpenAI's embedding models take


class SemanticCacheSettings(StageSettings):
    """`embedding` and `lookup` are what every question waits: 5 to 20 ms and 2 to 5 ms by what vendors report of theirs.
    `stale_threshold`: from where on an answer will do when no model gives one; None: as `threshold`.
    """

    threshold: Share = 0.95
    stale_threshold: Share | None = None
    ttl: Ttl = 3600.0
    capacity: Count = 10_000
    embedding: Latency = Latency.model_validate({"median": "10ms", "sigma": 0.4})
    lookup: Latency = Latency.model_validate({"median": "3ms", "sigma": 0.3})
    tokens_per_s: Positive | None = None

    @model_validator(mode="after")
    def _stale_is_not_stricter(self) -> SemanticCacheSettings:
        if self.stale_threshold is not None and self.stale_threshold > self.threshold:
            raise ValueError(f"stale_threshold {self.stale_threshold} must not lie above threshold {self.threshold}")
        return self


@dataclass(frozen=True, slots=True)
class _Question:
    """One that is on its way to a model: an answer to it is kept under `name`, and found among those of `context`."""

    name: Hashable
    context: Hashable
    vector: Vector


class SemanticCache(Stage):
    """Answers by meaning."""

    def __init__(self, settings: SemanticCacheSettings, parts: Parts) -> None:
        self.name, self.settings = parts.name, settings
        self._streams, self._embedder = parts.streams, parts.embedder()
        self._neighbours = Neighbours(settings.capacity)
        self._readout = Readout(parts, settings.tokens_per_s)
        self._questions: dict[str, _Question] = {}  # of the requests that went on
        parts.fallbacks.append(self)

    def arrive(self, flight: Flight, now: float) -> Arrival:
        query = question_of(flight)
        if query is None or not query.text:
            self._readout.tally.num_passed_by += 1
            return None
        question, ready_at = self._question(flight, query), now + self._search_s(flight)
        found = self._neighbours.nearest(question.context, question.vector, now, self.settings.ttl)
        if found is not None and found[1] >= self.settings.threshold - ROUNDING:
            return self._readout.hit(flight, self._neighbours.use(found[0]), ready_at, f" at {found[1]:.3f}")
        self._questions[flight.asked.request_id] = question
        self._readout.miss(flight, "" if found is None else f", nearest at {found[1]:.3f}")
        return Later(ready_at)

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        question = self._questions.pop(flight.asked.request_id, None)
        if question is not None and (kept := kept_of(flight, end, now)) is not None:
            self._neighbours.put(question.name, question.context, question.vector, kept)
        return None

    def stale(self, flight: Flight, now: float) -> Answered | None:
        """The nearest answer from `stale_threshold` on, also when it has expired."""
        query = question_of(flight)
        if query is None or not query.text:
            return None
        question = self._questions.get(flight.asked.request_id) or self._question(flight, query)
        found = self._neighbours.nearest(question.context, question.vector)
        if found is None or found[1] < self._stale_threshold - ROUNDING:
            return None
        kept = self._neighbours.use(found[0])
        return self._readout.stale(flight, kept, now + self._search_s(flight), f" at {found[1]:.3f}")

    def describe(self) -> str:
        settings = self.settings
        search = f"{settings.embedding} to embed and {settings.lookup} to search"
        stale = f", {self._stale_threshold:g} when no model answers" if settings.stale_threshold is not None else ""
        kept = f"up to {settings.capacity:,} answers for {duration_text(settings.ttl)}"
        return f"{kept}, found at a cosine of {settings.threshold:g}{stale}, {search}"

    def state(self, now: float) -> dict[str, object]:
        counts = self._readout.counts() | {
            "stored": self._neighbours.num_stored,
            "evicted": self._neighbours.num_evicted,
        }
        return {
            "entries": len(self._neighbours),
            "in_flight": len(self._questions),
            "vector_bytes": self._neighbours.num_bytes,
            "threshold": self.settings.threshold,
            **self._readout.rates(),
            "counts": counts,
        }

    @property
    def _stale_threshold(self) -> float:
        given = self.settings.stale_threshold
        return self.settings.threshold if given is None else given

    def _question(self, flight: Flight, query: Query) -> _Question:
        model, vector = flight.request.model, self._embedder.embed([query.text[:_MAX_CHARACTERS]])[0]
        return _Question((model, query.digest), (model, query.context), vector)

    def _search_s(self, flight: Flight) -> float:
        settings, key = self.settings, flight.asked.key
        seconds = settings.embedding.draw(self._streams, f"{self.name} embedding", key)
        return seconds + settings.lookup.draw(self._streams, f"{self.name} look-up", key)
