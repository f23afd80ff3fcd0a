"""Replicas that are slowed down and stand still: closed form against one step after another, and both clocks alike."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.drafts import Drafts
from mockllm.engine.engine import Replica
from mockllm.engine.hosted import HostedLatency, HostedReplica
from mockllm.engine.kv_cache import KvCache
from mockllm.engine.latency import LinearStepTime
from mockllm.engine.noise import StepNoise
from mockllm.model import Chunk, Cut, Emission, Finished, Request, Tokens, chunks_of
from mockllm.streams import Streams
from tests.laws.stepwise import Costs, Job, stepwise

COSTS = Costs(0.007, 0.0002, 0.0005, 0.00002, max_num_seqs=4, max_num_batched_tokens=64)
STREAMS = Streams(5)


@dataclass(frozen=True)
class Slow:
    at: float
    factor: float


@dataclass(frozen=True)
class Still:
    at: float
    until: float


Change = Slow | Still


class Ground:
    """What the changes mean for a clock that knows nothing of steps: when it stands, and how much slower it goes."""

    def __init__(self, changes: list[Change]) -> None:
        self.slows = [change for change in changes if isinstance(change, Slow)]
        stills = [change for change in changes if isinstance(change, Still)]
        # A later order replaces the end of an earlier one.
        nexts = [*(change.at for change in stills[1:]), inf]
        self.frozen: list[tuple[float, float]] = []
        for each, replaced_at in zip(stills, nexts, strict=False):
            if each.until <= each.at:
                continue
            begins, ends = each.at, min(each.until, replaced_at)
            if self.frozen and self.frozen[-1][1] == begins:
                begins = self.frozen.pop()[0]
            self.frozen.append((begins, ends))

    def wakes(self, at: float) -> float:
        return next((end for start, end in self.frozen if start < at < end), at)

    def ends(self, start: float, work_s: float) -> float:
        work_s *= next((slow.factor for slow in reversed(self.slows) if slow.at < start), 1.0)
        now = start
        for begin, end in self.frozen:
            if end <= now:
                continue
            if now + work_s <= begin:
                break
            work_s -= max(0.0, begin - now)
            now = end
        return now + work_s


@st.composite
def changes(draw: st.DrawFn) -> list[Change]:
    """Up to eight orders in order of time: slower, faster, stand still, go on."""
    now, out = 0.0, list[Change]()
    for gap in draw(st.lists(st.floats(0.001, 0.4), max_size=8)):
        now += gap
        if draw(st.booleans()):
            out.append(Slow(now, draw(st.sampled_from([0.5, 1.0, 3.0, 7.3]))))
        else:
            out.append(Still(now, now + draw(st.sampled_from([-1.0, 0.0, 0.05, 0.3, 0.9]))))
    return out


@st.composite
def jobs(draw: st.DrawFn) -> list[Job]:
    gaps = draw(st.lists(st.one_of(st.just(0.0), st.floats(0, 0.3)), min_size=1, max_size=15))
    out, now = [], 0.0005
    for number, gap in enumerate(gaps):
        now += gap
        out.append(Job(f"r{number}", now, draw(st.integers(1, 120)), draw(st.integers(1, 60))))
    return out


def batched(
    *, every_token: bool, noisy: bool = False, drafts: bool = False, blocks: int | None = None
) -> BatchedReplica:
    noise = StepNoise(STREAMS, "r", step_cv=0.2, stall_probability=0.02, stall_s=(0.05, 0.1)) if noisy else None
    return BatchedReplica(
        LinearStepTime(COSTS.b0, COSTS.b1, COSTS.b2, COSTS.b3),
        BatchLimits(COSTS.max_num_seqs, COSTS.max_num_batched_tokens),
        KvCache(blocks, 4, prefix_caching=False),
        every_token=every_token,
        noise=noise,
        drafts=Drafts(3, 0.7, 0.001) if drafts else None,
        streams=STREAMS,
    )


def hosted(*, every_token: bool) -> HostedReplica:
    law = HostedLatency(0.1, 0.05, 0.6, 1e-5, 0.0, 0.2, 0.3, 0.02, 0.2, 1.6, 0.3, 0.05, 10.0)
    return HostedReplica(law, STREAMS, every_token=every_token)


def run(
    replica: Replica, load: list[Job], orders: list[Change], cuts: dict[str, float] | None = None
) -> tuple[dict[str, list[Chunk]], dict[str, Emission]]:
    """Everything in order of time; the chunks of each request, and how it ended. `cuts` break requests off."""
    todo: list[tuple[float, int, Job | Change | str]] = [(job.at, 0, job) for job in load]
    todo += [(order.at, 1, order) for order in orders] + [(at, 2, name) for name, at in (cuts or {}).items()]
    out: list[Emission] = []
    for at, _, what in sorted(todo, key=lambda each: each[:2]):
        out += replica.advance(at)
        if isinstance(what, Job):
            request = Request(what.name, what.name, "m", what.prompt)
            replica.submit(request, what.output, "stop", ready_at=at)
        elif isinstance(what, Slow):
            replica.slow(what.factor, at)
        elif isinstance(what, Still):
            replica.stall(what.until, at)
        elif not any(isinstance(each, Finished) and each.request_id == what for each in out):
            out += replica.break_off(what, at)
    out += replica.advance(1e6)
    assert replica.due() == inf
    assert replica.num_running == 0
    chunks: dict[str, list[Chunk]] = {job.name: [] for job in load}
    for each in out:
        if isinstance(each, Tokens):
            chunks[each.request_id] += chunks_of(each)
    return chunks, {each.request_id: each for each in out if isinstance(each, Finished | Cut)}


@given(jobs(), changes(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_slow_and_still_replicas_equal_the_stepwise_scheduler(
    load: list[Job], orders: list[Change], every_token: bool
) -> None:
    chunks, _ = run(batched(every_token=every_token), load, orders)
    ground = Ground(orders)
    stepwise(load, COSTS, ground.wakes, ground.ends)
    for job in load:
        assert [chunk.at for chunk in chunks[job.name]] == pytest.approx(job.token_times, abs=1e-9)


@given(jobs(), changes(), st.sampled_from(["plain", "noisy", "drafts", "tight", "hosted"]), st.data())
@settings(max_examples=200, deadline=None)
def test_both_clocks_tell_the_same(load: list[Job], orders: list[Change], kind: str, data: st.DataObject) -> None:
    """Token by token and span by span, also of answers that are broken off in the middle."""
    cuts = {job.name: job.at + data.draw(st.floats(0.0, 2.0)) for job in load[::3]}

    def replica(every_token: bool) -> Replica:
        if kind == "hosted":
            return hosted(every_token=every_token)
        return batched(
            every_token=every_token,
            noisy=kind == "noisy",
            drafts=kind == "drafts",
            blocks=60 if kind == "tight" else None,
        )

    real, real_ends = run(replica(True), load, orders, cuts)
    virtual, virtual_ends = run(replica(False), load, orders, cuts)
    assert real == virtual
    for name, end in real_ends.items():
        other = virtual_ends[name]
        assert (type(end), end.at) == (type(other), other.at)
        if isinstance(end, Cut):
            assert end.num_output_tokens == sum(chunk.num for chunk in real[name])
            assert all(chunk.at <= end.at for chunk in real[name])


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_within_the_window_every_step_takes_so_many_times_as_long(factor: float) -> None:
    """One sequence alone: gaps before, in and after the window; the step that runs at either edge keeps its pace."""
    load = [Job("r", 0.0, 10, 400)]
    normal, _ = run(batched(every_token=False), load, [])
    changed, _ = run(batched(every_token=False), load, [Slow(0.5, factor), Slow(1.5, 1.0)])
    before, after = [chunk.at for chunk in normal["r"]], [chunk.at for chunk in changed["r"]]
    for step in range(1, 400):
        usual, gap = before[step] - before[step - 1], after[step] - after[step - 1]
        expected = factor if 0.5 < after[step - 1] <= 1.5 else 1.0
        assert gap / usual == pytest.approx(expected, rel=1e-6)


def test_a_slow_hosted_api_is_slow_for_the_calls_that_come_in() -> None:
    load = [Job("early", 0.0, 100, 20), Job("late", 1.0, 100, 20), Job("after", 2.0, 100, 20)]
    normal, _ = run(hosted(every_token=False), load, [])
    slowed, _ = run(hosted(every_token=False), load, [Slow(0.05, 4.0), Slow(1.5, 1.0)])
    for job, factor in zip(load, [1, 4, 1], strict=True):
        usual = [chunk.at - job.at for chunk in normal[job.name]]
        assert [chunk.at - job.at for chunk in slowed[job.name]] == pytest.approx([factor * at for at in usual])


@pytest.mark.parametrize("kind", ["batched", "hosted"])
def test_while_it_stands_still_nothing_leaves_and_everything_is_so_much_later(kind: str) -> None:
    def replica() -> Replica:
        return batched(every_token=False) if kind == "batched" else hosted(every_token=False)

    load = [Job(f"r{n}", 0.01 * n, 30, 60) for n in range(3)]
    normal, _ = run(replica(), load, [])
    still, _ = run(replica(), load, [Still(0.2, 5.0)])
    for job in load:
        for usual, late in zip(normal[job.name], still[job.name], strict=True):
            assert late.at == pytest.approx(usual.at if usual.at <= 0.2 else usual.at + 4.8, abs=1e-9)


def test_a_replica_that_breaks_off_an_answer_has_its_memory_back() -> None:
    replica = batched(every_token=False, blocks=40)
    run(replica, [Job(f"r{n}", 0.01 * n, 30, 60) for n in range(6)], [], {"r0": 0.3, "r3": 0.06, "r5": 0.31})
    assert replica.kv.num_free == 40
