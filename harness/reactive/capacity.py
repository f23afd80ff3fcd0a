"""Capacity: the highest rate at which enough of the requests are good. The search and its answer, without a clock.

Probes double the rate until one fails, then halve the interval on a log scale until it is narrow enough. A probe is a stretch
of Poisson arrivals at one rate. It is good when the lower end of Wilson's 95 % interval for the share of good requests
reaches the share that is asked, bad when the upper end stays below; otherwise it is repeated a few times, all its stretches
are counted together, and at last the share itself decides and the answer says that it was unclear. Requests of one probe
share a queue, so they are not independent as Wilson (1927) has them: an interval is somewhat too narrow, and long probes are
better than short ones.

Whatever was not sent or has no answer could have been either. So a probe that was cut short never counts as good, and
as bad only when it would be, were all that is missing good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, sqrt
from statistics import NormalDist
from typing import Literal

import msgspec

from harness.errors import UsageError
from harness.objectives import Objective, record_is_good
from harness.records import RequestRecord
from harness.streams import stream

__all__ = [
    "Capacity",
    "CapacitySettings",
    "Probe",
    "ProbeResult",
    "Tally",
    "answer_of",
    "count",
    "judge",
    "next_probe",
    "probe_times",
    "wilson",
]

Verdict = Literal["good", "bad", "unclear", "open"]
Kind = Literal["found", "lowest_fails", "highest_passes", "aborted"]

_Z = NormalDist().inv_cdf(0.975)


class CapacitySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is searched, and how. Rates are requests a second.

    A probe lasts `probe_s`, or as long as `least_requests` take; before it the load runs at its rate for `settle_s` without
    being counted. An unclear one is repeated up to `most_windows` stretches in all. The answer is `low` to `high` with high at
    most (1 + `resolution`) times low. Raises UsageError for numbers that make no search.
    """

    objective: Objective
    first_rate: float
    highest_rate: float
    share: float = 0.95
    resolution: float = 0.1
    probe_s: float = 30.0
    settle_s: float = 5.0
    least_requests: int = 100
    most_windows: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UsageError(f"a share of {self.share:g} good requests is not between 0 and 1")
        if not 0 < self.first_rate <= self.highest_rate:
            raise UsageError(f"a search from {self.first_rate:g}/s to {self.highest_rate:g}/s is none")
        if self.least_requests < 10:
            raise UsageError(f"a probe of {self.least_requests} requests says nothing; write at least 10")
        if not self.resolution >= 0.005:
            raise UsageError(f"a resolution of {self.resolution:g} is too fine; write at least 0.005")

    @property
    def most_probes(self) -> int:
        """The probes until the answer: doublings, then halvings of log2(2) / log2(1 + resolution) parts."""
        doublings = 1 + max(0, -int(-log2(self.highest_rate / self.first_rate) // 1))
        return doublings + max(0, -int(log2(log2(1 + self.resolution)) // 1)) + 1

    def length_s(self, rate: float) -> float:
        """The counted part of a probe."""
        return max(self.probe_s, self.least_requests / rate)


@dataclass(frozen=True, slots=True)
class Probe:
    """One stretch of load: `window` counts the stretches of probe `number`, both from 1."""

    number: int
    rate: float
    window: int = 1

    @property
    def phase(self) -> str:
        """Its name in the records of what counts."""
        again = f" window {self.window}" if self.window > 1 else ""
        return f"probe {self.number}{again}, {self.rate:g}/s"

    @property
    def settling(self) -> str:
        """Its name in the records of what comes before."""
        return f"settle {self.number}, {self.rate:g}/s"


@dataclass(frozen=True, slots=True)
class Tally:
    """The counted requests of one probe, over all its stretches. What is neither good nor bad is open: never sent, kept back by
    ourselves, or without an answer."""

    number: int
    rate: float
    num_windows: int
    num_planned: int
    num_good: int
    num_bad: int

    @property
    def num_open(self) -> int:
        return self.num_planned - self.num_good - self.num_bad


class ProbeResult(msgspec.Struct, frozen=True):
    """A probe and what it says. `share` of what was counted was good, `low` to `high` is Wilson's interval for it."""

    number: int
    rate: float
    num: int
    num_good: int
    num_open: int
    share: float | None
    low: float
    high: float
    verdict: Verdict


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """`low` is the highest rate that was found good, `high` the lowest that was found bad; None: none was.

    found: they are near enough. lowest_fails: already the first rate is bad. highest_passes: the highest rate that was to be
    asked is good. aborted: the search did not come to its end; the bounds stand. `is_unclear`: a verdict on which the answer
    rests was not settled by the interval.
    """

    kind: Kind
    low: float | None
    high: float | None
    is_unclear: bool
    share: float
    objective: Objective
    probes: list[ProbeResult]


def wilson(num_good: int, num: int) -> tuple[float, float]:
    """Wilson's 95 % score interval for a share (JASA 22, 1927, p. 209). Nothing counted says nothing: 0 to 1."""
    if num == 0:
        return 0.0, 1.0
    share, z2 = num_good / num, _Z * _Z
    middle = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = _Z * sqrt(share * (1 - share) / num + z2 / (4 * num * num)) / (1 + z2 / num)
    return max(0.0, middle - half), min(1.0, middle + half)


def judge(tally: Tally, share: float) -> Verdict:
    """What the requests say of their rate. open: too much is missing to say anything."""
    if wilson(tally.num_good + tally.num_open, tally.num_planned)[1] < share:
        return "bad"  # whatever the missing ones would have been
    if tally.num_open:
        return "open"
    return "good" if wilson(tally.num_good, tally.num_planned)[0] >= share else "unclear"


def next_probe(settings: CapacitySettings, tallies: Sequence[Tally]) -> Probe | Capacity:
    """The next step of the search after these probes, each one over; or its answer. A probe that is open ends it."""
    bounds = _bounds(settings, tallies)
    if bounds.pending == "open":
        return _answer("aborted", settings, tallies)
    if bounds.pending == "unclear":
        last = tallies[-1]
        return Probe(last.number, last.rate, last.num_windows + 1)
    rate = _next_rate(settings, bounds.low, bounds.high)
    return _answer(rate, settings, tallies) if isinstance(rate, str) else Probe(len(tallies) + 1, rate)


def probe_times(settings: CapacitySettings, seed: int, probe: Probe) -> tuple[list[float], list[float]]:
    """The Poisson arrivals of a probe, in seconds from its beginning: those that only settle, and those that count."""
    generator = stream(seed, f"capacity {probe.number}.{probe.window}")
    end_s = settings.settle_s + settings.length_s(probe.rate)
    settling: list[float] = []
    counted: list[float] = []
    at_s = float(generator.exponential(1 / probe.rate))
    while at_s < end_s:
        (settling if at_s < settings.settle_s else counted).append(at_s)
        at_s += float(generator.exponential(1 / probe.rate))
    return settling, counted


def count(record: RequestRecord, objective: Objective) -> bool | None:
    """Whether a request was good; None for one that says nothing about the server: we kept it back, or it was open when the
    run ended, or our own scenario failed."""
    if record.outcome in ("refused", "incomplete", "left") or record.error_kind == "scenario_error":
        return None
    return record_is_good(record, objective)


def answer_of(settings: CapacitySettings, tallies: Sequence[Tally]) -> Capacity:
    """What these probes say, wherever the search stood when they ended."""
    answer = next_probe(settings, tallies)
    return answer if isinstance(answer, Capacity) else _answer("aborted", settings, tallies)


def _next_rate(
    settings: CapacitySettings, low: float | None, high: float | None
) -> float | Literal["found", "lowest_fails", "highest_passes"]:
    if low is None:
        return settings.first_rate if high is None else "lowest_fails"
    if high is None:
        return min(_rounded(2 * low), settings.highest_rate) if low < settings.highest_rate else "highest_passes"
    middle = _rounded(sqrt(low * high))
    return middle if high > low * (1 + settings.resolution) and low < middle < high else "found"


def _rounded(rate: float) -> float:
    """Four digits: a rate can be read in a phase, and read back."""
    return float(f"{rate:.4g}")


def _result(tally: Tally, share: float) -> ProbeResult:
    num = tally.num_good + tally.num_bad
    low, high = wilson(tally.num_good, num)
    return ProbeResult(
        number=tally.number,
        rate=tally.rate,
        num=num,
        num_good=tally.num_good,
        num_open=tally.num_open,
        share=tally.num_good / num if num else None,
        low=low,
        high=high,
        verdict=judge(tally, share),
    )


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What probes say together. `pending`: the last one is open, or unclear and to be repeated."""

    low: float | None
    high: float | None
    unclear_at: frozenset[float]
    pending: Literal["open", "unclear"] | None = None


def _bounds(settings: CapacitySettings, tallies: Sequence[Tally]) -> _Bounds:
    low = high = None
    unclear_at: frozenset[float] = frozenset()
    for tally in tallies:
        verdict = judge(tally, settings.share)
        if verdict == "open" or (verdict == "unclear" and tally.num_windows < settings.most_windows):
            return _Bounds(low, high, unclear_at, verdict)
        if verdict == "unclear":
            unclear_at |= {tally.rate}
            verdict = "good" if tally.num_good >= settings.share * tally.num_planned else "bad"
        low, high = (tally.rate, high) if verdict == "good" else (low, tally.rate)
    return _Bounds(low, high, unclear_at)


def _answer(kind: Kind, settings: CapacitySettings, tallies: Sequence[Tally]) -> Capacity:
    bounds = _bounds(settings, tallies)
    return Capacity(
        kind=kind,
        low=bounds.low,
        high=bounds.high,
        is_unclear=bool(bounds.unclear_at & {bounds.low, bounds.high}),
        share=settings.share,
        objective=settings.objective,
        probes=[_result(tally, settings.share) for tally in tallies],
    )
