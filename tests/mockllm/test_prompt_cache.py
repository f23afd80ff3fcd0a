"""A provider's prompt cache: who reads what, what is billed, and what TTFT makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mockllm.engine.hosted import HostedLatency, HostedReplica
from mockllm.engine.prompt_cache import PromptCache
from mockllm.model import CachePoint, CacheUse, Finished, Request, Tokens
from mockllm.streams import Streams


def automatic(num_tokens: int, *, differs_after: int | None = None) -> Request:
    """A prompt whose blocks of 16 tokens differ from the usual ones after so many tokens."""
    blocks = range(num_tokens // 16)
    names = [hash((block, differs_after is not None and block * 16 >= differs_after)) for block in blocks]
    return Request("r", "k", "m", num_tokens, block_hashes=tuple(names))


def marked(*points: CachePoint, num_tokens: int = 10_000) -> Request:
    return Request("r", "k", "m", num_tokens, cache_points=points)


@pytest.mark.parametrize(
    ("num_tokens", "differs_after", "read"),
    [
        (1023, None, 0),  # shorter than 1,024: never cached
        (1024, None, 1024),
        (1151, None, 1024),  # steps of 128
        (1152, None, 1152),
        (5000, None, 4992),
        (5000, 1100, 1024),
        (5000, 1008, 0),
        (5000, 3000, 2944),  # 3,000 lies in the block from 2,992; 1,024 + 15 * 128 = 2,944
    ],
)
def test_automatic_prefixes_are_read_in_steps_of_128_from_1024(
    num_tokens: int, differs_after: int | None, read: int
) -> None:
    cache = PromptCache()
    assert cache.use(automatic(num_tokens), 0.0) == CacheUse(0)
    cache.store(automatic(num_tokens), readable_at=1.0)
    assert cache.use(automatic(num_tokens, differs_after=differs_after), 2.0) == CacheUse(read)


def test_nothing_can_be_read_before_the_answer_that_writes_it_has_begun() -> None:
    cache = PromptCache()
    cache.store(automatic(2048), readable_at=1.0)
    assert cache.use(automatic(2048), 0.999).num_read == 0
    assert cache.use(automatic(2048), 1.0).num_read == 2048


def test_a_read_starts_the_life_of_an_entry_anew() -> None:
    cache, point = PromptCache(), CachePoint(2000, 1, 300.0)
    cache.store(marked(point), readable_at=0.0)
    assert cache.use(marked(point), 299.0).num_read == 2000
    assert cache.use(marked(point), 598.0).num_read == 2000  # 299 s after the last use
    assert cache.use(marked(point), 898.0).num_read == 0  # 300 s after it: gone


def test_marks_bill_what_they_write_by_lifetime_and_read_the_longest() -> None:
    cache = PromptCache()
    tools, system, turn = CachePoint(3000, 1, 3600.0), CachePoint(5000, 2, 3600.0), CachePoint(9000, 3, 300.0)
    assert cache.use(marked(tools, system, turn), 0.0) == CacheUse(0, 4000, 5000)
    cache.store(marked(tools, system, turn), readable_at=0.5)
    assert cache.use(marked(tools, system, turn), 1.0) == CacheUse(9000, 0, 0)
    other_turn = CachePoint(9500, 4, 300.0)
    assert cache.use(marked(tools, system, other_turn), 2.0) == CacheUse(5000, 4500, 0)
    assert cache.use(marked(tools, system, other_turn), 310.0 + 300.0) == CacheUse(5000, 4500, 0)  # an hour lives on


def test_a_boundary_without_a_mark_is_read_and_never_written() -> None:
    cache, boundary = PromptCache(), CachePoint(4000, 7, 0.0)
    cache.store(marked(boundary), readable_at=0.0)
    assert cache.use(marked(boundary), 1.0) == CacheUse(0)
    cache.store(marked(CachePoint(4000, 7, 300.0)), readable_at=1.0)
    assert cache.use(marked(boundary, CachePoint(6000, 8, 300.0)), 2.0) == CacheUse(4000, 2000, 0)


def test_prompts_under_the_minimum_are_not_cached_and_no_error() -> None:
    cache, short = PromptCache(), CachePoint(1023, 1, 300.0)
    assert cache.use(marked(short), 0.0) == CacheUse(0)
    cache.store(marked(short), readable_at=0.0)
    assert cache.use(marked(short), 1.0) == CacheUse(0)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 700)), min_size=1, max_size=30))
def test_read_plus_written_is_what_the_last_mark_covers(steps: list[tuple[int, int]]) -> None:
    cache, now = PromptCache(), 0.0
    for family, wait in steps:
        now += wait
        points = [CachePoint(2000, family, 300.0), CachePoint(6000, 100 + family, 300.0)]
        use = cache.use(marked(*points), now)
        assert use.num_read in (0, 2000, 6000)
        assert use.num_read + use.num_written_5m == 6000
        cache.store(marked(*points), readable_at=now)


def test_first_token_falls_with_the_tokens_that_are_not_cached_only() -> None:
    latency = HostedLatency(0.2, 0.0, 0.0, 1e-4, 0.0, 0.0, 0.0, 0.01, 0.0, 1.0, 0.0, 0.0, 0.0)
    replica = HostedReplica(latency, Streams(1), every_token=False, prompt_cache=PromptCache())
    firsts = []
    for number, at in enumerate((0.0, 10.0)):
        request = Request(f"r{number}", "k", "m", 5000, block_hashes=automatic(5000).block_hashes)
        replica.submit(request, 1, "stop", ready_at=at)
        tokens, end = replica.advance(at + 5)
        assert isinstance(tokens, Tokens)
        assert isinstance(end, Finished)
        firsts.append((tokens.at - at, end.cache.num_read))
    (cold, read_cold), (warm, read_warm) = firsts
    assert (read_cold, read_warm) == (0, 4992)
    assert cold == pytest.approx(0.2 + 5000e-4)
    assert warm == pytest.approx(0.2 + 8e-4)
