"""Rates over time: geometry by hand, integrals against numeric ones, and the law of a rate that jumps by itself."""

from __future__ import annotations

from itertools import pairwise
from math import cos, exp, inf, nan, pi, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from harness.arrivals.curves import diurnal, markov, ramp, sawtooth, spike, steady, steps
from harness.arrivals.gaps import GapLaw
from harness.arrivals.pacing import Piece, arrival_times, describe_pacing, expected_count, pieces_of, unit_times
from harness.errors import UsageError
from harness.plan import Shard
from harness.streams import stream
from harness.workloads.synthetic import conversations
from tests.harness.builders import LAW

_RATES = st.floats(0, 200)
_PIECES = st.lists(st.tuples(st.floats(0.1, 50), _RATES, st.none() | _RATES), min_size=1, max_size=6).map(
    lambda parts: [
        Piece(float(start), float(start) + length, rate, f"{number}", end_rate)
        for number, (start, (length, rate, end_rate)) in enumerate(
            zip(np.cumsum([0.0, *(length for length, _, _ in parts)]), parts, strict=False)
        )
    ]
)


def rate_at(pieces: list[Piece], at: float) -> float:
    piece = next((p for p in pieces if p.start_s <= at < p.end_s), pieces[-1])
    last = piece.rate if piece.end_rate is None else piece.end_rate
    return piece.rate + (last - piece.rate) * (at - piece.start_s) / (piece.end_s - piece.start_s)


def assert_tiles(pieces: list[Piece], duration_s: float) -> None:
    assert pieces[0].start_s == 0.0
    assert pieces[-1].end_s == pytest.approx(duration_s)
    for before, after in pairwise(pieces):
        assert before.end_s == pytest.approx(after.start_s)
        assert after.end_s > after.start_s


# -- linear pieces ---------------------------------------------------------------------------------------


@LAW
@given(_PIECES)
def test_areas_are_numeric_integrals(pieces: list[Piece]) -> None:
    for piece in pieces:
        area, _ = integrate.quad(lambda at: rate_at([piece], at), piece.start_s, piece.end_s)  # noqa: B023
        assert piece.area == pytest.approx(area, rel=1e-9, abs=1e-9)
    edges = np.array([piece.end_s for piece in pieces])
    np.testing.assert_allclose(unit_times(pieces, edges), np.cumsum([p.area for p in pieces]), rtol=1e-9, atol=1e-9)


@LAW
@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.01, 1000), st.floats(1e-6, 1 - 1e-6))
def test_the_inversion_is_the_root_that_a_solver_finds(rate: float, end: float, length: float, share: float) -> None:
    piece = Piece(10.0, 10.0 + length, rate, "x", end)
    if piece.area < 1e-3:
        return
    wanted = piece.area * share
    root = optimize.brentq(
        lambda t: integrate.quad(lambda at: rate + (end - rate) * at / length, 0, t)[0] - wanted, 0, length, xtol=1e-13
    )
    assert piece.reaches(wanted) - 10.0 == pytest.approx(root, rel=1e-6, abs=1e-9 * length)


@LAW
@given(_PIECES)
def test_evenly_spaced_arrivals_are_evenly_spaced_on_the_clock_of_the_rate(pieces: list[Piece]) -> None:
    times = np.array([at for at, _ in arrival_times(pieces, "constant", stream(0, "x"))])
    np.testing.assert_allclose(unit_times(pieces, times), np.arange(len(times)) + 0.5, rtol=0, atol=1e-6)
    assert abs(len(times) - expected_count(pieces)) <= 0.5 + 1e-6


@LAW
@given(st.floats(0, 50), st.floats(0, 50), st.floats(0.1, 100), st.floats(0.01, 0.99))
def test_a_piece_that_is_cut_is_the_same_curve(rate: float, end: float, length: float, share: float) -> None:
    piece = Piece(5.0, 5.0 + length, rate, "x", end)
    cut_at = 5.0 + length * share
    cut = piece.until(cut_at)
    assert cut.area == pytest.approx(float(unit_times([piece], np.array([cut_at]))[0]), rel=1e-9, abs=1e-9)
    assert piece.until(1e9) == piece


