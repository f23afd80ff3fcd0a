"""What a run's samples say of "at least the share p is within the limit": proven, refuted, or how many requests it would take."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from harness.judgement.dependence import effective_size
from harness.judgement.early_stopping import CONFIDENCE, MOST_NEEDED, Claim, num_needed, weigh
from harness.judgement.quantities import shown
from harness.table import Floats, Ints, Mask

__all__ = ["Evidence", "by_request", "evidence"]


@dataclass(frozen=True)
class Evidence:
    """`num_over` of `num` samples are over the limit; all together they are worth `effective` independent ones."""

    num: int
    num_over: int
    effective: float

    def claim(self, p: float) -> Claim:
        worth = self.effective / self.num
        return weigh((self.num - self.num_over) * worth, self.num_over * worth, p)

    def needed(self, p: float) -> int | None:
        """How many samples would decide, at the share over the limit and the dependence that were seen; None: very many."""
        found = num_needed(self.num_over / self.num, p)
        return None if found is None else ceil(found * self.num / self.effective)

    def in_words(self, p: float) -> str:
        """The part of the reason that is about certainty: nothing more where it is decided."""
        words = []
        if self.effective < 0.9 * self.num:
            words.append(f"samples resemble their neighbours and count as {self.effective:,.0f} independent ones")
        if self.claim(p) == "open":
            needed = self.needed(p)
            what = f"more than {MOST_NEEDED:,}" if needed is None else f"about {needed:,}"
            words.append(
                f"too few to say with {shown(CONFIDENCE, 'share')} confidence; at this share {what} would tell"
            )
        return "".join(f"; {each}" for each in words)


def evidence(over: Mask, rows: Ints, intended_at: Floats, near: Mask | None = None) -> Evidence:
    """Of samples that are over the limit or not, each of the request in this row.

    `near`: which came near the limit or over it. Where none was over, or one burst, they show how much samples resemble each
    other; where none came near, nobody can see it, and it does not matter.
    """
    worths = [
        effective_size(*by_request(each.astype(np.float64), rows, intended_at))
        for each in (over, near)
        if each is not None
    ]
    return Evidence(len(over), int(over.sum()), min(worths))


def by_request(values: Floats, rows: Ints, intended_at: Floats) -> tuple[Floats, Floats]:
    """Sums and numbers of the samples of each request that has some, in order of intended time."""
    sums: Floats = np.bincount(rows, weights=values, minlength=len(intended_at)).astype(np.float64)
    sizes = np.bincount(rows, minlength=len(intended_at)).astype(np.float64)
    order = np.argsort(intended_at, kind="stable")
    there = order[sizes[order] > 0]
    return sums[there], sizes[there]
