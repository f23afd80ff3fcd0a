"""The test for trend: its score against scipy, its false alarms against Kendall's exact distribution."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.metrics import trend as module
from harness.metrics.trend import trend
from tests.harness.builders import LAW


@LAW
@given(st.lists(st.floats(0.1, 10.0), min_size=10, max_size=200, unique=True))
def test_the_score_is_kendalls(values: list[float]) -> None:
    series = np.array(values)
    means = [part.mean() for part in np.split(series[len(series) % 10 :], 10)]
    if len(set(means)) == 10:
        tau = stats.kendalltau(range(10), means).statistic
        assert trend(series).score == round(45 * tau)


def test_the_bound_is_reached_by_chance_in_less_than_one_series_of_a_hundred() -> None:
    """The number of permutations of ten with so many inversions: the coefficients of (1)(1 + x)(1 + x + x²)…"""
    num_with = np.ones(1, dtype=np.int64)
    for size in range(2, 11):
        num_with = np.convolve(num_with, np.ones(size, dtype=np.int64))
    assert num_with.sum() == factorial(10)
    score = 45 - 2 * np.arange(46)
    chance = num_with[np.abs(score) >= module._LEAST_SCORE].sum() / factorial(10)
    assert 0.008 < chance < 0.010
    assert num_with[np.abs(score) >= module._LEAST_SCORE - 2].sum() / factorial(10) > 0.010


@pytest.mark.parametrize(
    ("last", "is_there", "change"),
    [(2.0, True, 0.40), (0.5, True, -0.29), (1.02, False, 0.01), (1.0, False, 0.0)],
)
def test_a_change_that_nobody_minds_is_no_trend(last: float, is_there: bool, change: float) -> None:
    found = trend(np.linspace(1.0, last, 1000))
    assert found.drifts == is_there
    assert found.change == pytest.approx(change, abs=0.01)


@LAW
@given(st.lists(st.integers(10, 1000).map(lambda cents: cents / 100), min_size=10, max_size=10, unique=True))
def test_the_jump_is_at_the_split_with_the_largest_t(values: list[float]) -> None:
    found = trend(np.array(values))
    largest = max(abs(stats.ttest_ind(values[:split], values[split:]).statistic) for split in range(2, 9))
    assert found.jump_t == pytest.approx(largest, rel=1e-6)
    before, after = np.mean(values[: found.jump_at]), np.mean(values[found.jump_at :])
    assert found.jump == pytest.approx(after / before - 1)


def test_independent_values_jump_in_half_a_percent_of_series() -> None:
    generator = np.random.default_rng(5)
    num = sum(trend(generator.normal(100.0, 20.0, 10)).jump_t >= module._LEAST_T for _ in range(4000))
    assert stats.binomtest(num, 4000, 0.005).pvalue > 0.01


@pytest.mark.parametrize(("split", "at"), [(500, 5), (700, 7), (800, 8), (200, 2)])
def test_a_jump_is_found_where_it_is(split: int, at: int) -> None:
    values = np.random.default_rng(1).exponential(1.0, 1000)
    values[split:] += 1.5
    found = trend(values)
    assert (found.jumps, found.jump_at) == (True, at)


def test_equal_values_neither_drift_nor_jump() -> None:
    found = trend(np.full(100, 3.0))
    assert (found.drifts, found.jumps) == (False, False)
    step = trend(np.concatenate([np.full(60, 1.0), np.full(40, 2.0)]))
    assert (step.jumps, step.jump_at, step.jump) == (True, 6, 1.0)


def test_a_rest_that_fills_no_batch_is_of_the_beginning() -> None:
    values = np.concatenate([[1000.0] * 7, np.linspace(1.0, 2.0, 100)])
    assert trend(values) == trend(values[7:])
