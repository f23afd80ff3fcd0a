"""Pools whose replicas come and go: nothing is lost, nothing is early, and everything is paid for as long as it was there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, inf, sqrt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Cut, Emission, Finished, Refused, Request, Tokens, chunks_of, simulate
from mockllm.building import build_engine
from mockllm.deployment import load_deployment
from mockllm.engine.batching import BatchedReplica
from mockllm.engine.drafts import Drafts
from mockllm.engine.engine import Engine
from mockllm.errors import DeploymentError
from mockllm.passage import Tenant
from mockllm.server.dcgm import dcgm_text
from mockllm.server.ledger import Ledger
from mockllm.server.metrics import Metrics
from mockllm.stack.autoscale import Signal
from mockllm.stack.balancing import BALANCERS
from mockllm.stack.pool import Pool
from mockllm.stack.stack import Stack
from mockllm.stack.stage import Again, End, Flight, Leaving, Stage
from mockllm.streams import Streams
from tests.stack.build import ask, ends, stack
from tests.stack.pools import COLD_S, batched, first_tokens, hosted, pool, serve, serving

Load = list[tuple[float, Request]]
NOW = {"provision": "0s", "driver": "0s", "image": "0s", "weights_gb": 0.0, "init": "0s", "decision": "0s"}


def table(*counts: int, every_s: float = 100.0) -> dict[str, Any]:
    """Counts one after the other, the first from 0 on."""
    entries = [{"at": f"{number * every_s}s", "count": count} for number, count in enumerate(counts)]
    return {"policy": "scheduled", "min": min(counts), "max": max(1, *counts), "schedule": entries}


def steady(num: int, gap_s: float, **changes: Any) -> Load:
    return [(number * gap_s, ask(number, **changes)) for number in range(num)]


def drive(
    subject: Pool, load: Sequence[tuple[float, Request]], cancels: Sequence[tuple[int, float]] = ()
) -> list[Emission]:
    """Step by step, looking at the pool after each: what must hold at every instant."""
    behind, out = serving(subject), list[Emission]()
    todo: list[tuple[float, int, Any]] = [(at, 0, request) for at, request in load]
    todo += [(load[i][0] + after, 1, load[i][1].request_id) for i, after in cancels if i < len(load)]
    gone: set[str] = set()
    for at, kind, what in sorted(todo, key=lambda each: each[:2]):
        while (due := behind.due()) <= at:
            out += behind.advance(due)
            check(subject, due)
        if kind == 0:
            behind.submit(what, at)
        elif behind.cancel(what, at):
            gone.add(what)
        check(subject, at)
    while not behind.idle:
        due = behind.due()
        out += behind.advance(due)
        check(subject, due)
    behind.advance(max(at for at, *_ in todo) + 1.0)  # a cancelled request leaves its batch when the step ends
    assert sorted(ends(out)) == sorted({request.request_id for _, request in load} - gone)
    assert all(earlier.at <= later.at for earlier, later in pairwise(out))
    for member in subject.fleet.members:
        assert (member.num_requests, member.num_tokens) == (0, 0)
        assert member.replica.num_running == 0
    assert subject.num_running == 0
    assert (subject.num_waiting or 0) == 0
    assert not subject._given
    assert not subject._line
    assert not subject._refused
    return out


def check(subject: Pool, now: float) -> None:
    fleet = subject.fleet
    there = [member for member in fleet.members if member.state != "draining"]
    assert len(there) == fleet.desired
    assert fleet.ready == [member for member in fleet.members if member.state == "ready"]
    assert not (subject._line and fleet.ready)
    scaling = subject._settings.autoscale
    assert scaling is None or scaling.min <= fleet.desired <= scaling.max
    for member in fleet.members:
        assert member.state != "draining" or member.num_requests
        assert member.state != "starting" or not member.num_requests
        assert member.due() >= now


changes = st.lists(st.integers(0, 4), min_size=1, max_size=6)


@given(
    changes,
    st.lists(st.tuples(st.floats(0, 40), st.booleans(), st.integers(1, 60)), min_size=1, max_size=25),
    st.lists(st.tuples(st.integers(0, 24), st.floats(0, 20)), max_size=6),
    st.sampled_from([None, (0.5, 60.0, "3s"), (1.0, 60.0, "0s"), (1.0, 900.0, "2s")]),
    st.sampled_from(sorted(BALANCERS)),
    st.booleans(),
    st.sampled_from([COLD_S, 0.0]),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_every_request_ends_once_whatever_comes_and_goes(
    counts: list[int],
    load: list[tuple[float, bool, int]],
    cancels: list[tuple[int, float]],
    spot: tuple[float, float, str] | None,
    rule: str,
    queued: bool,
    cold_s: float,
    every_token: bool,
) -> None:
    keys: dict[str, Any] = {"balance": rule, "autoscale": table(*counts, every_s=7.0), "queue_length": 5}
    if cold_s == 0:
        keys["cold_start"] = NOW
    if spot is not None and spot[1] * cold_s < 3 * 3600:  # else no start would ever be complete
        keys["spot"] = {"share": spot[0], "loss_per_hour": spot[1], "notice": spot[2]}
    make = batched(num_slots=2, num_blocks=40, every_token=every_token) if queued else hosted(every_token=every_token)
    arrivals = [
        (at, ask(number, watched=watched, num_answer_tokens=size, tenant=Tenant(session=f"s{number % 3}")))
        for number, (at, watched, size) in enumerate(sorted(load))
    ]
    drive(pool(keys, make), arrivals, cancels)


def test_a_pool_of_fixed_size_has_no_timers() -> None:
    subject = pool(3, hosted())
    assert subject.due() == inf
    serve(subject, steady(10, 0.3))
    assert subject.due() == inf
    assert [member.num_requests for member in subject.fleet.members] == [0, 0, 0]
    assert subject.num_waiting is None
    assert pool({"count": 3}, batched()).num_waiting == 0


def test_a_scale_up_takes_exactly_its_cold_start() -> None:
    subject = pool({"autoscale": table(1, 3)}, hosted())
    behind = serving(subject)
    behind.submit(ask(0), 5.0)  # the run begins
    behind.advance(105.0)
    assert [member.state for member in subject.fleet.members] == ["ready", "starting", "starting"]
    assert behind.due() == 105.0 + COLD_S
    behind.advance(105.0 + COLD_S - 1e-6)
    assert len(subject.fleet.ready) == 1
    behind.advance(105.0 + COLD_S)
    assert len(subject.fleet.ready) == 3


def test_a_decision_by_a_metric_waits_for_the_metric() -> None:
    cold = {"decision": "40s", "provision": "60s", "driver": "0s", "image": "0s", "weights_gb": 0.0, "init": "0s"}
    keys = {"autoscale": {"max": 2, "target": 1.0, "interval": "10s"}, "cold_start": cold}
    subject = pool(keys, hosted(ttft_s=500.0))
    behind = serving(subject)
    for number in range(4):
        behind.submit(ask(number), 0.0)
    behind.advance(10.0)
    assert (subject.fleet.members[1].paid_from, subject.fleet.members[1].ready_at) == (50.0, 110.0)
    assert subject.state(20.0)["members"][1]["stage"] == "decision"  # type: ignore[index]
    assert subject.state(60.0)["members"][1]["stage"] == "provision"  # type: ignore[index]


def test_to_zero_and_back_the_first_request_pays_the_cold_start() -> None:
    keys = {"autoscale": {"min": 0, "max": 2, "target": 4.0, "idle": "60s", "interval": "15s"}}
    subject = pool(keys, hosted(ttft_s=1.0, tpot_s=0.1))
    load = [(0.0, ask(0)), (10.0, ask(1)), (400.0, ask(2)), (400.5, ask(3))]
    out = drive(subject, load)
    answer_s = 49 * 0.1
    waits = first_tokens(load, out)
    assert waits == pytest.approx({"r0": COLD_S + 1, "r1": COLD_S - 10 + 1, "r2": COLD_S + 1, "r3": COLD_S - 0.5 + 1})
    end = ends(out)["r2"]
    assert isinstance(end, Finished)
    assert end.queue_s == pytest.approx(COLD_S)
    last_at = COLD_S + 1 + answer_s  # of the first two; then nothing for 60 s, seen at the next decision
    told = subject.state(1000.0)["changes"]
    assert isinstance(told, list)
    assert [(each["at"], each["to"]) for each in told] == [(0.0, 1), (ceil((last_at + 60) / 15) * 15.0, 0), (400.0, 1)]


def test_who_finds_no_place_to_wait_is_told_when_to_come_back() -> None:
    subject = pool({"queue_length": 2, "autoscale": {"min": 0, "max": 1, "target": 1.0, "idle": "60s"}}, hosted())
    out = drive(subject, [(0.0, ask(0)), (1.0, ask(1)), (2.0, ask(2))])
    end = ends(out)["r2"]
    assert isinstance(end, Refused)
    assert (end.at, end.status, end.retry_after_s) == (2.0, 503, COLD_S - 2.0)


def test_those_that_wait_keep_their_order() -> None:
    keys = {"count": 0, "autoscale": {"min": 0, "max": 1, "target": 9.0, "idle": "60s"}}
    subject = pool(keys, batched(num_slots=1))
    out = drive(subject, steady(6, 1.0))
    assert [name for name, end in ends(out).items()] == [f"r{n}" for n in range(6)]


def test_a_draining_replica_finishes_and_takes_nothing_new() -> None:
    subject = pool({"count": 2, "autoscale": table(2, 1)}, hosted(ttft_s=30.0, tpot_s=0.0))
    load = [(float(at), ask(at)) for at in range(80, 120, 5)]
    start = [(0.0, ask(0))]  # the run begins
    out = drive(subject, start + load)
    ended = {name: end for name, end in ends(out).items() if isinstance(end, Finished)}
    assert len(ended) == len(load) + 1
    late = [end.replica for name, end in ended.items() if int(name[1:]) >= 100]
    assert set(late) == {"large-0"}
    assert {end.replica for end in ended.values()} == {"large-0", "large-1"}
    assert [member.name for member in subject.fleet.members] == ["large-0"]
    # The youngest goes when its last answer is out, and is paid until then.
    gone_at = max(end.at for end in ended.values() if end.replica == "large-1")
    assert subject.replica_hours(1000.0) * 3600 == pytest.approx(1000.0 + gone_at)


def test_replicas_are_paid_from_provisioning_until_they_are_gone() -> None:
    subject = pool({"price_per_hour": 4.0, "autoscale": table(1, 3, 2)}, hosted())
    drive(subject, [(0.0, ask(0)), (1000.0, ask(1))])
    assert subject.replica_hours(1000.0) * 3600 == pytest.approx(1000 + 900 + 100)  # the third: from 100 to 200
    assert subject.cost_usd(1000.0) == pytest.approx(4.0 * 2000 / 3600)
    assert pool({"count": 2}, hosted()).cost_usd(5.0) is None


def test_a_fixed_pool_is_paid_from_the_begin_of_the_run() -> None:
    subject = pool({"count": 3, "price_per_hour": 2.0}, hosted())
    assert subject.cost_usd(50.0) == 0.0
    serve(subject, [(100.0, ask(0))])
    assert subject.cost_usd(3700.0) == pytest.approx(6.0)
    assert subject.state(3700.0)["replica_hours"] == pytest.approx(3.0)


# -- spot --------------------------------------------------------------------------------------------


def first_loss(subject: Pool) -> float:
    """When the first replica will be reclaimed; the run begins at 0."""
    subject.timeline.begin(0.0)
    subject.due()
    return min(member.lost_at for member in subject.fleet.members)


SPOT = {"share": 1.0, "loss_per_hour": 3.0, "notice": "5s"}


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("every_token", [False, True])
def test_what_dies_with_its_replica_is_cut_or_refused(queued: bool, every_token: bool) -> None:
    keys = {"count": 1, "spot": SPOT}
    make = batched(num_slots=2, every_token=every_token) if queued else hosted(1.0, 0.1, every_token=every_token)
    subject = pool(keys, make)
    dies_at = first_loss(subject) + 5.0
    token_s = 0.02 if queued else 0.1
    first_s = 0.02 + 100e-4 if queued else 1.0
    begun_at = dies_at - 9.55  # before the notice; two slots are taken, the third waits where there is a queue
    load = [
        (begun_at, ask(0, num_answer_tokens=1000)),
        (begun_at, ask(1, num_answer_tokens=1000, watched=False)),
        (dies_at - 5.5, ask(2, num_answer_tokens=1000)),
        (dies_at - 2.0, ask(3, num_answer_tokens=10)),  # after the notice: for the next replica
    ]
    out = drive(subject, load)
    end, unseen, third, late = (ends(out)[f"r{n}"] for n in range(4))
    assert isinstance(end, Cut)
    assert (end.at, end.replica) == (dies_at, "large-0")
    if not queued:
        assert end.num_output_tokens == 1 + floor((9.55 - first_s) / token_s)
    chunks = [
        chunk for each in out if isinstance(each, Tokens) and each.request_id == "r0" for chunk in chunks_of(each)
    ]
    assert sum(chunk.num for chunk in chunks) == end.num_output_tokens
    assert dies_at - token_s - 0.03 < max(chunk.at for chunk in chunks) <= dies_at
    assert isinstance(unseen, Refused)
    assert (unseen.status, unseen.at) == (503, dies_at)
    assert not any(isinstance(each, Tokens) and each.request_id == "r1" for each in out)
    assert isinstance(third, Refused if queued else Cut)
    assert isinstance(late, Finished)
    assert late.replica == "large-1"
    assert late.queue_s == pytest.approx(COLD_S - 3.0)  # the next was ordered with the notice


@pytest.mark.parametrize("drafts", [None, Drafts(3, 0.7, 0.001)])
@pytest.mark.parametrize("num_blocks", [None, 70])  # few: some are preempted and begin again
def test_both_clocks_see_the_same_tokens_of_an_answer_that_died(drafts: Drafts | None, num_blocks: int | None) -> None:
    told = []
    for every_token in (False, True):
        make = batched(num_slots=4, num_blocks=num_blocks, drafts=drafts, every_token=every_token)
        subject = pool({"count": 1, "spot": SPOT}, make)
        begun_at = first_loss(subject) - 7.0  # dies 12 s later
        out = drive(subject, [(begun_at + n * 0.7, ask(n, num_answer_tokens=900)) for n in range(6)])
        tokens = [each for each in out if isinstance(each, Tokens)]
        chunks = [(each.request_id, *chunk) for each in tokens for chunk in chunks_of(each)]
        told.append(sorted(chunks))
        cut = {name: end.num_output_tokens for name, end in ends(out).items() if isinstance(end, Cut)}
        assert {name: sum(chunk[3] for chunk in chunks if chunk[0] == name) for name in cut} == cut
        assert sum(cut.values()) > 500
    assert told[0] == told[1]


class Stubborn(Stage):
    """Tries again what was refused."""

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        return Again(now) if isinstance(end, Refused) else None


def test_what_had_not_begun_can_be_tried_again() -> None:
    subject = pool({"count": 2, "spot": {**SPOT, "notice": "0s"}}, hosted(ttft_s=4.0))
    lost_at = first_loss(subject)
    before = stack(Stubborn(), behind=serving(subject))
    before.submit(ask(0), lost_at - 2.0)
    before.submit(ask(1), lost_at - 2.0)
    out = before.advance(lost_at + 100.0)
    assert all(isinstance(end, Finished) for end in ends(out).values())
    assert sorted(end.at for end in ends(out).values()) == pytest.approx([lost_at + 2 + 4.9, lost_at + 4 + 4.9])
    assert subject.state(0.0)["counts"]["died_with_replica"] == 1  # type: ignore[index]


def test_losses_are_a_poisson_process_and_hang_on_nothing_but_the_name() -> None:
    keys = {"count": 40, "spot": {"share": 1.0, "loss_per_hour": 0.5, "notice": "0s"}, "cold_start": NOW}
    quiet, busy = pool(keys, hosted()), pool({**keys, "balance": "least_tokens"}, hosted())
    for subject, load in ((quiet, [(0.0, ask(0))]), (busy, steady(300, 20.0))):
        behind = serving(subject)
        for at, request in load:
            behind.advance(at)
            behind.submit(request, at)
        behind.advance(36_000.0)
    lost = quiet.fleet.num_lost
    expected = 40 * 0.5 * 10  # replicas * rate * hours: 200, give or take 14
    assert abs(lost - expected) < 4 * expected**0.5
    assert busy.fleet.num_lost == lost
    assert [member.name for member in busy.fleet.members] == [member.name for member in quiet.fleet.members]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.3, 1), (0.5, 2), (0.7, 3), (1.0, 5)])
def test_the_share_of_spot_replicas_is_rounded_down(share: float, expected: int) -> None:
    subject = pool({"count": 5, "spot": {"share": share, "loss_per_hour": 0.0}}, hosted())
    assert sum(member.spot for member in subject.fleet.members) == expected


def test_spot_is_cheaper_and_what_it_costs_instead_shows() -> None:
    keys: dict[str, Any] = {"count": 4, "price_per_hour": 4.0, "cold_start": {"weights_gb": 16.0}}
    spot = {"share": 0.5, "loss_per_hour": 2.0, "notice": "0s", "price_per_hour": 1.0}
    load = steady(1500, 10.0)
    safe, mixed = pool({**keys, "spot": {**spot, "share": 0.0}}, hosted()), pool({**keys, "spot": spot}, hosted())
    all_safe, some_lost = ends(serve(safe, load)).values(), ends(serve(mixed, load)).values()
    hours = 15_000 / 3600
    assert safe.cost_usd(15_000.0) == pytest.approx(4 * 4.0 * hours)
    assert mixed.cost_usd(15_000.0) == pytest.approx((2 * 4.0 + 2 * 1.0) * hours, rel=0.01)
    assert all(isinstance(end, Finished) for end in all_safe)
    assert mixed.fleet.num_lost > 5
    assert sum(not isinstance(end, Finished) for end in some_lost) == mixed.state(0.0)["counts"]["died_with_replica"]  # type: ignore[index]
    assert any(not isinstance(end, Finished) for end in some_lost)


# -- effects of scaling ------------------------------------------------------------------------------


@dataclass
class Ramp:
    """From 0.4 to 3.8 requests a second in 40 minutes, evenly, each 10 s long: 500 steps of 20 ms and a prompt."""

    length_s: float = 2400.0
    first: float = 0.4
    last: float = 3.8
    answer_s: float = 10.0

    @property
    def growth(self) -> float:
        return (self.last - self.first) / self.length_s

    def load(self) -> Load:
        """Request n comes when the integral of the rate is n: first*t + growth*t^2/2 = n."""
        num = int((self.first + self.last) / 2 * self.length_s)
        instants = [(sqrt(self.first**2 + 2 * self.growth * n) - self.first) / self.growth for n in range(num)]
        return [(at, ask(n, num_answer_tokens=500)) for n, at in enumerate(instants)]

    def needed_at(self, num: int, target: float) -> float:
        """When so many replicas are wanted: by Little's law the load of one less is above the target."""
        return ((num - 1) * target / self.answer_s - self.first) / self.growth


