"""The priority queue against a naive simulation, queueing theory, and what it is there for.

Service times are known: a prompt of n tokens is answered after n steps, by a model that takes in any number at once, so
every wait is the queue's own. Formulas: A. K. Erlang's C (1917), A. Cobham's waits of classes that do not interrupt (1954), Kiefer and
Wolfowitz' recursion (1955).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import factorial, inf, log
from typing import Any, Literal, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from mockllm import Emission, Finished, Refused, Request
from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.engine import Replica
from mockllm.engine.hosted import HostedReplica
from mockllm.engine.latency import LinearStepTime
from mockllm.passage import Urgency
from mockllm.stack.queue import PriorityQueueSettings
from mockllm.stack.stack import Stack
from mockllm.stack.stage import End, Refusal
from tests.stack.build import STREAMS, ask, end_of, ends, engine, known, passage_of, run, stack

Floats = NDArray[np.float64]
CLASSES: tuple[Urgency, ...] = get_args(Urgency)
PATIENT: dict[str, Any] = {urgency: {"timeout": "1000000d"} for urgency in CLASSES}
ROOM: dict[str, Any] = {"length": 10_000_000, **PATIENT}


def behind(step_s: float) -> dict[str, Replica]:
    """A model that answers a prompt of n tokens with one token after n steps, however many prompts there are at once."""
    law = replace(known(0.0, 0.0), per_token_s=step_s)
    return {"large": HostedReplica(law, STREAMS, every_token=False)}


def queue(step_s: float, **keys: Any) -> Stack:
    return stack(("priority_queue", keys), behind=engine(behind(step_s)))


def customer(number: int, num_steps: int, urgency: Urgency = "P1") -> Request:
    return ask(number, num_prompt_tokens=num_steps, num_answer_tokens=1, urgency=urgency, watched=False)


def waits(subject: Stack, arrivals: Floats, steps: NDArray[np.int64], classes: Sequence[Urgency]) -> Floats:
    """Seconds in the queue, by customer; everybody is served."""
    out = np.full(len(arrivals), np.nan)
    load = zip(arrivals.tolist(), steps.tolist(), classes, strict=True)
    for emission in run(subject, ((at, customer(n, size, urgency)) for n, (at, size, urgency) in enumerate(load))):
        if isinstance(emission, Finished):
            assert emission.passage is not None
            out[int(emission.request_id[1:])] = emission.passage.waited_s.get("priority_queue", 0.0)
    assert not np.isnan(out).any()
    return out


# -- a naive simulation ----------------------------------------------------------------------------------------------

GRID_S = 0.25  # a power of two: sums of it are exact, so that things happen at one instant


@dataclass
class Person:
    """A customer of the naive simulation; all instants are multiples of GRID_S."""

    number: int
    came_at: float
    rank: int
    service_s: float
    state: Literal["away", "waiting", "served", "gone"] = "away"
    ends_at: float = inf
    outcome: tuple[str, float] | None = None


@dataclass
class Naive:
    """The rules, read out of the policy's description and done with nothing but scans over everybody."""

    workers: int
    length: int
    shed: str
    ageing: float | None
    timeouts: Sequence[float]
    lengths: Sequence[int | None]
    people: list[Person]

    def waiting(self, rank: int | None = None) -> list[Person]:
        return [each for each in self.people if each.state == "waiting" and rank in (None, each.rank)]

    def settle(self, now: float) -> None:
        for each in self.people:
            if each.state == "served" and each.ends_at == now:
                each.state, each.outcome = "gone", ("finished", now)
        while self.waiting() and sum(each.state == "served" for each in self.people) < self.workers:
            first = min(self.waiting(), key=self.rule)
            first.state, first.ends_at = "served", now + first.service_s
        for each in self.waiting():
            if now - each.came_at >= self.timeouts[each.rank]:
                self.turn_away(each, "queue_timeout", now)

    def rule(self, each: Person) -> tuple[float, ...]:
        if self.ageing is None:
            return each.rank, each.came_at, each.number
        return each.came_at + each.rank * self.ageing, each.rank, each.came_at, each.number

    def turn_away(self, each: Person, why: str, now: float) -> None:
        each.state, each.outcome = "gone", (why, now)

    def come(self, newcomer: Person, now: float) -> None:
        own, bound = self.waiting(newcomer.rank), self.lengths[newcomer.rank]
        newcomer.state = "waiting"
        if not self.waiting_others(newcomer) and sum(each.state == "served" for each in self.people) < self.workers:
            return
        if bound is not None and len(own) >= bound:
            self.turn_away(min(own, key=age) if self.shed == "oldest" else newcomer, "queue_full", now)
        elif len(self.waiting_others(newcomer)) >= self.length:
            self.turn_away(self.victim(newcomer), "queue_full", now)

    def waiting_others(self, newcomer: Person) -> list[Person]:
        return [each for each in self.waiting() if each is not newcomer]

    def victim(self, newcomer: Person) -> Person:
        others = self.waiting_others(newcomer)
        if self.shed == "oldest":
            return min(others, key=age)
        lowest = max(each.rank for each in others)
        if self.shed == "lowest" and lowest > newcomer.rank:
            return max((each for each in others if each.rank == lowest), key=age)
        return newcomer

    def go_away(self, each: Person, now: float) -> None:
        if each.state in ("waiting", "served"):
            self.turn_away(each, "cancelled", now)


