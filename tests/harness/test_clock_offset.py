"""How far two clocks are apart: never further from the truth than the bound that is stated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cluster.clock_offset import ClockOffset
from tests.harness.builders import LAW

_WAYS = st.lists(st.tuples(*[st.floats(1e-6, 0.5)] * 4), min_size=1, max_size=100)
_AHEAD = st.floats(-1e6, 1e6)


def _exchange(
    clock: ClockOffset, at: float, ahead: float, there: float, stay: float, back: float, **more: bool
) -> float:
    """One exchange whose two ways take `there` and `back`; the other clock is `ahead`. Returns when it is over."""
    received = at + there
    replied = received + stay
    heard = replied + back
    clock.add(at, received + ahead, replied + ahead, heard, **more)
    return heard


@LAW
@given(_WAYS, _AHEAD)
def test_the_truth_lies_within_the_bound_however_uneven_the_ways(
    ways: list[tuple[float, float, float, float]], ahead: float
) -> None:
    clock, at = ClockOffset(), 0.0
    for pause, there, stay, back in ways:
        at = _exchange(clock, at + pause, ahead, there, stay, back)
    best = clock.best()
    assert best is not None
    assert abs(best.offset_s - ahead) <= best.error_s + 1e-8
    assert best.rtt_s == pytest.approx(min(there + back for _, there, _, back in ways[-64:]), abs=1e-8)


def test_even_ways_give_the_offset_itself() -> None:
    clock = ClockOffset()
    _exchange(clock, 10.0, -60.0, 0.02, 0.001, 0.02)
    best = clock.best()
    assert best is not None
    assert (best.offset_s, best.error_s, best.rtt_s) == pytest.approx((-60.0, 0.02, 0.04))


def test_nothing_is_known_before_the_first_exchange() -> None:
    assert ClockOffset().best() is None


def test_one_boot_has_one_clock_and_its_offset_is_zero() -> None:
    clock = ClockOffset()
    _exchange(clock, 10.0, 0.0, 0.0001, 0.0, 0.0007, same_boot=True)
    best = clock.best()
    assert best is not None
    assert (best.offset_s, best.error_s) == (0.0, 0.0)


def test_a_time_namespace_on_one_boot_is_found_out() -> None:
    clock = ClockOffset()
    _exchange(clock, 10.0, 86400.0, 0.0001, 0.0, 0.0002, same_boot=True)
    best = clock.best()
    assert best is not None
    assert best.offset_s == pytest.approx(86400.0, abs=best.error_s + 1e-9)


@pytest.mark.parametrize(
    ("sent", "received", "replied", "heard"),
    [(0.0, 5.0, 5.3, 0.2), (1.0, 5.0, 5.0, 0.9), (0.0, 5.0, 4.9, 0.2)],
    ids=["longer there than away", "answered before it was sent", "replied before it came"],
)
def test_what_no_two_clocks_could_have_measured_is_left_out(
    sent: float, received: float, replied: float, heard: float
) -> None:
    clock = ClockOffset()
    clock.add(sent, received, replied, heard)
    assert clock.num_exchanges == 0
