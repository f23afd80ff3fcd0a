"""Stretches in closed form equal one step after another."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.latency import Pace, StepTime
from mockllm.model import Request, Tokens, chunks_of
from tests.laws.stepwise import Costs, Job, stepwise


@st.composite
def jobs(draw: st.DrawFn) -> list[Job]:
    gaps = draw(st.lists(st.one_of(st.just(0.0), st.floats(0, 0.3)), min_size=1, max_size=20))
    out, now = [], 0.0
    for number, gap in enumerate(gaps):
        now += gap
        out.append(Job(f"r{number}", now, draw(st.integers(1, 150)), draw(st.integers(1, 80))))
    return out


COSTS = st.builds(
    Costs,
    b0=st.sampled_from([0.003, 0.01]),
    b1=st.sampled_from([0.0, 0.0002]),
    b2=st.sampled_from([0.0, 0.0005]),
    b3=st.sampled_from([0.0, 0.00002]),
    max_num_seqs=st.integers(1, 6),
    max_num_batched_tokens=st.integers(6, 200),
    chunked_prefill=st.just(True),
)


@given(jobs(), COSTS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_stretches_equal_the_stepwise_scheduler(load: list[Job], costs: Costs, every_token: bool) -> None:
    replica = BatchedReplica(
        StepTime(costs.b0, costs.b1, costs.b2, costs.b3),
        BatchLimits(costs.max_num_seqs, costs.max_num_batched_tokens),
        every_token=every_token,
    )
    for job in load:
        replica.submit(Request(job.name, job.name, "m", job.prompt), job.output, "stop", ready_at=job.at)
    times: dict[str, list[float]] = {job.name: [] for job in load}
    for emission in replica.advance(1e9):
        if isinstance(emission, Tokens):
            times[emission.request_id] += [chunk.at for chunk in chunks_of(emission)]
    stepwise(load, costs)
    for job in load:
        assert times[job.name] == pytest.approx(job.token_times, abs=1e-9), job.name


def test_without_chunked_prefill_a_prompt_that_does_not_fit_holds_up_the_line() -> None:
    costs = Costs(0.01, 0.0001, 0.001, 0.0, 8, 100, chunked_prefill=False)
    load = [Job("a", 0.0, 90, 5), Job("b", 0.001, 99, 3), Job("c", 0.002, 5, 3)]
    replica = BatchedReplica(
        StepTime(0.01, 0.0001, 0.001, 0.0), BatchLimits(8, 100, chunked_prefill=False), every_token=False
    )
    for job in load:
        replica.submit(Request(job.name, job.name, "m", job.prompt), job.output, "stop", ready_at=job.at)
    ends = {e.request_id: list(chunks_of(e)) for e in replica.advance(1e9) if isinstance(e, Tokens)}
    stepwise(load, costs)
    for job in load:
        assert [chunk.at for chunk in ends[job.name]] == pytest.approx(job.token_times, abs=1e-9)
    assert ends["b"][0].at < ends["c"][0].at  # the short one waited behind the long one


@given(st.floats(0, 0.1), st.one_of(st.just(0.0), st.floats(1e-9, 1e-3)), st.floats(0, 100), st.integers(0, 5000))
def test_steps_done_by_inverts_elapsed(first: float, growth: float, elapsed: float, limit: int) -> None:
    pace = Pace(first, growth)
    done = pace.steps_done_by(elapsed, limit)
    assert 0 <= done <= limit
    assert done == 0 or pace.elapsed(done) <= elapsed
    assert done == limit or pace.elapsed(done + 1) > elapsed


def test_a_very_long_chain_of_stretches_is_freed_without_recursion() -> None:
    """A request that outlives 200,000 changes of the batch keeps as many stretches; letting go must not overflow."""
    replica = BatchedReplica(StepTime(0.001, 0.0, 0.0, 0.0), BatchLimits(2, 16), every_token=False)
    replica.submit(Request("long", "long", "m", 1), 400_000, "length", ready_at=0.0)
    for number in range(100_000):
        at = 0.0035 * number
        replica.submit(Request(f"r{number}", "k", "m", 1), 1, "stop", ready_at=at)
        replica.advance(at)
    ends = [e for e in replica.advance(1e9) if isinstance(e, Tokens) and e.request_id == "long"]
    assert sum(chunk.num for chunk in chunks_of(ends[0])) == 400_000
    del replica, ends