@pytest.mark.parametrize(
    "gaps", ["poisson", GapLaw("gamma", 2.0), GapLaw("weibull", 3.0), GapLaw("gamma", 0.5)], ids=str
)
def test_rescaled_gaps_have_the_law_they_were_drawn_from(gaps: Any) -> None:
    """Time rescaling against scipy's laws, on a ramp up, a hold and a fall."""
    pieces = [Piece(0, 100, 0, "up", 20), Piece(100, 150, 20, "hold"), Piece(150, 200, 20, "down", 2)]
    law = GapLaw("poisson") if gaps == "poisson" else gaps
    scale = 1 / stats.weibull_min(law.shape).mean() if law.name == "weibull" else 1 / law.shape
    theirs = (stats.weibull_min if law.name == "weibull" else stats.gamma)(law.shape, scale=scale)
    for seed in range(5):
        times = np.array([at for at, _ in arrival_times(pieces, gaps, stream(seed, "law"))])
        assert stats.kstest(np.diff(unit_times(pieces, times)), theirs.cdf).pvalue > 1e-3


def test_counts_on_a_ramp_are_poisson_in_every_part() -> None:
    pieces = ramp(0, 10, duration_s=40)
    counts = np.array(
        [
            np.histogram([at for at, _ in arrival_times(pieces, "poisson", stream(seed, "r"))], [0, 10, 20, 40])[0]
            for seed in range(500)
        ]
    )
    for column, mean in enumerate((12.5, 37.5, 150.0)):  # t²/8 at 10, 20, 40
        assert abs(counts[:, column].mean() - mean) < 4 * sqrt(mean / 500)
        dispersion = ((counts[:, column] - counts[:, column].mean()) ** 2).sum() / mean
        assert stats.chi2.ppf(5e-4, 499) < dispersion < stats.chi2.ppf(1 - 5e-4, 499)


def test_a_described_curve_can_be_read_again() -> None:
    pieces = [*ramp(0, 10, duration_s=40, hold_s=3), Piece(40, 50, 2, "tail")]
    told = describe_pacing(pieces, GapLaw("gamma", 2.5))
    assert pieces_of(told["pieces"]) == pieces  # type: ignore[arg-type]
    assert told["gaps"] == "gamma:2.5"
    assert told["arrivals"] == "gamma:2.5, rate in 3 pieces"
    assert told["expected_count"] == 185 + 30 + 20
    assert pieces_of([[0.0, 1.0, 2.0, "written before rates could change"]])[0].end_rate is None


@LAW
@given(
    st.integers(0, 2**31),
    st.sampled_from(["constant", GapLaw("gamma", 3.0), GapLaw("weibull", 1.5)]),
    st.integers(1, 6),
)
@example(28994, GapLaw("gamma", 3.0), 1)  # two arrivals less than 1e-14 s apart
def test_all_shares_together_are_the_plan(seed: int, gaps: Any, of: int) -> None:
    plan = conversations(ramp(1, 9, duration_s=20), gaps, seed)
    shares = [a for index in range(of) for a in Shard(index, of).take(plan.arrivals())]
    arrivals = list(plan.arrivals())
    assert sorted(shares, key=lambda a: a.index) == arrivals
    assert [a.at_s for a in arrivals] == sorted(a.at_s for a in arrivals)
    assert list(conversations(ramp(1, 9, duration_s=20), gaps, seed).arrivals()) == arrivals


def test_other_gaps_or_another_curve_leave_the_lengths_alone() -> None:
    plans = [
        conversations(steady(5, 60), "poisson", 3),
        conversations(steady(5, 60), GapLaw("gamma", 3.0), 3),
        conversations(sawtooth(1, 9, every_s=10, duration_s=60), "poisson", 3),
    ]
    both = min(plan.num_arrivals for plan in plans)
    lengths = [[(a.num_prompt_tokens, a.num_output_tokens) for a in plan.arrivals()][:both] for plan in plans]
    assert lengths[0] == lengths[1] == lengths[2]


