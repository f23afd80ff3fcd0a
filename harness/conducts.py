"""Clients that do not just read their answers to the end, mixed into any plan by lot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from harness.errors import UsageError
from harness.plan import Arrival, Conduct, LoadPlan
from harness.streams import keyed_uniform

__all__ = ["Kind", "MixedConduct"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A share of the requests, how their clients behave, and the class under which they are reported."""

    name: str
    share: float
    conduct: Conduct


@dataclass(frozen=True)
class MixedConduct:
    """A plan whose clients are of these kinds; the rest reads to the end, as the class `others`.

    Who is what depends on the seed and the request alone: with other shares the rest of the plan stays as it was. Raises
    UsageError for shares that are none, or more than everybody.
    """

    requests: LoadPlan
    kinds: Sequence[Kind]
    seed: int
    others: str = "reads on"

    def __post_init__(self) -> None:
        shares = [kind.share for kind in self.kinds]
        if not all(share >= 0 for share in shares) or not sum(shares) <= 1:
            told = ", ".join(f"{kind.name} {kind.share:g}" for kind in self.kinds)
            raise UsageError(f"the shares {told} must lie between 0 and 1, and so must their sum")

    @property
    def duration_s(self) -> float:
        return self.requests.duration_s

    @property
    def num_arrivals(self) -> int:
        return self.requests.num_arrivals

    def arrivals(self) -> Iterator[Arrival]:
        bounds = list(accumulate(kind.share for kind in self.kinds))
        for arrival in self.requests.arrivals():
            lot = keyed_uniform(self.seed, "conduct", arrival.key)
            kind = next((kind for kind, bound in zip(self.kinds, bounds, strict=True) if lot < bound), None)
            if kind is None:
                yield replace(arrival, class_name=self.others)
            else:
                yield replace(arrival, class_name=kind.name, conduct=kind.conduct)

    def describe(self) -> dict[str, object]:
        return {**self.requests.describe(), "clients": {kind.name: kind.share for kind in self.kinds}}
