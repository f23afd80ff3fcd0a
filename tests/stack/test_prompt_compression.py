"""Prompt compression: fewer tokens to read, a wait before, and a prompt cache that no longer knows the prompt."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mockllm import Emission, Finished, Request, Tokens
from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.hosted import HostedReplica
from mockllm.engine.kv_cache import KvCache
from mockllm.engine.latency import LinearStepTime
from mockllm.engine.prompt_cache import PromptCache
from mockllm.model import CachePoint, CacheUse, chunks_of
from mockllm.passage import Query
from mockllm.stack.prompt_compression import PromptCompressionSettings
from tests.stack.build import STREAMS, ask, end_of, engine, known, passage_of, run, stack
from tests.stack.clocks import assert_both_clocks_agree, run_with_cancels

QUERY = Query("d")


def compression(**keys: Any) -> tuple[str, dict[str, Any]]:
    return "prompt_compression", {"ratio": 2, "min_tokens": 1000, "latency_per_1000_tokens": "0s"} | keys


def prompt(number: int, num_tokens: int, **changes: Any) -> Request:
    return ask(number, query=QUERY, num_prompt_tokens=num_tokens, **changes)


def paid_prompt_tokens(emissions: list[Emission], number: int) -> float:
    """From the bill: large costs $2 a million tokens in, $8 out."""
    cost = passage_of(emissions, number).cost_usd
    assert cost is not None
    return (cost * 1e6 - 50 * 8.0) / 2.0


@given(st.integers(1, 20_000), st.floats(1.01, 20), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_the_model_reads_what_the_ratio_leaves(num_tokens: int, ratio: float, keep: int) -> None:
    out = run(stack(compression(ratio=ratio, keep_prefix=keep)), [(0.0, prompt(0, num_tokens))])
    left = num_tokens if num_tokens < 1000 else keep + ceil((num_tokens - keep) / ratio)
    assert paid_prompt_tokens(out, 0) == pytest.approx(left)
    passage = passage_of(out, 0)
    assert passage.num_prompt_tokens == (None if num_tokens < 1000 else left)
    assert passage.notes == ([] if num_tokens < 1000 else [f"prompt_compression: {num_tokens} tokens to {left}"])
    assert sum(passage.saved_usd.values()) == pytest.approx((num_tokens - left) * 2.0 / 1e6)


def test_it_takes_time_with_the_length_that_it_reads() -> None:
    stage = compression(latency_per_1000_tokens="150ms", keep_prefix=500)
    out = run(stack(stage), [(0.0, prompt(0, 4500)), (0.0, prompt(1, 999))])
    assert passage_of(out, 0).waited_s == {"prompt_compression": pytest.approx(0.6)}
    assert end_of(out, 0).at == pytest.approx(0.6 + 1.0 + 4.9)
    assert passage_of(out, 1).waited_s == {}


def test_what_nobody_may_look_into_is_left_alone() -> None:
    out = run(stack(compression()), [(0.0, replace(prompt(0, 5000), query=None))])
    assert paid_prompt_tokens(out, 0) == pytest.approx(5000)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"ratio": 0.5}, "greater than 1"),
        ({"ratio": 1}, "greater than 1"),
        ({"keep_prefix": 1000}, "leaves nothing to compress"),
        ({"latency_per_1000_tokens": 0.1}, "not a duration"),
    ],
)
def test_settings_that_mean_something_else_are_errors(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        PromptCompressionSettings.model_validate(compression(**keys)[1])


def batched() -> BatchedReplica:
    """Reading a token takes 0.1 ms, a step 10 ms: one prompt after the other, cached blocks for nothing."""
    limits = BatchLimits(max_num_seqs=64, max_num_batched_tokens=100_000)
    kv = KvCache(None, 16, prefix_caching=True)
    return BatchedReplica(LinearStepTime(0.01, 1e-4, 0.0, 0.0), limits, kv, every_token=False)


def first_token_at(emissions: list[Emission], number: int) -> float:
    tokens = next(each for each in emissions if isinstance(each, Tokens) and each.request_id == f"r{number}")
    return next(chunks_of(tokens)).at


def test_long_prompts_are_read_sooner_where_compressing_is_faster_than_reading() -> None:
    """Effect and its break-even: 8,000 tokens take 0.8 s to read, half of them 0.4 s, and compressing something."""

    def ttft(*stages: Any) -> float:
        return first_token_at(run(stack(*stages, behind=engine({"large": batched()})), [(0.0, prompt(0, 8000))]), 0)

    assert ttft() == pytest.approx(0.01 + 0.8)
    assert ttft(compression(latency_per_1000_tokens="20ms")) == pytest.approx(0.16 + 0.01 + 0.4)
    assert ttft(compression(latency_per_1000_tokens="100ms")) == pytest.approx(0.8 + 0.01 + 0.4)  # not worth it


def test_a_compressed_prompt_is_found_in_no_cache_but_its_kept_beginning() -> None:
    """Two prompts of 1,600 tokens are the same but for the last block: of vLLM's prefix cache 1,584 tokens are left."""
    common = tuple(range(1, 100))
    load = [(0.0, prompt(0, 1600, block_hashes=(*common, 500))), (9.0, prompt(1, 1600, block_hashes=(*common, 501)))]

    def cached(*stages: Any) -> CacheUse:
        end = end_of(run(stack(*stages, behind=engine({"large": batched()})), load), 1)
        assert isinstance(end, Finished)
        return end.cache

    assert cached() == CacheUse(num_read=99 * 16)
    assert cached(compression()) == CacheUse(num_read=0)
    assert cached(compression(keep_prefix=650)) == CacheUse(num_read=640)  # 40 whole blocks of 16