SLOW_START = {"decision": "30s", "provision": "90s", "driver": "30s", "image": "0s", "weights_gb": 15.0, "init": "30s"}
SLOW_START_S = 30.0 + 90 + 30 + 30 + 30


def scaled(policy: str, num_slots: int, target: float) -> Pool:
    keys = {"policy": policy, "max": 15, "target": target, "tolerance": 0.0, "interval": "15s"}
    whole = {"balance": "least_connections", "cold_start": SLOW_START, "autoscale": keys}
    return pool(whole, batched(num_slots=num_slots))


def test_on_a_ramp_the_reactive_rule_is_late_by_a_start_and_the_predictive_is_not() -> None:
    ramp, target, late = Ramp(), 5.0, dict[str, list[float]]()
    for policy in ("reactive", "predictive"):
        subject = scaled(policy, 64, target)  # no queues: the load is what Little's law says
        serve(subject, ramp.load())
        ready = sorted(member.ready_at for member in subject.fleet.members)
        late[policy] = [ready[num - 1] - ramp.needed_at(num, target) for num in range(3, 9)]
    # The load is whole requests, so it is above the target up to one request later; and decisions have an interval.
    one_request_s = 1 / (ramp.growth * ramp.answer_s)
    assert all(SLOW_START_S <= each <= SLOW_START_S + 15 + one_request_s for each in late["reactive"]), late
    assert all(-30 <= each <= 15 for each in late["predictive"]), late


