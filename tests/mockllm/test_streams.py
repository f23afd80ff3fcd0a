from __future__ import annotations

from math import log

import numpy as np
import pytest
from scipy import stats

from mockllm.streams import Streams

KEYS = [f"request-{number}" for number in range(4000)]


def test_draws_hang_on_seed_purpose_and_key_alone() -> None:
    one, two = Streams(5), Streams(5)
    forwards = {key: one.uniform("ttft", key) for key in KEYS}
    backwards = {key: two.uniform("ttft", key) for key in reversed(KEYS)}
    assert forwards == backwards
    assert Streams(6).uniform("ttft", "request-1") != forwards["request-1"]
    assert one.uniform("tpot", "request-1") != forwards["request-1"]


def test_purpose_and_key_cannot_run_into_each_other() -> None:
    assert Streams(1).integer("ab", "c") != Streams(1).integer("a", "bc")


def test_uniform_exponential_and_lognormal_have_their_distributions() -> None:
    streams = Streams(11)
    uniform = [streams.uniform("u", key) for key in KEYS]
    exponential = [streams.exponential("e", key, 3.0) for key in KEYS]
    lognormal = [streams.lognormal("l", key, 0.2, 0.5) for key in KEYS]
    assert stats.kstest(uniform, "uniform").pvalue > 0.001
    assert stats.kstest(exponential, stats.expon(scale=3.0).cdf).pvalue > 0.001
    assert stats.kstest(lognormal, stats.lognorm(0.5, scale=0.2).cdf).pvalue > 0.001


def test_lognormal_without_spread_is_its_median_exactly() -> None:
    assert Streams(1).lognormal("x", "k", 0.25, 0.0) == 0.25
    assert Streams(1).lognormal("x", "k", 0.0, 0.7) == 0.0


def test_purposes_are_not_correlated() -> None:
    streams = Streams(2)
    a = np.log([streams.lognormal("ttft", key, 1.0, 1.0) for key in KEYS])
    b = np.log([streams.lognormal("tpot", key, 1.0, 1.0) for key in KEYS])
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(len(KEYS))


def test_a_generator_is_the_same_each_time_it_is_asked_for() -> None:
    streams = Streams(3)
    assert streams.generator("gaps", "k").random() == streams.generator("gaps", "k").random()
    assert streams.generator("gaps", "k").random() != pytest.approx(streams.generator("gaps", "j").random())


def test_any_text_is_a_key() -> None:
    assert 0 < Streams(0).uniform("x", "\ud800 lone surrogate") < 1
    assert log(Streams(0).uniform("x", "")) < 0