def test_marks_of_a_hosted_cache_stay_in_the_kept_beginning() -> None:
    marks = (CachePoint(1200, 1, 300.0), CachePoint(3000, 2, 300.0))
    load = [(0.0, prompt(0, 4000, cache_points=marks)), (60.0, prompt(1, 4000, cache_points=marks))]

    def uses(*stages: Any) -> list[CacheUse]:
        replica = HostedReplica(known(1.0, 0.1), STREAMS, every_token=False, prompt_cache=PromptCache())
        out = run(stack(*stages, behind=engine({"large": replica})), load)
        return [end.cache for end in out if isinstance(end, Finished)]

    assert uses() == [CacheUse(0, 3000, 0), CacheUse(3000, 0, 0)]
    assert uses(compression()) == [CacheUse(), CacheUse()]
    assert uses(compression(keep_prefix=990, min_tokens=2000)) == [CacheUse(), CacheUse()]
    assert uses(compression(keep_prefix=1200, min_tokens=2000)) == [CacheUse(0, 1200, 0), CacheUse(1200, 0, 0)]


def test_each_call_of_a_cascade_is_compressed_once() -> None:
    rungs = [{"model": "small", "skill": 0.5}, {"model": "large", "skill": 1.0}]
    subject = stack(("cascade", {"name": "assistant", "models": rungs, "threshold": 1.0}), compression())
    out = run(subject, [(0.0, replace(prompt(0, 4000), model="assistant"))])
    assert passage_of(out, 0).cost_usd == pytest.approx((2000 * 0.1 + 50 * 0.4 + 2000 * 2.0 + 50 * 8.0) / 1e6)
    assert passage_of(out, 0).saved_usd["prompt_compression"] == pytest.approx((2000 * 0.1 + 2000 * 2.0) / 1e6)


def test_both_clocks_agree() -> None:
    load = [(n * 0.3, prompt(n, 500 + 37 * n, watched=n % 3 != 0)) for n in range(50)]
    stage = compression(latency_per_1000_tokens="120ms", keep_prefix=100)
    assert_both_clocks_agree(lambda every_token: stack(stage, every_token=every_token), load)


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5000)), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.floats(0, 8)), max_size=10),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_when_clients_go_away(
    arrivals: list[tuple[float, int]], cancels: list[tuple[int, float]]
) -> None:
    load = [(at, prompt(n, num)) for n, (at, num) in enumerate(sorted(arrivals))]
    subject = stack(compression(latency_per_1000_tokens="200ms"))
    run_with_cancels(subject, load, cancels)
    counts: Any = subject.stages[0].state(0.0)["counts"]
    assert counts["compressed"] == sum(num >= 1000 for _, num in arrivals)