# -- curves ----------------------------------------------------------------------------------------------


def test_curves_by_hand() -> None:
    assert steady(5, 60) == [Piece(0, 60, 5, "steady")]
    assert ramp(2, 8, duration_s=60) == [Piece(0, 60, 2, "ramp", 8)]
    assert ramp(8, 0, duration_s=60, hold_s=20) == [Piece(0, 40, 8, "ramp", 0), Piece(40, 60, 0, "hold")]
    assert steps([1, 4], duration_s=10) == [Piece(0, 5, 1, "step 1, 1/s"), Piece(5, 10, 4, "step 2, 4/s")]
    assert spike(rate=2, factor=10, at_s=20, for_s=5, duration_s=60) == [
        Piece(0, 20, 2, "before"),
        Piece(20, 25, 20, "spike"),
        Piece(25, 60, 2, "after"),
    ]
    assert sawtooth(0, 10, every_s=20, duration_s=30) == [
        Piece(0, 20, 0, "tooth 1", 10),
        Piece(20, 30, 0, "tooth 2", 5),
    ]


@LAW
@given(st.floats(0.1, 100), st.floats(1, 2), st.floats(0.05, 3), st.floats(10, 1e5))
def test_a_day_is_a_sinusoid(mean: float, peak: float, days: float, day_s: float) -> None:
    pieces = diurnal(mean, peak=peak, duration_s=days * day_s, day_s=day_s)
    assert_tiles(pieces, days * day_s)
    swing = mean * (peak - 1)
    for at in np.linspace(0, days * day_s, 57)[:-1]:
        true = mean + swing * cos(2 * pi * (at / day_s - 15 / 24))
        assert abs(rate_at(pieces, at) - true) <= swing * (2 * pi / 96) ** 2 / 8 * 1.001 + 1e-9 * mean
        assert (2 * pi / 96) ** 2 / 8 < 0.00054


def test_a_whole_day_has_its_mean_and_its_peak_in_the_afternoon() -> None:
    pieces = diurnal(7, peak=1.6, duration_s=86_400)
    assert expected_count(pieces) == pytest.approx(7 * 86_400, rel=1e-12)
    highest = max(pieces, key=lambda p: p.rate)
    assert (highest.start_s, highest.phase) == (15 * 3600, "afternoon")
    assert highest.rate == pytest.approx(7 * 1.6)
    assert list(dict.fromkeys(p.phase for p in pieces)) == ["night", "morning", "afternoon", "evening"]
    assert [sum(p.phase == name for p in pieces) for name in ("night", "morning", "afternoon", "evening")] == [24] * 4


def test_a_day_can_be_played_faster() -> None:
    slow, fast = diurnal(7, peak=1.6, duration_s=86_400), diurnal(7, peak=1.6, duration_s=1440, day_s=1440)
    assert [p.rate for p in slow] == [p.rate for p in fast]
    assert [p.start_s / 60 for p in slow] == pytest.approx([p.start_s for p in fast])


# -- rates that jump by themselves -----------------------------------------------------------------------

_STATES = [(2.0, 12.0), (20.0, 3.0)]


def _closed_form(window_s: float) -> float:
    """Index of dispersion of the counts of a two-state MMPP in equilibrium (Fischer and Meier-Hellstern, Performance
    Evaluation 18, 1993)."""
    (rate1, mean1), (rate2, mean2) = _STATES
    out1, out2 = 1 / mean1, 1 / mean2
    both = out1 + out2
    base = 2 * (rate1 - rate2) ** 2 * out1 * out2 / (both**2 * (rate1 * out2 + rate2 * out1))
    return 1 + base * (1 - (1 - exp(-both * window_s)) / (both * window_s))


