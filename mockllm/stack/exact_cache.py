"""Exact response cache: the same question in the same words gets the same answer, without a call.

The key is `Query.digest` (model, system prompt, sampling parameters, tools, all messages) and the model that the request is
for when it comes here: behind a router every model has answers of its own. Least recently used goes first.
"""

from __future__ import annotations

from mockllm.stack.answers import Ttl, question_of
from mockllm.stack.keyed_cache import KeyedCache, KeyedCacheSettings
from mockllm.stack.parts import Parts
from mockllm.stack.stage import Flight

__all__ = ["ExactCache", "ExactCacheSettings"]


class ExactCacheSettings(KeyedCacheSettings):
    """`coalesce`: a request waits where one with the same key is on its way."""

    ttl: Ttl = 3600.0
    coalesce: bool = False


class ExactCache(KeyedCache):
    """Answers by the whole question."""

    def __init__(self, settings: ExactCacheSettings, parts: Parts) -> None:
        super().__init__(settings, parts, coalesce=settings.coalesce)

    def key_of(self, flight: Flight) -> tuple[str, ...] | None:
        query = question_of(flight)
        return None if query is None else (flight.request.model, query.digest)
