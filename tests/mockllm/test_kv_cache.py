"""KV blocks: conserved, shared, forgotten in the order of their last use."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from mockllm.engine.kv_cache import KvCache


def test_the_block_that_was_free_for_longest_is_forgotten_first() -> None:
    kv = KvCache(4, 16, prefix_caching=True)
    kv.take(3)
    for content in (10, 11, 12):
        assert kv.publish(content)
    for content in (12, 11, 10):  # a sequence frees its last block first
        kv.release(content)
    kv.take(1)  # the one that was never used
    assert kv.hits((10, 11, 12), 3) == 3
    kv.take(1)
    assert kv.hits((10, 11, 12), 3) == 2
    assert kv.hits((12,), 1) == 0


def test_a_block_in_use_is_never_forgotten() -> None:
    kv = KvCache(3, 16, prefix_caching=True)
    kv.take(1)
    kv.publish(7)
    kv.release(7)
    kv.reuse(7)
    kv.take(2)
    assert kv.num_free == 0
    assert kv.hits((7,), 1) == 1


def test_hits_end_at_the_first_block_that_is_missing() -> None:
    kv = KvCache(8, 16, prefix_caching=True)
    kv.take(2)
    kv.publish(1)
    kv.publish(3)
    assert kv.hits((1, 2, 3), 3) == 1
    assert kv.hits((1, 2, 3), 0) == 0


def test_one_content_has_one_block() -> None:
    kv = KvCache(8, 16, prefix_caching=True)
    kv.take(2)
    assert kv.publish(1)
    assert not kv.publish(1)


def test_unlimited_memory_remembers_everything_and_has_no_usage() -> None:
    kv = KvCache(None, 16, prefix_caching=True)
    for content in range(1000):
        kv.take(1)
        kv.publish(content)
        kv.release(content)
    assert kv.hits(range(1000), 1000) == 1000
    assert (kv.num_free, kv.usage) == (inf, 0.0)


@given(st.lists(st.tuples(st.sampled_from("tapru"), st.integers(0, 9)), max_size=80))
def test_blocks_are_conserved_against_a_naive_pool(steps: list[tuple[str, int]]) -> None:
    """The oracle keeps every block as an object of its own, in one list of free ones."""
    num_blocks = 6
    kv = KvCache(num_blocks, 16, prefix_caching=True)
    free: list[int | None] = [None] * num_blocks  # contents, None without one
    used: dict[int, int] = {}
    num_anonymous = 0
    for action, content in steps:
        if action == "t" and free:  # take one block
            free.pop(0)
            kv.take(1)
            num_anonymous += 1
        elif action == "a" and num_anonymous:  # give one back
            free.append(None)
            kv.give_back(1)
            num_anonymous -= 1
        elif action == "p" and num_anonymous:  # publish one
            known = content in used or content in free
            assert kv.publish(content) is not known
            if not known:
                used[content] = 1
                num_anonymous -= 1
        elif action == "r" and used.get(content):
            used[content] -= 1
            kv.release(content)
            if not used[content]:
                del used[content]
                free.append(content)
        elif action == "u" and (content in used or content in free):
            if content in free:
                free.remove(content)
            used[content] = used.get(content, 0) + 1
            kv.reuse(content)
        assert kv.num_free == len(free)
        for each in range(10):
            assert kv.hits((each,), 1) == (each in used or each in free)
        assert kv.usage == 1 - len(free) / num_blocks
