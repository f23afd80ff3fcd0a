"""Who was answered from a cache and who was not: two kinds of latency that must not be blended unseen."""

from __future__ import annotations

from harness.table import Mask, Table

__all__ = ["cache_sides", "hit_and_miss"]

_MOST_OUTCOMES = 5


def hit_and_miss(table: Table) -> tuple[Mask, Mask] | None:
    """The ok rows that a reply cache answered, and those that it did not; None where there are not both."""
    outcomes, ok = table.labels["cache_outcome"], table.is_outcome("ok")
    miss = ok & outcomes.is_("miss")
    hit = ok & (outcomes.codes >= 0) & ~miss
    return (hit, miss) if hit.any() and miss.any() else None


def cache_sides(table: Table) -> dict[str, dict[str, Mask]]:
    """The ok rows by what a cache did for them, for every kind of cache that did not do the same for all.

    `reply cache`: by its outcome, as hit, stale and miss. `prompt cache`: whether the provider read a part of the prompt from its
    cache, of requests that a model answered.
    """
    outcomes, ok = table.labels["cache_outcome"], table.is_outcome("ok")
    sides: dict[str, dict[str, Mask]] = {}
    sizes = {name: num for name in outcomes.names if (num := int((ok & outcomes.is_(name)).sum()))}
    if len(sizes) > 1:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:_MOST_OUTCOMES]
        sides["reply cache"] = {name: ok & outcomes.is_(name) for name in largest}
    by_model = ok & (outcomes.is_("miss") | outcomes.is_(None))
    cached = table["num_cached_tokens"]
    read, none = by_model & (cached > 0), by_model & (cached == 0)
    if read.any() and none.any():
        sides["prompt cache"] = {"tokens read from it": read, "nothing read": none}
    return sides
