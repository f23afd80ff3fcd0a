"""The network between two parts of the system: round trips, and the set-up of connections.

A request and its first token together take one round trip (RTT) over a connection that is open. A new connection takes one
more for TCP's handshake, and one more for TLS 1.3 (RFC 8446) or two for TLS 1.2 (RFC 5246). All of it is charged on the
way in, when the request passes this stage:

    TTFT + RTT * (1 | 2 | 3 | 4)     on an open connection | a new one without TLS | with TLS 1.3 | with TLS 1.2

and no gap between tokens changes: they follow one another over the wire as they left. What lies behind meets the request half
a round trip later than it would. The RTT of a request is lognormal and belongs to the client's region.

Profiles, medians in ms: in_region 5, national 30, transcontinental 110 (80 … 150): engineering defaults, as is the sigma 0.2.

Connections are HTTP/1.1: one request at a time, from when it has one until its answer has ended. A client has at most
`connections`; the one that was used last is taken first; one that was idle for `idle_timeout` is closed. Whoever finds all
busy waits for the next, in turn. A connection that broke, or whose request was given up, is not used again. `pooled: false` opens one for every request.

Where this stage stands in the list says what it lies between: before all others, clients and the system; behind a failover,
the system and its providers, so that each attempt pays. `models` names those that are reached over it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from mockllm.events import EventQueue
from mockllm.fields import Count, Duration, ModelName, Spread, Strict, duration_text
from mockllm.model import Cut, Refused
from mockllm.passage import Tenant
from mockllm.stack.parts import KeyPath, Parts, StageSettings
from mockllm.stack.stage import HELD, Arrival, End, Flight, Leaving, Release, Stage

__all__ = ["Network", "NetworkSettings", "RttSettings"]


class RttSettings(Strict):
    """A round-trip time: lognormal by its median and the sigma of its logarithm."""

    median: Annotated[Duration, Field(gt=0)]
    sigma: Spread = 0.2


_MEDIANS = {"in_region": "5ms", "national": "30ms", "transcontinental": "110ms"}
_PROFILES = {name: RttSettings.model_validate({"median": median}) for name, median in _MEDIANS.items()}


def _named(value: object) -> object:
    """The profile of this name. Raises ValueError for a name that no profile has."""
    if not isinstance(value, str):
        return value
    if value not in _PROFILES:
        known = ", ".join(_PROFILES)
        raise ValueError(f"{value!r} is no network profile; there are {known}, or write {{median: 40ms}}")
    return _PROFILES[value]


Rtt = Annotated[RttSettings, BeforeValidator(_named)]
_TLS_RTTS = {"none": 0, "tls1.2": 2, "tls1.3": 1}


class NetworkSettings(StageSettings):
    """`rtt` is that of clients whose region is not in `regions`. `pool_of`: who shares connections: an API key's clients, a
    user's, or everybody (one gateway). `connections` and `idle_timeout` are httpx's defaults.
    """

    rtt: Rtt = _PROFILES["national"]
    regions: dict[str, Rtt] = Field(default_factory=dict)
    models: Annotated[list[ModelName], Field(min_length=1)] | None = None
    tls: Literal["tls1.3", "tls1.2", "none"] = "tls1.3"
    pooled: bool = True
    pool_of: Literal["key", "user", "everybody"] = "key"
    connections: Count = 100
    idle_timeout: Annotated[Duration, Field(gt=0)] = 5.0

    def references(self) -> Iterator[tuple[KeyPath, str]]:
        for position, model in enumerate(self.models or ()):
            yield ("models", position), model


@dataclass(slots=True, eq=False)
class _Trip:
    """A request under way. `connected`: it has a connection."""

    flight: Flight
    client: str | None
    rtt_s: float
    connected: bool = False


@dataclass(slots=True, eq=False)
class _Connections:
    """One client's: how many are busy, since when the others have been idle (oldest first), who waits for one."""

    num_busy: int = 0
    idle_since: deque[float] = field(default_factory=deque)
    waiting: OrderedDict[str, _Trip] = field(default_factory=OrderedDict)

    def close_idle(self, before: float) -> None:
        while self.idle_since and self.idle_since[0] <= before:
            self.idle_since.popleft()


