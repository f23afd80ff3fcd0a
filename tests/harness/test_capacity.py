"""The capacity search: its verdicts, its bounds, and the capacity it finds against queueing theory."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import exp, factorial, log, log2
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binomtest, kstest

from harness.errors import UsageError
from harness.objectives import Objective
from harness.plan import Arrival, ReactivePlan
from harness.reactive.capacity import (
    Capacity,
    CapacitySettings,
    Probe,
    Tally,
    answer_of,
    judge,
    next_probe,
    probe_times,
    wilson,
)
from harness.reactive.capacity_plan import CapacityPlan
from harness.reactive.capacity_report import capacity_of, capacity_text
from harness.streams import stream
from harness.workloads.synthetic import Lognormal
from tests.harness.reactive import Reply, queue_profile, send_all, simulated

SETTINGS = CapacitySettings(objective=Objective(e2e_s=0.5), first_rate=1.0, highest_rate=1000.0)


def fixed(num: int) -> Lognormal:
    return Lognormal(num, 0.0, num)


def plan_of(search: CapacitySettings, *, duration_s: float = 1e6, seed: int = 0) -> CapacityPlan:
    return CapacityPlan(search, fixed(10), fixed(10), duration_s, seed)


# -- verdicts ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_interval_is_wilsons(num_good: int, num: int) -> None:
    num_good = min(num_good, num)
    expected = binomtest(num_good, num).proportion_ci(0.95, method="wilson")
    assert wilson(num_good, num) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(
    ("num_planned", "num_good", "num_bad", "verdict"),
    [
        (100, 100, 0, "good"),  # 96.3 % at least
        (60, 60, 0, "unclear"),  # all of them good, and still too few to say
        (1000, 970, 30, "good"),
        (1000, 955, 45, "unclear"),
        (1000, 930, 70, "bad"),
        (1000, 999, 0, "open"),  # one is missing: never good
        (1000, 0, 70, "bad"),  # whatever the others would have been
        (1000, 0, 50, "open"),
        (1000, 0, 0, "open"),
        (0, 0, 0, "unclear"),
    ],
)
def test_verdicts(num_planned: int, num_good: int, num_bad: int, verdict: str) -> None:
    assert judge(Tally(1, 5.0, 1, num_planned, num_good, num_bad), 0.95) == verdict


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 300))
def test_a_probe_that_was_cut_short_is_bad_only_if_it_would_be_anyhow(good: int, bad: int, missing: int) -> None:
    verdict = judge(Tally(1, 5.0, 1, good + bad + missing, good, bad), 0.95)
    assert verdict in ("bad", "open")
    if verdict == "bad":
        assert judge(Tally(1, 5.0, 1, good + bad + missing, good + missing, bad), 0.95) == "bad"


def test_nobody_can_make_a_bound_of_an_aborted_probe() -> None:
    good, open_ = Tally(1, 1.0, 1, 100, 100, 0), Tally(2, 2.0, 1, 200, 190, 0)
    answer = next_probe(SETTINGS, [good, open_])
    assert isinstance(answer, Capacity)
    assert (answer.kind, answer.low, answer.high) == ("aborted", 1.0, None)
    assert "more is not known" in capacity_text(answer)[0]


# -- the search ----------------------------------------------------------------------------------------------------------


def searched(search: CapacitySettings, threshold: float, width: float, seed: int) -> Capacity:
    """A server whose share of good requests falls along a logistic curve in the log of the rate: 95 % at `threshold`."""
    draws = stream(seed, "test server")
    tallies: list[Tally] = []
    for _ in range(200):
        probe = next_probe(search, tallies)
        if isinstance(probe, Capacity):
            return probe
        middle = log(threshold) + width * log(0.95 / 0.05)
        share = 1 / (1 + exp(min(500.0, (log(probe.rate) - middle) / width)))
        num = int(draws.poisson(probe.rate * search.length_s(probe.rate)))
        num_good = int(draws.binomial(num, share))
        before = tallies.pop() if probe.window > 1 else Tally(probe.number, probe.rate, 0, 0, 0, 0)
        assert before.number == probe.number
        tallies.append(
            replace(
                before,
                num_windows=probe.window,
                num_planned=before.num_planned + num,
                num_good=before.num_good + num_good,
                num_bad=before.num_bad + num - num_good,
            )
        )
    raise AssertionError("the search has no end")


@pytest.mark.parametrize("width", [0.005, 0.02])
def test_the_interval_holds_the_truth_in_95_of_100_searches(width: float) -> None:
    """At 2 % in width the share falls from 98 % to 88 % within a factor of 1.04: as an open queue near saturation does."""
    num_right = num_found = 0
    for seed in range(400):
        threshold = exp(stream(seed, "test threshold").uniform(log(3), log(300)))
        answer = searched(SETTINGS, threshold, width, seed)
        assert answer.kind == "found"
        assert answer.low is not None
        assert answer.high is not None
        assert answer.low < answer.high <= answer.low * 1.1
        num_found += 1
        num_right += answer.low <= threshold <= answer.high
    assert num_right >= 0.95 * num_found


@settings(max_examples=200, deadline=None)
@given(st.floats(0.05, 3000.0), st.floats(0.003, 1.0), st.floats(0.01, 0.5), st.integers(0, 10_000))
def test_every_search_ends_in_as_many_probes_as_it_says(
    threshold: float, width: float, resolution: float, seed: int
) -> None:
    search = msgspec.structs.replace(SETTINGS, resolution=resolution, highest_rate=700.0)
    answer = searched(search, threshold, width, seed)
    assert len(answer.probes) <= search.most_probes
    assert search.most_probes <= 2 + log2(700) + 1 + max(0.0, log2(1 / log2(1 + resolution))) + 2
    assert [probe.number for probe in answer.probes] == list(range(1, len(answer.probes) + 1))
    if answer.kind == "found":
        assert answer.low is not None
        assert answer.high is not None
        assert answer.low < answer.high
    assert (answer.low is None) == (answer.kind == "lowest_fails")
    assert (answer.high is None) == (answer.kind == "highest_passes")
    if answer.high is None:
        assert answer.low == 700.0


@pytest.mark.parametrize(("threshold", "kind"), [(0.01, "lowest_fails"), (1e5, "highest_passes")])
def test_what_lies_outside_is_said(threshold: float, kind: str) -> None:
    answer = searched(SETTINGS, threshold, 0.01, 0)
    assert answer.kind == kind
    assert ("begin lower" if kind == "lowest_fails" else "at least 1000/s") in capacity_text(answer)[0]


def test_probes_are_poisson_and_as_long_as_they_must_be() -> None:
    search = msgspec.structs.replace(SETTINGS, settle_s=10.0, probe_s=200.0)
    settling, counted = probe_times(search, 1, Probe(3, 50.0))
    assert max(settling) < 10.0 <= min(counted)
    assert max(counted) < 210.0
    assert len(settling) == pytest.approx(500, abs=4 * 500**0.5)
    assert len(counted) == pytest.approx(10_000, abs=4 * 100)
    assert kstest(np.diff([*settling, *counted]) * 50.0, "expon").pvalue > 0.001
    assert max(probe_times(search, 1, Probe(1, 0.1))[1]) > 900.0  # a hundred requests take a thousand seconds
    assert probe_times(search, 1, Probe(3, 50.0, 2)) != probe_times(search, 1, Probe(3, 50.0))


# -- the plan, against a server that is known ----------------------------------------------------------------------------


def waits_at_most(rate: float, service_s: float, wait_s: float) -> float:
    """P(wait <= t) of M/D/1 (Erlang 1909; Fry 1928): (1 - rho) sum over k <= t/D of (-x)^k e^x / k!, x = rate (t - kD)."""
    terms = range(int(wait_s / service_s + 1e-9) + 1)
    powers = [rate * (wait_s - k * service_s) for k in terms]
    return (1 - rate * service_s) * sum((-x) ** k * exp(x) / factorial(k) for k, x in zip(terms, powers, strict=True))


def test_the_capacity_of_one_server_is_that_of_m_d_1(tmp_path: Path) -> None:
    """Ten steps of 10 ms one at a time, E2E below 0.5 s: the wait may be 0.4 s."""
    truth = brentq(lambda rate: waits_at_most(rate, 0.1, 0.4) - 0.95, 1.0, 9.9)
    assert 5.0 < truth < 9.0
    search = msgspec.structs.replace(SETTINGS, probe_s=900.0, settle_s=30.0)
    directory = simulated(tmp_path, queue_profile(1, 0.01), plan_of(search))
    found = capacity_of(directory.manifest().plan, directory.records([]))
    assert found.kind == "found"
    assert found.low is not None
    assert found.high is not None
    assert found.high <= found.low * 1.1
    # Waits of one busy period are alike: the share of a probe of 6,000 requests is known to about 1.5 points, its rate to 3 %.
    assert found.low / 1.03 <= truth <= found.high * 1.03


def rate_of(arrival: Arrival) -> float:
    return float((arrival.phase or "").rpartition(", ")[2].removesuffix("/s")) if arrival.turn else 0.0


def cliff(at: float) -> Callable[[Arrival], Reply]:
    """Every answer is good up to this rate, and none above it."""
    return lambda arrival: Reply(0.1 if rate_of(arrival) <= at else 3.0)


@settings(max_examples=30, deadline=None)
@given(st.floats(1.5, 60.0), st.integers(0, 1000))
def test_a_cliff_is_found_and_found_again_in_the_records(at: float, seed: int) -> None:
    plan = plan_of(SETTINGS, seed=seed)
    assert isinstance(plan, ReactivePlan)
    done = send_all(plan, cliff(at))
    records = [record for _, record in done]
    found = capacity_of(plan.describe(), records)
    assert found.kind == "found"
    assert found.low is not None
    assert found.high is not None
    assert found.low <= at < found.high <= found.low * 1.1
    random.Random(seed).shuffle(records)
    assert capacity_of(msgspec.json.decode(msgspec.json.encode(plan.describe())), records) == found
    assert len({record.request_id for record in records}) == len(records)


def test_the_share_that_was_asked_is_said_to_the_digit() -> None:
    settings = CapacitySettings(objective=SETTINGS.objective, first_rate=1.0, highest_rate=8.0, share=0.999)
    assert (
        "at least 99.9% of the requests meet"
        in capacity_text(answer_of(settings, [Tally(1, 8.0, 1, 9999, 9999, 0)]))[0]
    )


def test_a_hopeless_probe_is_broken_off_and_the_next_waits_until_it_has_drained() -> None:
    plan = plan_of(SETTINGS)
    done = send_all(plan, cliff(10.0))
    ends = {turn: max(record.done_at or 0.0 for arrival, record in done if arrival.turn == turn) for turn in range(6)}
    begins = {turn: min(arrival.at_s for arrival, _ in done if arrival.turn == turn) for turn in range(6)}
    assert all(begins[turn + 1] >= ends[turn] + 0.5 for turn in range(5))
    bad = [arrival for arrival, _ in done if arrival.phase == "probe 5, 16/s"]
    planned = len(probe_times(SETTINGS, 0, Probe(5, 16.0))[1])
    # 5 % of them and their interval are bad after about 40 answers; meanwhile three seconds' worth was sent.
    assert 60 < len(bad) < 140 < planned
    (probe,) = (
        each for each in capacity_of(plan.describe(), [record for _, record in done]).probes if each.number == 5
    )
    assert (probe.verdict, probe.num_open) == ("bad", planned - len(bad))


def test_an_unclear_probe_goes_on_and_says_so_in_the_end() -> None:
    counts: Counter[float] = Counter()

    def server(arrival: Arrival) -> Reply:
        """Up to 8/s all are good, from 16/s none; between them 19 of 20, as near to the bound as can be."""
        rate = rate_of(arrival)
        counts[rate] += 1
        return Reply(0.1 if rate <= 8 or (rate < 16 and counts[rate] % 20) else 3.0)

    plan = plan_of(SETTINGS)
    done = send_all(plan, server)
    phases = {arrival.phase for arrival, _ in done}
    assert {"probe 6, 11.31/s", "probe 6 window 2, 11.31/s", "probe 6 window 4, 11.31/s"} <= phases
    found = capacity_of(plan.describe(), [record for _, record in done])
    assert found.is_unclear
    assert "too near to the bound" in capacity_text(found)[1]


@pytest.mark.parametrize("outcome", ["refused", "incomplete"])
def test_what_we_kept_back_ourselves_is_no_bound(outcome: str) -> None:
    """From 16/s on our own cap holds every fourth request back: the server was not asked what the probe says."""
    num = Counter[float]()

    def server(arrival: Arrival) -> Reply:
        num[rate_of(arrival)] += 1
        return Reply(0.1, outcome if rate_of(arrival) >= 16 and num[rate_of(arrival)] % 4 == 0 else "ok")

    plan = plan_of(SETTINGS)
    done = send_all(plan, server)
    found = capacity_of(plan.describe(), [record for _, record in done])
    assert (found.kind, found.low, found.high) == ("aborted", 8.0, None)


@pytest.mark.parametrize("until_s", [20.0, 130.0, 250.0])
def test_a_run_that_is_stopped_keeps_its_bounds_and_gains_none(until_s: float) -> None:
    plan = plan_of(SETTINGS)
    records = [record for _, record in send_all(plan, cliff(10.0), until_s=until_s)]
    found = capacity_of(plan.describe(), records)
    assert found.kind == "aborted"
    assert found.low is None or found.low <= 10.0
    assert found.high is None or found.high > 10.0


def test_no_probe_begins_that_would_not_end_in_time() -> None:
    plan = plan_of(SETTINGS, duration_s=250.0)
    done = send_all(plan, cliff(10.0))
    assert max(arrival.at_s for arrival, _ in done) < 250.0
    found = capacity_of(plan.describe(), [record for _, record in done])
    assert found.kind == "aborted"
    assert all(probe.num_open == 0 for probe in found.probes)


def test_a_server_that_never_answers_well_has_no_capacity() -> None:
    plan = plan_of(SETTINGS)
    done = send_all(plan, lambda _: Reply(0.01, "failed"))
    found = capacity_of(plan.describe(), [record for _, record in done])
    assert (found.kind, found.low, found.high) == ("lowest_fails", None, 1.0)


@pytest.mark.parametrize(
    "changes",
    [{"share": 1.0}, {"first_rate": 0.0}, {"highest_rate": 0.5}, {"resolution": 0.0}, {"least_requests": 1}],
)
def test_settings_that_make_no_search_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        CapacitySettings(**(msgspec.structs.asdict(SETTINGS) | changes))
