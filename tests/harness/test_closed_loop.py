"""A closed loop against the laws of operational analysis and the machine-repair model."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from math import factorial, log1p
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.plan import ReactivePlan
from harness.reactive.closed_loop import ClosedLoopPlan
from harness.reactive.pauses import NO_PAUSE, ThinkTime
from harness.workloads.synthetic import Lognormal
from tests.harness.reactive import Reply, queue_profile, send_all, simulated

FIXED = Lognormal(10, 0.0, 10)


def loop(**changes: object) -> ClosedLoopPlan:
    plan = ClosedLoopPlan(
        num_clients=3, think_time=NO_PAUSE, prompt_tokens=FIXED, output_tokens=FIXED, duration_s=10.0, seed=1
    )
    return replace(plan, **changes)  # type: ignore[arg-type]


def test_clients_wait_think_and_ask_again() -> None:
    plan = loop(num_clients=2, think_time=ThinkTime("constant", 0.5), ramp_s=1.0, duration_s=4.0)
    assert isinstance(plan, ReactivePlan)
    done = send_all(plan, lambda _: Reply(1.0))
    sent = {arrival.key: arrival.at_s for arrival, _ in done}
    expected = {"0": 0.0, "0.1": 1.5, "0.2": 3.0, "1": 0.5, "1.1": 2.0, "1.2": 3.5}
    assert sent == pytest.approx(expected, abs=1e-5)


def test_the_interactive_response_time_law_holds(tmp_path: Path) -> None:
    """N = X (R + Z), whatever the server does (Denning and Buzen 1978)."""
    plan = loop(num_clients=40, think_time=ThinkTime("exponential", 2.0), duration_s=600.0, output_tokens=FIXED)
    records = list(simulated(tmp_path, queue_profile(4, 0.02), plan).records([]))
    responses = np.array([(each.done_at or np.nan) - each.intended_at for each in records])
    rate = len(records) / 600.0
    assert responses.mean() > 0.25  # there is a queue: an answer alone takes 0.2 s
    assert rate * (responses.mean() + 2.0) == pytest.approx(40, rel=0.02)


@dataclass(frozen=True)
class Exponential:
    """Exponential lengths, in whole tokens."""

    mean: float

    def at(self, uniform: float) -> int:
        return max(1, round(-self.mean * log1p(-uniform)))

    def describe(self) -> str:
        return "exponential"


@pytest.mark.parametrize("num_clients", [2, 8])
def test_throughput_is_that_of_the_machine_repair_model(num_clients: int, tmp_path: Path) -> None:
    """M/M/1//N: X = mu (1 - p0), 1/p0 = sum of N!/(N-k)! (mean service / mean think)^k."""
    think_s, service_s, length_s = 2.0, 0.4, 4_000.0
    plan = loop(
        num_clients=num_clients,
        think_time=ThinkTime("exponential", think_s),
        output_tokens=Exponential(200),
        duration_s=length_s,
    )
    records = list(simulated(tmp_path, queue_profile(1, service_s / 200), plan).records([]))
    ways = [factorial(num_clients) / factorial(num_clients - k) for k in range(num_clients + 1)]
    empty = 1 / sum(way * (service_s / think_s) ** k for k, way in enumerate(ways))
    assert len(records) / length_s == pytest.approx((1 - empty) / service_s, rel=0.04)


def test_a_server_that_refuses_in_a_millisecond_is_not_hammered() -> None:
    done = send_all(loop(num_clients=5, duration_s=20.0), lambda _: Reply(0.001, "failed"))
    assert len(done) == 5 * 20  # once a second each, without any think time
    kept_back = send_all(loop(num_clients=5, duration_s=20.0), lambda _: Reply(0.0, "refused"))
    assert len(kept_back) == 5 * 20


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 8), st.floats(0.01, 3.0), st.floats(0.0, 2.0), st.integers(0, 99))
def test_nothing_is_sent_after_the_end_and_never_two_at_once(
    num: int, answer_s: float, ramp_s: float, seed: int
) -> None:
    plan = loop(num_clients=num, think_time=ThinkTime("exponential", 0.3), ramp_s=ramp_s, duration_s=6.0, seed=seed)
    done = send_all(plan, lambda _: Reply(answer_s))
    spans = defaultdict(list)
    for arrival, record in done:
        assert arrival.at_s < 6.0
        spans[arrival.index].append((arrival.at_s, record.done_at))
    assert set(spans) == set(range(num))
    for each in spans.values():
        each.sort()
        assert all(begin >= end for (_, end), (begin, _) in pairwise(each) if end is not None)


def test_lengths_and_pauses_hang_on_the_request_and_not_on_the_server() -> None:
    plan = loop(
        think_time=ThinkTime("exponential", 0.5),
        prompt_tokens=Lognormal(100, 1, 999),
        output_tokens=Lognormal(9, 1, 99),
    )
    fast = {arrival.key: arrival for arrival, _ in send_all(plan, lambda _: Reply(0.1))}
    slow = {arrival.key: arrival for arrival, _ in send_all(plan, lambda _: Reply(0.7))}
    assert len(slow) < len(fast)
    for key in slow.keys() & fast.keys():
        assert slow[key].num_prompt_tokens == fast[key].num_prompt_tokens
        assert slow[key].num_output_tokens == fast[key].num_output_tokens
        assert slow[key].ask == fast[key].ask
    assert {arrival.ask.user for arrival in fast.values() if arrival.ask} == {"client-0", "client-1", "client-2"}


@pytest.mark.parametrize(("changes", "said"), [({"num_clients": 0}, "at least one"), ({"ramp_s": 10.0}, "within")])
def test_what_makes_no_loop_is_refused(changes: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        loop(**changes)
