"""The prompt cache of a hosted provider: which beginning of a prompt was seen lately, and what is billed for it.

Two contracts. Automatic (OpenAI): prefixes of at least 1,024 tokens, in steps of 128, cached by themselves and read at
a discount; the entry lives some minutes after its last use. Marked (Anthropic): a prefix is cached where the request
says so (`cache_control`), for 5 minutes or 1 hour since its last use; writing is billed apart, reading is cheap.
An entry can be read once the answer that wrote it has begun. Sources: the providers' prompt-caching guides, 2026.
"""

from __future__ import annotations

from collections import OrderedDict

from mockllm.model import CachePoint, CacheUse, Request

__all__ = ["AUTOMATIC_MIN_TOKENS", "AUTOMATIC_STEP_TOKENS", "PromptCache"]

AUTOMATIC_MIN_TOKENS = 1024
AUTOMATIC_STEP_TOKENS = 128
AUTOMATIC_TTL_S = 300.0  # "5 to 10 minutes of inactivity"
MARKED_MIN_TOKENS = 1024  # Anthropic's smallest cacheable prompt for most models
_HASH_BLOCK_TOKENS = 16
_MAX_ENTRIES = 200_000


class _Entry:
    __slots__ = ("expires_at", "readable_at", "ttl_s")

    def __init__(self, readable_at: float, expires_at: float, ttl_s: float) -> None:
        self.readable_at, self.expires_at, self.ttl_s = readable_at, expires_at, ttl_s


class PromptCache:
    """Prefixes by digest, the least recently used forgotten first."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, _Entry] = OrderedDict()

    def use(self, request: Request, now: float) -> CacheUse:
        """What this request reads at `now`, and what it will write; a read starts the entry's life anew."""
        points = _points(request)
        read = next((point for point in reversed(points) if self._readable(point.digest, now)), None)
        num_read = read.num_tokens if read else 0
        if read is not None:
            entry = self._entries[read.digest]
            entry.expires_at = now + entry.ttl_s
            self._entries.move_to_end(read.digest)
        if request.cache_points is None:
            return CacheUse(num_read)  # automatic caches bill no writing
        written = {True: 0, False: 0}  # for an hour?
        before = num_read
        for point in points:
            if point.ttl_s > 0 and point.num_tokens > before:
                written[point.ttl_s > 300] += point.num_tokens - before
                before = point.num_tokens
        return CacheUse(num_read, written[False], written[True])

    def store(self, request: Request, readable_at: float) -> None:
        """Keep this request's prefixes from the moment its answer begins."""
        for point in _points(request):
            if point.ttl_s <= 0:
                continue
            entry = self._entries.get(point.digest)
            if entry is None or entry.expires_at <= readable_at:
                self._entries[point.digest] = _Entry(readable_at, readable_at + point.ttl_s, point.ttl_s)
            else:
                entry.readable_at = min(entry.readable_at, readable_at)
                entry.ttl_s = max(entry.ttl_s, point.ttl_s)
                entry.expires_at = max(entry.expires_at, readable_at + entry.ttl_s)
            self._entries.move_to_end(point.digest)
        while len(self._entries) > _MAX_ENTRIES:
            self._entries.popitem(last=False)

    def _readable(self, digest: int, now: float) -> bool:
        entry = self._entries.get(digest)
        if entry is None:
            return False
        if entry.expires_at <= now:
            del self._entries[digest]
            return False
        return entry.readable_at <= now


def _points(request: Request) -> list[CachePoint]:
    """The prefixes of a request that may be cached, the shortest first."""
    if request.cache_points is not None:
        return [point for point in request.cache_points if point.num_tokens >= MARKED_MIN_TOKENS]
    step = AUTOMATIC_STEP_TOKENS // _HASH_BLOCK_TOKENS
    first = AUTOMATIC_MIN_TOKENS // _HASH_BLOCK_TOKENS
    last = min(len(request.block_hashes), request.num_prompt_tokens // _HASH_BLOCK_TOKENS)
    return [
        CachePoint(num * _HASH_BLOCK_TOKENS, request.block_hashes[num - 1], AUTOMATIC_TTL_S)
        for num in range(first, last + 1, step)
    ]
