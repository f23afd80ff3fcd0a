"""The scheduler against queueing theory, where theory is exact: with a step time that does not depend on the load.

One slot and a fixed number of tokens is M/D/1; geometric numbers of many tokens make it M/M/1, c slots M/M/c. The
sample paths are those of Lindley (1952) and of Kiefer and Wolfowitz (1955); means those of Pollaczek-Khinchine and of
Erlang's C formula.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import date
from math import factorial, inf

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from mockllm import Finished, Request, build_engine, simulate
from mockllm.deployment import Deployment
from mockllm.model import Began, Tokens
from mockllm.profile import BatchedProfile, LengthModel, SchedulerModel, StepTimeModel
from mockllm.streams import Streams
from tests.laws.load import engine as law_engine
from tests.laws.load import loads

STEP_S = 0.001
MEAN_TOKENS = 2_000  # of geometric lengths: the mean wait differs from that of exponential ones by 1/4000
SERVICE_S = MEAN_TOKENS * STEP_S

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def server(num_slots: int) -> BatchedProfile:
    return BatchedProfile(
        kind="batched",
        name="queue",
        model="m",
        summary="",
        as_of=date(2026, 11, 21),
        sources=[],
        max_model_len=10**9,
        answer_length=LengthModel(median_tokens=1.0, sigma=0.0),
        step_time=StepTimeModel(b0=STEP_S, b1=0.0, b2=0.0, b3=0.0),
        scheduler=SchedulerModel(max_num_seqs=num_slots, max_num_batched_tokens=100_000),
    )


def waits(num_slots: int, arrivals: Floats, tokens: Ints) -> Floats:
    """Seconds from arrival to the first step, by request."""
    engine = build_engine(Deployment(name="queue", seed=0, profiles={"m": server(num_slots)}), every_token=False)
    load = (
        (at, Request(f"{number}", "", "m", 1, max_tokens=num, ignore_eos=True, watched=False))
        for number, (at, num) in enumerate(zip(arrivals.tolist(), tokens.tolist(), strict=True))
    )
    out = np.full(len(arrivals), np.nan)
    for emission in simulate(engine, load):
        if isinstance(emission, Finished):
            assert emission.queue_s is not None
            out[int(emission.request_id)] = emission.queue_s
    assert not np.isnan(out).any()
    return out


def customers(
    purpose: str, num: int, utilization: float, num_slots: int, *, fixed: bool = False
) -> tuple[Floats, Ints]:
    random = Streams(5).generator("queueing", purpose)
    rate = utilization * num_slots / SERVICE_S
    arrivals = np.cumsum(random.exponential(1 / rate, num))
    tokens = np.full(num, MEAN_TOKENS) if fixed else random.geometric(1 / MEAN_TOKENS, num)
    return arrivals, tokens


def sample_path(num_slots: int, arrivals: Floats, tokens: Ints) -> Floats:
    """Waits of first come, first served: the slot that is free first takes the next customer."""
    free_at = [0.0] * num_slots
    out = []
    for at, service in zip(arrivals.tolist(), (tokens * STEP_S).tolist(), strict=True):
        start = max(at, heapq.heappop(free_at))
        heapq.heappush(free_at, start + service)
        out.append(start - at)
    return np.array(out)


def erlang_c(num_slots: int, load: float) -> float:
    """The probability that a customer of M/M/c waits; `load` in Erlang."""
    last = load**num_slots / factorial(num_slots) * num_slots / (num_slots - load)
    return last / (sum(load**k / factorial(k) for k in range(num_slots)) + last)


@pytest.mark.parametrize("fixed", [True, False], ids=["M/D/1", "M/M/1"])
def test_one_slot_follows_lindleys_recursion(fixed: bool) -> None:
    arrivals, tokens = customers("lindley", 5_000, 0.8, 1, fixed=fixed)
    assert waits(1, arrivals, tokens) == pytest.approx(sample_path(1, arrivals, tokens), abs=1e-6)


def test_c_slots_follow_kiefer_and_wolfowitz_to_a_step() -> None:
    """Whoever comes into a running batch waits for the end of the step: half a step on average, never more than one."""
    arrivals, tokens = customers("kiefer", 20_000, 0.7, 4)
    ours, theirs = waits(4, arrivals, tokens), sample_path(4, arrivals, tokens)
    assert ours.mean() - theirs.mean() == pytest.approx(STEP_S / 2, abs=STEP_S / 2)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9999


@pytest.mark.parametrize("utilization", [0.3, 0.7])
def test_fixed_service_waits_as_m_d_1(utilization: float) -> None:
    arrivals, tokens = customers(f"M/D/1 {utilization}", 40_000, utilization, 1, fixed=True)
    theory = utilization * SERVICE_S / (2 * (1 - utilization))
    assert waits(1, arrivals, tokens).mean() == pytest.approx(theory, rel=0.03)


@pytest.mark.parametrize("utilization", [0.3, 0.6])
def test_exponential_service_waits_as_m_m_1(utilization: float) -> None:
    arrivals, tokens = customers(f"M/M/1 {utilization}", 50_000, utilization, 1)
    theory = utilization * SERVICE_S / (1 - utilization)
    assert waits(1, arrivals, tokens).mean() == pytest.approx(theory, rel=0.03)


@pytest.mark.parametrize(("num_slots", "utilization"), [(2, 0.7), (4, 0.7), (8, 0.8)])
def test_c_slots_wait_as_erlang_c(num_slots: int, utilization: float) -> None:
    """The recursion over 600,000 customers has Erlang's mean; the scheduler's first 25,000 are the recursion's."""
    arrivals, tokens = customers(f"M/M/{num_slots}", 600_000, utilization, num_slots)
    path = sample_path(num_slots, arrivals, tokens)
    theory = erlang_c(num_slots, utilization * num_slots) * SERVICE_S / (num_slots * (1 - utilization))
    assert path.mean() == pytest.approx(theory, rel=0.03)
    ours = waits(num_slots, arrivals[:25_000], tokens[:25_000])
    assert ours.mean() == pytest.approx(path[:25_000].mean(), abs=STEP_S)


def integral_of_number(load: list[tuple[float, Request]], seed: int) -> tuple[float, float]:
    """The time integral of the number in the system, as the gauges show it, and the sum of the times spent there."""
    engine = law_engine(every_token=False, seed=seed)
    replicas = {replica for model in engine.models.values() for replica in (model.replica, model.aside)}
    came: dict[str, float] = {}
    integral = spent = now = 0.0

    def number() -> int:
        return sum(replica.num_running + (replica.num_waiting or 0) for replica in replicas)

    for at, request in events(load):
        while (due := engine.due()) <= at and due < inf:
            integral += number() * (due - now)
            now = due
            for emission in engine.advance(due):
                if not isinstance(emission, Tokens | Began):
                    spent += emission.at - came[emission.request_id]
        if request is not None:
            integral += number() * (at - now)
            now = at
            came[request.request_id] = at
            engine.submit(request, at)
    return integral, spent


def events(load: list[tuple[float, Request]]) -> Iterator[tuple[float, Request | None]]:
    yield from load
    yield inf, None


@settings(max_examples=60, deadline=None)
@given(load=loads())
def test_littles_law_holds_in_every_run(load: list[tuple[float, Request]]) -> None:
    """L = lambda * W over a run that starts and ends empty, multiplied by its length."""
    integral, spent = integral_of_number(load, seed=3)
    assert integral == pytest.approx(spent, rel=1e-9, abs=1e-9)
