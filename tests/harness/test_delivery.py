"""Asked against delivered: the numbers against scipy, good runs never doubted, bad ones always."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.arrivals.curves import bursts, diurnal, markov, ramp, spike, steady
from harness.arrivals.gaps import Floats, GapLaw
from harness.arrivals.pacing import Piece
from harness.delivery import Delivery, GapTest, judge_delivery, measure_delivery
from harness.plan import LoadPlan, Materialized
from harness.streams import stream
from harness.table import tabulate
from harness.workloads.clients import Client, SumOfClients
from harness.workloads.synthetic import Lognormal, conversations
from tests.harness.builders import LAW, bare_record, manifest

_SHORT = Lognormal(10, 0.0, 10)
_POISSON = GapLaw("poisson")


def _asked(plan: LoadPlan) -> Floats:
    return np.array([arrival.at_s for arrival in plan.arrivals()])


def _measured(
    asked: Floats,
    sent: Floats,
    plan: dict[str, object] | None = None,
    *,
    duration_s: float,
    num_planned: int | None = None,
) -> Delivery:
    """A run whose requests were asked at `asked` and sent at `sent`; NaN was held back."""
    records = [
        bare_record(number, intended_at=round(at, 6), sent_at=None, outcome="refused", error_kind="cap_in_flight")
        if np.isnan(went)
        else bare_record(number, intended_at=round(at, 6), sent_at=round(went, 6), outcome="ok")
        for number, (at, went) in enumerate(zip(asked, sent, strict=True))
    ]
    return measure_delivery(
        tabulate(records),
        manifest(plan=plan or {}, num_planned=num_planned or len(records), duration_s=duration_s),
    )


def _ideal(plan: LoadPlan, seed: int, lag_s: float = 0.01) -> Delivery:
    """Every send up to `lag_s` late, by lot."""
    asked = _asked(plan)
    lags = stream(seed, "lags").random(len(asked)) * (lag_s - 2e-6)
    return _measured(asked, asked + lags, plan.describe(), duration_s=plan.duration_s)


# -- the numbers -----------------------------------------------------------------------------------------


def test_rates_cv_and_dispersion_by_hand() -> None:
    asked = np.array([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5])
    sent = np.where(asked > 11, np.nan, asked)
    found = _measured(asked, sent, duration_s=12.0)
    assert (found.asked.num, found.delivered.num, found.num_refused, found.num_not_sent) == (12, 11, 1, 1)
    assert (found.asked.rate, found.delivered.rate) == (1.0, 11 / 12)
    assert found.asked.gap_cv == found.delivered.gap_cv == 0.0
    assert found.asked.dispersion == {"1": 0.0, "10": None, "60": None}  # one window of 10 s lies in 12 s
    # eleven ones and a nought: variance (11 - 11²/12) / 11 = 1/12, mean 11/12
    assert found.delivered.dispersion["1"] == pytest.approx(1 / 11)


def test_late_sends_are_counted_and_the_worst_is_named() -> None:
    asked = np.arange(20.0)
    sent = asked + np.array([0.0, 0.009, 0.011, 0.049, 0.051, 0.4] + [0.001] * 14)
    found = _measured(asked, sent, duration_s=20.0)
    assert (found.num_late, found.num_displaced) == (4, 2)
    assert found.worst_lag_s == pytest.approx(0.4)


def test_what_was_planned_and_left_no_record_was_not_sent() -> None:
    found = _measured(np.arange(10.0), np.arange(10.0), duration_s=20.0, num_planned=20)
    assert (found.asked.num, found.num_not_sent, found.asked.rate) == (20, 10, 1.0)
    assert judge_delivery(found)[0] == "only 10 of 20 planned requests were sent"


def test_nothing_was_sent() -> None:
    found = _measured(np.arange(30.0), np.full(30, np.nan), duration_s=30.0)
    assert (found.delivered.num, found.worst_lag_s, found.delivered.gap_cv, found.gap_test) == (0, None, None, None)
    assert found.delivered.dispersion["1"] is None
    assert judge_delivery(found) == ["only 0 of 30 planned requests were sent"]


@pytest.mark.parametrize("law", [_POISSON, GapLaw("gamma", 2.0), GapLaw("gamma", 0.4), GapLaw("weibull", 1.7)], ids=str)
def test_the_distance_to_the_law_is_scipys(law: GapLaw) -> None:
    """On a rate that is constant, time rescaling is a multiplication: scipy can do the same test on the plain gaps."""
    plan = conversations(steady(4.0, 200.0), law, 5)
    asked = _asked(plan)
    found = _measured(asked, asked, plan.describe(), duration_s=200.0)
    shape, gaps = law.shape, np.diff(asked.round(6)) * 4.0
    theirs = {
        "poisson": stats.expon(),
        "gamma": stats.gamma(shape, scale=1 / shape),
        "weibull": stats.weibull_min(shape, scale=1 / stats.weibull_min(shape).mean()),
    }[law.name]
    oracle = stats.kstest(gaps, theirs.cdf)
    assert found.gap_test is not None
    assert found.plan_test is not None
    assert found.gap_test.against == found.plan_test.against == str(law)
    assert found.gap_test.distance == pytest.approx(oracle.statistic, abs=1e-3)
    assert found.plan_test.distance_beyond_lag == found.plan_test.distance == found.gap_test.distance
    assert found.plan_test.p_value == pytest.approx(oracle.pvalue, abs=0.03)
    assert found.gap_test.distance_beyond_lag <= found.gap_test.distance


def test_gaps_of_a_trace_are_compared_with_each_other_as_scipy_does() -> None:
    plan = conversations(steady(5.0, 100.0), "poisson", 6)
    asked = _asked(plan)
    sent = np.sort(stream(1, "other").random(len(asked)) * 100.0)
    found = _measured(asked, sent, {"arrivals": "trace x"}, duration_s=100.0)
    oracle = stats.ks_2samp(np.diff(asked.round(6)), np.diff(sent.round(6)))
    assert found.plan_test is None
    assert found.gap_test is not None
    assert found.gap_test.distance == pytest.approx(oracle.statistic, abs=1e-9)
    assert found.gap_test.p_value is None


def test_gaps_that_repeat_have_no_plain_distance() -> None:
    plan = conversations(steady(5.0, 60.0), "constant", 1)
    found = _ideal(plan, 3)
    assert found.gap_test is not None
    assert (found.gap_test.against, found.gap_test.distance, found.gap_test.distance_beyond_lag) == (
        "constant",
        None,
        0.0,
    )
    reactive = _measured(_asked(plan), _asked(plan) + 0.002, duration_s=60.0)
    assert reactive.gap_test is not None
    assert (reactive.gap_test.distance, reactive.gap_test.distance_beyond_lag) == (None, 0.0)


@settings(LAW, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.5, 40), st.sampled_from([0.0, 0.001, 0.01]))
def test_what_a_lag_explains_is_no_distance(seed: int, rate: float, lag_s: float) -> None:
    """With every send within 10 ms the distance beyond lag is at most the asked gaps' own."""
    plan = conversations(ramp(0.5, rate, duration_s=40.0), GapLaw("gamma", 1.5), seed)
    if plan.num_arrivals < 15:
        return
    exact, late = _ideal(plan, seed, 2e-6), _ideal(plan, seed, max(lag_s, 2e-6))
    assert exact.gap_test is not None
    assert late.gap_test is not None
    assert exact.gap_test.distance is not None
    assert late.gap_test.distance_beyond_lag <= exact.gap_test.distance + 1e-3  # instants are rounded
    against_asked = _measured(_asked(plan), _asked(plan) + lag_s, duration_s=40.0)
    assert against_asked.gap_test is not None
    assert against_asked.gap_test.distance_beyond_lag == 0.0


