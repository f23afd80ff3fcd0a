"""What a gate says that it could have seen, against simulation and against the noncentral t distribution."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
import scipy.stats as st

from harness.gate.permutation import Design, paired_design, shift_of, unpaired_design
from harness.gate.power import detectable_shift, runs_needed, runs_to_say_anything
from harness.streams import stream


@pytest.mark.parametrize(
    ("design", "level", "margin"),
    [
        (paired_design(8), 0.05, 0.0),
        (paired_design(8), 0.01, 0.05),
        (paired_design(6), 0.05, 0.02),
        (unpaired_design(6, 6), 0.02, 0.05),
    ],
)
def test_the_detectable_shift_is_detected_nine_times_in_ten(design: Design, level: float, margin: float) -> None:
    truth = detectable_shift(design, 0.04, margin, level)
    assert truth is not None
    draws = stream(4, "test")
    found = 0
    for _ in range(600):
        data = draws.normal(0, 0.04, len(design.direction)) + truth * design.direction
        found += shift_of(design, data).p_above(margin) <= level
    assert 0.86 <= found / 600 <= 0.94


def test_it_is_about_that_of_students_test() -> None:
    """Permutation and t test have the same power in the large; sixteen pairs are large enough for 5 %."""
    critical = st.t.ppf(0.95, 15)
    noncentrality = next(nc for nc in np.arange(2, 5, 0.001) if st.nct.sf(critical, 15, nc) >= 0.9)
    found = detectable_shift(paired_design(16), 1.0, 0.0, 0.05)
    assert found == pytest.approx(noncentrality / 4, rel=0.05)


def test_no_shift_is_detectable_where_no_p_value_can_be_small_enough() -> None:
    assert detectable_shift(paired_design(4), 0.01, 0.05, 0.05) is None
    assert detectable_shift(paired_design(5), 0.01, 0.05, 0.05) is not None
    assert detectable_shift(paired_design(8), 0.0, 0.05, 0.05) == pytest.approx(0.05)


def test_the_fewest_runs() -> None:
    """2^5 = 32 and C(6, 3) = 20 relabellings are enough for one in twenty; a seventh of that takes 2^8 and C(10, 5)."""
    assert runs_to_say_anything(0.05, paired=True) == 5
    assert runs_to_say_anything(0.05, paired=False) == 3
    assert runs_to_say_anything(0.05 / 7, paired=True) == 8
    assert runs_to_say_anything(0.05 / 7, paired=False) == 5


def test_runs_needed_is_the_formula_for_normal_noise() -> None:
    z = st.norm.ppf(0.95) + st.norm.ppf(0.9)
    assert runs_needed(0.02, 0.04, 0.05, paired=True) == ceil((z * 2) ** 2 + 2)
    assert runs_needed(0.02, 0.04, 0.05, paired=False) == ceil(2 * (z * 2) ** 2 + 2)
    assert runs_needed(1.0, 0.04, 0.05, paired=True) == 5
    assert runs_needed(0.0, 0.04, 0.05, paired=True) is None
    assert runs_needed(0.0001, 0.04, 0.05, paired=True) is None
    assert runs_needed(0.01, 0.0, 0.05, paired=True) == 5


def test_so_many_runs_do_prove_it() -> None:
    num = runs_needed(0.03, 0.05, 0.05, paired=True)
    assert num is not None
    draws, design = stream(5, "test"), paired_design(num)
    found = sum(shift_of(design, draws.normal(0.03, 0.05, num)).p_above(0) <= 0.05 for _ in range(200))
    assert 0.82 <= found / 200 <= 0.97
