"""What a request needs before the model: stations against an event-by-event simulation and queueing theory, and how their
saturation shows in the first token."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import factorial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Emission, Finished, Refused, Request
from mockllm.stack.stack import Stack
from mockllm.stack.stations import ServiceTime, Station
from mockllm.stack.timeline import Timeline
from tests.stack.build import STREAMS, ask, end_of, ends, engine, parts, passage_of, run, stack, stage
from tests.stack.clocks import assert_both_clocks_agree, run_with_cancels

ANSWER_S = 0.2 + 49 * 0.02  # of `small`
Query = tuple[float, float, int]  # when it comes, how long it takes, which group serves it


# -- stations --------------------------------------------------------------------------------------------


def event_by_event(
    queries: Sequence[Query], num_servers: Sequence[int], pool: int | None, timeout_s: float
) -> list[tuple[float, bool]]:
    """Lines of people who are let in one by one, on a clock that goes from event to event. By query: when it is over, and
    whether it was answered."""
    free = list(num_servers)
    free_connections = pool if pool is not None else len(queries)
    for_connection: deque[int] = deque()
    for_server: list[deque[int]] = [deque() for _ in num_servers]
    over: dict[int, tuple[float, bool]] = {}
    events = [(at, 1, "comes", number) for number, (at, _, _) in enumerate(queries)]
    heapq.heapify(events)
    while events:
        now, _, what, number = heapq.heappop(events)
        group = queries[number][2]
        if what == "comes":
            for_connection.append(number)
            heapq.heappush(events, (now + timeout_s, 2, "loses patience", number))
        elif what == "loses patience":
            if number in for_connection:
                for_connection.remove(number)
                over[number] = now, False
        else:
            over[number] = now, True
            free[group] += 1
            free_connections += 1
        while free_connections and for_connection:
            free_connections -= 1
            connected = for_connection.popleft()
            for_server[queries[connected][2]].append(connected)
        for each, line in enumerate(for_server):
            while free[each] and line:
                free[each] -= 1
                served = line.popleft()
                heapq.heappush(events, (now + queries[served][1], 0, "is answered", served))
    return [over[number] for number in range(len(queries))]


@given(
    st.lists(st.tuples(st.floats(0.001, 2.0), st.floats(0.001, 9.0), st.integers(0, 1)), min_size=1, max_size=80),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.one_of(st.none(), st.integers(1, 6)),
    st.floats(0.05, 8.0),
)
@settings(max_examples=300, deadline=None)
def test_a_station_does_what_the_event_by_event_simulation_does(
    drawn: list[tuple[float, float, int]], servers: tuple[int, int], pool: int | None, timeout_s: float
) -> None:
    at = np.cumsum([pause for pause, _, _ in drawn]).tolist()
    queries = [(instant, service_s, group) for instant, (_, service_s, group) in zip(at, drawn, strict=True)]
    subject = Station(servers, pool, timeout_s)
    got = [subject.ask(instant, service_s, group) for instant, service_s, group in queries]
    expected = event_by_event(queries, servers, pool, timeout_s)
    assert [each.answered for each in got] == [answered for _, answered in expected]
    assert [each.at for each in got] == pytest.approx([over_at for over_at, _ in expected])
    now = at[-1]
    present = sum(over_at > now for over_at, _ in expected)
    assert subject.num_busy(now) + subject.num_waiting(now) == present
    assert subject.num_busy(now) <= min(sum(servers), pool or 99)


def erlang_c(num_servers: int, load: float) -> float:
    """The probability that a customer of M/M/c waits; `load` in Erlang."""
    last = load**num_servers / factorial(num_servers) * num_servers / (num_servers - load)
    return last / (sum(load**k / factorial(k) for k in range(num_servers)) + last)


@pytest.mark.parametrize(("num_servers", "utilization"), [(1, 0.5), (3, 0.6), (8, 0.6)])
@pytest.mark.parametrize("behind_a_pool", [True, False])
def test_exponential_service_waits_as_erlang_says(num_servers: int, utilization: float, behind_a_pool: bool) -> None:
    """Whether the servers or the connections are what there are c of, makes no difference."""
    num, service_s = 150_000, 2.0
    random = STREAMS.generator("arrivals", f"M/M/{num_servers}")
    load = utilization * num_servers
    arrivals = np.cumsum(random.exponential(service_s / load, num)).tolist()
    services = random.exponential(service_s, num).tolist()
    subject = Station([99], num_servers, 1e9) if behind_a_pool else Station([num_servers], None, 1e9)
    waits = [subject.ask(at, s).at - at - s for at, s in zip(arrivals, services, strict=True)]
    theory = erlang_c(num_servers, load) * service_s / (num_servers - load)
    assert np.mean(waits) == pytest.approx(theory, rel=0.07)
    assert np.mean(np.array(waits) > 1e-9) == pytest.approx(erlang_c(num_servers, load), rel=0.04)


def test_service_times_follow_their_laws() -> None:
    keys = [f"k{number}" for number in range(20_000)]
    lognormal = ServiceTime.model_validate({"median": "20ms", "sigma": 0.5})
    logs = np.log([lognormal.draw(STREAMS, "s", key) for key in keys])
    assert (np.exp(logs.mean()), logs.std()) == (pytest.approx(0.02, rel=0.02), pytest.approx(0.5, rel=0.02))
    exponential = ServiceTime.model_validate({"mean": "30ms"})
    draws = np.array([exponential.draw(STREAMS, "s", key) for key in keys])
    assert (draws.mean(), draws.std()) == (pytest.approx(0.03, rel=0.03), pytest.approx(0.03, rel=0.03))


# -- the stage -------------------------------------------------------------------------------------------


def station(service: str, servers: int = 1000, **keys: Any) -> dict[str, Any]:
    return {"servers": servers, "service": {"median": service}} | keys


def needing(every_token: bool = False, **keys: Any) -> Stack:
    return stack(("dependencies", keys), every_token=every_token)


def waits(subject: Stack, load: Sequence[tuple[float, Request]]) -> list[float]:
    """Seconds in the dependencies, by request."""
    out = ends(run(subject, load))
    found = [out[f"r{number}"].passage for number in range(len(load))]  # type: ignore[union-attr]
    return [0.0 if passage is None else passage.waited_s.get("dependencies", 0.0) for passage in found]


def counts(subject: Stack) -> dict[str, int]:
    got = subject.stages[0].state(0.0)["counts"]
    assert isinstance(got, dict)
    return got


def poisson(rate: float, num: int, model: str = "small") -> list[tuple[float, Request]]:
    at = np.cumsum(STREAMS.generator("arrivals", "dependencies").exponential(1 / rate, num)).tolist()
    return [(instant, ask(number, model, num_answer_tokens=1)) for number, instant in enumerate(at)]


@pytest.mark.parametrize(("calls", "expected"), [("series", 0.03 + 0.1 + 0.25), ("parallel", 0.25)])
def test_in_series_they_add_up_and_in_parallel_the_slowest_counts(calls: str, expected: float) -> None:
    three: dict[str, Any] = {
        "cdn": {"hit_share": 1.0, "hit": {"median": "30ms"}, "origin": station("1s")},
        "database": station("100ms"),
        "vector_store": station("250ms"),
    }
    out = run(needing(calls=calls, **three), [(1.0, ask(0, "small"))])
    assert end_of(out, 0).at == pytest.approx(1.0 + expected + ANSWER_S)
    assert passage_of(out, 0).waited_s == {"dependencies": pytest.approx(expected)}


NOISY_DATABASE = {"servers": 10_000, "service": {"median": "300ms", "sigma": 1.2}}
ONE_VECTOR_SERVER = {"servers": 1, "service": {"mean": "80ms"}}
UNLOADED = {"servers": 10_000, "service": {"mean": "80ms"}}


def lindley(arrivals: Iterable[float], services: Iterable[float]) -> list[float]:
    """When each query of one server and one line is over."""
    out, free_at = [], 0.0
    for at, service_s in zip(arrivals, services, strict=True):
        free_at = max(at, free_at) + service_s
        out.append(free_at)
    return out


def test_in_series_a_line_is_in_the_order_in_which_they_come_to_it() -> None:
    """Requests overtake one another in the database, so the one before the vector store is not the order of arrival."""
    load = poisson(10.0, 600)
    first_s, second_s = waits(needing(database=NOISY_DATABASE), load), waits(needing(vector_store=UNLOADED), load)
    come = np.array([at for at, _ in load]) + first_s
    order = np.argsort(come)
    over_at = np.empty(len(load))
    over_at[order] = lindley(come[order], np.array(second_s)[order])
    got = waits(needing(database=NOISY_DATABASE, vector_store=ONE_VECTOR_SERVER), load)
    assert got == pytest.approx(over_at - [at for at, _ in load])
    assert (np.diff(order) < 0).sum() > 100


def test_in_parallel_each_has_its_own_line() -> None:
    load = poisson(10.0, 600)
    alone = [waits(needing(database=NOISY_DATABASE), load), waits(needing(vector_store=ONE_VECTOR_SERVER), load)]
    both = waits(needing(calls="parallel", database=NOISY_DATABASE, vector_store=ONE_VECTOR_SERVER), load)
    assert both == pytest.approx(np.max(alone, axis=0))


def test_only_a_share_needs_them() -> None:
    needed = np.array(waits(needing(vector_store=station("50ms", share=0.3)), poisson(5.0, 2000))) > 0
    assert needed.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 2000))


def test_a_cdn_answers_its_share_and_passes_the_rest_on() -> None:
    cdn = {"hit_share": 0.8, "hit": {"median": "10ms"}, "origin": station("200ms")}
    subject = needing(cdn=cdn)
    times = np.round(waits(subject, poisson(5.0, 2000)), 9)
    assert set(times) == {0.01, 0.21}
    assert (times == 0.01).mean() == pytest.approx(0.8, abs=4 * np.sqrt(0.8 * 0.2 / 2000))
    assert counts(subject)["cdn_asked"] - counts(subject)["cdn_queries"] == (times == 0.01).sum()


def test_writes_keep_the_primary_busy_and_reads_the_replicas() -> None:
    """A write takes 1 s of the only server of the primary, and there are 1.6 a second: it falls behind. Reads do not
    notice, unless they go there too."""
    load = poisson(4.0, 400)
    database = station("10ms", servers=1, read_share=0.6, write={"median": "1s"})
    with_replicas = np.array(waits(needing(database=database | {"replicas": 3}), load))
    alone = np.array(waits(needing(database=database), load))
    assert np.median(with_replicas) < 0.05
    assert with_replicas.max() > 50
    assert np.median(alone) > 30


@pytest.mark.parametrize("calls", ["series", "parallel"])
def test_a_pool_that_is_exhausted_shows_in_the_first_token_and_then_as_503(calls: str) -> None:
    """Two connections, queries of 1 s, five requests at once, a timeout of 1.5 s: two are served at once, two after 1 s,
    and the fifth leaves at 1.5 s."""
    subject = needing(calls=calls, database=station("1s", pool=2, pool_timeout="1500ms"))
    load = [(3.0, ask(number, "small", num_answer_tokens=1)) for number in range(5)]
    out = run(subject, [*load, (4.2, ask(5, "small"))])
    assert [end_of(out, number).at for number in range(4)] == pytest.approx([4.2, 4.2, 5.2, 5.2])
    failed = end_of(out, 4)
    assert isinstance(failed, Refused)
    assert (failed.at, failed.status) == (4.5, 503)
    assert failed.message == "The database has no connection within 1.5 s."
    assert passage_of(out, 4).notes == ["dependencies: database had no connection within 1.5 s"]
    assert passage_of(out, 4).waited_s == {"dependencies": pytest.approx(1.5)}
    assert end_of(out, 5).at == pytest.approx(5.0 + 1.0 + ANSWER_S)
    assert counts(subject)["database_timeouts"] == 1


def test_the_effect_of_a_small_pool_on_first_tokens() -> None:
    """20 queries a second of 0.1 s want two connections. With eight p95 does not notice; with two, and 1 s to wait, the
    first token suffers and some are refused."""
    load, tails, refused = poisson(20.0, 3000), {}, {}
    for size in (8, 2):
        database = {"servers": 100, "service": {"mean": "100ms"}, "pool": size, "pool_timeout": "1s"}
        out = ends(run(needing(database=database), load))
        firsts = [out[f"r{n}"].at - at for n, (at, _) in enumerate(load) if isinstance(out[f"r{n}"], Finished)]
        tails[size] = float(np.quantile(firsts, 0.95))
        refused[size] = len(load) - len(firsts)
    alone = 0.2 - 0.1 * np.log(0.05)  # of an exponential time that waits for nothing
    assert tails[8] == pytest.approx(alone, rel=0.1)
    assert refused[8] == 0
    assert tails[2] > 2 * tails[8]
    assert refused[2] > 30


# -- what every policy must bear -------------------------------------------------------------------------


def strained(every_token: bool = False) -> Stack:
    return needing(
        every_token,
        cdn={"hit_share": 0.5, "hit": {"median": "10ms", "sigma": 0.3}, "origin": station("300ms", servers=1)},
        database=NOISY_DATABASE | {"servers": 1, "replicas": 2, "pool": 2, "pool_timeout": "1s"},
        vector_store=ONE_VECTOR_SERVER | {"share": 0.7},
    )


def test_both_clocks_agree() -> None:
    virtual = assert_both_clocks_agree(strained, poisson(6.0, 150))
    assert counts(virtual)["database_timeouts"] > 10


@given(st.lists(st.tuples(st.integers(0, 59), st.floats(0, 3)), max_size=30))
@settings(max_examples=60, deadline=None)
def test_clients_may_go_away_at_any_moment(cancels: list[tuple[int, float]]) -> None:
    out: list[Emission] = run_with_cancels(strained(), poisson(6.0, 60), cancels)
    assert all(earlier.at <= later.at for earlier, later in pairwise(out))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "names no dependency"),
        ({"vector_store": {"servers": 1, "service": {}}}, "needs either `median`"),
        ({"vector_store": {"servers": 1, "service": {"median": "1s", "mean": "1s"}}}, "and not both"),
        ({"vector_store": {"servers": 1, "service": {"mean": "1s", "sigma": 0.3}}}, "belongs to `median`"),
        ({"vector_store": {"servers": 1, "service": {"mean": "1"}}}, "not a duration"),
    ],
)
def test_settings_that_make_no_sense_are_errors(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stage("dependencies", keys, parts(engine(), "dependencies", Timeline(), []))


def test_it_says_what_it_does() -> None:
    assert strained().stages[0].describe() == (
        "cdn (50% hits in 10 ms, else 1 servers of 300 ms), database (primary and 2 replicas, 90% reads, each 1 servers of "
        "300 ms, 2 connections, 1 s to wait for one), vector_store (for 70% of requests, 1 servers of 80 ms); one after the "
        "other"
    )