def age(each: Person) -> tuple[float, int]:
    return each.came_at, each.number


STEPS = st.integers(0, 24)
RULES = st.fixed_dictionaries(
    {
        "workers": st.integers(1, 3),
        "length": st.integers(1, 6),
        "shed": st.sampled_from(["newest", "oldest", "lowest"]),
        "ageing": st.sampled_from([None, 0.0, 0.75, 2.0]),
        "timeouts": st.tuples(*[st.sampled_from([0.0, 0.5, 2.0, 1000.0])] * 3),
        "lengths": st.tuples(*[st.sampled_from([None, None, 1, 3])] * 3),
    }
)
COMING = st.tuples(STEPS, st.integers(0, 2), st.integers(1, 12))


def keys_of(rules: dict[str, Any]) -> dict[str, Any]:
    """The same rules as a deployment file would say them."""
    classes: dict[str, Any] = {
        urgency: {"timeout": f"{timeout_s}s"} | ({} if length is None else {"length": length})
        for urgency, timeout_s, length in zip(CLASSES, rules["timeouts"], rules["lengths"], strict=True)
    }
    ageing = {} if rules["ageing"] is None else {"ageing": f"{rules['ageing']}s"}
    return {"workers": rules["workers"], "length": rules["length"], "shed": rules["shed"], **ageing, **classes}


@given(RULES, st.lists(COMING, min_size=1, max_size=25), st.lists(st.tuples(st.integers(0, 24), STEPS), max_size=8))
@settings(max_examples=300, deadline=None)
def test_the_queue_does_what_a_naive_simulation_does(
    rules: dict[str, Any], coming: list[tuple[int, int, int]], leaving: list[tuple[int, int]]
) -> None:
    coming = sorted(coming, key=lambda each: each[0])
    people = [Person(n, at * GRID_S, rank, size * GRID_S) for n, (at, rank, size) in enumerate(coming)]
    goings = [(people[n].came_at + after * GRID_S, n) for n, after in leaving if n < len(people)]
    naive, subject = Naive(people=people, **rules), queue(GRID_S, **keys_of(rules))
    out: list[Emission] = []
    gone: dict[int, float] = {}
    for tick in range(400):
        now = tick * GRID_S
        naive.settle(now)
        out += subject.advance(now)
        for each in [person for person in people if person.came_at == now]:
            naive.come(each, now)
            naive.settle(now)
            size = round(each.service_s / GRID_S)
            subject.submit(customer(each.number, size, CLASSES[each.rank]), now)
            out += subject.advance(now)
        for number in [number for at, number in goings if at == now]:
            naive.go_away(people[number], now)
            naive.settle(now)
            if subject.cancel(f"r{number}", now):
                gone[number] = now
            out += subject.advance(now)
    assert subject.idle
    expected = {each.number: each.outcome for each in people}
    assert all(expected.values())
    got = {int(name[1:]): (getattr(end, "kind", "finished"), end.at) for name, end in ends(out).items()}
    assert got | {number: ("cancelled", at) for number, at in gone.items()} == expected
    assert balanced(subject)