def test_who_foresees_a_ramp_spares_its_clients_the_queue() -> None:
    load, p99 = Ramp().load(), dict[str, float]()
    for policy in ("reactive", "predictive"):
        waits = sorted(first_tokens(load, serve(scaled(policy, 6, 5.0), load)).values())
        p99[policy] = waits[int(0.99 * len(waits))]
    assert p99["predictive"] < 0.4 * p99["reactive"]


def test_scaling_with_the_load_is_as_fast_as_many_and_as_cheap_as_few() -> None:
    """An hour of little load with ten minutes of ten times as much in it."""
    instants = [*range(0, 1200, 10), *range(1200, 1800), *range(1800, 3600, 10)]
    load = [(float(at), ask(n, num_answer_tokens=500)) for n, at in enumerate(instants)]
    keys = {"max": 8, "target": 4.0, "stabilization": "60s"}
    cold = {**SLOW_START, "warm_node": True}
    subjects = {
        "few": pool({"count": 1}, batched(num_slots=6)),
        "many": pool({"count": 4}, batched(num_slots=6)),
        "scaled": pool({"balance": "least_connections", "cold_start": cold, "autoscale": keys}, batched(num_slots=6)),
    }
    mean, hours = dict[str, float](), dict[str, float]()
    for name, subject in subjects.items():
        waits = list(first_tokens(load, serve(subject, load)).values())
        mean[name], hours[name] = sum(waits) / len(waits), subject.replica_hours(3600.0)
    assert (hours["few"], hours["many"]) == (1.0, 4.0)
    assert hours["scaled"] < 0.6 * hours["many"]
    assert mean["scaled"] < 0.1 * mean["few"]


