"""Shards and cuts of a plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.plan import Arrival, Heard, LoadPlan, Materialized, ReactivePlan, Shard, cut_at
from harness.records import RequestRecord
from harness.timetable import Timetable
from tests.harness.builders import LAW, record


def _plan(num: int) -> Materialized:
    return Materialized(
        tuple(Arrival(index, index * 0.5, 10) for index in range(num)), num * 0.5, {"arrivals": "by hand"}
    )


@LAW
@given(st.integers(0, 200), st.integers(1, 12))
def test_shards_are_disjoint_and_together_the_plan(num: int, of: int) -> None:
    plan = _plan(num)
    shares = [list(Shard(index, of).take(plan.arrivals())) for index in range(of)]
    everything = [arrival for share in shares for arrival in share]
    assert len(everything) == num  # nothing twice
    assert sorted(everything, key=lambda arrival: arrival.index) == list(plan.arrivals())
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@dataclass(frozen=True)
class _Chains(Materialized):
    """After each request so many more follow as its index says, at times of its own."""

    def after(self, arrival: Arrival, record: RequestRecord, heard: Heard) -> Iterable[Arrival]:
        if arrival.turn < arrival.index % 4:
            yield replace(arrival, turn=arrival.turn + 1, at_s=arrival.at_s + 0.3 + arrival.index % 3)


def _sent(plan: LoadPlan, shard: Shard) -> list[Arrival]:
    """What one worker sends, follow-ups and all, as the open loop does it."""
    timetable, sent = Timetable(shard.take(plan.arrivals())), []
    while timetable.next_at() < inf:
        sent.append(timetable.take())
        if isinstance(plan, ReactivePlan):
            timetable.add(plan.after(sent[-1], record(), Heard()))
    return sent


@LAW
@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 9), st.booleans())
def test_what_all_workers_send_is_what_a_single_process_sends(instants: list[float], of: int, reactive: bool) -> None:
    """Also of a plan that goes on from answers: what follows from a request is its own worker's."""
    kind = _Chains if reactive else Materialized
    plan = kind(tuple(Arrival(index, at, 10) for index, at in enumerate(sorted(instants))), 100.0)
    together = [arrival for index in range(of) for arrival in _sent(plan, Shard(index, of))]
    by_name = sorted(together, key=lambda arrival: (arrival.index, arrival.turn))
    assert by_name == sorted(_sent(plan, Shard()), key=lambda arrival: (arrival.index, arrival.turn))
    assert len({arrival.key for arrival in together}) == len(together)
    if reactive:
        assert len(together) == sum(1 + index % 4 for index in range(len(instants)))


@LAW
@given(st.integers(0, 200), st.integers(1, 12))
def test_a_share_is_in_order_of_time(num: int, of: int) -> None:
    for index in range(of):
        instants = [arrival.at_s for arrival in Shard(index, of).take(_plan(num).arrivals())]
        assert instants == sorted(instants)


def test_the_only_shard_is_the_plan() -> None:
    assert list(Shard().take(_plan(5).arrivals())) == list(_plan(5).arrivals())


@pytest.mark.parametrize(
    ("at", "kept"),
    [(0.1, 1), (0.5, 1), (0.500001, 2), (2.0, 4), (4.9, 10)],
)
def test_a_cut_keeps_what_lies_before_it(at: float, kept: int) -> None:
    cut = cut_at(_plan(10), at)
    assert list(cut.arrivals()) == list(_plan(10).arrivals())[:kept]
    assert cut.num_arrivals == kept
    assert cut.duration_s == at


@pytest.mark.parametrize("at", [5.0, 5.1, 1e9])
def test_a_plan_that_is_not_longer_is_not_cut(at: float) -> None:
    plan = _plan(10)
    assert cut_at(plan, at) is plan


def test_a_cut_says_so_and_leaves_the_plan_alone() -> None:
    plan = _plan(10)
    assert cut_at(plan, 2.0).describe() == {"arrivals": "by hand", "cut_at_s": 2.0, "planned_duration_s": 5.0}
    assert plan.describe() == {"arrivals": "by hand"}
    assert plan.num_arrivals == 10