def test_a_reactive_plan_has_no_asked_law() -> None:
    plan = conversations(steady(5.0, 30.0), "poisson", 6)
    asked = _asked(plan)
    records = [bare_record(n, intended_at=at, sent_at=at, outcome="ok") for n, at in enumerate(asked)]
    found = measure_delivery(
        tabulate(records), manifest(plan=plan.describe(), num_planned=3, duration_s=30.0, reactive=True)
    )
    assert (found.asked.num, found.plan_test) == (len(asked), None)
    assert found.gap_test is not None
    assert found.gap_test.against == "asked gaps"
    assert judge_delivery(found) == []


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"gaps": "poisson"},
        {"gaps": "lumpy", "pieces": [[0, 1, 1, "x"]]},
        {"gaps": 3, "pieces": 4},
        {"gaps": "poisson", "pieces": [[1]]},
    ],
)
def test_a_plan_that_names_no_law_is_compared_with_itself(plan: dict[str, object]) -> None:
    found = _measured(np.arange(30.0), np.arange(30.0), plan, duration_s=30.0)
    assert found.plan_test is None
    assert found.gap_test is not None
    assert found.gap_test.against == "asked gaps"


def test_a_run_that_was_stopped_is_not_taken_for_a_lull() -> None:
    plan = conversations(steady(20.0, 100.0), "poisson", 8)
    asked = _asked(plan)
    asked = asked[asked < 50]
    records = [bare_record(n, intended_at=at, sent_at=at, outcome="ok") for n, at in enumerate(asked)]
    found = measure_delivery(
        tabulate(records),
        manifest(plan=plan.describe(), num_planned=plan.num_arrivals, duration_s=100.0, ended_at=50.0),
    )
    assert found.delivered.dispersion["1"] == pytest.approx(1.0, abs=0.75)
    assert judge_delivery(found) == [f"only {len(asked)} of {plan.num_arrivals} planned requests were sent"]


