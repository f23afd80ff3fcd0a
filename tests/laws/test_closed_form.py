"""Stretches in closed form equal one step after another: the engine against an independent naive scheduler."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.kv_cache import KvCache
from mockllm.engine.latency import LinearStepTime, Pace, StepLoad, StepTime
from mockllm.engine.noise import StepNoise
from mockllm.engine.roofline import Accelerator, Host, RooflineStepTime, Transformer
from mockllm.model import Finished, Request, Tokens, chunks_of
from mockllm.streams import Streams
from tests.laws.vllm_reference import Job, Limits, Load, simulate

TINY_GPU = Accelerator(1e12, 1e11, 1e9, 0.8, 0.7, 0.9, 0.6, 1.6, 3e-5, 2e10)
TINY_LLM = Transformer(4e8, 2e8, 8, 256, 8, 32, 8192.0)
LINEAR = LinearStepTime(0.007, 0.0002, 0.0005, 0.00002)
ROOFLINE = RooflineStepTime(TINY_GPU, TINY_LLM, 2, Host(0.001, 5e-6, 0.0007))


@st.composite
def jobs(draw: st.DrawFn) -> list[Job]:
    """Up to 20 requests; those of a family have the same first blocks."""
    gaps = draw(st.lists(st.one_of(st.just(0.0), st.floats(0, 0.3)), min_size=1, max_size=20))
    out, now = [], 0.0
    for number, gap in enumerate(gaps):
        now += gap
        prompt, output = draw(st.integers(1, 150)), draw(st.integers(1, 80))
        family, blocks = draw(st.integers(0, 2)), (prompt + draw(st.sampled_from([0, output]))) // 4
        hashes = tuple(hash((family, block)) for block in range(blocks)) if family else ()
        out.append(Job(f"r{number}", now, prompt, output, draw(st.integers(0, 2)), hashes))
    return out


LIMITS = st.builds(
    Limits,
    max_num_seqs=st.integers(1, 6),
    max_num_batched_tokens=st.integers(6, 200),
    chunked_prefill=st.just(True),
    long_prefill_token_threshold=st.sampled_from([0, 0, 16]),
    num_blocks=st.sampled_from([None, 60, 64, 90, 150]),
    block_size=st.just(4),
    prefix_caching=st.booleans(),
    policy=st.sampled_from(["fcfs", "fcfs", "priority"]),
    async_scheduling=st.booleans(),
)


def replica_of(step_time: StepTime, limits: Limits, *, every_token: bool) -> BatchedReplica:
    return BatchedReplica(
        step_time,
        BatchLimits(
            limits.max_num_seqs,
            limits.max_num_batched_tokens,
            limits.chunked_prefill,
            limits.long_prefill_token_threshold,
            limits.policy == "priority",
            limits.async_scheduling,
        ),
        KvCache(limits.num_blocks, limits.block_size, prefix_caching=limits.prefix_caching),
        every_token=every_token,
    )


def compare(load: list[Job], limits: Limits, step_time: StepTime, *, every_token: bool) -> BatchedReplica:
    """Run both; every token's instant, the queue time, cache hits and preemptions must agree."""
    replica = replica_of(step_time, limits, every_token=every_token)
    for job in load:
        request = Request(
            job.name, job.name, "m", job.prompt, priority=job.priority, block_hashes=job.hashes, watched=every_token
        )
        replica.submit(request, job.output, "stop", ready_at=job.at)
    times: dict[str, list[float]] = {job.name: [] for job in load}
    ends: dict[str, Finished] = {}
    for emission in replica.advance(1e9):
        if isinstance(emission, Tokens):
            assert emission.first == len(times[emission.request_id])
            times[emission.request_id] += [chunk.at for chunk in chunks_of(emission)]
        elif isinstance(emission, Finished):
            ends[emission.request_id] = emission

    def seconds(load: Load) -> float:
        seen = StepLoad(
            load.num_prefill_tokens,
            load.num_prefills,
            load.attention_work,
            load.num_decodes,
            load.num_kv_tokens,
            load.num_decodes,
        )
        return step_time.pace(seen).first

    simulate(load, limits, seconds)
    for job in load:
        assert times[job.name] == pytest.approx(job.token_times, abs=1e-9), job.name
        assert job.scheduled_at is not None
        assert ends[job.name].queue_s == pytest.approx(job.scheduled_at - job.at, abs=1e-9)
        assert ends[job.name].cache.num_read == job.num_cached
    assert replica.num_preemptions == sum(job.num_preemptions for job in load)
    assert replica.num_running == replica.num_waiting == 0
    if limits.num_blocks is not None:
        assert replica.kv.num_free == limits.num_blocks, "blocks were lost"
    return replica


