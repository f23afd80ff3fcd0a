"""A response cache that finds an answer by a key; what the key is, the policies say that are made of it.

An answer can be read once it is complete. A look-up costs time whether it finds something or not, and sees the cache as it
is when the request comes in. `coalesce` (single flight, as in Go's x/sync and in CDNs): while a request is on its way,
those with the same key wait for its answer; when it fails, the first of them goes in its place.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from math import inf

from mockllm.fields import Count, Positive, duration_text
from mockllm.stack.answers import Answers, Kept, Latency, Readout, Ttl, kept_of
from mockllm.stack.parts import Parts, StageSettings
from mockllm.stack.stage import HELD, Answered, Arrival, End, Flight, Later, Leaving, Release, Stage

__all__ = ["KeyedCache", "KeyedCacheSettings"]

Key = tuple[Hashable, ...]


class KeyedCacheSettings(StageSettings):
    """`capacity` is in answers. `latency` is of a look-up. `tokens_per_s`: the pace of a hit that is streamed; None: at once."""

    ttl: Ttl
    capacity: Count = 10_000
    latency: Latency = Latency.model_validate({"median": "2ms", "sigma": 0.4})  # a Redis in the same zone; judgement
    tokens_per_s: Positive | None = None


class _Waiting:
    """Requests that wait for the answer of one with the same key, in the order in which they came."""

    def __init__(self, leader: str) -> None:
        self.leader = leader
        self.flights: dict[str, Flight] = {}


class KeyedCache(Stage):
    """`key_of` is what a policy adds: the key of a request, None where it passes by."""

    def __init__(self, settings: KeyedCacheSettings, parts: Parts, *, coalesce: bool = False) -> None:
        self.name, self.settings = parts.name, settings
        self._streams, self._coalesce = parts.streams, coalesce
        self._answers: Answers[Key] = Answers(settings.capacity, settings.ttl)
        self._readout = Readout(parts, settings.tokens_per_s)
        self._keys: dict[str, Key] = {}  # of the requests that went on, or wait
        self._waiting: dict[Key, _Waiting] = {}
        self._released: list[tuple[Flight, Kept | None]] = []
        self._release_at = inf
        self._num_coalesced = 0
        parts.fallbacks.append(self)

    def key_of(self, flight: Flight) -> Key | None:
        """What a request is found by."""
        raise NotImplementedError

    def arrive(self, flight: Flight, now: float) -> Arrival:
        key = self.key_of(flight)
        if key is None:
            self._readout.tally.num_passed_by += 1
            return None
        kept = self._answers.fresh(key, now)
        if kept is not None:
            return self._readout.hit(flight, kept, now + self._lookup_s(flight))
        name = flight.asked.request_id
        self._keys[name] = key
        if self._coalesce:
            waiting = self._waiting.setdefault(key, _Waiting(name))
            if waiting.leader != name:
                waiting.flights[name] = flight
                return HELD
        self._readout.miss(flight)
        return Later(now + self._lookup_s(flight))

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        key = self._keys.pop(flight.asked.request_id, None)
        if key is None:
            return None
        kept = kept_of(flight, end, now)
        if kept is not None:
            self._answers.put(key, kept)
        if key in self._waiting:
            self._tell_those_who_wait(key, flight, kept, now)
        return None

    def due(self) -> float:
        return self._release_at

    def advance(self, now: float) -> Iterator[Release]:
        """Those whose waiting is over: with the answer, or on their way to get it themselves."""
        released, self._released, self._release_at = self._released, [], inf
        for flight, kept in released:
            if flight.over:
                continue
            if kept is None:
                self._readout.miss(flight)
                yield flight, None
            else:
                self._num_coalesced += 1
                yield flight, self._readout.hit(flight, kept, now + self._lookup_s(flight), ", waited for it")

    def stale(self, flight: Flight, now: float) -> Answered | None:
        """The answer to this question, also when it has expired."""
        key = self._keys.get(flight.asked.request_id) or self.key_of(flight)
        kept = None if key is None else self._answers.stale(key)
        return None if kept is None else self._readout.stale(flight, kept, now + self._lookup_s(flight))

    def describe(self) -> str:
        settings = self.settings
        together = "; equal requests wait for the first one's answer" if self._coalesce else ""
        return f"up to {settings.capacity:,} answers for {duration_text(settings.ttl)}, {settings.latency} a look-up{together}"

    def state(self, now: float) -> dict[str, object]:
        counts = self._readout.counts() | {
            "stored": self._answers.num_stored,
            "evicted": self._answers.num_evicted,
            "coalesced": self._num_coalesced,
        }
        return {
            "entries": len(self._answers),
            "in_flight": len(self._keys),
            "waiting": sum(len(each.flights) for each in self._waiting.values()),
            **self._readout.rates(),
            "counts": counts,
        }

    def _lookup_s(self, flight: Flight) -> float:
        return self.settings.latency.draw(self._streams, f"{self.name} look-up", flight.asked.key)

    def _tell_those_who_wait(self, key: Key, flight: Flight, kept: Kept | None, now: float) -> None:
        """A request with this key is over: one that waited and gave up, or the leader."""
        waiting, name = self._waiting[key], flight.asked.request_id
        if waiting.leader != name:
            waiting.flights.pop(name, None)
            return
        if kept is None and flight.passage.source == "model" and waiting.flights:
            waiting.leader = next(iter(waiting.flights))
            released = [waiting.flights.pop(waiting.leader)]
        else:  # an answer of another cache, which is not kept here, is there for each of them
            del self._waiting[key]
            released = list(waiting.flights.values())
        if released:
            self._released += [(each, kept) for each in released]
            self._release_at = now