def balanced(subject: Stack) -> bool:
    """Everybody who came went on, or was turned away, or went away; and nobody has a worker any more."""
    state = subject.stages[0].state(1e9)
    counts = state["counts"]
    assert isinstance(counts, dict)
    lost = {
        what: sum(counts[f"{urgency}_{what}"] for urgency in CLASSES) for what in ("timed_out", "shed", "cancelled")
    }
    arrived = sum(counts[f"{urgency}_arrived"] for urgency in CLASSES)
    served = arrived - sum(lost.values())
    ended = subject.counts
    assert ended.num_finished + ended.num_cancelled - lost["cancelled"] == served
    return state["busy"] == 0 and not any(state["waiting"].values())  # type: ignore[attr-defined]


# -- queueing theory -------------------------------------------------------------------------------------------------

STEP_S = 0.001
MEAN_STEPS = 2_000  # geometric: the mean wait differs from that of exponential ones by 1/4000
SERVICE_S = MEAN_STEPS * STEP_S


def population(purpose: str, num: int, per_s: float) -> tuple[Floats, NDArray[np.int64]]:
    """Poisson arrivals, and exponential services as numbers of steps."""
    random = STREAMS.generator("queue", purpose)
    return np.cumsum(random.exponential(1 / per_s, num)), random.geometric(1 / MEAN_STEPS, num)


def kiefer_wolfowitz(num_workers: int, arrivals: Floats, steps: NDArray[np.int64]) -> Floats:
    """Waits of first come, first served: the worker that is free first takes the next one."""
    free_at, out = [0.0] * num_workers, []
    for at, service in zip(arrivals.tolist(), (steps * STEP_S).tolist(), strict=True):
        start = max(at, heapq.heappop(free_at))
        heapq.heappush(free_at, start + service)
        out.append(start - at)
    return np.array(out)


def erlang_c(num_workers: int, load: float) -> float:
    """The probability that a customer of M/M/c waits; `load` in Erlang."""
    last = load**num_workers / factorial(num_workers) * num_workers / (num_workers - load)
    return last / (sum(load**k / factorial(k) for k in range(num_workers)) + last)


@pytest.mark.parametrize(("num_workers", "utilization"), [(1, 0.6), (4, 0.7)])
def test_one_class_waits_as_m_m_c(num_workers: int, utilization: float) -> None:
    """The recursion over 300,000 customers has Erlang's probability and mean; the queue's first 8,000 are the recursion's."""
    arrivals, steps = population(f"M/M/{num_workers}", 300_000, utilization * num_workers / SERVICE_S)
    path = kiefer_wolfowitz(num_workers, arrivals, steps)
    waiting = erlang_c(num_workers, utilization * num_workers)
    assert (path > 1e-9).mean() == pytest.approx(waiting, rel=0.02)
    assert path.mean() == pytest.approx(waiting * SERVICE_S / (num_workers * (1 - utilization)), rel=0.04)
    subject = queue(STEP_S, workers=num_workers, **ROOM)
    got = waits(subject, arrivals[:8_000], steps[:8_000], ["P1"] * 8_000)
    assert got == pytest.approx(path[:8_000], abs=1e-5)


def strict_path(arrivals: Floats, steps: NDArray[np.int64], ranks: NDArray[np.int64]) -> Floats:
    """Waits before one worker that always takes the first of the highest class."""
    out, free_at, coming, waiting = np.zeros(len(arrivals)), 0.0, 0, list[tuple[int, int]]()
    while coming < len(arrivals) or waiting:
        if not waiting:
            free_at = max(free_at, arrivals[coming])
        while coming < len(arrivals) and arrivals[coming] <= free_at:
            heapq.heappush(waiting, (int(ranks[coming]), coming))
            coming += 1
        _, number = heapq.heappop(waiting)
        out[number] = free_at - arrivals[number]
        free_at += steps[number] * STEP_S
    return out


def test_classes_wait_as_cobham() -> None:
    """Mean wait of class k of M/M/1 without interruption: R / ((1 - s_(k-1)) (1 - s_k)), s_k the load of classes 0 … k.

    The path over 400,000 customers has these means, and the queue's first 8,000 are the path's.
    """
    shares = (0.2, 0.3, 0.3)  # of the worker's time, by class
    arrivals, steps = population("Cobham", 400_000, sum(shares) / SERVICE_S)
    ranks = STREAMS.generator("queue", "classes").choice(3, len(arrivals), p=np.array(shares) / sum(shares))
    path = strict_path(arrivals, steps, ranks)
    residual = sum(shares) * SERVICE_S  # of an exponential service, seen by who comes
    for rank in range(3):
        before, until = sum(shares[:rank]), sum(shares[: rank + 1])
        assert path[ranks == rank].mean() == pytest.approx(residual / ((1 - before) * (1 - until)), rel=0.05)
    subject = queue(STEP_S, workers=1, **ROOM)
    got = waits(subject, arrivals[:8_000], steps[:8_000], [CLASSES[rank] for rank in ranks[:8_000]])
    # Whoever is still in line when the last of these comes goes on before those that the path had after them.
    settled = slice(0, 7_500)
    assert got[settled] == pytest.approx(path[settled], abs=1e-5)


