"""Asked against delivered: whether the load that was asked for is the load that was sent.

Asked are the intended instants of all records, also of requests that were held back; delivered are the sends. Rates, CV of
the gaps and index of dispersion are given for both. Where the plan says by which law its gaps were drawn, both are tested
against it on the clock on which the rate is one (time rescaling; Brown et al., Neural Computation 14, 2002); the gaps of a
trace are compared with each other.

A send that is late by up to 10 ms is as good as on time, so what such a lag can explain is no deviation: a gap between
two sends stands for all gaps that it can have been meant as, and the distance to the law is the least over them.
"""

from __future__ import annotations

from math import exp, sqrt

import msgspec
import numpy as np

from harness.arrivals.gaps import GapLaw, parse_gaps
from harness.arrivals.pacing import Piece, pieces_of, unit_times
from harness.errors import UsageError
from harness.store import Manifest
from harness.table import Floats, Table

__all__ = ["Delivery", "GapTest", "Process", "judge_delivery", "measure_delivery"]

WINDOWS_S = (1, 10, 60)
_LEAST_WINDOWS = 10  # an index of dispersion from fewer is noise: its relative error would be above 1/2
_LEAST_GAPS = 10

_LATE_S = 0.010
_DISPLACED_S = 0.050
_ROUNDING_S = 1e-6  # of instants in records

# Bounds of the judgement. With 1e-6 a plan that keeps its law is doubted once in a million runs; the others are judgement.
# tests/harness/test_delivery.py drives hundreds of good runs and every kind of bad one through them.
_DELIVERED_SHARE = 0.95
_DISPLACED_SHARE = 0.10
_LEAST_DISPLACED = 3
_P_VALUE = 1e-6
_DISTANCE = 0.05
_PAIRED_DISTANCE = 0.15
_DISPERSION = 0.25


class Process(msgspec.Struct, frozen=True):
    """One series of instants. `dispersion`: variance over mean of the counts in windows of 1, 10 and 60 s (Poisson: 1,
    metronome: 0), None where fewer than ten whole windows lie in the run; a send that is as good as on time counts in the
    window it was meant for. `gap_cv` None: fewer than two gaps."""

    num: int
    rate: float
    gap_cv: float | None
    dispersion: dict[str, float | None]


class GapTest(msgspec.Struct, frozen=True):
    """Kolmogorov and Smirnov's distance between the gaps of a series and what they should be.

    `against`: a law, as gamma:2.5, or `asked gaps`. `distance` is the plain one; None for gaps that repeat, where a
    microsecond would be a distance of 1. `distance_beyond_lag` is what is left of it when every send may have been up to 10
    ms late, and `p_value` is how likely a plan of this law has as much; None for two series of one plan, which are no
    independent samples.
    """

    against: str
    num: int
    distance: float | None
    distance_beyond_lag: float
    p_value: float | None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """`plan_test`: the asked instants against the law the plan names, None where it names none. `gap_test`: the sends
    against that law, else against the asked gaps; None for fewer than ten. A send is late beyond 10 ms, displaced beyond
    50 ms, `worst_lag_s` is the latest. `num_not_sent` were asked and never sent, `num_refused` of them held back."""

    asked: Process
    delivered: Process
    plan_test: GapTest | None
    gap_test: GapTest | None
    num_late: int
    num_displaced: int
    worst_lag_s: float | None
    num_refused: int
    num_not_sent: int


def measure_delivery(table: Table, manifest: Manifest) -> Delivery:
    """Fold a run. Of a reactive plan, whose asked law nobody knows, the sends are compared with the intended instants."""
    sent = ~np.isnan(table["sent_at"])
    lag = table["sent_at"][sent] - table["intended_at"][sent]
    asked_at, sent_at = np.sort(table["intended_at"]), np.sort(table["sent_at"][sent])
    # At the edge of a window a lag of a microsecond is a request more in the next one.
    counted_at = np.where(lag <= _LATE_S + _ROUNDING_S, table["intended_at"][sent], table["sent_at"][sent])
    num_asked = len(table) if manifest.reactive else max(manifest.num_planned, len(table))
    span = min(manifest.duration_s, manifest.ended_at or manifest.duration_s)
    law = None if manifest.reactive else _law(manifest)
    return Delivery(
        asked=_process(asked_at, asked_at, num_asked, manifest.loaded_s, span),
        delivered=_process(sent_at, counted_at, len(sent_at), manifest.loaded_s, span),
        plan_test=None if law is None else _against_law(asked_at, *law, _ROUNDING_S),
        gap_test=_against_asked(sent_at, asked_at) if law is None else _against_law(sent_at, *law, _LATE_S),
        num_late=int((lag > _LATE_S).sum()),
        num_displaced=int((np.abs(lag) > _DISPLACED_S).sum()),
        worst_lag_s=float(lag.max()) if len(lag) else None,
        num_refused=int(table.is_outcome("refused").sum()),
        num_not_sent=num_asked - len(sent_at),
    )


