"""Means: scipy's distributions, and how often a decision at the bound itself is wrong."""

from __future__ import annotations

from math import exp, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.judgement.means import FEWEST, mean_needed, mean_statistic, student_quantile
from harness.streams import stream
from tests.harness.builders import LAW


@LAW
@given(chance=st.floats(1e-6, 0.4), degrees=st.one_of(st.integers(1, 50), st.integers(1, 100_000)))
def test_student_s_quantile_is_scipy_s(chance: float, degrees: int) -> None:
    assert student_quantile(chance, degrees) == pytest.approx(stats.t.isf(chance, degrees), rel=1e-6)


def test_of_symmetric_samples_it_is_student_s_statistic() -> None:
    half = stream(1, "mean").standard_normal(500)
    values = np.concatenate([half, -half]) + 5  # no skewness at all
    theirs = stats.ttest_1samp(values, 4.9).statistic
    # The residuals' own autocorrelation makes it no larger.
    assert 0 < mean_statistic(values, np.ones(1000), 4.9) <= theirs * 1.001  # type: ignore[operator]


@pytest.mark.parametrize(("sigma", "num", "most"), [(0.5, 100, 0.07), (0.5, 400, 0.07), (1.0, 400, 0.07)])
def test_exactly_at_the_bound_each_wrong_answer_is_rare(sigma: float, num: int, most: float) -> None:
    """Lognormal, as latencies are. Student's own statistic calls 8 % and 11 % of such means below their bound."""
    wrong, draw = [0, 0], stream(2, "skewed")
    for _ in range(1500):
        statistic = mean_statistic(draw.lognormal(0, sigma, num), np.ones(num), exp(sigma**2 / 2))
        assert statistic is not None
        wrong[0] += statistic <= -1.645
        wrong[1] += statistic >= 1.645
    assert max(wrong) <= most * 1500
    assert min(wrong) >= 0.02 * 1500


def test_few_requests_and_requests_that_do_not_differ() -> None:
    assert mean_statistic(np.arange(FEWEST - 1.0), np.ones(FEWEST - 1), 5.0) is None
    same = np.full(200, 0.25)
    assert mean_statistic(same, np.ones(200), 0.3) == -inf
    assert mean_statistic(same, np.ones(200), 0.2) == inf
    assert mean_statistic(same, np.ones(200), 0.25) is None


def test_twice_as_near_needs_four_times_as_many() -> None:
    assert mean_needed(100, 1.0) == pytest.approx(100 * 1.6449**2, abs=1)
    assert mean_needed(100, -0.5) == pytest.approx(400 * 1.6449**2, abs=1)
    assert mean_needed(100, 0.0) is None