def test_a_new_replica_begins_with_an_empty_cache() -> None:
    keys = {"autoscale": table(1, 2), "cold_start": NOW}
    subject = pool(keys, batched())
    load = steady(12, 20.0, num_prompt_tokens=330, block_hashes=tuple(range(20)))
    out = [each for each in serve(subject, load) if isinstance(each, Finished)]
    hits = {name: [end.cache.num_read for end in out if end.replica == name] for name in ("large-0", "large-1")}
    assert hits["large-0"] == [0] + [320] * 7
    assert hits["large-1"] == [0] + [320] * 3


# -- both clocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("queued", [False, True])
@pytest.mark.parametrize("policy", ["reactive", "predictive"])
def test_both_clocks_scale_alike(queued: bool, policy: str) -> None:
    draw, at, load = Streams(9).generator("clocks", ""), 0.0, Load()
    for number in range(300):
        at += draw.exponential(0.5)
        load.append((at, ask(number, watched=number % 3 > 0, num_answer_tokens=40 + number % 50)))
    pools: list[Pool] = []

    def make(every_token: bool) -> Stack:
        replica = batched(num_slots=4, every_token=every_token) if queued else hosted(every_token=every_token)
        keys: dict[str, Any] = {
            "price_per_hour": 2.0,
            "cold_start": {**NOW, "init": "20s"},
            "spot": {"share": 0.5, "loss_per_hour": 60.0, "notice": "0s", "price_per_hour": 0.5},
            "autoscale": {"policy": policy, "max": 5, "target": 2.0, "stabilization": "30s", "interval": "10s"},
        }
        pools.append(pool(keys, replica))
        return stack(behind=serving(pools[-1]))

    virtual = list(simulate(make(False), load))
    behind, real = make(True), list[Emission]()
    for at, request in [*load, (400.0, None)]:  # asked only when somebody comes, so late for everything else
        real += behind.advance(at)
        if request is not None:
            behind.submit(request, at)
    assert {name: facts(end) for name, end in ends(virtual).items()} == {
        name: facts(end) for name, end in ends(real).items()
    }
    pools[0].advance(400.0)
    assert pools[0].state(400.0) == pools[1].state(400.0)
    counts = pools[0].state(400.0)["counts"]
    assert isinstance(counts, dict)
    assert counts["changes"] >= 3
    assert counts["died_with_replica"] > 0


