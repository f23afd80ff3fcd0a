"""Percentile spectra against scipy's binomial and numpy's order statistics."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from scipy.stats import binom

from reports.spectrum import spectrum, spectrum_rows


@pytest.mark.parametrize("num", [6, 100, 4000, 100_000])
def test_percentiles_and_bands(num: int) -> None:
    samples = np.random.default_rng(num).lognormal(size=num)
    ordered = np.sort(samples)
    found = spectrum(np.append(samples, np.nan))
    assert found.num == num
    for percent, value, low, high in zip(found.percents, found.values, found.low, found.high, strict=True):
        assert value == ordered[ceil(Fraction(str(percent)) / 100 * num) - 1]  # the smallest that so many do not exceed
        assert low <= value <= high
        # The number of samples below the true percentile is binomial: the band holds it in 95 of 100 runs.
        below, above = np.searchsorted(ordered, low), np.searchsorted(ordered, high)
        inside = binom.cdf(above, num, percent / 100) - binom.cdf(below, num, percent / 100)
        assert inside >= 0.95 - 1e-9


def test_a_spectrum_ends_where_the_samples_do() -> None:
    # 0.99**368 < 2.5 %: the first number of samples of which a 95 % interval for p99 exists.
    assert 99.0 not in spectrum(np.arange(367.0)).percents
    assert 99.0 in spectrum(np.arange(368.0)).percents
    assert spectrum(np.zeros(0)).num == 0


def test_the_table_names_the_samples_that_are_missing() -> None:
    rows = spectrum_rows({"ttft": spectrum(np.arange(100) / 100), "e2e": spectrum(np.zeros(0))}).rows
    cells = {row[0]: [getattr(cell, "text", cell) for cell in row[1:]] for row in rows}
    assert cells["p50"] == ["490", "–"]
    assert cells["p99"] == ["n<368", "–"]