@pytest.mark.parametrize("window_s", [1.0, 10.0, 60.0])
def test_the_dispersion_of_an_mmpp_is_the_closed_form(window_s: float) -> None:
    counts = np.array(
        [
            sum(1 for _ in arrival_times(markov(_STATES, duration_s=window_s, generator=states), "poisson", arrivals))
            for seed in range(4000)
            for states, arrivals in [(stream(seed, "states"), stream(seed, "arrivals"))]
        ]
    )
    mean = (2 * 12 + 20 * 3) / 15 * window_s
    assert abs(counts.mean() - mean) < 4 * counts.std() / sqrt(len(counts))
    bounds = stats.bootstrap((counts,), lambda x, axis: x.var(axis=axis) / x.mean(axis=axis), n_resamples=400,
                             confidence_level=0.999, method="basic", rng=7).confidence_interval  # fmt: skip
    assert bounds.low < _closed_form(window_s) < bounds.high
    assert bounds.high / bounds.low < 1.4  # the test can tell


def test_the_time_in_each_state_is_its_share() -> None:
    states = [(1.0, 5.0), (2.0, 10.0), (3.0, 15.0)]
    pieces = markov(states, duration_s=60_000, generator=stream(4, "three"))
    assert_tiles(pieces, 60_000)
    for number, (rate, mean) in enumerate(states, start=1):
        stays = np.array([p.end_s - p.start_s for p in pieces[:-1] if p.phase == f"state {number}"])
        assert {p.rate for p in pieces if p.phase == f"state {number}"} == {rate}
        assert stats.kstest(stays, stats.expon(scale=mean).cdf).pvalue > 1e-3
        assert stays.sum() / 60_000 == pytest.approx(mean / 30, rel=0.1)
    following = [after.phase for before, after in pairwise(pieces) if before.phase == "state 1"]
    assert stats.binomtest(following.count("state 2"), len(following), 0.5).pvalue > 1e-3
    assert all(before.phase != after.phase for before, after in pairwise(pieces))


def test_the_first_state_is_drawn_by_the_time_in_each() -> None:
    first = [markov(_STATES, duration_s=1, generator=stream(seed, "first"))[0].phase for seed in range(2000)]
    assert stats.binomtest(first.count("state 2"), 2000, 0.2).pvalue > 1e-3


# -- what cannot be --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: steady(0, 60), "rate 0 must be positive"),
        (lambda: steady(nan, 60), "rate nan must be positive"),
        (lambda: steady(5, inf), "duration inf must be positive and finite"),
        (lambda: ramp(0, 0, duration_s=60), "ramp from 0/s to 0/s"),
        (lambda: ramp(-1, 5, duration_s=60), "-1 must be finite and not negative"),
        (lambda: ramp(0, 5, duration_s=60, hold_s=60), "60 s of hold in 60 s"),
        (lambda: steps([], duration_s=60), "at least one rate"),
        (lambda: steps([1, 0], duration_s=60), "rate of step 2 0 must be"),
        (lambda: spike(rate=2, factor=10, at_s=50, for_s=10, duration_s=60), "leaves nothing of 60 s"),
        (lambda: spike(rate=2, factor=10, at_s=0, for_s=10, duration_s=60), "start of the spike 0"),
        (lambda: sawtooth(5, 5, every_s=10, duration_s=60), "does not rise"),
        (lambda: sawtooth(1, 5, every_s=0, duration_s=60), "period 0 must be"),
        (lambda: diurnal(5, peak=2.5, duration_s=60), "peak of 2.5 times the mean is not between 1 and 2"),
        (lambda: diurnal(5, peak=nan, duration_s=60), "is not between 1 and 2"),
        (lambda: markov([(1, 5)], duration_s=60, generator=stream(0, "x")), "give two or more"),
        (lambda: markov([(1, 5), (2, 0)], duration_s=60, generator=stream(0, "x")), "sojourn of state 2 0 must be"),
        (lambda: markov([(1, 5), (-2, 5)], duration_s=60, generator=stream(0, "x")), "-2 must be finite and not"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert words in str(caught.value)
