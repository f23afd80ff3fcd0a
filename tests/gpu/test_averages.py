"""Means and increases against a fine grid, and by hand."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.gpu.averages import increase, integral
from tests.harness.builders import LAW

_readings = st.lists(
    st.tuples(st.floats(0.05, 2.0), st.floats(0, 1000)), min_size=2, max_size=12
)  # (time since the last one, value)


def _columns(readings: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    gaps, values = np.array(readings).T
    return np.cumsum(gaps), values


@LAW
@given(_readings, st.floats(-1, 20), st.floats(0.1, 20))
def test_the_integral_is_that_of_a_fine_grid(readings: list[tuple[float, float]], begin: float, length: float) -> None:
    at, values = _columns(readings)
    end = begin + length
    inside = at[(at > begin) & (at < end)]
    ends = np.clip([begin, end], at[0], at[-1])
    grid = np.unique(np.concatenate([ends, inside]))
    expected = np.trapezoid(np.interp(grid, at, values), grid)
    found = integral(at, values, begin, end, inf)
    assert found.total == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert found.covered_s == pytest.approx(max(0.0, grid[-1] - grid[0]), abs=1e-9)


@LAW
@given(_readings, st.floats(0, 10), st.floats(0.1, 10))
def test_a_rising_counter_went_as_far_as_it_shows(
    readings: list[tuple[float, float]], begin: float, length: float
) -> None:
    at, steps = _columns(readings)
    counter = np.cumsum(steps)
    ends = np.clip([begin, begin + length], at[0], at[-1])
    low, high = np.interp(ends, at, counter)
    assert increase(at, counter, begin, begin + length).total == pytest.approx(high - low, rel=1e-9, abs=1e-6)


def test_a_counter_that_began_again() -> None:
    at = np.array([0.0, 1.0, 2.0, 3.0])
    counter = np.array([100.0, 160.0, 20.0, 50.0])  # + 60, then from 0 to 20, then + 30
    assert increase(at, counter, 0.0, 3.0) == (110.0, 3.0)
    assert increase(at, counter, 0.5, 2.5).total == pytest.approx(30 + 20 + 15)


def test_nothing_is_assumed_in_a_long_silence() -> None:
    at, values = np.array([0.0, 1.0, 11.0, 12.0]), np.array([10.0, 10.0, 90.0, 90.0])
    assert integral(at, values, 0.0, 12.0, 3.0) == (100.0, 2.0)
    assert integral(at, values, 0.0, 12.0, inf).total == pytest.approx(10 + 500 + 90)
    assert increase(at, values, 0.0, 12.0) == (80.0, 12.0), "a counter needs no readings in between"


@pytest.mark.parametrize("num", [0, 1])
def test_one_reading_covers_no_time(num: int) -> None:
    assert integral(np.zeros(num), np.ones(num), -1.0, 1.0, 3.0) == (0.0, 0.0)
    assert increase(np.zeros(num), np.ones(num), -1.0, 1.0) == (0.0, 0.0)


def test_two_readings_of_one_instant() -> None:
    at, values = np.array([0.0, 1.0, 1.0, 2.0]), np.array([0.0, 10.0, 20.0, 20.0])
    assert integral(at, values, 0.0, 2.0, 3.0) == (25.0, 2.0)
