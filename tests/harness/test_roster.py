"""The master's view of its workers: who is ready, who is done, who is lost, told by beats and by their absence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cluster.control import Beat
from harness.cluster.roster import READY_WITHIN_S, SILENCE_S, Roster
from tests.harness.builders import LAW


def _beat(sequence: int, state: Any, **fields: Any) -> Beat:
    return Beat(
        sequence=sequence,
        sent_at=0.0,
        boot_id="b",
        host="h",
        pid=7,
        uid=fields.pop("uid", "run"),
        state=state,
        **fields,
    )


class _Course:
    """A roster of workers a and b, with a clock that moves on by steps in which everybody named beats."""

    def __init__(self, *names: str) -> None:
        self.at, self.sequence = 100.0, 0
        self.roster = Roster("run", names or ("a", "b"), self.at)

    def say(self, name: str, state: str, **fields: Any) -> None:
        self.sequence += 1
        self.roster.note(name, _beat(self.sequence, state, **fields), self.at)

    def pass_time(self, seconds: float, **states: str) -> None:
        until = self.at + seconds
        while self.at < until - 1e-9:
            self.at += 0.1
            for name, state in states.items():
                self.say(name, state)
            self.roster.look(self.at)

    def begin(self) -> None:
        self.pass_time(0.5, a="ready", b="ready")
        assert self.roster.ready
        self.roster.origin = self.at + 1.0
        self.pass_time(1.0, a="running", b="running")


def test_shares_are_numbered_in_order() -> None:
    roster = Roster("run", ["x", "y", "z"], 0.0)
    assert [(member.name, member.index) for member in roster.members.values()] == [("x", 0), ("y", 1), ("z", 2)]


def test_everybody_must_be_ready() -> None:
    course = _Course()
    assert not course.roster.ready
    course.say("a", "ready")
    course.say("b", "preparing")
    assert not course.roster.ready
    course.say("b", "ready")
    assert course.roster.ready


def test_a_run_that_goes_well() -> None:
    course = _Course()
    course.begin()
    course.pass_time(20.0, a="running", b="running")
    assert not course.roster.over
    for name in "ab":
        course.say(name, "closed", finished=True, drained=True)
    course.pass_time(60.0)  # nobody needs to beat any more
    roster = course.roster
    assert (roster.over, roster.complete, roster.drained, roster.lost, roster.stop) == (True, True, True, [], None)


@pytest.mark.parametrize("silence_s", [0.5, 1.9, 2.2, 5.0])
def test_who_is_silent_for_two_seconds_is_lost(silence_s: float) -> None:
    course = _Course()
    course.begin()
    course.pass_time(3.0, a="running", b="running")
    course.pass_time(silence_s, b="running")
    lost = course.roster.lost
    assert lost == (["worker 0 (h, pid 7) fell silent 3.0 s into the run"] if silence_s > SILENCE_S else [])
    course.pass_time(1.0, a="running", b="running")
    assert course.roster.lost == lost  # a late word mends nothing


def test_the_others_of_a_lost_worker_end_the_run() -> None:
    course = _Course()
    course.begin()
    course.pass_time(2.5, b="running")
    over_before = course.roster.over
    course.say("b", "closed", finished=True, drained=True)
    assert (over_before, course.roster.over, course.roster.complete) == (False, True, False)


def test_nobody_is_blamed_for_a_time_in_which_the_master_stood_still() -> None:
    course = _Course()
    course.begin()
    course.at += 30.0  # stopped by a signal, or a laptop that slept
    course.roster.look(course.at)
    assert course.roster.lost == []
    course.pass_time(2.5, b="running")
    assert [reason.partition(" fell")[0] for reason in course.roster.lost] == ["worker 0 (h, pid 7)"]


def test_making_a_plan_may_take_its_time_and_no_more() -> None:
    course = _Course()
    course.say("a", "ready")
    course.say("b", "preparing")
    course.pass_time(READY_WITHIN_S - 1, a="ready")
    assert course.roster.lost == []
    course.pass_time(2, a="ready")
    assert course.roster.lost == ["worker 1 (h, pid 7) did not get ready within 60 s"]


def test_who_was_never_told_of_the_run_is_lost_soon() -> None:
    course = _Course()
    course.say("a", "ready")
    for _ in range(60):
        course.at += 0.1
        course.say("b", "idle", uid=None)
    assert course.roster.lost == ["worker 1 (b) never took up its share"]


def test_who_never_hears_of_the_start_is_lost() -> None:
    course = _Course()
    course.pass_time(0.5, a="ready", b="ready")
    course.roster.origin = course.at + 1.0
    course.pass_time(6.5, a="running", b="ready")
    assert course.roster.lost == ["worker 1 (h, pid 7) did not hear of the start"]


def test_who_quits_before_its_share_is_done_is_lost_unless_it_was_told_to() -> None:
    for ordered in (False, True):
        course = _Course()
        course.begin()
        course.pass_time(2.0, a="running", b="running")
        if ordered:
            course.roster.order_stop("SIGTERM", break_off=True)
        course.say("b", "closed", finished=False)
        quit_early = ["worker 1 (h, pid 7) quit 2.0 s into the run, before its share was done"]
        assert course.roster.lost == ([] if ordered else quit_early)


def test_one_that_must_stop_stops_all_and_the_first_reason_stands() -> None:
    course = _Course()
    course.begin()
    course.say("b", "running", stop_reason="the budget is spent")
    course.say("a", "running", stop_reason="the disk is full")
    assert course.roster.stop == "worker 1 (h, pid 7): the budget is spent"
    assert not course.roster.break_off  # answers that are paid for may be heard to their end
    course.roster.order_stop("SIGTERM", break_off=True)
    assert course.roster.stop == "worker 1 (h, pid 7): the budget is spent"
    assert course.roster.break_off


@LAW
@given(st.permutations(range(12)), st.integers(0, 11), st.integers(0, 3))
def test_beats_that_are_late_or_come_twice_change_nothing(order: list[int], num_lost: int, repeats: int) -> None:
    """Whatever is lost, repeated or overtaken: the latest beat that came is what holds."""
    came = order[num_lost:]
    roster = Roster("run", ["a"], 0.0)
    for number in came:
        for _ in range(repeats + 1):
            roster.note("a", _beat(number, "running", drained=number % 2 == 0), 1.0)
    beat = roster.members["a"].beat
    assert beat == _beat(max(came), "running", drained=max(came) % 2 == 0)


@pytest.mark.parametrize("stranger", [("c", "run"), ("a", "another run"), ("a", None)])
def test_strangers_and_other_runs_are_not_heard(stranger: tuple[str, str | None]) -> None:
    course = _Course()
    course.begin()
    name, uid = stranger
    course.say(name, "closed", uid=uid, finished=True, stop_reason="x")
    assert course.roster.members["a"].beat is not None
    assert course.roster.members["a"].beat.state == "running"
    assert (course.roster.stop, list(course.roster.members)) == (None, ["a", "b"])
