"""Percentiles against their definition and against DuckDB; sample sizes against the binomial distribution."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import nan
from statistics import fmean

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.quantiles import PERCENTILES, Distribution, distribution, interval_ranks, samples_needed
from tests.harness.builders import LAW

_NEEDED = {50.0: 6, 90.0: 36, 95.0: 72, 99.0: 368, 99.9: 3688}
_VALUES = st.floats(-1e6, 1e6, allow_nan=False)


def _nearest_rank(values: Sequence[float], percent: float) -> float:
    """The smallest observed value that at least `percent` % of the values do not exceed, by counting."""
    share = Fraction(str(percent)) / 100
    ordered = sorted(values)
    return next(v for v in ordered if sum(other <= v for other in ordered) >= share * len(ordered))


@pytest.mark.parametrize(("percent", "needed"), _NEEDED.items())
def test_samples_needed(percent: float, needed: int) -> None:
    assert samples_needed(percent) == needed


@pytest.mark.parametrize("percent", [*PERCENTILES, 1.0, 5.0, 10.0, 25.0, 75.0, 99.99])
def test_samples_needed_is_where_order_statistics_enclose_the_percentile(percent: float) -> None:
    """The number of samples below the percentile is binomial: all or none of them in at most 2.5 %."""
    share = percent / 100

    def enclosed(num: int) -> bool:
        beyond_maximum = stats.binom.sf(num - 1, num, share)  # all of them below
        beyond_minimum = stats.binom.cdf(0, num, share)  # none of them below
        return bool(max(beyond_maximum, beyond_minimum) <= 0.025)

    needed = samples_needed(percent)
    assert enclosed(needed)
    assert not enclosed(needed - 1)


def test_the_percentiles_are_these() -> None:
    assert list(_NEEDED) == list(PERCENTILES)
    assert list(distribution(np.array([1.0])).percentiles) == ["50", "90", "95", "99", "99.9"]


@pytest.mark.parametrize("percent", PERCENTILES)
def test_none_below_the_needed_count_and_a_value_from_there(percent: float) -> None:
    needed = _NEEDED[percent]
    assert distribution(np.arange(needed - 1, dtype=np.float64)).at(percent) is None
    assert distribution(np.arange(needed, dtype=np.float64)).at(percent) == _nearest_rank(range(needed), percent)


def test_a_percentile_that_is_not_computed_is_none() -> None:
    assert distribution(np.arange(10_000, dtype=np.float64)).at(42.0) is None


def test_no_samples() -> None:
    missing: dict[str, float | None] = {"50": None, "90": None, "95": None, "99": None, "99.9": None}
    for values in (np.array([]), np.array([nan, nan])):
        assert distribution(values) == Distribution(0, None, None, None, missing)


@LAW
@given(st.lists(_VALUES, min_size=6, max_size=120))
def test_percentiles_are_of_the_nearest_rank(values: list[float]) -> None:
    found = distribution(np.array(values))
    for percent, needed in _NEEDED.items():
        assert found.at(percent) == (_nearest_rank(values, percent) if len(values) >= needed else None)
    assert (found.num, found.minimum, found.maximum) == (len(values), min(values), max(values))
    assert found.mean == pytest.approx(fmean(values), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    "num", [6, 7, 10, 20, 36, 40, 72, 100, 101, 368, 399, 400, 1000, 3688, 4000, 9999, 10_000, 10_001]
)
def test_percentiles_are_those_of_duckdb(num: int) -> None:
    values = stats.lognorm.rvs(0.7, scale=0.2, size=num, random_state=num)
    found = distribution(values)
    row = duckdb.execute(
        "SELECT quantile_disc(v, [0.5, 0.9, 0.95, 0.99, 0.999]), avg(v), min(v), max(v), count(v) "
        "FROM (SELECT unnest(?) AS v)",
        [values.tolist()],
    ).fetchone()
    assert row is not None
    theirs, mean, minimum, maximum, count = row
    for (percent, needed), value in zip(_NEEDED.items(), theirs, strict=True):
        assert found.at(percent) == (pytest.approx(value, abs=1e-12) if num >= needed else None)
    assert (found.num, found.minimum, found.maximum) == (count, minimum, maximum)
    assert found.mean == pytest.approx(mean, rel=1e-12)


@LAW
@given(st.lists(st.tuples(_VALUES, st.integers(0, 9)), max_size=60))
def test_weights_are_repetitions(weighted: list[tuple[float, int]]) -> None:
    values = np.array([value for value, _ in weighted], dtype=np.float64)
    weights = np.array([weight for _, weight in weighted], dtype=np.int64)
    repeated = np.array([value for value, weight in weighted for _ in range(weight)], dtype=np.float64)
    assert distribution(values, weights) == distribution(repeated)


@LAW
@given(st.lists(st.one_of(_VALUES, st.just(nan)), max_size=60))
def test_missing_samples_do_not_count(values: list[float]) -> None:
    there = [value for value in values if value == value]
    assert distribution(np.array(values, dtype=np.float64)) == distribution(np.array(there, dtype=np.float64))


@LAW
@given(st.permutations(list(range(50))))
def test_the_order_of_samples_is_nothing(values: list[int]) -> None:
    assert distribution(np.array(values, dtype=np.float64)) == distribution(np.arange(50, dtype=np.float64))


def test_the_samples_are_left_alone() -> None:
    values = np.array([3.0, nan, 1.0, 2.0])
    distribution(values)
    assert values.tolist()[0::2] == [3.0, 1.0]
    assert np.isnan(values[1])


@pytest.mark.parametrize("percent", [*PERCENTILES, 1.0, 25.0])
@pytest.mark.parametrize("num", [6, 59, 72, 368, 1000, 4001, 1_000_000])
def test_an_interval_cuts_off_at_most_a_fortieth_on_each_side_and_could_not_be_narrower(
    percent: float, num: int
) -> None:
    """The number of samples below the true percentile is binomial: scipy knows its tails."""
    ranks, share = interval_ranks(percent, num), percent / 100
    if num < samples_needed(percent):
        assert ranks is None
        return
    assert ranks is not None
    low, high = ranks  # X(low + 1) and X(high + 1), counted from 1
    assert stats.binom.cdf(low, num, share) <= 0.025 or low == 0  # the percentile lies below X(low + 1)
    assert stats.binom.sf(high, num, share) <= 0.025 or high == num - 1  # it lies at or above X(high + 1)
    assert stats.binom.cdf(low + 1, num, share) > 0.025
    assert stats.binom.sf(high - 1, num, share) > 0.025
    assert stats.binom.cdf(high, num, share) - stats.binom.cdf(low, num, share) >= 0.95 or low == 0


def test_intervals_hold_the_true_percentile_as_often_as_they_say() -> None:
    """Of exponential samples, whose percentiles are known: 95 % at least, and not always."""
    luck, num = np.random.default_rng(5), 500
    for percent in (50.0, 90.0, 99.0):
        truth = stats.expon.ppf(percent / 100)
        ranks = interval_ranks(percent, num)
        assert ranks is not None
        samples = np.sort(luck.exponential(size=(4000, num)), axis=1)
        held = (samples[:, ranks[0]] <= truth) & (truth <= samples[:, ranks[1]])
        assert 0.945 <= held.mean() <= 0.99


def test_a_distribution_has_the_order_statistics_as_intervals() -> None:
    values = np.random.default_rng(1).normal(size=400)
    found, ordered = distribution(values), np.sort(values)
    assert set(found.intervals) == {"50", "90", "95", "99"}
    for percent in (50.0, 90.0, 95.0, 99.0):
        ranks = interval_ranks(percent, 400)
        assert ranks is not None
        assert found.interval(percent) == (ordered[ranks[0]], ordered[ranks[1]])
    assert found.interval(99.9) is None


def test_samples_of_one_request_resemble_each_other_and_get_no_interval() -> None:
    assert distribution(np.arange(1000.0), independent=False).intervals == {}