def facts(end: Emission) -> tuple[Any, ...]:
    return type(end), end.at, getattr(end, "num_output_tokens", None), getattr(end, "replica", None)


# -- what it looks at --------------------------------------------------------------------------------


def test_signals_are_what_the_replicas_show() -> None:
    keys = {"count": 2, "autoscale": {"min": 2, "max": 4, "target": 1.0, "interval": "100s"}}
    subject = pool(keys, batched(num_slots=2, num_blocks=100, step_s=0.02, prefill_token_s=0.0))
    behind = serving(subject)
    for number in range(7):  # four in the first (two of them wait), three in the second
        behind.submit(ask(number, num_prompt_tokens=16, num_answer_tokens=100), 0.0)
    behind.advance(0.03)
    signals: list[Signal] = ["requests", "running", "queue", "tokens"]
    assert [subject._load.read(name, [], 0.03) for name in signals] == [7, 4, 3, 7 * 116]
    usages = [member.replica.kv.usage for member in subject.fleet.members if isinstance(member.replica, BatchedReplica)]
    assert subject._load.read("kv_usage", [], 0.03) == sum(usages) > 0


def test_utilization_is_the_share_of_the_time_with_steps() -> None:
    keys = {"count": 2, "autoscale": {"min": 2, "max": 4, "target": 1.0, "interval": "100s"}}
    subject = pool(keys, batched(step_s=0.02, prefill_token_s=0.0))
    behind = serving(subject)
    for number, size in enumerate((100, 250)):  # 2 s on one, 5 s on the other
        behind.submit(ask(number, num_answer_tokens=size), 0.0)
    behind.advance(10.0)
    assert subject._load.read("utilization", [], 10.0) == pytest.approx(0.2 + 0.5)