@given(jobs(), LIMITS, st.sampled_from([LINEAR, ROOFLINE]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_stretches_equal_the_stepwise_scheduler(
    load: list[Job], limits: Limits, step_time: StepTime, every_token: bool
) -> None:
    compare(load, limits, step_time, every_token=every_token)


@pytest.mark.parametrize("seed", range(4))
def test_long_random_loads_equal_the_stepwise_scheduler(seed: int) -> None:
    """Hypothesis likes small loads; what memory, cache and priorities do to each other shows in large ones."""
    rng = Random(seed)
    for _ in range(100):
        now, load = 0.0, []
        for number in range(rng.randint(8, 20)):
            now += rng.choice([0.0, rng.uniform(0, 0.3)])
            prompt, output, family = rng.randint(1, 150), rng.randint(1, 80), rng.randint(0, 2)
            blocks = (prompt + rng.choice([0, output])) // 4 if family else 0
            hashes = tuple(hash((family, block)) for block in range(blocks))
            load.append(Job(f"r{number}", now, prompt, output, rng.randint(0, 2), hashes))
        limits = Limits(
            max_num_seqs=rng.randint(1, 6),
            max_num_batched_tokens=rng.randint(6, 200),
            long_prefill_token_threshold=rng.choice([0, 0, 16]),
            num_blocks=rng.choice([None, 60, 64, 90, 150]),
            block_size=4,
            prefix_caching=rng.random() < 0.7,
            policy=rng.choice(["fcfs", "fcfs", "priority"]),
            async_scheduling=rng.random() < 0.5,
        )
        compare(load, limits, LINEAR, every_token=False)


def test_under_memory_pressure_the_last_gives_way_again_and_again() -> None:
    load = [Job(f"r{number}", 0.01 * number, 60, 80) for number in range(12)]
    replica = compare(load, Limits(8, 128, num_blocks=80, block_size=4), LINEAR, every_token=False)
    assert replica.num_preemptions > 5


def test_without_chunked_prefill_a_prompt_that_does_not_fit_holds_up_the_line() -> None:
    load = [Job("a", 0.0, 90, 5), Job("b", 0.001, 99, 3), Job("c", 0.002, 5, 3)]
    compare(load, Limits(8, 100, chunked_prefill=False), LINEAR, every_token=False)
    assert load[1].token_times[0] < load[2].token_times[0]  # the short one waited behind the long one


@given(st.floats(0, 0.1), st.one_of(st.just(0.0), st.floats(1e-9, 1e-3)), st.floats(0, 100), st.integers(0, 5000))
def test_steps_done_by_inverts_elapsed(first: float, growth: float, elapsed: float, limit: int) -> None:
    pace = Pace(first, growth)
    done = pace.steps_done_by(elapsed, limit)
    assert 0 <= done <= limit
    assert done == 0 or pace.elapsed(done) <= elapsed
    assert done == limit or pace.elapsed(done + 1) > elapsed


@given(st.floats(1e-4, 0.1), st.floats(0, 1e-3), st.integers(0, 20_000), st.integers(1, 300), st.floats(0, 30))
def test_a_noisy_pace_adds_up_its_steps_however_it_is_cut(
    first: float, growth: float, first_step: int, num_steps: int, elapsed: float
) -> None:
    noise = StepNoise(Streams(3), "r", step_cv=0.2, stall_probability=0.0, stall_s=(0.0, 0.0))
    whole = noise.disturb(Pace(first, growth), first_step)
    cut = num_steps // 2
    rest = noise.disturb(Pace(first + growth * cut, growth), first_step + cut)
    assert whole.elapsed(cut) + rest.elapsed(num_steps - cut) == pytest.approx(whole.elapsed(num_steps), rel=1e-6)
    done = whole.steps_done_by(elapsed, num_steps)
    assert done == 0 or whole.elapsed(done) <= elapsed
    assert done == num_steps or whole.elapsed(done + 1) > elapsed


def test_a_very_long_chain_of_stretches_is_freed_without_recursion() -> None:
    """A request that outlives 100,000 changes of the batch keeps as many stretches; letting go must not overflow."""
    replica = BatchedReplica(LinearStepTime(0.001, 0.0, 0.0, 0.0), BatchLimits(2, 16), every_token=False)
    replica.submit(Request("long", "long", "m", 1), 200_000, "length", ready_at=0.0)
    for number in range(50_000):
        at = 0.0035 * number
        replica.submit(Request(f"r{number}", "k", "m", 1), 1, "stop", ready_at=at)
        replica.advance(at)
    ends = [e for e in replica.advance(1e9) if isinstance(e, Tokens) and e.request_id == "long"]
    assert sum(chunk.num for chunk in chunks_of(ends[0])) == 200_000
    del replica, ends