def test_no_class_gives_work_away() -> None:
    """Kleinrock's conservation law: whatever the order, the mean wait of all is that of first come, first served."""
    arrivals, steps = population("conservation", 6_000, 0.8 / SERVICE_S)
    drawn = [CLASSES[rank] for rank in STREAMS.generator("queue", "any").integers(0, 3, len(arrivals))]
    workload = (kiefer_wolfowitz(1, arrivals, steps) * steps).sum()
    for ageing in ({}, {"ageing": "3s"}):
        got = waits(queue(STEP_S, workers=1, **ROOM, **ageing), arrivals, steps, drawn)
        assert (got * steps).sum() == pytest.approx(workload, rel=1e-6)


# -- instants, and what a client is told -----------------------------------------------------------------------------


def test_a_wait_ends_at_its_timeout_and_not_later() -> None:
    subject = queue(1.0, workers=1, P0={"timeout": "1500ms"}, P1={"timeout": "3s"})
    load = [(0.0, customer(0, 10)), (0.125, customer(1, 1, "P0")), (0.25, customer(2, 1)), (0.5, customer(3, 1, "P2"))]
    out = run(subject, load)
    first, second = end_of(out, 1), end_of(out, 2)
    assert isinstance(first, Refused)
    assert isinstance(second, Refused)
    assert (first.at, first.status, first.kind) == (1.625, 503, "queue_timeout")
    assert (second.at, second.retry_after_s) == (3.25, 1.0)
    assert passage_of(out, 2).notes == ["priority_queue: timed out after 3.000 s as P1"]
    assert end_of(out, 3).at == 11.0
    assert passage_of(out, 3).notes == ["priority_queue: waited 9.500 s as P2"]


def test_retry_after_is_the_time_that_the_line_takes() -> None:
    """Four services of 10 s are over; six wait before two workers: 30 s."""
    subject = queue(1.0, workers=2, length=6)
    load = [(n * 0.001, customer(n, 10)) for n in range(4)] + [(21.0, customer(n, 10)) for n in range(4, 13)]
    end = end_of(run(subject, load), 12)
    assert isinstance(end, Refused)
    assert (end.kind, end.status) == ("queue_full", 503)
    assert end.retry_after_s == pytest.approx(30.0)


def test_a_class_is_worth_its_ageing() -> None:
    """A P2 that came 2.5 s before a P0 with a second a class goes first, and one that came 1.5 s before it does not."""
    subject = queue(1.0, workers=1, ageing="1s", **ROOM)
    load = [
        (0.0, customer(0, 10)),
        (1.0, customer(1, 1, "P2")),
        (2.0, customer(2, 1, "P2")),
        (3.5, customer(3, 1, "P0")),
    ]
    out = run(subject, load)
    assert [end_of(out, number).at for number in (1, 3, 2)] == [11.0, 12.0, 13.0]


def test_a_newcomer_does_not_overtake_when_a_client_goes_away_at_the_same_instant() -> None:
    subject = queue(1.0, workers=1)
    for number, at in ((0, 0.0), (1, 1.0)):
        subject.submit(customer(number, 10), at)
    subject.cancel("r0", 2.0)
    subject.submit(customer(2, 10), 2.0)
    assert [each.at for each in subject.advance(50.0) if isinstance(each, Finished)] == [12.0, 22.0]
    assert subject.stages[0].state(50.0)["busy"] == 0


class FirstCallFails:
    """A door that refuses the first call of every request."""

    def enter(self, request: Request, now: float) -> Refusal | None:
        return None if "~" in request.request_id else Refusal(503, "down", "down")

    def left(self, request: Request, end: End, now: float) -> None: ...