def test_what_waits_in_the_pool_is_load_too() -> None:
    keys = {"count": 0, "autoscale": {"min": 0, "max": 9, "target": 2.0, "idle": "1h", "interval": "10s"}}
    subject = pool(keys, hosted())
    behind = serving(subject)
    for number in range(10):
        behind.submit(ask(number), 0.0)
    behind.advance(10.0)
    assert subject.fleet.desired == 5
    assert [member.ready_at for member in subject.fleet.members] == [COLD_S] + [10.0 + COLD_S] * 4
    assert subject.num_waiting == 10


def test_metrics_show_who_serves_and_no_name_comes_twice() -> None:
    subject = pool({"count": 1, "autoscale": table(1, 3, 1, 2)}, batched(every_token=True))
    behind = serving(subject)
    metrics, names = Metrics(behind, Ledger(monotonic_origin=0.0)), list[set[str]]()
    behind.submit(ask(0), 0.0)
    for at in (50.0, 150.0, 250.0, 350.0, 450.0):
        behind.advance(at)
        shown = metrics.exposition(at).decode()
        names.append(
            {line.split('engine="')[1].split('"')[0] for line in shown.splitlines() if "num_preemptions_total{" in line}
        )
        assert dcgm_text(behind.models, at) == ""
    assert names == [{"large-0"}, {"large-0"}, {"large-0"}, {"large-0"}, {"large-0", "large-3"}]


