"""When requests are sent: burst geometry, even spacing, and the law of a Poisson process."""

from __future__ import annotations

from itertools import pairwise
from math import floor, inf, nan, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.arrivals.curves import bursts
from harness.arrivals.pacing import Piece, arrival_times, expected_count
from harness.errors import UsageError
from harness.streams import stream
from tests.harness.builders import LAW

_STEPS = [
    Piece(0.0, 40.0, 5.0, "quiet"),
    Piece(40.0, 50.0, 40.0, "burst"),
    Piece(50.0, 60.0, 0.0, "silent"),
    Piece(60.0, 100.0, 5.0, "quiet"),
]

_GEOMETRY = {
    "quiet_rate": st.floats(0.01, 1000),
    "factor": st.floats(0.1, 100),
    "every_s": st.floats(0.5, 600),
    "share": st.floats(0.001, 0.999),
    "periods": st.floats(0.01, 50),
}


def _unit_instants(pieces: list[Piece], instants: list[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Instants on the clock on which the rate is one: the integral of the rate, by linear interpolation."""
    edges = [pieces[0].start_s, *(piece.end_s for piece in pieces)]
    areas = np.cumsum([0.0, *(piece.rate * (piece.end_s - piece.start_s) for piece in pieces)])
    return np.asarray(np.interp(instants, edges, areas), dtype=np.float64)


# -- bursts ----------------------------------------------------------------------------------------------


def test_two_periods_by_hand() -> None:
    assert bursts(quiet_rate=2.0, factor=5.0, every_s=30.0, for_s=10.0, duration_s=60.0) == [
        Piece(0.0, 10.0, 2.0, "quiet"),
        Piece(10.0, 20.0, 10.0, "burst"),
        Piece(20.0, 30.0, 2.0, "quiet"),
        Piece(30.0, 40.0, 2.0, "quiet"),
        Piece(40.0, 50.0, 10.0, "burst"),
        Piece(50.0, 60.0, 2.0, "quiet"),
    ]


@pytest.mark.parametrize(
    ("duration_s", "phases", "end"),
    [
        (5.0, ["quiet"], 5.0),
        (10.0, ["quiet"], 10.0),
        (15.0, ["quiet", "burst"], 15.0),
        (25.0, ["quiet", "burst", "quiet"], 25.0),
    ],
)
def test_the_end_cuts_a_period(duration_s: float, phases: list[str], end: float) -> None:
    pieces = bursts(quiet_rate=2.0, factor=5.0, every_s=30.0, for_s=10.0, duration_s=duration_s)
    assert [piece.phase for piece in pieces] == phases
    assert pieces[-1].end_s == end


@LAW
@given(**_GEOMETRY)
def test_pieces_tile_the_duration(
    quiet_rate: float, factor: float, every_s: float, share: float, periods: float
) -> None:
    duration_s = every_s * periods
    pieces = bursts(quiet_rate=quiet_rate, factor=factor, every_s=every_s, for_s=every_s * share, duration_s=duration_s)
    assert pieces[0].start_s == 0.0
    assert pieces[-1].end_s == pytest.approx(duration_s, rel=1e-12)
    assert pieces[-1].end_s <= duration_s
    for before, after in pairwise(pieces):
        assert after.start_s == pytest.approx(before.end_s, rel=1e-12)
    assert all(piece.end_s > piece.start_s for piece in pieces)


@LAW
@given(**_GEOMETRY)
def test_bursts_have_their_share(
    quiet_rate: float, factor: float, every_s: float, share: float, periods: float
) -> None:
    for_s, duration_s = every_s * share, every_s * periods
    pieces = bursts(quiet_rate=quiet_rate, factor=factor, every_s=every_s, for_s=for_s, duration_s=duration_s)
    whole = floor(periods)
    in_bursts = whole * for_s + min(max(duration_s - whole * every_s - (every_s - for_s) / 2, 0.0), for_s)
    measured = sum(piece.end_s - piece.start_s for piece in pieces if piece.phase == "burst")
    assert measured == pytest.approx(in_bursts, rel=1e-9, abs=1e-9 * duration_s)
    expected = quiet_rate * (duration_s - in_bursts) + quiet_rate * factor * in_bursts
    assert expected_count(pieces) == pytest.approx(expected, rel=1e-9)
    assert {(piece.phase, piece.rate) for piece in pieces} <= {
        ("quiet", quiet_rate),
        ("burst", quiet_rate * factor),
    }


_GOOD = {"quiet_rate": 2.0, "factor": 5.0, "every_s": 30.0, "for_s": 10.0, "duration_s": 60.0}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"quiet_rate": 0.0}, "rate 0"),
        ({"quiet_rate": -1.0}, "rate -1"),
        ({"factor": 0.0}, "factor 0"),
        ({"every_s": 0.0}, "period 0"),
        ({"for_s": -2.0}, "burst -2"),
        ({"duration_s": 0.0}, "duration 0"),
        ({"for_s": 30.0}, "30 s does not fit"),
        ({"for_s": 31.0}, "31 s does not fit"),
    ],
)
def test_a_burst_that_cannot_be_is_refused(changed: dict[str, float], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        bursts(**(_GOOD | changed))
    assert named in str(caught.value)


@pytest.mark.parametrize("changed", [{"quiet_rate": nan}, {"factor": nan}, {"factor": inf}, {"quiet_rate": inf}])
def test_a_rate_that_is_no_finite_number_is_refused(changed: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        bursts(**(_GOOD | changed))


# -- even spacing ----------------------------------------------------------------------------------------


def test_constant_rate_starts_half_a_gap_in() -> None:
    times = list(arrival_times([Piece(0.0, 2.0, 4.0, "steady")], "constant", stream(0, "x")))
    assert times == [((number + 0.5) / 4.0, "steady") for number in range(8)]


def test_constant_spacing_follows_the_rate() -> None:
    times = [at for at, _ in arrival_times(_STEPS, "constant", stream(0, "x"))]
    np.testing.assert_allclose(_unit_instants(_STEPS, times), np.arange(len(times)) + 0.5, rtol=0, atol=1e-9)
    assert len(times) == 800


@LAW
@given(st.lists(st.tuples(st.floats(0.1, 20), st.floats(0, 50)), min_size=1, max_size=8))
def test_constant_spacing_is_the_inverse_of_the_integral(steps: list[tuple[float, float]]) -> None:
    edges = np.cumsum([0.0, *(length for length, _ in steps)])
    pieces = [
        Piece(float(a), float(b), rate, str(n))
        for n, ((a, b), (_, rate)) in enumerate(zip(pairwise(edges), steps, strict=True))
    ]
    times = list(arrival_times(pieces, "constant", stream(0, "x")))
    assert abs(len(times) - expected_count(pieces)) <= 0.5 + 1e-6
    np.testing.assert_allclose(
        _unit_instants(pieces, [at for at, _ in times]), np.arange(len(times)) + 0.5, rtol=0, atol=1e-6
    )
    for at, phase in times:
        piece = pieces[int(phase)]
        assert piece.start_s - 1e-9 <= at <= piece.end_s + 1e-9


# -- Poisson ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_rescaled_gaps_are_exponential(seed: int) -> None:
    """The theorem of time rescaling: on the clock of the integrated rate the gaps are Exp(1), independent."""
    pieces = [Piece(p.start_s * 10, p.end_s * 10, p.rate, p.phase) for p in _STEPS]
    times = [at for at, _ in arrival_times(pieces, "poisson", stream(seed, "law"))]
    gaps = np.diff(_unit_instants(pieces, times), prepend=0.0)
    assert stats.kstest(gaps, "expon").pvalue > 1e-3
    assert stats.pearsonr(gaps[1:], gaps[:-1]).pvalue > 1e-3


def test_the_count_has_the_mean_and_variance_of_a_poisson_count() -> None:
    pieces, num_runs = _STEPS, 600
    counts = np.array(
        [sum(1 for _ in arrival_times(pieces, "poisson", stream(seed, "count"))) for seed in range(num_runs)]
    )
    mean = 5.0 * 80 + 40.0 * 10
    assert expected_count(pieces) == mean
    assert abs(counts.mean() - mean) < 4 * sqrt(mean / num_runs)
    dispersion = ((counts - counts.mean()) ** 2).sum() / mean  # chi-square with num_runs - 1 degrees of freedom
    assert stats.chi2.ppf(5e-4, num_runs - 1) < dispersion < stats.chi2.ppf(1 - 5e-4, num_runs - 1)


def test_counts_of_disjoint_pieces_are_independent_with_their_own_means() -> None:
    pieces = bursts(quiet_rate=3.0, factor=8.0, every_s=20.0, for_s=5.0, duration_s=20.0)
    counts = np.array(
        [
            [phases.count("quiet"), phases.count("burst")]
            for seed in range(400)
            for phases in [[phase for _, phase in arrival_times(pieces, "poisson", stream(seed, "phases"))]]
        ]
    )
    for column, mean in enumerate((45.0, 120.0)):
        assert abs(counts[:, column].mean() - mean) < 4 * sqrt(mean / 400)
    assert stats.pearsonr(counts[:, 0], counts[:, 1]).pvalue > 1e-3


@pytest.mark.parametrize(("rate", "end_rate"), [(1e7, None), (1e300, None), (1.0, 1e300), (inf, None), (nan, None)])
def test_a_rate_that_nobody_sends_is_refused(rate: float, end_rate: float | None) -> None:
    with pytest.raises(UsageError, match=r"more than anybody sends; write at most 1e\+06/s"):
        Piece(0.0, 1.0, rate, "steady", end_rate)


@LAW
@given(st.integers(0, 2**32), st.sampled_from(["poisson", "constant"]))
def test_arrivals_are_in_order_inside_their_piece(seed: int, gaps: Any) -> None:
    inside = {"quiet": [(0.0, 40.0), (60.0, 100.0)], "burst": [(40.0, 50.0)]}
    times = list(arrival_times(_STEPS, gaps, stream(seed, "order")))
    instants = [at for at, _ in times]
    assert instants == sorted(instants)
    for at, phase in times:
        assert any(start <= at <= end for start, end in inside[phase])


def test_a_plan_that_nobody_can_have_meant_is_refused_before_it_is_counted() -> None:
    with pytest.raises(UsageError, match="about 3,600,000,000 requests, more than 20,000,000"):
        next(arrival_times([Piece(0.0, 360_000.0, 10_000.0, "steady")], "poisson", stream(0, "arrivals")))
