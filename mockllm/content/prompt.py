"""A prompt as the engine counts it: tokens, names of its blocks, and the prefixes a client wants cached."""

from __future__ import annotations

from dataclasses import dataclass

from mockllm.call import Call
from mockllm.model import CachePoint
from mockllm.tokens import Tokenizer, block_hashes

__all__ = ["Prompt", "read_prompt"]

_LOOKBACK = 20  # Anthropic looks for a cached prefix at up to 20 block boundaries before a mark


@dataclass(frozen=True, slots=True)
class Prompt:
    """`ids` of all tokens; pictures stand as tokens of their own. `cache_points` None: the provider decides."""

    ids: list[int]
    cache_points: tuple[CachePoint, ...] | None

    @property
    def num_tokens(self) -> int:
        return max(1, len(self.ids))

    def block_hashes(self, block_size: int) -> tuple[int, ...]:
        return block_hashes(self.ids, block_size)


def read_prompt(call: Call, tokenizer: Tokenizer) -> Prompt:
    """Count a call's prompt. Segments are counted one by one, so that a conversation begins like the one before it."""
    ids: list[int] = []
    points: list[CachePoint] = []
    digest = 0
    for segment in call.segments:
        if segment.num_tokens is None:
            new = tokenizer.encode(segment.text)
        else:
            first = _stable(segment.text)
            new = list(range(first, first - segment.num_tokens, -1))
        ids += new
        if call.user_marks_cache:
            digest = hash((digest, *new))
            points.append(CachePoint(len(ids), digest, segment.cache_ttl_s or 0.0))
    return Prompt(ids, _marked(points) if call.user_marks_cache else None)


def _stable(text: str) -> int:
    """The first of the tokens that stand for a picture; the same for the same picture in every process."""
    return -1 - len(text) * 1_000_003 - sum(map(ord, text[-64:])) * 4099


def _marked(points: list[CachePoint]) -> tuple[CachePoint, ...]:
    """The marks, and the boundaries before each at which a shorter cached prefix may end."""
    kept: set[int] = set()
    for index, point in enumerate(points):
        if point.ttl_s > 0:
            kept.update(range(max(0, index - _LOOKBACK), index + 1))
    return tuple(points[index] for index in sorted(kept))
