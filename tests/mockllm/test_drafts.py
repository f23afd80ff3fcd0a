"""Speculative decoding: how many tokens a step gives, against the formula; and that nothing is lost by it."""

from __future__ import annotations

import numpy as np
import pytest

from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.drafts import Drafts
from mockllm.engine.kv_cache import KvCache
from mockllm.engine.latency import LinearStepTime
from mockllm.model import Finished, Request, Tokens, chunks_of
from mockllm.streams import Streams


@pytest.mark.parametrize(("num_drafts", "rate"), [(1, 0.5), (3, 0.7), (5, 0.9), (4, 0.0), (4, 1.0)])
def test_tokens_a_step_have_the_mean_of_the_geometric_law(num_drafts: int, rate: float) -> None:
    """Leviathan et al. (2023), eq. 1: E = (1 - rate^(k+1)) / (1 - rate)."""
    totals = Drafts(num_drafts, rate, 0.0).tokens_after_steps(20_001, "key", Streams(1))
    expected = num_drafts + 1 if rate == 1 else (1 - rate ** (num_drafts + 1)) / (1 - rate)
    sizes = np.diff(totals)[:-1]  # the last step is cut where the answer ends
    assert sizes.mean() == pytest.approx(expected, rel=0.03)
    assert totals[0] == 1
    assert totals[-1] == 20_001
    assert sizes.min() >= 1
    assert sizes.max() <= num_drafts + 1


@pytest.mark.parametrize("num_tokens", [1, 2, 7])
def test_an_answer_has_exactly_its_tokens(num_tokens: int) -> None:
    totals = Drafts(5, 0.8, 0.0).tokens_after_steps(num_tokens, "key", Streams(1))
    assert totals[-1] == num_tokens
    assert totals == sorted(set(totals))


def test_certain_drafts_take_a_fraction_of_the_steps() -> None:
    """3 drafts that are always accepted: 1 token from the prefill, then 4 a step; the draft's time is added."""
    replica = BatchedReplica(
        LinearStepTime(0.01, 0.0, 0.0, 0.0), BatchLimits(4, 64), every_token=False, drafts=Drafts(3, 1.0, 0.002)
    )
    replica.submit(Request("r", "k", "m", 10), 13, "stop", ready_at=0.0)
    tokens, end = replica.advance(1.0)
    assert isinstance(tokens, Tokens)
    assert isinstance(end, Finished)
    assert [(chunk.first, chunk.num) for chunk in chunks_of(tokens)] == [(0, 1), (1, 4), (5, 4), (9, 4)]
    assert [chunk.at for chunk in chunks_of(tokens)] == pytest.approx([0.01, 0.022, 0.034, 0.046])


def test_under_memory_pressure_every_token_still_comes_once() -> None:
    kv = KvCache(24, 4, prefix_caching=True)
    replica = BatchedReplica(
        LinearStepTime(0.01, 0.0, 0.0, 0.0), BatchLimits(8, 64), kv, every_token=False, drafts=Drafts(3, 0.6, 0.0)
    )
    for number in range(8):
        replica.submit(Request(f"r{number}", f"k{number}", "m", 20), 30, "stop", ready_at=0.001 * number)
    given: dict[str, list[int]] = {}
    for emission in replica.advance(60.0):
        if isinstance(emission, Tokens):
            for chunk in chunks_of(emission):
                given.setdefault(emission.request_id, []).extend(range(chunk.first, chunk.first + chunk.num))
    assert given == {f"r{number}": list(range(30)) for number in range(8)}
    assert replica.num_preemptions > 0
    assert kv.num_free == 24
