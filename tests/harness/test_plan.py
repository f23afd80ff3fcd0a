"""Shards and cuts of a plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.plan import Arrival, Materialized, Shard, cut_at
from tests.harness.builders import LAW


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
