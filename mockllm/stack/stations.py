"""Stations: servers that answer queries first come, first served, behind a pool of connections. Told the time.

Whoever comes finds out at once when it is served, because nobody overtakes: with c servers the next query begins when the
first of them is free,

    begin = max(arrival, earliest of the c instants)         J. Kiefer and J. Wolfowitz (1955), for G/G/c

and ends its service time later. The same rule gives the instant at which one of the pool's connections is free; it is held
until the query has ended. Who would have to wait for a connection for longer than the timeout leaves at the timeout and
takes nothing. A query that has come is not taken back: a client that gives up does not stop a database.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush, heapreplace
from math import inf
from typing import Annotated, NamedTuple

from pydantic import Field, model_validator

from mockllm.fields import Count, Duration, Spread, Strict
from mockllm.streams import Streams

__all__ = ["Served", "ServiceTime", "Station", "StationSettings"]


class ServiceTime(Strict):
    """How long a query takes: lognormal by `median` and `sigma` (of its logarithm), or exponential by its `mean`."""

    median: Duration | None = None
    sigma: Spread = 0.0
    mean: Duration | None = None

    @model_validator(mode="after")
    def _one_law(self) -> ServiceTime:
        if (self.median is None) == (self.mean is None):
            raise ValueError("needs either `median` (lognormal, with `sigma`) or `mean` (exponential), and not both")
        if self.mean is not None and self.sigma:
            raise ValueError("`sigma` belongs to `median`; an exponential time has its `mean` only")
        return self

    def draw(self, streams: Streams, purpose: str, key: str) -> float:
        """Seconds."""
        if self.mean is not None:
            return streams.exponential(purpose, key, self.mean)
        return streams.lognormal(purpose, key, self.median or 0.0, self.sigma)

    def __str__(self) -> str:
        return f"{1000 * (self.mean or self.median or 0.0):g} ms"


class StationSettings(Strict):
    """`servers` queries are worked on at a time; `pool` connections lead there (None: as many as come), and nobody waits
    for one for longer than `pool_timeout`: 30 s is the default of HikariCP and of SQLAlchemy."""

    servers: Count
    service: ServiceTime
    pool: Count | None = None
    pool_timeout: Annotated[Duration, Field(gt=0)] = 30.0


class Served(NamedTuple):
    """When a query is over, and whether it was answered: False is a timeout of the pool."""

    at: float
    answered: bool


class Station:
    """Groups of servers behind one pool. Queries come in the order of time."""

    def __init__(self, num_servers: Sequence[int], num_connections: int | None, timeout_s: float) -> None:
        self.num_queries = self.num_timeouts = 0
        self._servers_free_at = [[-inf] * num for num in num_servers]
        self._connections_free_at = None if num_connections is None else [-inf] * num_connections
        self.timeout_s = timeout_s
        self._present: list[tuple[float, float]] = []  # of all queries that are not over: when it ends, when it begins

    def ask(self, now: float, service_s: float, group: int = 0) -> Served:
        """A query comes that will keep a server of `group` busy for `service_s`."""
        self.num_queries += 1
        self._forget_ended(now)
        connected_at = now if self._connections_free_at is None else max(now, self._connections_free_at[0])
        if connected_at - now > self.timeout_s:
            self.num_timeouts += 1
            heappush(self._present, (now + self.timeout_s, inf))
            return Served(now + self.timeout_s, answered=False)
        begin_at = max(connected_at, self._servers_free_at[group][0])
        end_at = begin_at + service_s
        heapreplace(self._servers_free_at[group], end_at)
        if self._connections_free_at is not None:
            heapreplace(self._connections_free_at, end_at)
        heappush(self._present, (end_at, begin_at))
        return Served(end_at, answered=True)

    def num_busy(self, now: float) -> int:
        """Queries that are worked on."""
        return sum(begin_at <= now for end_at, begin_at in self._present if end_at > now)

    def num_waiting(self, now: float) -> int:
        """Queries that wait for a connection or for a server."""
        return sum(begin_at > now for end_at, begin_at in self._present if end_at > now)

    def _forget_ended(self, now: float) -> None:
        while self._present and self._present[0][0] <= now:
            heappop(self._present)
