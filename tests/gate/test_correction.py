"""Westfall and Young's min-P against the definition, written as loops; and what it promises, by simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import binomtest

from harness.gate.correction import adjusted
from harness.gate.permutation import paired_design, shift_of
from harness.streams import stream
from tests.harness.builders import LAW

_TABLES = some.integers(2, 5).flatmap(
    lambda num: some.lists(some.lists(some.integers(-9, 9), min_size=num, max_size=num), min_size=1, max_size=4)
)


def _by_definition(columns: list[list[int]]) -> list[float]:
    """Box 4 of Ge, Dudoit and Speed (2003), over all sign flips, in whole numbers."""
    num = len(columns[0])
    flips = list(product((1, -1), repeat=num))
    sums = [[sum(sign * x for sign, x in zip(flip, column, strict=True)) for column in columns] for flip in flips]
    p = [[sum(other[j] >= row[j] for other in sums) / len(flips) for j in range(len(columns))] for row in sums]
    order = sorted(range(len(columns)), key=lambda j: p[0][j])
    found, last = [0.0] * len(columns), 0.0
    for place, j in enumerate(order):
        rest = order[place:]
        share = sum(min(row[k] for k in rest) <= p[0][j] for row in p) / len(flips)
        last = found[j] = max(last, share)
    return found


@given(_TABLES)
@LAW
def test_it_is_the_definition(columns: list[list[int]]) -> None:
    result = adjusted(paired_design(len(columns[0])), np.array(columns, dtype=float).T, 0.05)
    assert list(result.p) == pytest.approx(_by_definition(columns))


@given(_TABLES)
@LAW
def test_it_lies_between_no_correction_and_holms(columns: list[list[int]]) -> None:
    design = paired_design(len(columns[0]))
    raw = [shift_of(design, np.array(column, dtype=float)).p_above(0) for column in columns]
    holm, last = [0.0] * len(raw), 0.0
    for place, j in enumerate(sorted(range(len(raw)), key=lambda j: raw[j])):
        last = holm[j] = max(last, min(1.0, (len(raw) - place) * raw[j]))
    found = adjusted(design, np.array(columns, dtype=float).T, 0.05).p
    assert all(one <= each + 1e-9 for one, each in zip(raw, found, strict=True))
    assert all(each <= one + 1e-9 for one, each in zip(holm, found, strict=True))


def test_measures_that_are_one_measure_cost_nothing() -> None:
    column = np.array([1.0, 2, -0.5, 3, 4, 2, 1, 5])
    alone = adjusted(paired_design(8), column[:, None], 0.05)
    assert adjusted(paired_design(8), np.repeat(column[:, None], 9, axis=1), 0.05).p == alone.p * 9
    assert alone.critical == 12 / 256  # the largest multiple of 1/256 within 5 %


def test_without_a_change_one_in_twenty_fails_however_many_measures_and_related_as_they_like() -> None:
    draws, design = stream(3, "test"), paired_design(8)
    for common in (0.0, 3.0):
        num_wrong = 0
        for _ in range(600):
            data = draws.standard_normal((8, 7)) + common * draws.standard_normal((8, 1))
            result = adjusted(design, data, 0.05)
            num_wrong += min(result.p) <= 0.05
            assert (min(result.p) <= 0.05) == (
                min(shift_of(design, each).p_above(0) for each in data.T) <= result.critical
            )
        assert binomtest(num_wrong, 600, 0.05, alternative="greater").pvalue > 0.001
        assert num_wrong > 6  # nor is it so careful that it never fails