def judge_delivery(delivery: Delivery) -> list[str]:
    """Why this was not the load that was asked for; empty when it was."""
    asked, delivered, reasons = delivery.asked, delivery.delivered, list[str]()
    if delivered.num < _DELIVERED_SHARE * asked.num:
        reasons.append(f"only {delivered.num} of {asked.num} planned requests were sent")
    num = delivery.num_displaced
    if num >= _LEAST_DISPLACED and num > _DISPLACED_SHARE * delivered.num:
        reasons.append(
            f"{num / delivered.num:.0%} of the requests were sent more than {_DISPLACED_S * 1e3:g} ms off time"
        )
    for test, whose in ((delivery.plan_test, "planned"), (delivery.gap_test, "delivered")):
        if test is not None and _is_another(test):
            reasons.append(
                f"the {whose} gaps are not those of {test.against}: distance {test.distance_beyond_lag:.2f} "
                f"in {test.num:,} gaps"
            )
    for window, before in asked.dispersion.items():
        after = delivered.dispersion[window]
        if before is not None and after is not None and abs(after - before) > _DISPERSION * max(1.0, before):
            reasons.append(f"the index of dispersion in {window} s is {after:.2f} instead of {before:.2f}")
    return reasons


def _is_another(test: GapTest) -> bool:
    if test.p_value is None:
        return test.distance_beyond_lag > _PAIRED_DISTANCE
    return test.distance_beyond_lag > _DISTANCE and test.p_value < _P_VALUE


# -- one series ------------------------------------------------------------------------------------------


def _process(instants: Floats, counted_at: Floats, num: int, duration_s: float, span_s: float) -> Process:
    gaps = np.diff(instants)
    has_cv = len(gaps) > 1 and gaps.mean() > 0
    return Process(
        num,
        num / duration_s,
        float(gaps.std() / gaps.mean()) if has_cv else None,
        {str(window): _dispersion(counted_at, window, span_s) for window in WINDOWS_S},
    )


def _dispersion(instants: Floats, window_s: int, span_s: float) -> float | None:
    num_windows = int(span_s // window_s)
    if num_windows < _LEAST_WINDOWS:
        return None
    inside = instants[(instants >= 0) & (instants < num_windows * window_s)]
    counts = np.bincount((inside // window_s).astype(np.int64), minlength=num_windows)
    return float(counts.var(ddof=1) / counts.mean()) if len(inside) else None


# -- gaps ------------------------------------------------------------------------------------------------


def _law(manifest: Manifest) -> tuple[GapLaw, list[Piece]] | None:
    """The law and the rates that the plan names; None where it names none that can be read."""
    try:
        law, pieces = parse_gaps(manifest.plan["gaps"]), pieces_of(manifest.plan["pieces"])
    except (KeyError, TypeError, AttributeError, UsageError):
        return None
    return (law, pieces) if pieces else None


def _against_law(instants: Floats, law: GapLaw, pieces: list[Piece], lag_s: float) -> GapTest | None:
    """Gaps on the clock on which the rate is one, against the law. A send at t was meant for t - lag_s to t."""
    if len(instants) <= _LEAST_GAPS:
        return None
    num = len(instants) - 1
    plain = None if law.name == "constant" else _distance(law, *_possible_gaps(instants, pieces, _ROUNDING_S))
    beyond = _distance(law, *_possible_gaps(instants, pieces, lag_s))
    return GapTest(str(law), num, plain, beyond, _p_value(beyond, num))


def _possible_gaps(instants: Floats, pieces: list[Piece], lag_s: float) -> tuple[Floats, Floats]:
    """The least and the most that each gap can have been meant as, both in order."""
    late, early = unit_times(pieces, instants), unit_times(pieces, instants - lag_s)
    return np.sort(early[1:] - late[:-1]), np.sort(late[1:] - early[:-1])


def _distance(law: GapLaw, least: Floats, most: Floats) -> float:
    """How far the law is from every distribution between those of `most` and `least`, both in order."""
    if law.name == "constant":
        return _distance_of_samples(np.ones(1), least - 1e-9, most + 1e-9)
    num = len(least)
    steps = np.arange(num + 1) / num
    return float(max(0.0, (law.cdf(least) - steps[:-1]).max(), (steps[1:] - law.cdf(most)).max()))


def _against_asked(sent_at: Floats, asked_at: Floats) -> GapTest | None:
    if len(sent_at) <= _LEAST_GAPS:
        return None
    asked, gaps = np.sort(np.diff(asked_at)), np.sort(np.diff(sent_at))
    repeats = len(np.unique(asked.round(6))) < 0.9 * len(asked)
    lag_s = _LATE_S + _ROUNDING_S
    plain = None if repeats else _distance_of_samples(asked, gaps, gaps)
    return GapTest("asked gaps", len(gaps), plain, _distance_of_samples(asked, gaps - lag_s, gaps + lag_s), None)


def _distance_of_samples(asked: Floats, least: Floats, most: Floats) -> float:
    """The same for the distribution of a sample, in order."""
    num, num_asked = len(least), len(asked)
    short = np.arange(1, num_asked + 1) / num_asked - np.searchsorted(least, asked, side="right") / num
    long = np.arange(1, num + 1) / num - np.searchsorted(asked, most, side="right") / num_asked
    return float(max(0.0, short.max(), long.max()))


def _p_value(distance: float, num: int) -> float:
    """Kolmogorov's law with Stephens' correction for finite samples (JRSS B 32, 1970): within 0.02 of the exact one from ten gaps
    on, and too large rather than too small far out."""
    x = (sqrt(num) + 0.12 + 0.11 / sqrt(num)) * distance
    if x < 0.2:
        return 1.0
    total = 2 * sum((-1) ** (k - 1) * exp(-2 * (k * x) ** 2) for k in range(1, 101))
    return float(min(1.0, max(0.0, total)))