def test_the_state_is_plain() -> None:
    keys = {"price_per_hour": 3.0, "autoscale": table(1, 2)}
    subject = pool(keys, batched(num_blocks=100))
    assert subject.state(0.0)["members"][0]["started_at"] is None  # type: ignore[index]
    behind = serving(subject)
    behind.submit(ask(0), 0.0)
    behind.advance(100.0)
    state = subject.state(150.0)
    assert state["desired"] == 2
    assert state["changes"] == [{"at": 100.0, "from": 1, "to": 2, "why": "the schedule has 2 from 1 min 40 s on"}]
    members = state["members"]
    assert isinstance(members, list)
    assert [(each["name"], each["state"], each["stage"]) for each in members] == [
        ("large-0", "ready", None),
        ("large-1", "starting", "provision"),
    ]
    assert members[0]["kv_usage"] == 0.0
    assert state["cost_usd"] == pytest.approx(3.0 * 200 / 3600)


def test_slowness_and_standstill_meet_those_that_come_later_too() -> None:
    subject = pool({"cold_start": NOW, "autoscale": table(1, 2)}, hosted(ttft_s=1.0, tpot_s=0.1))
    behind = serving(subject)
    behind.submit(ask(0), 0.0)
    behind.advance(50.0)
    subject.slow(3.0, 50.0)
    out = behind.advance(100.0)
    for number in (1, 2):
        behind.submit(ask(number), 110.0)
    out = behind.advance(140.0)
    assert [end.at for end in ends(out).values()] == pytest.approx([110 + 3 * 5.9] * 2)
    assert {end.replica for end in out if isinstance(end, Finished)} == {"large-0", "large-1"}


