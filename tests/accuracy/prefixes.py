"""The prefix cache against the Mooncake conversation trace: 12,031 prompts as hashes of 512-token blocks.

Source: kvcache-ai/Mooncake, 3b5a594, FAST25-release (Apache-2.0). Prompts in the order of the file, one at a time; a
prompt's hits are the leading run of its blocks that are cached; min(512 * hits, length) tokens are counted.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from mockllm.engine.kv_cache import KvCache

__all__ = ["REFERENCE_HIT_RATES", "token_hit_rate"]

# By blocks of the cache; None: unlimited. Computed twice with an LRU of its own that touches a prompt's blocks head first.
REFERENCE_HIT_RATES: dict[int | None, float] = {None: 0.3736, 30_000: 0.3321, 10_000: 0.2153}

_BLOCK_TOKENS = 512


@cache
def _prompts(data: Path) -> list[tuple[int, list[int]]]:
    lines = (data / "mooncake" / "conversation_trace.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [(row["input_length"], row["hash_ids"]) for row in rows]


def token_hit_rate(data: Path, num_blocks: int | None) -> float:
    """The share of all prompt tokens that the cache held."""
    kv = KvCache(num_blocks, _BLOCK_TOKENS, prefix_caching=True)
    num_hit = num_asked = 0
    for length, hashes in _prompts(data):
        num_hits = kv.hits(hashes, len(hashes))
        num_hit += min(_BLOCK_TOKENS * num_hits, length)
        num_asked += length
        for content in hashes[:num_hits]:
            kv.reuse(content)
        kv.take(len(hashes) - num_hits)
        published = [content for content in hashes[num_hits:] if kv.publish(content)]
        kv.give_back(len(hashes) - num_hits - len(published))
        for content in reversed(hashes[:num_hits] + published):  # as the scheduler frees them
            kv.release(content)
    return num_hit / num_asked