@pytest.mark.parametrize("queue_first", [True, False])
def test_a_retry_behind_the_queue_keeps_its_worker_and_one_before_it_gives_it_back(queue_first: bool) -> None:
    stages: list[tuple[str, dict[str, Any]]] = [
        ("priority_queue", {"workers": 1}),
        ("retry", {"base": "4s", "jitter": "equal"}),
    ]
    doors = {"large": [FirstCallFails()]}
    subject = stack(*(stages if queue_first else reversed(stages)), behind=engine(behind(1.0)), doors=doors)
    out = run(subject, [(0.0, customer(0, 1)), (0.5, customer(1, 1))])
    assert [type(each) for each in ends(out).values()] == [Finished, Finished]
    backoff_s = passage_of(out, 0).waited_s["retry"]
    assert 2.0 <= backoff_s <= 4.0
    waited_s = passage_of(out, 1).waited_s.get("priority_queue", 0.0)
    assert waited_s >= backoff_s + 0.5 if queue_first else waited_s < 1.0


def test_the_state_says_who_waits() -> None:
    subject = queue(1.0, workers=1)
    for number, urgency in enumerate(("P1", "P2", "P2", "P0")):
        subject.submit(customer(number, 5, urgency), number * 1.0)  # type: ignore[arg-type]
    state = subject.stages[0].state(4.0)
    assert (state["workers"], state["busy"]) == (1, 1)
    assert state["waiting"] == {"P0": 1, "P1": 0, "P2": 2}
    assert state["longest_wait_s"] == {"P0": 1.0, "P1": None, "P2": 3.0}


@pytest.mark.parametrize("keys", [{}, {"workers": 0}, {"workers": 1, "shed": "all"}, {"workers": 1, "P3": {}}])
def test_settings_that_make_no_sense_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PriorityQueueSettings.model_validate(keys)


def test_a_hundred_thousand_wait_and_half_of_them_go_away() -> None:
    subject = queue(1.0, workers=1, length=100_000, P1={"timeout": "10s"})
    for number in range(100_001):
        subject.submit(customer(number, 100), 0.0)
    for number in range(1, 100_001, 2):
        subject.cancel(f"r{number}", 1.0)
    subject.advance(9.999)
    assert subject.counts.num_refused == 0
    assert all(isinstance(each, Refused) for each in subject.advance(10.0))
    assert subject.counts.num_refused == 50_000


# -- what it is for --------------------------------------------------------------------------------------------------

SLOTS = 4
P0_LOAD = 0.4


def p99_of_p0(batch_load: float, *, with_queue: bool) -> float:
    """The 99th percentile of how long P0 waits for a slot of a model that has four, under `batch_load` of P2's work."""
    slots = BatchedReplica(LinearStepTime(STEP_S, 0.0, 0.0, 0.0), BatchLimits(SLOTS, 100_000), every_token=False)
    stages = [("priority_queue", {"workers": SLOTS, **ROOM})] if with_queue else []
    subject = stack(*stages, behind=engine({"large": slots}))
    came, sizes = population("P0", 1_500, P0_LOAD * SLOTS / SERVICE_S)
    rate = batch_load * SLOTS / SERVICE_S
    batch, batch_sizes = population("P2", int(came[-1] * rate), rate)
    load = [(at, generated(n, size, "P0")) for n, (at, size) in enumerate(zip(came, sizes, strict=True))]
    load += [
        (at, generated(n, size, "P2")) for n, (at, size) in enumerate(zip(batch, batch_sizes, strict=True), len(load))
    ]
    finished = ends(run(subject, sorted(load, key=lambda each: each[0])))
    taken = [finished[f"r{n}"].at - at - size * STEP_S for n, (at, size) in enumerate(zip(came, sizes, strict=True))]
    return float(np.percentile(taken, 99))


def generated(number: int, num_tokens: int, urgency: Urgency) -> Request:
    """An answer of so many steps of the model with slots."""
    return ask(number, num_prompt_tokens=1, num_answer_tokens=int(num_tokens), urgency=urgency, watched=False)


def test_p0_does_not_feel_p2_past_capacity_and_without_the_queue_it_does() -> None:
    """With every worker busy for ever, P0's wait in M/M/c is exponential with rate (c - its load) / service (Davis 1966)."""
    saturated = log(100) * SERVICE_S / (SLOTS * (1 - P0_LOAD))
    for batch_load in (0.8, 1.4):
        assert p99_of_p0(batch_load, with_queue=True) == pytest.approx(saturated, rel=0.15)
    assert p99_of_p0(0.8, with_queue=False) > 50 * saturated
