"""How many replicas there shall be: the rules against Kubernetes' own tables, closed forms and numpy."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mockllm.stack.autoscale import Autoscaler, AutoscaleSettings, Seen, desired_by_load, forecast
from mockllm.stack.timeline import Timeline


def autoscale(**keys: Any) -> AutoscaleSettings:
    return AutoscaleSettings.model_validate(keys)


def scaler(zero: float = 0.0, *, cold_start_s: float = 100.0, **keys: Any) -> Autoscaler:
    """One whose run begins at `zero`."""
    timeline = Timeline()
    timeline.begin(zero)
    return Autoscaler(autoscale(**keys), timeline, cold_start_s)


def seen(at: float, desired: int, load: float, **more: Any) -> Seen:
    values: dict[str, Any] = {"num_ready": desired, "num_starting": 0} | more
    return Seen(at=at, desired=desired, load=load, **values)


# Rows of kubernetes/kubernetes pkg/controller/podautoscaler/replica_calculator_test.go, by the names of their tests, and
# the examples of the documentation.
@pytest.mark.parametrize(
    ("name", "current", "levels", "num_unready", "target", "expected"),
    [
        ("ScaleUp", 3, [0.3, 0.5, 0.7], 0, 0.3, 5),
        ("ScaleUpUnreadyLessScale", 3, [0.5, 0.7], 1, 0.3, 4),
        ("ScaleUpUnreadyNoScale", 3, [0.4], 2, 0.3, 3),
        ("ScaleUpCM", 3, [20, 10, 30], 0, 15, 4),
        ("ScaleDown", 5, [0.1, 0.3, 0.5, 0.25, 0.25], 0, 0.5, 3),
        ("ScaleDownIncludeUnreadyPods", 5, [0.1, 0.3, 0.5], 2, 0.5, 2),
        ("ScaleDownCM", 5, [12, 12, 12, 12, 12], 0, 20, 3),
        ("Tolerance", 3, [1.01, 1.03, 1.02], 0, 1.0, 3),
        ("documentation: 200m of 100m doubles", 4, [0.2] * 4, 0, 0.1, 8),
        ("documentation: 50m of 100m halves", 4, [0.05] * 4, 0, 0.1, 2),
        ("documentation: 90 of 75 on 50", 50, [90] * 50, 0, 75, 60),
    ],
)
def test_the_formula_is_that_of_kubernetes(
    name: str, current: int, levels: list[float], num_unready: int, target: float, expected: int
) -> None:
    state = seen(0, current, sum(levels), num_ready=len(levels), num_starting=num_unready)
    assert desired_by_load(sum(levels), target, 0.1, state) == expected


def test_what_waits_for_a_first_replica_may_ask_for_more() -> None:
    starting = seen(0, 1, 50, num_ready=0, num_starting=1)
    assert desired_by_load(50, 10, 0.1, starting) == 5
    assert desired_by_load(8, 10, 0.1, starting) == 1
    assert desired_by_load(0, 10, 0.1, seen(0, 3, 0, num_ready=0, num_starting=3)) == 3


def test_of_the_wishes_of_the_window_the_largest_holds() -> None:
    """The example of KEP-853: one decision a minute, a window of ten."""
    subject = scaler(max=20, target=1.0, tolerance=0.0, interval="60s", stabilization="600s")
    wishes = [10, 9, 8, 9, 9, 8, 9, 8, 9, 8, 7]
    got = [subject.decide(seen(60.0 * minute, 10, wish)).num for minute, wish in enumerate(wishes)]
    assert got == [10] * 10 + [9]


@given(
    st.lists(st.tuples(st.floats(0, 100), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 4),
    st.integers(0, 8),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([0, 40, 100]),
    st.sampled_from([0, 40, 300]),
)
@hypothesis_settings(deadline=None)
def test_brakes_hold(
    loads: list[tuple[float, bool]], least: int, more: int, up: int, down: int, cooldown: int, window: int
) -> None:
    subject = scaler(
        min=least, max=least + more, target=5.0, step_up=up, step_down=down, cooldown=f"{cooldown}s",
        stabilization=f"{window}s",
    )  # fmt: skip
    desired, changed_at, wishes = least, list[float](), [(15.0, least)]
    for load, _ in loads:
        at = subject.due()
        wishes.append((at, desired_by_load(load, 5.0, 0.1, seen(at, desired, load))))
        num = subject.decide(seen(at, desired, load)).num
        assert least <= num <= least + more
        assert -down <= num - desired <= up
        if num != desired:
            assert not changed_at or at - changed_at[-1] >= cooldown
            changed_at.append(at)
        if num < desired:
            assert all(wish <= num for when, wish in wishes if when > at - window) or num == desired - down
        desired = num


@given(
    st.lists(st.floats(0, 100), min_size=3, max_size=40),
    st.floats(5, 60),
    st.floats(0, 600),
)
def test_the_forecast_is_the_least_squares_line(values: list[float], step_s: float, ahead_s: float) -> None:
    points = [(1e4 + number * step_s, value) for number, value in enumerate(values)]
    at = points[-1][0] + ahead_s
    x = np.array([each[0] for each in points]) - 1e4
    slope, height = np.polyfit(x, values, 1)
    assert forecast(points, at) == pytest.approx(height + slope * (at - 1e4), abs=1e-6 * (1 + abs(slope) * 600))


def test_a_ramp_is_foreseen() -> None:
    """Arrivals grow by .1 requests/s a second and each takes 2 s; in 115 s (start and interval) there are so many more."""
    subject = scaler(policy="predictive", max=1000, target=1.0, tolerance=0.0, interval="15s", cold_start_s=100.0)
    desired = 1
    for number in range(1, 20):
        at = 15.0 * number
        arrived = 0.1 * (at**2 - (at - 15) ** 2) / 2
        numbers = {"num_arrived": arrived, "num_answered": 10, "answering_s": 20.0}
        desired = subject.decide(seen(at, desired, 2.0 * 0.1 * at, **numbers)).num
        if number >= 3:
            assert desired == np.ceil(2.0 * 0.1 * (at + 115) - 1e-6)


def test_where_the_future_is_less_the_present_counts() -> None:
    subject = scaler(policy="predictive", max=100, target=1.0, interval="15s")
    for number in range(1, 10):
        falling = {"num_arrived": 1000 - 100 * number, "num_answered": 5, "answering_s": 5.0}
        assert subject.decide(seen(15.0 * number, 30, 30.0, **falling)).num == 30


TABLE = [{"at": "0s", "count": 2}, {"at": "8h", "count": 6}, {"at": "20h", "count": 1}]


def test_a_schedule_is_kept_to_the_second_and_comes_again() -> None:
    subject = scaler(7.0, policy="scheduled", max=6, schedule=TABLE, period="1d")
    got = []
    for _ in range(6):
        at = subject.due()
        got.append((at, subject.decide(seen(at, 1, 0.0)).num))
    day = [(7.0, 2), (7.0 + 8 * 3600, 6), (7.0 + 20 * 3600, 1)]
    assert got == day + [(at + 86_400, num) for at, num in day]


def test_a_schedule_without_a_period_ends() -> None:
    subject = scaler(policy="scheduled", max=6, schedule=TABLE)
    for _ in TABLE:
        subject.decide(seen(subject.due(), 1, 0.0))
    assert subject.due() == float("inf")


def test_a_run_that_begins_anew_begins_its_schedule_anew() -> None:
    timeline = Timeline()
    subject = Autoscaler(autoscale(policy="scheduled", max=6, schedule=TABLE), timeline, 0.0)
    assert subject.due() == float("inf")  # no run, no clock
    timeline.begin(10.0)
    assert subject.decide(seen(subject.due(), 1, 0.0)).num == 2
    timeline.restart(500.0)
    assert subject.due() == 500.0
    assert subject.decide(seen(500.0, 1, 0.0)).num == 2
    assert subject.due() == 500.0 + 8 * 3600


def test_decisions_come_at_their_interval() -> None:
    subject = scaler(3.0, max=4, target=1.0, interval="20s")
    instants = []
    for _ in range(5):
        instants.append(subject.due())
        subject.decide(seen(subject.due(), 1, 1.0))
    assert instants == [23.0, 43.0, 63.0, 83.0, 103.0]
    assert all(later > earlier for earlier, later in pairwise(instants))


def test_the_last_one_goes_when_nobody_came_for_long_enough() -> None:
    subject = scaler(min=0, max=4, target=1.0, idle="5m")
    assert subject.decide(seen(15.0, 1, 0.0, idle_s=299.0)).num == 1
    assert subject.decide(seen(30.0, 1, 0.0, idle_s=300.0)).num == 0
    assert subject.decide(seen(45.0, 0, 0.0, num_ready=0, idle_s=400.0)).num == 0


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        ({"min": 3, "max": 2, "target": 1.0}, "min 3 must not exceed max 2"),
        ({"max": 2}, "target is missing: how much of requests"),
        ({"max": 2, "target": 0.0}, "greater than 0"),
        ({"max": 2, "target": 1.0, "interval": 15}, "not a duration"),
        ({"max": 2, "target": 1.0, "interval": "0s"}, "greater than 0"),
        ({"max": 2, "target": 1.0, "lead": "1m"}, "lead is for the policy predictive, and this one is reactive"),
        ({"max": 2, "target": 1.0, "min": 0}, "min 0 and idle belong together"),
        ({"max": 2, "target": 1.0, "idle": "5m"}, "min 0 and idle belong together"),
        (
            {"max": 2, "target": 1.0, "policy": "predictive", "signal": "queue"},
            "predictive foresees requests or running",
        ),
        (
            {"max": 2, "target": 1.0, "policy": "predictive", "history": "44s"},
            "history 44.0 s is less than 3 intervals",
        ),
        ({"max": 2, "target": 80, "signal": "kv_usage"}, "target 80: kv_usage is a share and never above 1"),
        ({"max": 2, "target": 1.1, "signal": "utilization"}, "utilization is a share"),
        ({"max": 100_000_000, "target": 1.0}, "less than or equal to 10000"),
        ({"max": 2, "policy": "scheduled"}, "schedule is missing"),
        ({"max": 2, "policy": "scheduled", "target": 1.0, "schedule": TABLE}, "target is for the policy reactive or"),
        ({"max": 6, "policy": "scheduled", "schedule": TABLE[::-1]}, "must rise"),
        ({"max": 6, "policy": "scheduled", "schedule": TABLE, "period": "20h"}, "must end within the period"),
        ({"max": 5, "policy": "scheduled", "schedule": TABLE}, "count 6 at 28800.0 s is not between min 1 and max 5"),
        ({"max": 5, "policy": "random"}, "reactive"),
    ],
)
def test_a_broken_rule_is_named(keys: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        autoscale(**keys)


def test_it_says_what_it_does() -> None:
    assert scaler(max=4, target=10.0).describe() == "1 to 4 replicas, reactive: 10 requests a replica, every 15 s"
    assert "none after 5 min" in scaler(min=0, max=4, target=10.0, idle="5m").describe()
    words = scaler(policy="scheduled", max=6, schedule=TABLE, period="1d").describe()
    assert words == "1 to 6 replicas, scheduled: 2 from 0 s, 6 from 8 h, 1 from 20 h, every 1 d"
    assert scaler(max=4, target=10.0).decide(seen(15.0, 2, 35.0)).why == "requests 35 on 2 replicas, target 10 each"