def test_it_can_be_written_and_read_again() -> None:
    found = _ideal(conversations(steady(5.0, 30.0), "poisson", 6), 1)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Delivery) == found
    assert isinstance(found.gap_test, GapTest)


# -- good runs -------------------------------------------------------------------------------------------


def _sum_of_clients(seed: int) -> LoadPlan:
    clients = [
        Client(f"c{n}", (Piece(0.0, 60.0, 0.2 * (n + 1), "x"),), GapLaw("gamma", 0.7 + n), _SHORT, _SHORT)
        for n in range(6)
    ]
    return SumOfClients(clients, 60.0, seed)


_PLANS: dict[str, Callable[[int], LoadPlan]] = {
    "a handful": lambda seed: conversations(steady(0.4, 30.0), "poisson", seed),
    "some": lambda seed: conversations(steady(1.0, 40.0), "poisson", seed),
    "many": lambda seed: conversations(steady(50.0, 30.0), "poisson", seed),
    "fast": lambda seed: conversations(steady(150.0, 11.0), "poisson", seed),
    "metronome": lambda seed: conversations(steady(7.0, 40.0), "constant", seed),
    "fast metronome": lambda seed: conversations(steady(150.0, 11.0), "constant", seed),
    "smooth": lambda seed: conversations(steady(5.0, 60.0), GapLaw("gamma", 0.3), seed),
    "bursty": lambda seed: conversations(steady(5.0, 60.0), GapLaw("gamma", 4.0), seed),
    "very bursty": lambda seed: conversations(steady(2.0, 60.0), GapLaw("gamma", 12.0), seed),
    "heavy-tailed": lambda seed: conversations(steady(5.0, 60.0), GapLaw("weibull", 3.0), seed),
    "bursts": lambda seed: conversations(
        bursts(quiet_rate=3, factor=8, every_s=20, for_s=4, duration_s=120), "poisson", seed
    ),
    "spike": lambda seed: conversations(
        spike(rate=3, factor=10, at_s=20, for_s=5, duration_s=60), GapLaw("weibull", 2.0), seed
    ),
    "ramp of a metronome": lambda seed: conversations(ramp(0, 20, duration_s=30), "constant", seed),
    "a day in two minutes": lambda seed: conversations(
        diurnal(5, peak=1.8, duration_s=120, day_s=120), "poisson", seed
    ),
    "MMPP": lambda seed: conversations(
        markov([(1, 10), (20, 4)], duration_s=120, generator=stream(seed, "states")), "poisson", seed
    ),
    "sum of clients": _sum_of_clients,
}


@pytest.mark.parametrize("name", _PLANS)
def test_no_good_run_is_doubted(name: str) -> None:
    """Forty runs of each, every send up to 10 ms late: 640 runs, no doubt."""
    for seed in range(40):
        plan = _PLANS[name](seed)
        if plan.num_arrivals:
            assert judge_delivery(_ideal(plan, seed)) == [], seed


def test_a_lag_across_the_edge_of_a_window_is_no_clumping() -> None:
    """A trace whose instants lie just before whole seconds: half of the sends fall into the next second."""
    asked = np.linspace(0.995, 59.995, 60, dtype=np.float64)
    found = _measured(asked, asked + 0.0099 * stream(1, "lags").random(60), {"arrivals": "trace x"}, duration_s=61.0)
    assert found.delivered.dispersion == found.asked.dispersion
    assert judge_delivery(found) == []


def test_a_short_run_of_a_few_requests_is_not_doubted() -> None:
    """So few in a window that one request beyond its edge changes the index of dispersion by half."""
    for seed in range(150):
        assert judge_delivery(_ideal(conversations(steady(1.25, 12.0), "poisson", seed), seed)) == [], seed


def test_p_values_of_good_runs_are_even() -> None:
    """The probability integral transform: a test that is right gives p-values that are uniform."""
    values = [
        found.plan_test.p_value
        for seed in range(300)
        if (found := _ideal(conversations(steady(3.0, 100.0), "poisson", seed), seed)).plan_test is not None
    ]
    assert len(values) == 300
    assert stats.kstest(np.array(values, dtype=float), "uniform").pvalue > 1e-3


