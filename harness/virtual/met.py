"""What the clients' requests met in the stack, summed up over a run."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from mockllm import Began, Emission, Finished, Tokens

__all__ = ["Met"]


def _sums() -> dict[str, float]:
    return defaultdict(float)


def _counts() -> dict[str, int]:
    return defaultdict(int)


@dataclass(slots=True)
class Met:
    """`num` requests that passed a stack. `answered_by` are models and caches, `waited_s` and `saved_usd` sums by stage.
    A hit is unlabelled where nobody can say whether it was right."""

    num: int = 0
    num_calls: int = 0
    num_wrong_hits: int = 0
    num_unlabelled_hits: int = 0
    cost_usd: float = 0.0
    answered_by: dict[str, int] = field(default_factory=_counts)
    cache_outcomes: dict[str, int] = field(default_factory=_counts)
    num_waited: dict[str, int] = field(default_factory=_counts)
    waited_s: dict[str, float] = field(default_factory=_sums)
    saved_usd: dict[str, float] = field(default_factory=_sums)

    def add(self, end: Emission) -> None:
        """One request is over."""
        passage = None if isinstance(end, Began | Tokens) else end.passage
        if passage is None:
            return
        self.num += 1
        self.num_calls += passage.num_attempts
        self.num_wrong_hits += passage.wrong_hit is True
        self.cost_usd += passage.cost_usd or 0.0
        if isinstance(end, Finished):
            self.answered_by[passage.model if passage.source == "model" else passage.source] += 1
        if passage.cache_outcome is not None:
            self.cache_outcomes[passage.cache_outcome] += 1
            self.num_unlabelled_hits += passage.cache_outcome != "miss" and passage.wrong_hit is None
        for stage, seconds in passage.waited_s.items():
            self.num_waited[stage] += 1
            self.waited_s[stage] += seconds
        for stage, usd in passage.saved_usd.items():
            self.saved_usd[stage] += usd