class Network(Stage):
    """The stage."""

    def __init__(self, settings: NetworkSettings, parts: Parts) -> None:
        self.name = parts.name
        self._settings = settings
        self._streams = parts.streams
        self._num_setup_rtts = 1 + _TLS_RTTS[settings.tls]
        self._clients: OrderedDict[str | None, _Connections] = OrderedDict()  # the one used last is last
        self._trips: dict[str, _Trip] = {}  # by request id
        self._landings: EventQueue[_Trip] = EventQueue()
        self._counts = dict.fromkeys(("requests", "opened", "reused", "waited", "broken"), 0)

    def arrive(self, flight: Flight, now: float) -> Arrival:
        settings, request = self._settings, flight.request
        if settings.models is not None and request.model not in settings.models:
            return None
        self._counts["requests"] += 1
        rtt = settings.regions.get(request.tenant.region or "", settings.rtt)
        rtt_s = self._streams.lognormal(f"{self.name} rtt", request.shared_key, rtt.median, rtt.sigma)
        trip = _Trip(flight, _client(settings.pool_of, request.tenant), rtt_s)
        self._trips[flight.asked.request_id] = trip
        if not settings.pooled:
            self._open(trip, now)
            return HELD
        self._forget_clients(now)
        own = self._connections(trip.client)
        own.close_idle(now - settings.idle_timeout)
        if not own.idle_since and own.num_busy >= settings.connections:
            self._counts["waited"] += 1
            own.waiting[flight.asked.request_id] = trip
        else:
            self._connect(trip, own, now)
        return HELD

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        trip = self._trips.pop(flight.asked.request_id, None)
        if trip is None or not self._settings.pooled:
            return None
        own = self._connections(trip.client)
        if not trip.connected:
            del own.waiting[flight.asked.request_id]
            return None
        own.num_busy -= 1
        if _broken(end):
            self._counts["broken"] += 1
        else:
            own.idle_since.append(now)
        if own.waiting:
            self._connect(own.waiting.popitem(last=False)[1], own, now)
        return None

    def _connect(self, trip: _Trip, own: _Connections, now: float) -> None:
        """Over the connection that was used last, or a new one."""
        own.num_busy += 1
        trip.connected = True
        if own.idle_since:
            own.idle_since.pop()
            self._counts["reused"] += 1
            self._landings.push(now + trip.rtt_s, trip)
        else:
            self._open(trip, now)

    def _open(self, trip: _Trip, now: float) -> None:
        self._counts["opened"] += 1
        self._landings.push(now + trip.rtt_s * (1 + self._num_setup_rtts), trip)

    def _connections(self, client: str | None) -> _Connections:
        own = self._clients.setdefault(client, _Connections())
        self._clients.move_to_end(client)
        return own

    def _forget_clients(self, now: float) -> None:
        """Those that were used longest ago and have no connection left: there may be millions of users."""
        while self._clients:
            client, own = next(iter(self._clients.items()))
            own.close_idle(now - self._settings.idle_timeout)
            if own.num_busy or own.idle_since or own.waiting:
                return
            del self._clients[client]

    def due(self) -> float:
        return self._landings.due()

    def advance(self, now: float) -> Iterator[Release]:
        while self._landings.due() <= now:
            trip = self._landings.pop()[1]
            if self._trips.get(trip.flight.asked.request_id) is trip:
                yield trip.flight, None

    def describe(self) -> str:
        settings = self._settings
        regions = "".join(f", {region} {_words(rtt)}" for region, rtt in settings.regions.items())
        setup = f"{self._num_setup_rtts} more to connect ({settings.tls})"
        whose = {"key": "an API key", "user": "a user", "everybody": "in all"}[settings.pool_of]
        pool = f"{settings.connections} connections {whose}, closed after {duration_text(settings.idle_timeout)} idle"
        to = f" to {', '.join(settings.models)}" if settings.models else ""
        return f"round trip{to} {_words(settings.rtt)}{regions}; {setup}; {pool if settings.pooled else 'no pool'}"

    def state(self, now: float) -> dict[str, object]:
        before = now - self._settings.idle_timeout
        return {
            "in_flight": len(self._trips),
            "busy": sum(own.num_busy for own in self._clients.values()),
            "idle": sum(since > before for own in self._clients.values() for since in own.idle_since),
            "waiting": sum(len(own.waiting) for own in self._clients.values()),
            "counts": dict(self._counts),
        }


def _words(rtt: RttSettings) -> str:
    return f"{1000 * rtt.median:g} ms"


def _client(pool_of: str, tenant: Tenant) -> str | None:
    return {"key": tenant.key, "user": tenant.user, "everybody": None}[pool_of]


def _broken(end: End) -> bool:
    """The connection is of no use any more. A client that gives up over HTTP/1.1 can only close it."""
    if isinstance(end, Cut):
        return not end.in_band and not end.silent
    return end is None or (isinstance(end, Refused) and end.status == 0)
