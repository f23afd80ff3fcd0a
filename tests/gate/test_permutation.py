"""Permutation tests and their intervals, against scipy and against what is known by hand."""

from __future__ import annotations

from math import isclose

import numpy as np
import pytest
import scipy.stats as st
from hypothesis import given
from hypothesis import strategies as some

from harness.gate.permutation import paired_design, shift_of, unpaired_design
from harness.streams import stream
from tests.harness.builders import LAW

_VALUES = some.lists(some.integers(-50, 50).map(lambda n: n / 16), min_size=2, max_size=9)


def _mean(x: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(x.mean(axis=axis))


@given(_VALUES, some.integers(-40, 40).map(lambda n: n / 16))
@LAW
def test_sign_flips_are_those_of_scipy(values: list[float], margin: float) -> None:
    data = np.array(values)
    shift = shift_of(paired_design(len(data)), data)
    options = {"permutation_type": "samples", "n_resamples": np.inf}
    greater = st.permutation_test((data - margin,), _mean, alternative="greater", **options)
    assert isclose(shift.p_above(margin), greater.pvalue)
    # What is allowed is allowed: of the other side a limit that is the margin itself is no evidence against it.
    flips = np.array([[1 if mask >> place & 1 else -1 for place in range(len(data))] for mask in range(2 ** len(data))])
    sums = flips @ (data - margin)
    beyond = [(s != 1).any() and ((s == -1) @ (data - margin)) > 0 for s in flips]
    assert isclose(shift.p_below(margin), (1 + sum(beyond)) / len(flips))
    assert isclose(shift.p_above(margin), float((sums >= sums[-1] - 1e-9).mean()))


@given(_VALUES, _VALUES, some.integers(-40, 40).map(lambda n: n / 16))
@LAW
def test_relabellings_are_those_of_scipy(a: list[float], b: list[float], margin: float) -> None:
    a, b = a[:6], b[:6]
    shift = shift_of(unpaired_design(len(a), len(b)), np.array(a + b))

    def difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(x.mean(axis=axis) - y.mean(axis=axis))

    shifted = (np.array(a) - margin, np.array(b))
    greater = st.permutation_test(shifted, difference, alternative="greater", n_resamples=np.inf)
    assert isclose(shift.p_above(margin), greater.pvalue)
    assert isclose(shift.estimate, np.mean(a) - np.mean(b), abs_tol=1e-12)


@given(_VALUES, some.integers(-40, 40).map(lambda n: n / 16))
@LAW
def test_both_directions_never_hold_at_once_and_grow_with_the_margin(values: list[float], margin: float) -> None:
    shift = shift_of(paired_design(len(values)), np.array(values))
    assert shift.p_above(margin) + shift.p_below(margin) > 1
    assert shift.p_above(margin) <= shift.p_above(margin + 1)
    assert shift.p_below(margin) >= shift.p_below(margin + 1)


@given(_VALUES)
@LAW
def test_the_interval_is_the_inverted_test(values: list[float]) -> None:
    shift = shift_of(paired_design(len(values)), np.array(values))
    ends = shift.interval()
    if ends is None:
        assert 1 / shift.num > 0.025
        return
    low, high = ends
    assert shift.p_above(low - 1e-6) <= 0.025 < shift.p_above(low)
    assert shift.p_below(high) <= 0.025 or shift.p_below(high - 1e-6) > 0.025
    assert shift.p_below(high + 1e-6) <= 0.025


def test_eight_pairs_by_hand() -> None:
    """All differences above: one relabelling of 256. The interval lets six limits go on each side."""
    shift = shift_of(paired_design(8), np.array([1.0, 2, 3, 4, 5, 6, 7, 8]))
    assert shift.p_above(0) == 1 / 256
    assert shift.p_below(0) == 1
    assert shift.p_below(9) == 1 / 256
    # The lowest means of some of them: 1, 3/2, 2 (of 2; of 1 and 3; of 1, 2 and 3), then 7/3: of 1, 2 and 4.
    assert shift.interval() == pytest.approx((7 / 3, 9 - 7 / 3))


def test_numbers_that_do_not_vary() -> None:
    same = shift_of(paired_design(8), np.full(8, 0.1))
    assert same.interval() == pytest.approx((0.1, 0.1))
    assert (same.p_above(0.05), same.p_above(0.1), same.p_below(0.1), same.p_below(0.2)) == (
        1 / 256,
        1,
        1 / 256,
        1 / 256,
    )
    sides = shift_of(unpaired_design(5, 5), np.full(10, 7.3))
    assert sides.estimate == pytest.approx(0, abs=1e-12)
    assert sides.p_below(0) == 1 / 252  # nothing changed, and nothing is allowed: that is proven


def test_in_large_normal_samples_it_is_students_interval() -> None:
    draws = stream(1, "test")
    for data, design, theirs in (
        (draws.normal(3, 2, 60), paired_design(60), None),
        (draws.normal(3, 2, 80), unpaired_design(40, 40), 40),
    ):
        shift = shift_of(design, data)
        low, high = shift.interval() or (0, 0)
        expected = (
            st.ttest_1samp(data, 0).confidence_interval()
            if theirs is None
            else st.ttest_ind(data[:theirs], data[theirs:]).confidence_interval()
        )
        assert not design.exact
        width = expected.high - expected.low
        assert abs(low - expected.low) < 0.05 * width
        assert abs(high - expected.high) < 0.05 * width


def test_the_interval_holds_the_truth_in_nineteen_of_twenty() -> None:
    """Of 2,000 samples from a distribution that is anything but normal: symmetric, with heavy tails."""
    draws = stream(2, "test")
    design = paired_design(8)
    inside = 0
    for _ in range(2000):
        low, high = shift_of(design, 0.7 + draws.standard_t(2, 8)).interval() or (0, 0)
        inside += low <= 0.7 <= high
    assert st.binomtest(inside, 2000, 1 - 12 / 256).pvalue > 0.001


def test_designs_that_are_too_large_are_drawn_by_lot_and_the_same_every_time() -> None:
    design = paired_design(20)
    paired_design.cache_clear()
    assert np.array_equal(design.statistics, paired_design(20).statistics)
    assert 9_990 <= design.num <= 10_001
    assert paired_design(14).num == 2**14
    assert paired_design(14).exact
    assert unpaired_design(8, 8).num == 12_870
    assert np.allclose(unpaired_design(9, 12).statistics.sum(axis=1), 0)
    assert np.allclose(design.limits @ np.full(20, 4.2), 4.2)
