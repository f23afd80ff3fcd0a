from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mockllm.events import EventQueue


@given(st.lists(st.sampled_from([0.0, 1.0, 1.5, 2.0])))
def test_events_leave_by_time_and_within_an_instant_as_they_came(instants: list[float]) -> None:
    queue: EventQueue[tuple[float, int]] = EventQueue()
    pushed = [(at, number) for number, at in enumerate(instants)]
    for event in pushed:
        queue.push(event[0], event)
    popped = [queue.pop()[1] for _ in pushed]
    assert popped == sorted(pushed)  # the second component is the order of pushing


def test_an_empty_queue_is_never_due() -> None:
    queue: EventQueue[str] = EventQueue()
    assert queue.due() == inf
    with pytest.raises(IndexError):
        queue.pop()


@given(st.lists(st.floats(0, 10), min_size=1, max_size=20), st.data())
def test_a_discarded_event_is_gone_and_the_rest_stays_in_order(instants: list[float], data: st.DataObject) -> None:
    queue: EventQueue[list[float]] = EventQueue()
    events = [[at] for at in instants]
    for event in events:
        queue.push(event[0], event)
    victim = data.draw(st.sampled_from(events))
    assert queue.discard(victim)
    assert not queue.discard(victim)
    left = [queue.pop()[0] for _ in range(len(queue))]
    assert left == sorted(event[0] for event in events if event is not victim)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=8), st.lists(st.floats(0, 10), max_size=12))
def test_putting_off_is_popping_and_pushing(times: list[float], later: list[float]) -> None:
    one, other = EventQueue[int](), EventQueue[int]()
    for number, at in enumerate(times):
        one.push(at, number)
        other.push(at, number)
    for at in later:
        assert one.head() == one._heap[0][2]
        one.put_off(at)
        other.push(at, other.pop()[1])
        assert one.due() == other.due()
    assert [one.pop() for _ in times] == [other.pop() for _ in times]
