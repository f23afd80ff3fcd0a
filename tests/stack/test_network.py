"""The network: what round trips and connections add to the first token, exactly, and to nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Emission, Request, Tokens
from mockllm.model import Forced, chunks_of
from mockllm.passage import Tenant
from mockllm.stack.stack import Stack
from mockllm.stack.stage import Again, End, Flight, Leaving, Stage
from mockllm.stack.timeline import Timeline
from tests.stack.build import ask, end_of, ends, engine, parts, passage_of, run, stack, stage
from tests.stack.clocks import assert_both_clocks_agree, run_with_cancels
from tests.stack.doors import Outage

RTT = {"median": "40ms", "sigma": 0.0}
RTT_S = 0.04
ANSWER_S = 0.2 + 49 * 0.02  # of `small`


def over(every_token: bool = False, **keys: Any) -> Stack:
    return stack(("network", {"rtt": RTT} | keys), every_token=every_token)


def counts(subject: Stack) -> dict[str, int]:
    got = subject.stages[0].state(0.0)["counts"]
    assert isinstance(got, dict)
    return got


def instants(out: Sequence[Emission], number: int) -> list[float]:
    """When each token of request n left."""
    mine = [each for each in out if isinstance(each, Tokens) and each.request_id == f"r{number}"]
    return [chunk.at for tokens in mine for chunk in chunks_of(tokens)]


@pytest.mark.parametrize("every_token", [True, False])
@pytest.mark.parametrize(
    ("keys", "new", "second"),
    [
        ({"tls": "none"}, 2, 1),
        ({"tls": "tls1.3"}, 3, 1),
        ({"tls": "tls1.2"}, 4, 1),
        ({"tls": "tls1.3", "pooled": False}, 3, 3),
        ({"tls": "tls1.2", "pooled": False}, 4, 4),
    ],
)
def test_the_first_token_shifts_by_round_trips_and_the_gaps_stay(
    keys: dict[str, Any], new: int, second: int, every_token: bool
) -> None:
    load = [(1.0, ask(0, "small")), (4.0, ask(1, "small"))]
    without = run(stack(every_token=every_token), load)
    out = run(over(every_token, **keys), load)
    for number, num_rtts in ((0, new), (1, second)):
        before, after = instants(without, number), instants(out, number)
        assert np.subtract(after, before) == pytest.approx(num_rtts * RTT_S)
        assert np.diff(after) == pytest.approx(np.diff(before))
        assert end_of(out, number).at - end_of(without, number).at == pytest.approx(num_rtts * RTT_S)
        assert passage_of(out, number).waited_s == {"network": pytest.approx(num_rtts * RTT_S)}


def test_a_request_that_is_not_streamed_and_one_that_is_refused_pay_too() -> None:
    out = run(over(), [(0.0, ask(0, "small", watched=False)), (0.0, ask(1, forced=Forced(status=500)))])
    assert end_of(out, 0).at == pytest.approx(3 * RTT_S + ANSWER_S)
    assert end_of(out, 1).at == pytest.approx(3 * RTT_S)


def test_regions_have_round_trips_of_their_own() -> None:
    """Medians of the profiles, and the sigma of their logarithm, over 2,000 requests each."""
    regions = {"near": "in_region", "far": "transcontinental", "mars": {"median": "182s", "sigma": 0.5}}
    subject = over(rtt="national", regions=regions, pooled=False, tls="none")
    where = ["near", "far", "mars", "elsewhere"]
    load = [(n * 1.0, ask(n, "small", num_answer_tokens=1, tenant=Tenant(region=where[n % 4]))) for n in range(8_000)]
    out = ends(run(subject, load))
    waits = np.array([(out[f"r{n}"].at - at - 0.2) / 2 for n, (at, _) in enumerate(load)]).reshape(-1, 4)
    logs = np.log(waits)
    assert np.exp(np.median(logs, axis=0)) == pytest.approx([0.005, 0.11, 182.0, 0.03], rel=0.05)
    assert logs.std(axis=0) == pytest.approx([0.2, 0.2, 0.5, 0.2], rel=0.05)


def test_only_the_models_that_it_names_are_reached_over_it() -> None:
    out = run(over(models=["large"], pooled=False), [(0.0, ask(0, "large")), (0.0, ask(1, "small"))])
    assert passage_of(out, 0).waited_s == {"network": pytest.approx(3 * RTT_S)}
    assert passage_of(out, 1).waited_s == {}


def test_every_attempt_pays_and_reuses_what_the_one_before_left_open() -> None:
    class Twice(Stage):
        name = "twice"

        def leave(self, flight: Flight, end: End, now: float) -> Leaving:
            return Again(now) if flight.passage.num_attempts == 1 else None

    whole = stack(Twice(), ("network", {"rtt": RTT}))
    out = run(whole, [(0.0, ask(0, "small", watched=False))])
    assert end_of(out, 0).at == pytest.approx(3 * RTT_S + ANSWER_S + RTT_S + ANSWER_S)


# -- connections -----------------------------------------------------------------------------------------


def test_a_busy_pool_makes_the_next_wait_in_turn() -> None:
    subject = over(connections=2)
    load = [(number * 0.01, ask(number, "small")) for number in range(6)]
    out = run(subject, load)
    first = 3 * RTT_S + ANSWER_S
    each = RTT_S + ANSWER_S
    expected = [first, 0.01 + first, first + each, 0.01 + first + each, first + 2 * each, 0.01 + first + 2 * each]
    assert [end_of(out, number).at for number in range(6)] == pytest.approx(expected)
    assert counts(subject) == {"requests": 6, "opened": 2, "reused": 4, "waited": 4, "broken": 0}


@pytest.mark.parametrize(("pause_s", "num_rtts"), [(0.0, 1), (4.99, 1), (5.0, 3), (60.0, 3)])
def test_an_idle_connection_is_closed_after_its_time(pause_s: float, num_rtts: int) -> None:
    at = 3 * RTT_S + ANSWER_S + pause_s + 1e-9
    out = run(over(idle_timeout="5s"), [(0.0, ask(0, "small")), (at, ask(1, "small"))])
    assert passage_of(out, 1).waited_s == {"network": pytest.approx(num_rtts * RTT_S)}


@pytest.mark.parametrize(("pool_of", "num_new"), [("everybody", 1), ("key", 2), ("user", 3)])
def test_connections_belong_to_a_key_a_user_or_everybody(pool_of: str, num_new: int) -> None:
    who = [Tenant("k1", "u1"), Tenant("k1", "u2"), Tenant("k2", "u3"), Tenant("k2", "u3"), Tenant("k1", "u1")]
    subject = over(pool_of=pool_of, idle_timeout="1h")
    run(subject, [(number * 10.0, ask(number, "small", tenant=tenant)) for number, tenant in enumerate(who)])
    assert counts(subject)["opened"] == num_new


@pytest.mark.parametrize(
    ("how", "num_opened"),
    [
        (Forced(status=503), 1),  # an answer, and the connection stays
        (Forced(error_after=5), 1),
        (Forced(cut_after=5), 2),
    ],
)
def test_a_connection_that_broke_is_not_used_again(how: Forced, num_opened: int) -> None:
    subject = over()
    run(subject, [(0.0, ask(0, "small", forced=how)), (3.0, ask(1, "small"))])
    assert counts(subject)["opened"] == num_opened


def test_nor_is_one_that_was_reset_or_whose_request_was_given_up() -> None:
    door = Outage((0.0, 2.0), status=0)
    subject = stack(("network", {"rtt": RTT}), doors={"small": [door]})
    load: list[tuple[float, Request]] = [(0.0, ask(0, "small")), (3.0, ask(1, "small")), (4.0, ask(2, "small"))]
    run_with_cancels(subject, load, [(1, 0.5)])
    assert counts(subject) == {"requests": 3, "opened": 3, "reused": 0, "waited": 0, "broken": 2}


def test_clients_that_have_gone_are_forgotten() -> None:
    subject = over(pool_of="user", idle_timeout="10s")
    users = [(float(n), ask(n, "small", tenant=Tenant(user=f"u{n}"))) for n in range(2000)]
    run(subject, users)
    kept = vars(subject.stages[0])["_clients"]
    assert len(kept) <= 13


# -- what every policy must bear -------------------------------------------------------------------------


class Expected:
    """The same rules as a list of connections that is searched through, for requests of known length."""

    def __init__(self, size: int, idle_s: float) -> None:
        self.size, self.idle_s = size, idle_s

    def waits(self, load: Sequence[float], service_s: float) -> list[float]:
        open_until: list[tuple[float, float]] = []  # of each connection: busy until, kept until
        out = []
        for at in load:
            alive = [each for each in open_until if each[0] > at or each[1] > at]
            idle = [each for each in alive if each[0] <= at]
            if idle:
                used, begin, num = max(idle), at, 1
            elif len(alive) < self.size:
                used, begin, num = None, at, 3
            else:
                used = min(alive)
                begin, num = used[0], 1
            if used is not None:
                alive.remove(used)
            end = begin + num * RTT_S + service_s
            open_until = [*alive, (end, end + self.idle_s)]
            out.append(begin + num * RTT_S - at)
        return out


@given(st.lists(st.floats(0.001, 3.0), min_size=1, max_size=60), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_a_pool_does_what_a_list_of_connections_does(pauses: list[float], size: int) -> None:
    at = np.cumsum(pauses).tolist()
    out = run(over(connections=size, idle_timeout="2s"), [(instant, ask(n, "small")) for n, instant in enumerate(at)])
    waits = [passage_of(out, number).waited_s["network"] for number in range(len(at))]
    assert waits == pytest.approx(Expected(size, 2.0).waits(at, ANSWER_S))


def crowded(every_token: bool = False) -> Stack:
    return over(every_token, rtt="transcontinental", connections=3, idle_timeout="1s")


LOAD = [(n * 0.37, ask(n, "small", watched=n % 3 != 0, tenant=Tenant(key=f"k{n % 2}"))) for n in range(80)]


def test_both_clocks_agree() -> None:
    virtual = assert_both_clocks_agree(crowded, LOAD)
    assert counts(virtual)["reused"] > 10


@given(st.lists(st.tuples(st.integers(0, 79), st.floats(0, 4)), max_size=40))
@settings(max_examples=60, deadline=None)
def test_clients_may_go_away_at_any_moment(cancels: list[tuple[int, float]]) -> None:
    subject = over(connections=1, pool_of="everybody")
    run_with_cancels(subject, LOAD, cancels)
    state = subject.stages[0].state(1e6)
    assert (state["busy"], state["waiting"], state["in_flight"]) == (0, 0, 0)


def test_the_effect_of_a_pool_on_first_tokens() -> None:
    """A request a second from one client: with a pool each pays one round trip, without it three."""
    load = [(float(n), ask(n, "small")) for n in range(50)]
    medians = {
        pooled: np.median([instants(out, n)[0] - n for n in range(50)])
        for pooled in (True, False)
        for out in [run(over(pooled=pooled), load)]
    }
    assert medians == {True: pytest.approx(0.2 + RTT_S), False: pytest.approx(0.2 + 3 * RTT_S)}


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"rtt": "moon"}, "no network profile; there are in_region"), ({"rtt": {"median": "0s"}}, "greater than 0")],
)
def test_an_unknown_distance_is_an_error_that_names_the_known_ones(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stage("network", keys, parts(engine(), "network", Timeline(), []))


def test_it_says_what_it_does() -> None:
    assert over(regions={"eu": "in_region"}).stages[0].describe() == (
        "round trip 40 ms, eu 5 ms; 2 more to connect (tls1.3); 100 connections an API key, closed after 5 s idle"
    )


def test_a_look_at_the_state_closes_no_connection() -> None:
    """Who looks may be ahead of requests that came earlier and are dealt with later."""
    subject = over(tls="none", idle_timeout="5s")
    run(subject, [(0.0, ask(0, "small"))])
    assert subject.stages[0].state(1000.0)["idle"] == 0
    run(subject, [(2.0, ask(1, "small"))])
    assert counts(subject)["reused"] == 1
