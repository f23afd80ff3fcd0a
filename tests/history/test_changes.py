"""Change points: where they are, and how often they are wrong."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from harness.history.changes import change_points
from harness.streams import stream
from harness.table import Floats
from tests.harness.builders import LAW

NOISE = 0.04


def stable(name: str, count: int, num: int) -> Floats:
    """Logarithms of series with 4 % noise."""
    return stream(11, name).standard_normal((count, num)) * NOISE


def places(values: Floats) -> list[int]:
    return [change.at for change in change_points(values)]


def test_a_stable_series_of_forty_nights_shows_a_point_in_one_of_twenty() -> None:
    false = [bool(change_points(series)) for series in stable("stable", 400, 40)]
    assert 0.02 <= np.mean(false) <= 0.055


@pytest.mark.parametrize("num", [8, 20])
def test_so_does_one_of_another_length(num: int) -> None:
    assert np.mean([bool(change_points(series)) for series in stable(f"stable {num}", 250, num)]) <= 0.07


def test_a_step_of_ten_percent_is_found_where_it_is() -> None:
    """As apache-otava finds 49 of 50 in the same setting."""
    series = stable("step", 250, 50)
    series[:, 30:] += np.log(1.1)
    found = [any(abs(at - 30) <= 2 for at in places(each)) for each in series]
    assert np.mean(found) >= 0.95


def test_it_is_found_soon() -> None:
    """A median of two nights. One in twenty false alarms and 4 % noise leave no test more than three in five after two nights."""
    series = stable("soon", 120, 36)
    series[:, 30:] += np.log(1.1)
    delays = [next((m for m in range(1, 7) if any(at >= 28 for at in places(each[: 30 + m]))), 99) for each in series]
    assert np.median(delays) <= 2
    assert np.mean([delay <= 6 for delay in delays]) >= 0.93


def test_what_came_and_went_is_found_at_both_ends() -> None:
    series = stable("bump", 120, 45)
    series[:, 20:26] += np.log(1.15)
    found = [all(any(abs(at - edge) <= 2 for at in places(each)) for edge in (20, 26)) for each in series]
    assert np.mean(found) >= 0.9


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([(20, 1.0)], []),
        ([(10, 1.0), (3, 1.002)], [10]),
        ([(12, 1.0), (12, 1.1)], [12]),
        ([(22, 1.0), (5, 1.05), (23, 1.0)], [22, 27]),
        ([(30, 1.0), (30, 2.0), (30, 3.0), (30, 2.0)], [30, 60, 90]),
    ],
)
def test_without_noise_every_level_is_seen(levels: list[tuple[int, float]], expected: list[int]) -> None:
    assert places(np.concatenate([np.full(num, value) for num, value in levels])) == expected


def test_one_night_alone_is_an_outlier() -> None:
    series = stable("outlier", 1, 40)[0]
    series[20] += 1.0
    assert places(series) == []


def test_few_nights_say_nothing() -> None:
    assert change_points([1.0, 1.0, 1.0, 9.0, 9.0]) == []
    assert change_points([]) == []


def test_the_split_is_the_one_with_the_largest_t() -> None:
    """Against Student's test of scipy at every cut."""
    for number in range(30):
        series = stable(f"split {number}", 1, 24)[0]
        series[10 + number % 5 :] += 0.25
        t = [abs(stats.ttest_ind(series[:cut], series[cut:]).statistic) for cut in range(2, 23)]
        assert 2 + int(np.argmax(t)) in places(series)


def test_p_is_how_often_noise_has_so_large_a_t() -> None:
    """Against scipy over noise of another generator; a step has four fifths of the level."""
    series = stable("p", 1, 20)[0]
    series[12:] += 0.062
    largest = max(abs(stats.ttest_ind(series[:cut], series[cut:]).statistic) for cut in range(2, 19))
    noise = np.random.Generator(np.random.Philox(5)).standard_normal((4000, 20))
    t = [np.abs(stats.ttest_ind(noise[:, :cut], noise[:, cut:], axis=1).statistic) for cut in range(2, 19)]
    expected = float((np.max(t, axis=0) >= largest).mean()) / 0.8
    (change,) = change_points(series, level=0.2)
    assert 0.005 < expected < 0.1
    assert change.p == pytest.approx(expected, rel=0.25)


@LAW
@given(
    st.lists(st.integers(-50, 50), min_size=6, max_size=60),
    st.sampled_from([0.125, 1.0, 64.0]),
    st.integers(-1000, 1000),
)
def test_unit_and_offset_do_not_matter(values: list[int], scale: float, offset: int) -> None:
    plain = np.array(values, dtype=np.float64)
    assert places(plain * scale + offset) == places(plain)


@LAW
@given(st.lists(st.floats(-1e3, 1e3), min_size=0, max_size=150))
@example([0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
@example([0.0, *[1.0] * 9, 0.0])
def test_levels_have_two_points_or_more_and_lie_in_order(values: list[float]) -> None:
    cuts = [0, *places(np.array(values)), len(values)]
    assert all(end - begin >= 2 for begin, end in pairwise(cuts)) or len(cuts) == 2
