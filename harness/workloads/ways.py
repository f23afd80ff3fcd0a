"""Matched requests: the same question put in several ways, streamed, as a whole answer and in a batch.

What differs between the classes is then the way alone. The questions of a round have the same lengths and other words, so that
no cache helps the later of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from harness.asks import Ask, Said
from harness.plan import Arrival, LoadPlan

__all__ = ["Way", "WaysPlan"]

Way = Literal["streamed", "whole", "batch"]


@dataclass(frozen=True)
class WaysPlan:
    """The arrivals of `times`, at their times, in rounds of `ways`; each round has the lengths of its first arrival."""

    times: LoadPlan
    ways: tuple[Way, ...]

    @property
    def duration_s(self) -> float:
        return self.times.duration_s

    @property
    def num_arrivals(self) -> int:
        return self.times.num_arrivals

    def arrivals(self) -> Iterator[Arrival]:
        first = None
        for arrival in self.times.arrivals():
            place = arrival.index % len(self.ways)
            if first is None or place == 0:
                first = arrival
            yield _put(arrival, first, self.ways[place])

    def describe(self) -> dict[str, object]:
        return {**self.times.describe(), "ways": list(self.ways)}


def _put(arrival: Arrival, like: Arrival, way: Way) -> Arrival:
    """An arrival with the lengths of another, put in this way."""
    question = Said("user", arrival.index, like.num_prompt_tokens)
    return replace(
        arrival,
        num_prompt_tokens=like.num_prompt_tokens,
        num_output_tokens=like.num_output_tokens,
        class_name=way,
        ask=Ask((question,), stream=way == "streamed", batch=way == "batch"),
    )
