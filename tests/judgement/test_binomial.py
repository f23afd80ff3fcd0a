"""Exact shares against scipy's."""

from __future__ import annotations

from math import nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import betainc, betaincinv

from harness.judgement.binomial import beta_quantile, incomplete_beta, share_interval
from tests.harness.builders import LAW

_COUNTS = st.one_of(st.integers(1, 50), st.integers(1, 1_000_000))


@LAW
@given(x=st.floats(0, 1), a=_COUNTS, b=_COUNTS)
def test_the_incomplete_beta_function_is_scipy_s(x: float, a: int, b: int) -> None:
    assert incomplete_beta(x, a, b) == pytest.approx(betainc(a, b, x), rel=1e-7, abs=1e-12)


@LAW
@given(deviations=st.floats(-6, 6), a=_COUNTS, b=_COUNTS)
def test_also_where_it_turns_from_0_to_1(deviations: float, a: int, b: int) -> None:
    mean = a / (a + b)
    x = min(1.0, max(0.0, mean + deviations * (mean * (1 - mean) / (a + b + 1)) ** 0.5))
    assert incomplete_beta(x, a, b) == pytest.approx(betainc(a, b, x), rel=1e-6, abs=1e-12)


@LAW
@given(a=_COUNTS, b=_COUNTS)
def test_it_is_found_on_both_sides_of_the_point_where_the_tail_is_changed(a: int, b: int) -> None:
    turn = (a + 1) / (a + b + 2)
    for x in (turn, nextafter(turn, 0), nextafter(turn, 1)):
        assert incomplete_beta(x, a, b) == pytest.approx(betainc(a, b, x), rel=1e-6)


@pytest.mark.parametrize(("x", "value"), [(-1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (2.0, 1.0)])
def test_outside_of_0_and_1(x: float, value: float) -> None:
    assert incomplete_beta(x, 3, 4) == value


@LAW
@given(share=st.floats(0.001, 0.999), a=_COUNTS, b=_COUNTS)
def test_a_quantile_of_the_beta_distribution_is_scipy_s(share: float, a: int, b: int) -> None:
    assert beta_quantile(share, a, b) == pytest.approx(betaincinv(a, b, share), rel=1e-6, abs=1e-12)


@LAW
@given(data=st.data(), confidence=st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_of_a_share_is_scipy_s(data: st.DataObject, confidence: float) -> None:
    num = data.draw(_COUNTS)
    num_over = data.draw(st.one_of(st.integers(0, num), st.sampled_from([0, num])))
    theirs = stats.binomtest(num_over, num).proportion_ci(confidence, method="exact")
    low, high = share_interval(num_over, num, confidence)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=1e-5, abs=1e-11)
    assert low <= num_over / num <= high


def test_the_rule_of_three() -> None:
    """None of n: the upper end of a one-sided 95 % interval is about 3 / n (Hanley and Lippman-Hand 1983)."""
    assert share_interval(0, 1000, 0.9) == pytest.approx((0.0, 0.003), rel=0.01)
