"""When the other end is given up, and that it stays given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.cluster.lifeline import Lifeline
from tests.harness.builders import LAW

_STEPS = st.lists(st.floats(0.001, 5.0), max_size=30)


@LAW
@given(_STEPS, st.floats(0.1, 5.0))
def test_it_is_broken_from_the_first_silence_that_was_too_long(steps: list[float], silence_s: float) -> None:
    line, at, alive = Lifeline(silence_s, 100.0), 100.0, True
    for step in steps:
        alive = alive and (at + step) - at <= silence_s
        at += step
        line.heard(at)
        assert line.broken(at) is not alive


def test_asking_does_not_count_as_hearing() -> None:
    line = Lifeline(1.5, 0.0)
    assert [line.broken(at / 10) for at in range(18)] == [False] * 16 + [True] * 2


def test_a_late_word_mends_nothing() -> None:
    line = Lifeline(1.5, 0.0)
    line.heard(1.6)
    assert line.broken(1.6)
    line.heard(1.7)
    assert line.broken(1.7)
