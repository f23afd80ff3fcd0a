"""A prompt as the engine counts it: tokens, names of its blocks, and the prefixes a client wants cached."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

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
        if segment.ids is not None:
            new = list(segment.ids)
        elif segment.num_tokens is None:
            new = tokenizer.encode(segment.text)
        else:
            new = _stand_ins(segment.text, segment.num_tokens)
        ids += new
        if call.user_marks_cache:
            digest = hash((digest, *new))
            points.append(CachePoint(len(ids), digest, segment.cache_ttl_s or 0.0))
    return Prompt(ids, _marked(points) if call.user_marks_cache else None)


def _stand_ins(text: str, num_tokens: int) -> list[int]:
    """Tokens that stand for a picture; the same for the same picture in every process, and never a token of text."""
    name = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "big")
    return [-1 - name - number for number in range(num_tokens)]


def _marked(points: list[CachePoint]) -> tuple[CachePoint, ...]:
    """The marks, and the boundaries before each at which a shorter cached prefix may end."""
    kept: set[int] = set()
    for index, point in enumerate(points):
        if point.ttl_s > 0:
            kept.update(range(max(0, index - _LOOKBACK), index + 1))
    return tuple(points[index] for index in sorted(kept))