# -- the file ----------------------------------------------------------------------------------------


def deployment(folder: Path, replicas: str, profile: str = "golden") -> Engine:
    path = folder / "stack.yaml"
    path.write_text(f"models:\n  - name: chat\n    profile: {profile}\n    replicas: {replicas}\n")
    built = build_engine(load_deployment(str(path)), every_token=False)
    assert isinstance(built, Engine)
    return built


def test_a_plain_number_is_a_count(tmp_path: Path) -> None:
    for text in ("3", "{count: 3}"):
        replica = deployment(tmp_path, text).models["chat"].replica
        assert [name for name, _ in replica.parts()] == ["chat-0", "chat-1", "chat-2"]


def test_the_weights_are_those_of_the_profile(tmp_path: Path) -> None:
    replica = deployment(tmp_path, "{autoscale: {max: 4, target: 100}}", "h100-8b").models["chat"].replica
    assert isinstance(replica, Pool)
    assert replica.describe() == (
        "1 to 4 replicas, reactive: 100 requests a replica, every 15 s, round robin, cold start 302.1 s"
    )  # 90 + 30 + 60 + 8.03e9 * 2 bytes / 0.5 GB/s + 90


def test_a_request_with_its_own_timing_stands_beside_the_pool(tmp_path: Path) -> None:
    text = "{autoscale: {min: 0, max: 1, target: 1, idle: 5m}, cold_start: {weights_gb: 0}}"
    model = deployment(tmp_path, text).models["chat"]
    assert model.aside is not model.replica


@pytest.mark.parametrize(
    ("replicas", "profile", "rule"),
    [
        ("0", "golden", "count 0 needs autoscale with min 0"),
        ("yes", "golden", r"stack.yaml:4: models\[0\].replicas"),
        ("{count: 2, balance: random}", "golden", r"replicas.balance"),
        ("{count: 5, autoscale: {max: 4, target: 1}}", "golden", "count 5 is not between autoscale.min 1 and max 4"),
        ("{count: 2, queue_length: 5}", "golden", "queue_length is for replicas that start"),
        ("{autoscale: {max: 4, target: 1}}", "golden", "cold_start.weights_gb is missing"),
        ("{autoscale: {max: 4, target: 1}, cold_start: {weights: 3}}", "golden", r"cold_start.weights"),
        (
            "{autoscale: {max: 4, target: 1, signal: queue}, cold_start: {weights_gb: 0}}",
            "golden",
            "'queue': a hosted API",
        ),
        ("{price_per_hour: 2, spot: {share: 0.5, loss_per_hour: 1}}", "h100-8b", "give both or none"),
        ("{spot: {share: 1.5, loss_per_hour: 1}}", "h100-8b", r"spot.share"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, replicas: str, profile: str, rule: str) -> None:
    with pytest.raises(DeploymentError, match=rule):
        deployment(tmp_path, replicas, profile)


def test_a_pool_knows_when_one_of_its_replicas_was_stopped() -> None:
    subject = pool(2, hosted(ttft_s=1.0, tpot_s=0.1))
    subject.submit(ask(0, watched=False), 10, "stop", ready_at=0.0)
    assert subject.due() == pytest.approx(1.9)
    for _, replica in subject.parts():
        replica.stall(5.0, 0.0)
    assert subject.due() == pytest.approx(6.9)
