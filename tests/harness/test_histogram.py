"""The histogram against numpy on the raw samples, and its laws."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.live.histogram import LOWEST_S, RELATIVE_ERROR, Histogram
from harness.quantiles import distribution
from tests.harness.builders import LAW

# Over the whole range of the instrument: evenly by magnitude, and what people forget.
_MAGNITUDES = st.floats(-5, 4).map(lambda power: 10.0**power)
_DURATIONS = st.one_of(_MAGNITUDES, st.sampled_from([0.0, LOWEST_S, 1e-6, 0.001, 1.0, 9999.0]))
_SAMPLES = st.lists(_DURATIONS, max_size=60)


def histogram(values: Sequence[float]) -> Histogram:
    made = Histogram()
    for value in values:
        made.add(value)
    return made


def near(value: float | None, true: float) -> bool:
    assert value is not None
    return abs(value - true) <= max(LOWEST_S if true < LOWEST_S else 0.0, true * RELATIVE_ERROR * (1 + 1e-6))


@LAW
@given(st.lists(_DURATIONS, min_size=1, max_size=300), st.floats(0, 1, exclude_max=True))
def test_every_percentile_is_within_half_a_percent_of_the_observed_one(values: list[float], share: float) -> None:
    rank = int(share * len(values))
    percent = 100 * (rank + 0.5) / len(values)  # between two ranks, so that no rounding decides which it is
    observed = float(np.percentile(values, percent, method="inverted_cdf"))
    assert observed == sorted(values)[rank]
    assert near(histogram(values).percentile(percent), observed)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 2.5])
def test_many_samples_of_a_heavy_tail(sigma: float) -> None:
    values = np.random.default_rng(7).lognormal(math.log(0.3), sigma, 99_991)  # a prime: no rank is whole
    made = Histogram()
    made.add_all(values.tolist())
    for percent in (1, 10, 50, 90, 95, 99, 99.9, 99.99):
        assert near(made.percentile(percent), float(np.percentile(values, percent, method="inverted_cdf")))
    assert made.num == len(values)
    assert made.mean == pytest.approx(values.mean(), abs=1e-9)
    assert made.maximum == values.max()


def test_it_says_what_the_exact_fold_says() -> None:
    values = np.random.default_rng(3).gamma(2.0, 0.05, 5_000)
    weights = np.random.default_rng(4).integers(1, 6, 5_000)
    made = Histogram()
    made.add_all(values.tolist(), weights.tolist())
    exact, folded = distribution(values, weights), made.distribution()
    assert (folded.num, folded.minimum, folded.maximum) == (exact.num, exact.minimum, exact.maximum)
    assert folded.mean == pytest.approx(exact.mean, abs=1e-9)
    for name, value in exact.percentiles.items():
        assert value is not None
        assert near(folded.percentiles[name], value)


def test_a_percentile_that_the_samples_do_not_support_is_missing() -> None:
    few = histogram([0.1] * 100).distribution()
    assert few.percentiles["95"] == pytest.approx(0.1, rel=RELATIVE_ERROR)
    assert few.percentiles["99"] is None  # needs 368


def test_nothing_was_counted() -> None:
    empty = Histogram()
    assert (empty.num, empty.mean, empty.maximum, empty.percentile(50)) == (0, None, None, None)
    assert empty.distribution() == distribution(np.array([]))


def test_what_is_beyond_the_range_is_counted_at_its_ends() -> None:
    made = histogram([0.0, 1e-9, 5e4])
    assert made.num == 3
    assert made.percentile(1) == 0.0
    assert made.percentile(100) == pytest.approx(1e4)
    assert made.maximum == 5e4


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_missing_duration_is_a_mistake_of_the_caller(value: float) -> None:
    made = histogram([value])
    with pytest.raises(ValueError, match="missing or infinite"):
        made.percentile(50)


@LAW
@given(_SAMPLES, _SAMPLES, _SAMPLES)
def test_merging_is_adding(a: list[float], b: list[float], c: list[float]) -> None:
    together = histogram(a + b + c)
    left, right, back = histogram(a), histogram(b), histogram(c)
    left.merge(histogram(b))
    left.merge(histogram(c))  # (a + b) + c
    right.merge(histogram(c))
    first = histogram(a)
    first.merge(right)  # a + (b + c)
    back.merge(histogram(b))
    back.merge(histogram(a))  # c + b + a
    assert left == first == back == together


@LAW
@given(_SAMPLES, _SAMPLES)
def test_what_came_later_is_the_difference(before: list[float], after: list[float]) -> None:
    made = histogram(before)
    earlier = made.copy()
    made.add_all(after)
    later = made.since(earlier)
    assert later.num == len(after)
    for percent in (0, 50, 99, 100) if after else ():
        assert near(later.percentile(percent), float(np.percentile(after, percent, method="inverted_cdf")))
    assert made.num == len(before) + len(after)  # nothing was taken from the whole
    assert earlier == histogram(before)


def test_the_difference_from_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="holds everything of an earlier one"):
        histogram([1.0]).since(histogram([2.0]))


@LAW
@given(_SAMPLES)
def test_it_travels(values: list[float]) -> None:
    made = histogram(values)
    arrived = Histogram.from_bytes(made.to_bytes())
    assert arrived == made
    assert arrived.distribution() == made.distribution()
    arrived.add(0.25)  # and can be gone on with
    made.add(0.25)
    assert arrived == made


@LAW
@given(st.binary(max_size=60))
def test_bytes_from_somebody_else_are_refused_or_harmless(data: bytes) -> None:
    try:
        made = Histogram.from_bytes(data)
    except ValueError:
        return
    assert made.num >= 0


def test_damaged_bytes_are_refused() -> None:
    whole = histogram([0.001 * n for n in range(1, 200)]).to_bytes()
    for end in range(len(whole)):
        with pytest.raises(ValueError, match="no histogram"):
            Histogram.from_bytes(whole[:end])


def test_a_snapshot_of_a_long_run_is_small() -> None:
    values = np.random.default_rng(1).lognormal(math.log(0.5), 1.0, 1_000_000)
    made = Histogram()
    made.add_all(values.tolist())
    assert len(made.to_bytes()) < 4_000
