"""The search for the most streams that are still measured well: doubling until it fails, then halving the interval."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

__all__ = ["next_level"]


def next_level(
    kept: Mapping[int, bool], *, first: int, most: int, resolution: float = 1.3, least: int = 5
) -> int | None:
    """The next number of streams to try; None: the answer is known. `kept` says of each level tried whether it was well.

    A level above a failed one says nothing: the answer lies below the lowest failure. It is known when the lowest failure is
    at most `resolution` times the highest success below it.
    """
    failed = min((level for level, well in kept.items() if not well), default=None)
    good = max((level for level, well in kept.items() if well and (failed is None or level < failed)), default=None)
    if failed is None:
        if good is None:
            return first
        return min(good * 2, most) if good < most else None
    if good is None:
        return failed // 2 if failed // 2 >= least else None
    middle = round(sqrt(good * failed))
    return middle if failed > good * resolution and good < middle < failed else None