# -- bad runs --------------------------------------------------------------------------------------------

Sends = npt.NDArray[np.float64]


def _closed_loop(asked: Sends, generator: np.random.Generator) -> Sends:
    """Three users, each answered after a second: the next request waits for one of them."""
    free, sent = [0.0] * 3, []
    for at in asked:
        user = min(range(3), key=lambda n: free[n])
        sent.append(max(at, free[user]))
        free[user] = sent[-1] + 1.0
    return np.array(sent)


def _late_in_clumps(asked: Sends, generator: np.random.Generator) -> Sends:
    """One in five goes out 100 ms late, twenty in a row."""
    clump = (np.arange(len(asked)) // 20) % 5 == 2
    return np.asarray(asked + 0.1 * clump)


def _smoothed(asked: Sends, generator: np.random.Generator) -> Sends:
    return np.linspace(asked[0], asked[-1], len(asked))


def _in_ticks(asked: Sends, generator: np.random.Generator) -> Sends:
    """A loop that wakes every 100 ms."""
    return np.ceil(asked / 0.1) * 0.1


def _without_bursts(asked: Sends, generator: np.random.Generator) -> Sends:
    """Held back by a cap: everything in a second that has more than eleven."""
    counts = np.bincount(asked.astype(int))
    return np.where(counts[asked.astype(int)] > 11, np.nan, asked)


def _slept_between(asked: Sends, generator: np.random.Generator) -> Sends:
    """The gap is slept after a send that takes 20 ms: the schedule sags."""
    return np.asarray(asked + 0.02 * np.arange(len(asked)))


_BAD = [_closed_loop, _late_in_clumps, _smoothed, _in_ticks, _without_bursts, _slept_between]


@pytest.mark.parametrize("spoil", _BAD, ids=lambda each: each.__name__.strip("_"))
@pytest.mark.parametrize("is_trace", [False, True], ids=["law", "trace"])
def test_a_load_that_was_not_delivered_is_always_doubted(spoil: Callable[..., Sends], is_trace: bool) -> None:
    for seed in range(30):
        plan = conversations(steady(8.0, 60.0), "poisson", seed)
        asked = _asked(plan)
        sent = spoil(asked, stream(seed, "spoil"))
        found = _measured(asked, sent, {} if is_trace else plan.describe(), duration_s=60.0)
        assert judge_delivery(found), seed


@pytest.mark.parametrize("claimed", ["poisson", "gamma:2", "weibull:0.5"])
def test_a_plan_that_is_not_what_it_says_is_doubted(claimed: str) -> None:
    """Sent just as intended, but the intention was a metronome's."""
    plan = conversations(steady(8.0, 30.0), "constant", 0)
    asked = _asked(plan)
    (planned, delivered) = judge_delivery(
        _measured(asked, asked, {**plan.describe(), "gaps": claimed}, duration_s=30.0)
    )
    assert planned.startswith(f"the planned gaps are not those of {claimed}: distance 0.")
    assert delivered.startswith(f"the delivered gaps are not those of {claimed}: distance 0.")


def test_one_burst_that_is_dropped_changes_the_dispersion() -> None:
    """A burst of 4 % of the load: the rate alone would pass."""
    plan = conversations(spike(rate=10, factor=5, at_s=30, for_s=0.7, duration_s=100), "poisson", 4)
    asked = _asked(plan)
    inside = (asked >= 30) & (asked < 30.7)
    found = _measured(asked, np.where(inside, np.nan, asked), plan.describe(), duration_s=100.0)
    assert found.delivered.num > 0.95 * found.asked.num
    assert any("index of dispersion in 1 s" in reason for reason in judge_delivery(found))


def test_a_stall_of_the_sender_is_named() -> None:
    plan = conversations(steady(10.0, 30.0), "poisson", 4)
    asked = _asked(plan)
    sent = np.where((asked > 10) & (asked < 14), 14.0, asked)
    reasons = judge_delivery(_measured(asked, sent, plan.describe(), duration_s=30.0))
    assert any("more than 50 ms off time" in reason for reason in reasons)


def test_an_instant_without_end_does_not_hang() -> None:
    found = _measured(np.array([0.0] * 20), np.array([0.0] * 20), duration_s=1.0)
    assert found.asked.gap_cv is None
    assert found.worst_lag_s is not None
    assert found.worst_lag_s < inf


def test_materialized_plans_without_a_law_are_no_error() -> None:
    plan = Materialized((), 10.0)
    assert _measured(np.array([]), np.array([]), plan.describe(), duration_s=10.0).asked.num == 0
