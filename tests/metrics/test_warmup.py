"""MSER-5 against its definition, and where the answer is plain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.warmup import warmup_length
from harness.table import Floats
from tests.harness.builders import LAW


def _by_definition(values: Floats) -> list[float]:
    """MSER of every truncation, as in White, Cobb and Spratt (2000): the sum of squares about the mean of what is left, over the
    square of how many are left."""
    means = [float(np.mean(values[at : at + 5])) for at in range(0, len(values) // 5 * 5, 5)]
    return [
        float(np.sum((np.array(means[d:]) - np.mean(means[d:])) ** 2)) / (len(means) - d) ** 2
        for d in range(len(means))
    ]


@LAW
@given(st.integers(10, 300), st.floats(0.0, 5.0), st.integers(0, 100), st.integers(0, 10_000), st.floats(0.0, 1e6))
def test_no_truncation_to_the_half_has_a_smaller_error(
    num: int, bias: float, num_bias: int, seed: int, level: float
) -> None:
    values = np.random.default_rng(seed).exponential(1.0, num) + level
    values[:num_bias] += bias
    errors = _by_definition(values)
    half = len(errors) // 2
    found = warmup_length(values)
    place = half if found is None else found // 5
    assert found is None or found % 5 == 0
    assert place <= half
    assert errors[place] <= min(errors[: half + 1]) * (1 + 1e-6) + 1e-12


@pytest.mark.parametrize("num_slow", [0, 50, 200, 400])
def test_a_start_that_is_slower_is_left_out(num_slow: int) -> None:
    values = np.random.default_rng(7).normal(1.0, 0.1, 1000)
    values[:num_slow] += 3.0
    found = warmup_length(values)
    assert found is not None
    assert num_slow <= found <= num_slow + 50


def test_a_series_that_does_not_settle_in_its_first_half_has_no_answer() -> None:
    noise = np.random.default_rng(7).normal(0.0, 0.1, 1000)
    assert warmup_length(noise + np.linspace(1.0, 9.0, 1000)) is None
    assert warmup_length(noise + np.where(np.arange(1000) < 505, 5.0, 1.0)) is None


@pytest.mark.parametrize("num", [0, 1, 4, 9])
def test_too_few_values_have_no_answer(num: int) -> None:
    assert warmup_length(np.ones(num)) is None
