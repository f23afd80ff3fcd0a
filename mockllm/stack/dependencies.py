"""What an AI request needs before it comes to the model: static files, a database, a vector store. Each takes time, has
so many servers and connections, and holds requests up, or fails them with a 503, when they run out.

    cdn            a share `hit` of requests is answered at the edge; the others wait for the origin, a station, and then
                   for the edge to pass it on
    database       writes go to the primary, reads to the replicas (to the primary, without any); each of these has `servers`,
                   and one pool of connections leads to all
    vector_store   a station

Stations are computed exactly (`stations.py`). `share` of the requests need each; every draw is keyed by the request. In `series`
they are asked one after the other, in this order; in `parallel` at once, and the slowest counts. The request is refused as
soon as one of them has no connection for it in time; what was asked already runs on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mockllm.events import EventQueue
from mockllm.fields import Share, Strict, duration_text
from mockllm.model import Request
from mockllm.stack.parts import Parts, StageSettings
from mockllm.stack.stage import HELD, Arrival, End, Flight, Leaving, Refusal, Release, Stage
from mockllm.stack.stations import Served, ServiceTime, Station, StationSettings
from mockllm.streams import Streams

__all__ = ["Dependencies", "DependenciesSettings"]


class CdnSettings(Strict):
    """`hit` is the latency of the edge."""

    hit_share: Share
    hit: ServiceTime
    origin: StationSettings
    share: Share = 1.0


class DatabaseSettings(StationSettings):
    """`servers` of each node. `write` None: a write takes as long as a read."""

    read_share: Share = 0.9
    replicas: Annotated[int, Field(ge=0)] = 0
    write: ServiceTime | None = None
    share: Share = 1.0


class VectorStoreSettings(StationSettings):
    """A search for what belongs to the question."""

    share: Share = 1.0


class DependenciesSettings(StageSettings):
    """At least one of the three. `calls`: one after the other, or all at once."""

    calls: Literal["series", "parallel"] = "series"
    cdn: CdnSettings | None = None
    database: DatabaseSettings | None = None
    vector_store: VectorStoreSettings | None = None

    @model_validator(mode="after")
    def _has_one(self) -> DependenciesSettings:
        if self.cdn is None and self.database is None and self.vector_store is None:
            raise ValueError("names no dependency; give one of cdn, database, vector_store")
        return self


class _Dependency:
    """Somebody to ask. `name` is its key in the file, `station` where queries wait."""

    name = ""

    def __init__(self, share: float, station: Station, stage: str, streams: Streams) -> None:
        self.station = station
        self.num_asked = 0
        self._share, self._purpose, self._streams = share, f"{stage} {self.name}", streams

    def is_needed(self, request: Request) -> bool:
        return self._happens("need", request, self._share)

    def ask(self, request: Request, now: float) -> Served:
        raise NotImplementedError

    def _happens(self, what: str, request: Request, share: float) -> bool:
        return self._streams.uniform(f"{self._purpose} {what}", request.shared_key) < share

    def _draw_s(self, law: ServiceTime, what: str, request: Request) -> float:
        return law.draw(self._streams, f"{self._purpose} {what}", request.shared_key)


class _Cdn(_Dependency):
    name = "cdn"

    def __init__(self, settings: CdnSettings, stage: str, streams: Streams) -> None:
        origin = settings.origin
        super().__init__(settings.share, Station([origin.servers], origin.pool, origin.pool_timeout), stage, streams)
        self._settings = settings

    def ask(self, request: Request, now: float) -> Served:
        settings = self._settings
        edge_s = self._draw_s(settings.hit, "edge", request)
        if self._happens("hit", request, settings.hit_share):
            return Served(now + edge_s, answered=True)
        served = self.station.ask(now, self._draw_s(settings.origin.service, "origin", request))
        return served._replace(at=served.at + edge_s) if served.answered else served


class _Database(_Dependency):
    name = "database"

    def __init__(self, settings: DatabaseSettings, stage: str, streams: Streams) -> None:
        primary, replicas = settings.servers, settings.servers * settings.replicas
        groups = [primary, replicas] if replicas else [primary]
        super().__init__(settings.share, Station(groups, settings.pool, settings.pool_timeout), stage, streams)
        self._settings = settings

    def ask(self, request: Request, now: float) -> Served:
        settings = self._settings
        reads = self._happens("read", request, settings.read_share)
        law = settings.service if reads or settings.write is None else settings.write
        to_replicas = reads and settings.replicas > 0
        return self.station.ask(now, self._draw_s(law, "service", request), group=1 if to_replicas else 0)


class _VectorStore(_Dependency):
    name = "vector_store"

    def __init__(self, settings: VectorStoreSettings, stage: str, streams: Streams) -> None:
        station = Station([settings.servers], settings.pool, settings.pool_timeout)
        super().__init__(settings.share, station, stage, streams)
        self._service = settings.service

    def ask(self, request: Request, now: float) -> Served:
        return self.station.ask(now, self._draw_s(self._service, "service", request))


@dataclass(slots=True, eq=False)
class _Errand:
    """A request and those it still has to ask. `failed` has no connection for it."""

    flight: Flight
    to_ask: list[_Dependency]
    failed: _Dependency | None = None


class Dependencies(Stage):
    """The stage."""

    def __init__(self, settings: DependenciesSettings, parts: Parts) -> None:
        self.name = parts.name
        self._settings = settings
        self._dependencies: list[_Dependency] = []
        if settings.cdn is not None:
            self._dependencies.append(_Cdn(settings.cdn, self.name, parts.streams))
        if settings.database is not None:
            self._dependencies.append(_Database(settings.database, self.name, parts.streams))
        if settings.vector_store is not None:
            self._dependencies.append(_VectorStore(settings.vector_store, self.name, parts.streams))
        self._errands: dict[str, _Errand] = {}  # by request id
        self._events: EventQueue[_Errand] = EventQueue()
        self._num_requests = 0

    def arrive(self, flight: Flight, now: float) -> Arrival:
        self._num_requests += 1
        needed = [each for each in self._dependencies if each.is_needed(flight.request)]
        if not needed:
            return None
        errand = _Errand(flight, needed)
        self._errands[flight.asked.request_id] = errand
        self._go_on(errand, now)
        return HELD

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        self._errands.pop(flight.asked.request_id, None)
        return None

    def _go_on(self, errand: _Errand, now: float) -> None:
        """Ask the next, or all of them at once."""
        num = 1 if self._settings.calls == "series" else len(errand.to_ask)
        now_asked, errand.to_ask = errand.to_ask[:num], errand.to_ask[num:]
        answered_at, failed_at = now, inf
        for dependency in now_asked:
            dependency.num_asked += 1
            served = dependency.ask(errand.flight.request, now)
            if served.answered:
                answered_at = max(answered_at, served.at)
            elif served.at < failed_at:
                failed_at, errand.failed = served.at, dependency
        self._events.push(answered_at if errand.failed is None else failed_at, errand)

    def due(self) -> float:
        return self._events.due()

    def advance(self, now: float) -> Iterator[Release]:
        while self._events.due() <= now:
            at, errand = self._events.pop()
            if self._errands.get(errand.flight.asked.request_id) is not errand:
                continue
            if errand.failed is not None:
                yield errand.flight, self._refusal(errand, errand.failed)
            elif errand.to_ask:
                self._go_on(errand, at)
            else:
                del self._errands[errand.flight.asked.request_id]
                yield errand.flight, None

    def _refusal(self, errand: _Errand, failed: _Dependency) -> Refusal:
        waited = f"no connection within {failed.station.timeout_s:g} s"
        errand.flight.passage.notes.append(f"{self.name}: {failed.name} had {waited}")
        return Refusal(503, "service_unavailable_error", f"The {failed.name} has {waited}.")

    def describe(self) -> str:
        settings = self._settings
        given = {"cdn": settings.cdn, "database": settings.database, "vector_store": settings.vector_store}
        words = [f"{name} ({_words(each)})" for name, each in given.items() if each is not None]
        return f"{', '.join(words)}; {'one after the other' if settings.calls == 'series' else 'all at once'}"

    def state(self, now: float) -> dict[str, object]:
        counts = {"requests": self._num_requests}
        for each in self._dependencies:
            counts[f"{each.name}_asked"] = each.num_asked
            counts[f"{each.name}_queries"] = each.station.num_queries  # of a CDN: what its origin was asked
            counts[f"{each.name}_timeouts"] = each.station.num_timeouts
        stations = [
            {"name": each.name, "busy": each.station.num_busy(now), "waiting": each.station.num_waiting(now)}
            for each in self._dependencies
        ]
        return {"in_flight": len(self._errands), "stations": stations, "counts": counts}


def _words(settings: CdnSettings | DatabaseSettings | VectorStoreSettings) -> str:
    whose = "" if settings.share == 1 else f"for {settings.share:.0%} of requests, "
    if isinstance(settings, CdnSettings):
        return f"{whose}{settings.hit_share:.0%} hits in {settings.hit}, else {_station(settings.origin)}"
    if isinstance(settings, DatabaseSettings):
        nodes = f"primary and {settings.replicas} replicas, {settings.read_share:.0%} reads, each "
        return f"{whose}{nodes if settings.replicas else ''}{_station(settings)}"
    return f"{whose}{_station(settings)}"


def _station(settings: StationSettings) -> str:
    pool = ""
    if settings.pool is not None:
        pool = f", {settings.pool} connections, {duration_text(settings.pool_timeout)} to wait for one"
    return f"{settings.servers} servers of {settings.service}{pool}"
