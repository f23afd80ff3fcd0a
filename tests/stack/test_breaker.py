"""The circuit breaker against a naive one that keeps every call it ever saw and looks through all of them each time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Cut, Finished, Refused
from mockllm.stack.breaker import Breaker, BreakerSettings, fault_of, reason_to_move
from mockllm.stack.stage import End


def breaker(**keys: Any) -> Breaker:
    given = {"window": "30s", "failure_share": 0.5, "min_calls": 4, "cooldown": "10s", "probes": 2}
    return Breaker(BreakerSettings.model_validate(given | keys))


class Naive:
    """The rules read aloud. Each call is a dict of facts; `at` is when the breaker last changed to or from closed."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.opened_at: float | None = None
        self.at = 0.0
        self.term = 0

    def state(self, now: float) -> str:
        if self.opened_at is None:
            return "closed"
        return "open" if now < self.opened_at + 10 else "half-open"

    def admit(self, now: float) -> dict[str, Any] | None:
        state = self.state(now)
        probes = [call for call in self.calls if call["term"] == self.term and call["end"] != "withdrawn"]
        if state == "open" or (state == "half-open" and len(probes) >= 2):
            return None
        call = {"term": self.term, "end": None, "ended_at": None}
        self.calls.append(call)
        return call

    def end(self, call: dict[str, Any], end: str, now: float) -> None:
        call["end"], call["ended_at"] = end, now
        if call["term"] != self.term or end == "withdrawn":
            return
        mine = [each for each in self.calls if each["term"] == self.term]
        if self.state(now) == "closed":
            recent = [each for each in mine if each["end"] in ("good", "bad") and now - 30 < each["ended_at"]]
            bad = [each for each in recent if each["end"] == "bad"]
            if end == "bad" and len(recent) >= 4 and len(bad) / len(recent) >= 0.5:
                self.opened_at, self.term = now, self.term + 1
        elif end == "bad":
            self.opened_at, self.term = now, self.term + 1
        elif sum(each["end"] == "good" for each in mine) == 2:
            self.opened_at, self.term = None, self.term + 1


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.25, 1.0, 4.0, 11.0]),
            st.sampled_from(["begin", "begin", "good", "bad", "bad", "withdrawn"]),
            st.integers(0, 5),
        ),
        max_size=80,
    )
)
@settings(max_examples=300, deadline=None)
def test_it_does_what_the_naive_one_does(steps: list[tuple[float, str, int]]) -> None:
    real, naive, now = breaker(), Naive(), 0.0
    on_their_way: list[tuple[int, dict[str, Any]]] = []
    for pause, what, which in steps:
        now += pause
        if what == "begin":
            permit, call = real.admit(now), naive.admit(now)
            assert (permit is None) == (call is None)
            if permit is not None and call is not None:
                on_their_way.append((permit, call))
        elif on_their_way:
            permit, call = on_their_way.pop(which % len(on_their_way))
            naive.end(call, what, now)
            if what == "good":
                real.succeeded(permit, now)
            elif what == "bad":
                real.failed(permit, now)
            else:
                real.withdrawn(permit)
        assert real.state(now) == naive.state(now)


def opened(at: float = 0.0, **keys: Any) -> Breaker:
    subject = breaker(**keys)
    for _ in range(4):
        permit = subject.admit(at)
        assert permit is not None
        subject.failed(permit, at)
    assert subject.state(at) == "open"
    return subject


@pytest.mark.parametrize("probes", [1, 2, 5])
def test_half_open_lets_exactly_so_many_probes_through(probes: int) -> None:
    subject = opened(probes=probes)
    assert [subject.admit(9.999)] == [None]
    permits = [subject.admit(10.0) for _ in range(20)]
    assert sum(permit is not None for permit in permits) == probes
    for permit in permits[:probes]:
        assert subject.state(11.0) == "half-open"
        assert subject.admit(11.0) is None  # a probe that succeeded makes no room for another
        assert permit is not None
        subject.succeeded(permit, 11.0)
    assert subject.state(11.0) == "closed"


def test_one_failed_probe_opens_it_for_another_cooldown() -> None:
    subject = opened()
    good, bad = subject.admit(10.0), subject.admit(10.0)
    assert good is not None
    assert bad is not None
    subject.failed(bad, 12.0)
    subject.succeeded(good, 12.0)  # of a term that is over
    assert [subject.state(at) for at in (12.0, 21.999, 22.0)] == ["open", "open", "half-open"]
    assert subject.num_opened == 2


def test_a_probe_without_a_verdict_makes_room_for_another() -> None:
    subject = opened(probes=1)
    permit = subject.admit(10.0)
    assert permit is not None
    assert subject.admit(10.0) is None
    subject.withdrawn(permit)
    assert subject.admit(10.0) is not None
    assert subject.admit(10.0) is None


def test_a_sign_of_life_ends_the_cooldown_and_nothing_else() -> None:
    subject = opened()
    subject.let_probe(3.0)
    assert subject.state(3.0) == "half-open"
    assert sum(subject.admit(3.0) is not None for _ in range(9)) == 2
    closed = breaker()
    closed.let_probe(3.0)
    assert closed.state(3.0) == "closed"


@pytest.mark.parametrize(
    ("end", "fault", "reason"),
    [
        (Refused("r", 0.0, 0, "reset", ""), "reset", "reset"),
        (Refused("r", 0.0, 500, "error", ""), "500", "500"),
        (Refused("r", 0.0, 529, "overloaded", ""), "529", "529"),
        (Refused("r", 0.0, 429, "limit", ""), None, "429"),
        (Refused("r", 0.0, 400, "bad", ""), None, None),
        (Cut("r", 0.0, 3), "cut", "cut"),
        (Finished("r", 0.0, "stop", 3), None, None),
        (None, None, None),
    ],
)
def test_what_is_a_fault_and_what_sends_a_request_on(end: End, fault: str | None, reason: str | None) -> None:
    assert (fault_of(end), reason_to_move(end)) == (fault, reason)
