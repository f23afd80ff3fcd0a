"""MLPerf's early-stopping rule: whether so many requests, of which so many were over a limit, prove that a share is within it.

With `under` requests within the limit and `over` beyond it, "at least the share p is within" is

    proven   when I(p; under, over + 1) <= 1 - confidence: if no more than p were within, so many within would be that rare;
    refuted  when I(1 - p; over, under + 1) <= 1 - confidence: if p were within, so many beyond would be that rare;

and anything between needs more requests. I is the regularized incomplete beta function, so both are exact binomial tests, and
both together are Clopper and Pearson's one-sided limits. Source: MLPerf Inference rules, "Early Stopping Criterion", and
loadgen/early_stopping.cc, which has the first of the two at 99 % and a tolerance d: give p - d.
"""

from __future__ import annotations

from math import ceil
from typing import Literal

from harness.judgement.binomial import incomplete_beta

__all__ = ["CONFIDENCE", "MOST_NEEDED", "Claim", "num_needed", "weigh"]

Claim = Literal["proven", "refuted", "open"]

CONFIDENCE = 0.95  # of each of the two answers by itself
MOST_NEEDED = 10_000_000


def weigh(under: float, over: float, p: float, confidence: float = CONFIDENCE) -> Claim:
    """Whether "at least the share p is within the limit" is proven, refuted or open. Counts need not be whole: dependent
    requests count as fewer. `0 < p < 1`."""
    chance = 1 - confidence
    if under > 0 and incomplete_beta(p, under, over + 1) <= chance:
        return "proven"
    if over > 0 and incomplete_beta(1 - p, over, under + 1) <= chance:
        return "refuted"
    return "open"


def num_needed(share_over: float, p: float, confidence: float = CONFIDENCE) -> int | None:
    """How many requests would decide, if this share of them is over the limit; None: more than MOST_NEEDED, or never."""

    def decides(num: int) -> bool:
        return weigh(num * (1 - share_over), num * share_over, p, confidence) != "open"

    if share_over == 1 - p or not decides(MOST_NEEDED):
        return None
    few, many = 0, 1
    while not decides(many):
        few, many = many, min(2 * many, MOST_NEEDED)
    while many - few > max(1, many // 1000):
        middle = ceil((few + many) / 2)
        few, many = (few, middle) if decides(middle) else (middle, many)
    return many
