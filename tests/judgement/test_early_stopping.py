"""MLPerf's early-stopping rule: its published numbers, scipy's binomial distribution, and how often it is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.judgement.early_stopping import MOST_NEEDED, num_needed, weigh
from harness.streams import stream
from tests.harness.builders import LAW


@pytest.mark.parametrize(
    ("p", "confidence", "num_over", "num"),
    [
        (0.90, 0.99, 1, 64),  # MLPerf Inference rules, Early Stopping: single stream needs at least 64 queries
        (0.99, 0.99, 1, 662),  # and multi stream 662: one may be over
        (0.99, 0.99, 0, 459),
        (0.99, 0.95, 0, 299),  # ln 0.05 / ln 0.99 = 298.07
        (0.95, 0.95, 0, 59),  # Wilks's 59
        (0.90, 0.95, 0, 29),
    ],
)
def test_the_fewest_requests_that_prove_a_percentile(p: float, confidence: float, num_over: int, num: int) -> None:
    assert weigh(num - num_over, num_over, p, confidence) == "proven"
    assert weigh(num - num_over - 1, num_over, p, confidence) == "open"
    if num_over == 0:
        assert num_needed(0.0, p, confidence) == num


@pytest.mark.parametrize(
    ("p", "margin", "published"),
    [(0.90, 0.005, 23_886), (0.95, 0.0025, 50_425), (0.97, 0.0015, 85_811), (0.99, 0.0005, 262_742)],
)
def test_the_requests_needed_at_a_margin_are_mlperf_s(p: float, margin: float, published: int) -> None:
    """MLPerf's table for 99 %, two-sided, which takes the variance at the percentile and the normal distribution."""
    needed = num_needed(1 - p - margin, p, 0.995)
    assert needed == pytest.approx(published, rel=0.01)


@LAW
@given(num=st.integers(1, 100_000), data=st.data(), p=st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
def test_it_is_an_exact_binomial_test_in_both_directions(num: int, data: st.DataObject, p: float) -> None:
    around = round(num * (1 - p))
    over = data.draw(st.integers(max(0, around - 200), min(num, around + 200)))
    claim = weigh(num - over, over, p)
    proven = stats.binomtest(num - over, num, p, alternative="greater").pvalue
    refuted = stats.binomtest(num - over, num, p, alternative="less").pvalue
    if min(abs(proven - 0.05), abs(refuted - 0.05)) > 1e-9:
        assert (claim == "proven") == (proven <= 0.05)
        assert (claim == "refuted") == (refuted <= 0.05)


@LAW
@given(share_over=st.floats(0, 1), p=st.sampled_from([0.5, 0.9, 0.99]))
def test_as_many_as_are_needed_decide_and_many_fewer_do_not(share_over: float, p: float) -> None:
    needed = num_needed(share_over, p)
    if needed is None:
        assert share_over == pytest.approx(1 - p, abs=1e-3)
    else:
        assert weigh(needed * (1 - share_over), needed * share_over, p) != "open"
        fewer = needed * 0.9 - 1
        assert fewer <= 0 or weigh(fewer * (1 - share_over), fewer * share_over, p) == "open"


def test_at_the_percentile_itself_no_number_decides() -> None:
    assert num_needed(1 - 0.9, 0.9) is None
    assert num_needed(0.01001, 0.99) is None  # more than MOST_NEEDED
    assert MOST_NEEDED == 10_000_000


@pytest.mark.parametrize("p", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("num", [100, 1000, 10_000])
def test_exactly_at_the_bound_each_wrong_answer_comes_in_at_most_5_percent(p: float, num: int) -> None:
    """Not sampled but summed: the probability of every count of a system that is exactly at its bound."""
    counts = np.arange(num + 1)
    chances = stats.binom.pmf(counts, num, 1 - p)
    likely = counts[chances > 1e-9]
    claims = [weigh(num - int(over), int(over), p) for over in likely]
    for wrong in ("proven", "refuted"):
        chance = sum(chances[over] for over, claim in zip(likely, claims, strict=True) if claim == wrong)
        assert chance <= 0.05 + 1e-6
    if num * (1 - p) >= 50:  # where counts are not too coarse it uses what it may
        assert sum(chances[o] for o, claim in zip(likely, claims, strict=True) if claim == "proven") > 0.03


def test_a_system_that_is_better_is_proven_and_a_worse_one_refuted() -> None:
    draw = stream(0, "power")
    for true_share, answer in ((0.005, "proven"), (0.02, "refuted")):
        over = draw.binomial(4000, true_share, 200)
        found = [weigh(4000 - int(each), int(each), 0.99) for each in over]
        assert found.count(answer) >= 190  # type: ignore[arg-type]
