"""What is to be sent next: the plan's arrivals and those planned since, in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.plan import Arrival
from harness.timetable import Timetable

_INSTANTS = st.lists(st.floats(0, 100), max_size=20)


@given(_INSTANTS, _INSTANTS)
def test_everything_comes_once_and_in_order_of_time(planned: list[float], added: list[float]) -> None:
    timetable = Timetable(Arrival(number, at, 1) for number, at in enumerate(sorted(planned)))
    timetable.add(Arrival(number, at, 1, turn=1) for number, at in enumerate(added))
    taken = []
    while (at := timetable.next_at()) < inf:
        taken.append(timetable.take())
        assert taken[-1].at_s == at
    assert [each.at_s for each in taken] == sorted(planned + added)
    assert len({each.key for each in taken}) == len(planned) + len(added)
    with pytest.raises(IndexError):
        timetable.take()


def test_the_plan_is_read_one_arrival_ahead() -> None:
    num_read = 0

    def arrivals() -> Iterator[Arrival]:
        nonlocal num_read
        for number in range(1000):
            num_read += 1
            yield Arrival(number, float(number), 1)

    timetable = Timetable(arrivals())
    for _ in range(10):
        timetable.take()
    assert num_read == 11


def test_the_name_of_a_request_is_its_index_and_turn() -> None:
    assert [Arrival(7, 0.0, 1).key, Arrival(7, 0.0, 1, turn=2).key] == ["7", "7.2"]


def test_what_was_withdrawn_is_never_taken_and_what_was_planned_always() -> None:
    """A search that has seen enough takes back what it planned since; the plan's own arrivals stand."""
    planned = [Arrival(index, float(index), 1) for index in range(3)]
    added = [Arrival(index, index + 0.5, 1, turn=1) for index in range(3)]
    cut_at = [inf]
    timetable = Timetable(iter(planned), lambda arrival: arrival.at_s > cut_at[0])
    timetable.add(added)
    assert [timetable.take().key for _ in range(2)] == ["0", "0.1"]
    cut_at[0] = 1.0
    left = []
    while timetable.next_at() < inf:
        left.append(timetable.take().key)
    assert left == ["1", "2"]
