"""The bucket against one that is recomputed from scratch, one that is stepped, and what OpenAI's messages say."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm.stack.bucket import Bucket

CAPACITY, PER_S = 100.0, 10.0

# After so long somebody takes so much, if it fits, and uses a share of it in the end; or an earlier taking is settled.
# A share above 1 is more than was reserved.
STEPS = st.lists(
    st.tuples(
        st.one_of(st.floats(0, 3), st.floats(0, 30), st.just(0.0)),
        st.one_of(st.floats(1, 100), st.just(100.0)),
        st.one_of(st.floats(0, 1), st.floats(1, 1.5)),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=60,
)


class Replayed:
    """A bucket that remembers everything and recomputes its level: what comes back was never taken."""

    def __init__(self) -> None:
        self.takings: list[list[float]] = []  # [at, amount]

    def level(self, now: float) -> float:
        level, before = CAPACITY, 0.0
        for at, amount in self.takings:
            level = min(CAPACITY, level + (at - before) * PER_S) - amount
            before = at
        return min(CAPACITY, level + (now - before) * PER_S)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_what_comes_back_counts_as_never_taken(steps: list[tuple[float, float, float, int]]) -> None:
    bucket, replayed = Bucket(CAPACITY, PER_S), Replayed()
    now, still_open = 0.0, list[tuple[int, int, float]]()  # (taking, its place in the replay, what it really uses)
    for pause, amount, share, action in steps:
        now += pause
        if action == 0 and still_open:
            number, place, used = still_open.pop(min(round(share * len(still_open)), len(still_open) - 1))
            back = replayed.takings[place][1] - used
            bucket.settle(number, back, now)
            if back >= 0:
                replayed.takings[place][1] = used
            else:  # nobody knew of it before
                replayed.takings.append([now, -back])
        elif bucket.wait(amount, now) == 0:
            still_open.append((bucket.take(amount, now), len(replayed.takings), amount * share))
            replayed.takings.append([now, amount])
        assert bucket.level(now) == pytest.approx(replayed.level(now), abs=1e-6)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_no_more_is_used_in_any_time_than_the_bucket_holds_and_what_comes_in(
    steps: list[tuple[float, float, float, int]],
) -> None:
    """Whatever is reserved, and whenever it comes back, as long as no less is reserved than used."""
    bucket, now = Bucket(CAPACITY, PER_S), 0.0
    used: list[tuple[float, float]] = []
    still_open: list[tuple[int, float]] = []
    for pause, amount, share, action in steps:
        share = min(share, 1.0)
        now += pause
        if action == 0 and still_open:
            bucket.settle(*still_open.pop(round(share * (len(still_open) - 1))), now)
        elif bucket.wait(amount, now) == 0:
            still_open.append((bucket.take(amount, now), amount * (1 - share)))
            used.append((now, amount * share))
    totals = [0.0, *accumulate(amount for _, amount in used)]
    for first in range(len(used)):
        for last in range(first, len(used)):
            allowed = CAPACITY + PER_S * (used[last][0] - used[first][0])
            assert totals[last + 1] - totals[first] <= allowed + 1e-3 * (last - first + 1)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 100)), min_size=1, max_size=80))
@settings(max_examples=100, deadline=None)
def test_it_admits_what_a_bucket_admits_that_is_filled_drop_by_drop(steps: list[tuple[int, int]]) -> None:
    """Eighths of a second are exact in binary: no tolerance is needed."""
    bucket, level, eighths = Bucket(CAPACITY, PER_S), CAPACITY, 0
    for pause, amount in steps:
        for _ in range(pause):
            level = min(CAPACITY, level + PER_S / 8)
        eighths += pause
        now = eighths / 8
        fits = bucket.wait(amount, now) == 0
        assert fits == (level >= amount)
        if fits:
            bucket.settle(bucket.take(amount, now), 0, now)
            level -= amount


@pytest.mark.parametrize(("used", "wanted"), [(100, 1), (60, 70), (99.5, 1), (3.3, 100)])
def test_who_waits_as_long_as_told_is_let_in_and_not_before(used: float, wanted: float) -> None:
    bucket, now = Bucket(CAPACITY, PER_S), 86_400.123
    bucket.take(used, now)
    wait_s = bucket.wait(wanted, now)
    assert wait_s == pytest.approx((wanted - (CAPACITY - used)) / PER_S)
    assert bucket.wait(wanted, now + wait_s - 0.001) > 0
    assert bucket.wait(wanted, now + wait_s) == 0


def test_who_used_more_than_was_reserved_leaves_a_debt() -> None:
    bucket = Bucket(CAPACITY, PER_S)
    bucket.settle(bucket.take(80, 0.0), -60, 0.0)
    assert bucket.level(0.0) == -40
    assert bucket.wait(1, 0.0) == pytest.approx(4.1)


def test_what_never_fits_never_will() -> None:
    assert Bucket(CAPACITY, PER_S).wait(101, 0.0) == float("inf")


def test_a_bucket_that_was_left_alone_long_enough_is_like_a_new_one() -> None:
    bucket = Bucket(CAPACITY, PER_S)
    assert bucket.is_unused(0.0)
    number = bucket.take(50, 0.0)
    assert not bucket.is_unused(100.0), "something may still come back"
    bucket.settle(number, 0, 1.0)
    assert not bucket.is_unused(4.9)
    assert bucket.is_unused(5.0)
