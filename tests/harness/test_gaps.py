"""Gaps between arrivals: their laws are scipy's, and a process starts as if it had always been running."""

from __future__ import annotations

from itertools import islice, takewhile
from math import inf, nan, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from harness.arrivals.gaps import GapLaw, gap_law, parse_gaps, unit_arrivals
from harness.errors import UsageError
from harness.streams import stream
from tests.harness.builders import LAW

_LAWS = [
    GapLaw("poisson"),
    GapLaw("gamma", 0.3),
    GapLaw("gamma", 1.0),
    GapLaw("gamma", 2.5),
    GapLaw("gamma", 6.0),
    GapLaw("weibull", 0.4),
    GapLaw("weibull", 1.0),
    GapLaw("weibull", 1.8),
    GapLaw("weibull", 5.0),
]
law_ids = pytest.mark.parametrize("law", _LAWS, ids=str)


def scipys(law: GapLaw):  # type: ignore[no-untyped-def]
    """The same law by scipy, with mean 1: for Weibull by a shape that scipy finds itself."""
    if law.name == "poisson":
        return stats.expon()
    if law.name == "gamma":
        return stats.gamma(law.cv**-2, scale=law.cv**2)
    found = stats.weibull_min(law.shape)
    return stats.weibull_min(law.shape, scale=1 / found.mean())


@law_ids
def test_the_mean_is_one_and_the_cv_what_it_says(law: GapLaw) -> None:
    theirs = scipys(law)
    assert theirs.mean() == pytest.approx(1)
    assert theirs.std() == pytest.approx(law.cv, rel=1e-6)


@law_ids
def test_the_cumulative_law_is_scipys(law: GapLaw) -> None:
    gaps = np.concatenate([np.geomspace(1e-9, 60, 400), [-1.0, 0.0, inf]])
    np.testing.assert_allclose(law.cdf(gaps), scipys(law).cdf(gaps), rtol=1e-8, atol=1e-12)


@LAW
@given(st.sampled_from(["gamma", "weibull"]), st.floats(0.05, 50), st.floats(0, 1e4))
def test_the_cumulative_law_holds_for_every_cv(name: str, cv: float, gap: float) -> None:
    law = GapLaw(name, cv)  # type: ignore[arg-type]
    assert law.cdf(np.array([gap]))[0] == pytest.approx(scipys(law).cdf(gap), abs=1e-9)
    assert scipys(law).std() == pytest.approx(cv, rel=1e-6)


def test_a_constant_gap_is_one() -> None:
    law = GapLaw("constant")
    assert (law.cv, law.shape) == (0.0, inf)
    assert list(law.cdf(np.array([0.0, 0.999, 1.0, 2.0]))) == [0, 0, 1, 1]
    assert list(islice(unit_arrivals(law, stream(0, "x")), 3)) == [0.5, 1.5, 2.5]


@law_ids
def test_gaps_are_drawn_from_their_law(law: GapLaw) -> None:
    instants = list(islice(unit_arrivals(law, stream(3, "gaps")), 6000))
    gaps = np.diff(instants)
    # Below 1e-6 the differences of instants have no digits: there only the share is compared.
    least = scipys(law).cdf(1e-6)
    seen = gaps[gaps > 1e-6]
    assert stats.binomtest(len(gaps) - len(seen), len(gaps), least).pvalue > 1e-3
    assert stats.kstest(seen, lambda x: (scipys(law).cdf(x) - least) / (1 - least)).pvalue > 1e-3
    assert stats.spearmanr(gaps[1:], gaps[:-1]).pvalue > 1e-3


@law_ids
def test_the_first_gap_is_what_is_left_of_one_under_way(law: GapLaw) -> None:
    """Its density is the share of gaps that are longer (mean 1): by numeric integration of scipy's survival function."""
    firsts = np.array([next(unit_arrivals(law, stream(seed, "first"))) for seed in range(3000)])
    theirs = scipys(law)
    grid = np.concatenate([[0.0], np.geomspace(1e-12, max(firsts) * 1.01, 4000)])
    left = integrate.cumulative_trapezoid(theirs.sf(grid), grid, initial=0.0)
    assert stats.kstest(firsts, lambda x: np.interp(x, grid, left)).pvalue > 1e-3


@pytest.mark.parametrize("law", [GapLaw("gamma", 3.0), GapLaw("weibull", 2.0), GapLaw("gamma", 0.4)], ids=str)
@pytest.mark.parametrize("span", [0.2, 1.0, 7.0])
def test_the_expected_count_is_the_time_from_the_very_start(law: GapLaw, span: float) -> None:
    """E[N(t)] = t also for t shorter than a gap. Started with a whole gap it would not be (gamma, CV 3, t 0.2: 0.83)."""
    counts = np.array(
        [
            sum(1 for _ in takewhile(lambda at: at < span, unit_arrivals(law, stream(seed, "count"))))
            for seed in range(4000)
        ]
    )
    assert abs(counts.mean() - span) < 4 * counts.std() / sqrt(len(counts))


@pytest.mark.parametrize("law", [GapLaw("gamma", 2.0), GapLaw("weibull", 0.5)], ids=str)
def test_the_dispersion_of_counts_is_the_square_of_the_cv_in_the_long_run(law: GapLaw) -> None:
    """Renewal theory: Var N(t) / t goes to CV² (Cox 1962, ch. 4); what is left at t = 200 is about 1/t."""
    span, num = 200.0, 1500
    counts = np.array(
        [
            sum(1 for _ in takewhile(lambda at: at < span, unit_arrivals(law, stream(seed, "long"))))
            for seed in range(num)
        ]
    )
    error = 4 * sqrt(2 / num) + 0.03
    assert counts.var() / counts.mean() == pytest.approx(law.cv**2, rel=error)


# -- words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["poisson", "constant", "gamma:2.5", "weibull:1.8", "gamma:0.05", "weibull:50"])
def test_a_law_reads_as_it_is_written(text: str) -> None:
    assert str(parse_gaps(text)) == text


def test_words_of_old_are_laws() -> None:
    assert (gap_law("poisson"), gap_law("constant")) == (GapLaw("poisson"), GapLaw("constant"))
    assert gap_law(GapLaw("gamma", 2.0)) == parse_gaps(" gamma : 2 ") == GapLaw("gamma", 2.0)
    assert GapLaw("poisson", 3.0) == GapLaw("poisson")  # it has no other CV


@pytest.mark.parametrize(
    "text", ["", "gauss", "gamma", "gamma:", "gamma:x", "weibull", "poisson:1", "constant:0", "gamma:2:3", "Poisson"]
)
def test_what_is_no_law_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(UsageError, match="write poisson, constant, gamma:CV or weibull:CV") as caught:
        parse_gaps(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("cv", [0.0, -1.0, 0.01, 50.1, inf, nan])
def test_a_cv_that_cannot_be_is_refused(cv: float) -> None:
    with pytest.raises(UsageError, match=r"is not between 0\.05 and 50"):
        GapLaw("gamma", cv)
    with pytest.raises(UsageError, match=r"is not between 0\.05 and 50"):
        parse_gaps(f"weibull:{cv}")
