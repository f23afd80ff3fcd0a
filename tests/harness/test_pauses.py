"""Think times against scipy's laws."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from scipy import stats

from harness.errors import UsageError
from harness.plan import Arrival
from harness.reactive.pauses import NO_PAUSE, ThinkTime, over_at, parse_think_time, pause_after
from tests.harness.builders import record

UNIFORMS = [0.001, 0.1, 0.5, 0.9, 0.999]


def test_quantiles_are_those_of_the_laws() -> None:
    assert [ThinkTime("constant", 2.0).at(u) for u in UNIFORMS] == [2.0] * 5
    assert [ThinkTime("exponential", 5.0).at(u) for u in UNIFORMS] == pytest.approx(stats.expon(scale=5).ppf(UNIFORMS))
    sigma = 0.8
    law = stats.lognorm(s=sigma, scale=exp(log(5.0) - sigma**2 / 2))
    assert [ThinkTime("lognormal", 5.0, sigma).at(u) for u in UNIFORMS] == pytest.approx(law.ppf(UNIFORMS))
    assert law.mean() == pytest.approx(5.0)


@pytest.mark.parametrize("law", [ThinkTime("exponential", 3.0), ThinkTime("lognormal", 3.0, 0.5)])
def test_the_mean_is_the_mean(law: ThinkTime) -> None:
    uniforms = (np.arange(200_000) + 0.5) / 200_000
    assert np.mean([law.at(float(u)) for u in uniforms]) == pytest.approx(3.0, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "law"),
    [
        ("none", NO_PAUSE),
        ("2s", ThinkTime("constant", 2.0)),
        ("1.5", ThinkTime("constant", 1.5)),
        ("exponential:500ms", ThinkTime("exponential", 0.5)),
        ("lognormal: 5s : 0.8", ThinkTime("lognormal", 5.0, 0.8)),
    ],
)
def test_think_times_as_people_write_them(text: str, law: ThinkTime) -> None:
    assert parse_think_time(text) == law


@pytest.mark.parametrize("text", ["", "soon", "none:1s", "exponential", "lognormal:5s", "lognormal:5s:x", "2s:3s", "0"])
def test_what_is_no_think_time_says_what_to_write(text: str) -> None:
    with pytest.raises(UsageError):
        parse_think_time(text)


def test_a_request_is_over_when_its_answer_has_ended_or_when_it_was_kept_back() -> None:
    arrival = Arrival(0, 4.0, 1)
    assert over_at(arrival, record(done_at=7.0)) == pytest.approx(7.0, abs=2e-6)
    assert over_at(arrival, record(done_at=7.0)) > 7.0000005  # a record is rounded by up to half a microsecond
    assert over_at(arrival, record(done_at=None, outcome="refused")) == 4.0


def test_after_an_error_nobody_asks_again_within_a_second() -> None:
    assert pause_after(record(), 0.0) == 0.0
    assert pause_after(record(outcome="failed"), 0.0) == 1.0
    assert pause_after(record(outcome="throttled"), 3.0) == 3.0
