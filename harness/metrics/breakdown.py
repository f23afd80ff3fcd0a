"""A run in parts: the same metrics for every class, tenant, model served, cache outcome and phase."""

from __future__ import annotations

import msgspec

from harness.quantiles import Distribution

__all__ = ["DIMENSIONS", "MOST", "Breakdown", "Group"]

MOST = 20

# What a run is divided by, and how a reader calls it.
DIMENSIONS = {
    "class_name": "class",
    "tenant": "tenant",
    "feature": "feature",
    "model_served": "model served",
    "cache_outcome": "cache outcome",
    "replica": "replica",
    "phase": "phase",
}


class Group(msgspec.Struct, kw_only=True):
    """The requests of a run that share a label; `name` None: those that have none. Metrics: ttft, tpot, e2e of ok requests."""

    name: str | None
    num: int
    outcomes: dict[str, int]
    metrics: dict[str, Distribution]
    num_prompt: int | None
    num_cached: int | None
    num_output: int | None
    cost_usd: float | None


class Breakdown(msgspec.Struct, kw_only=True):
    """One dimension; only one that divides the run (two groups or more) is worth a table. Largest group first, at most
    `harness.metrics.breakdown.MOST` of them: `num_more` is how many others there are."""

    dimension: str
    groups: list[Group]
    num_more: int = 0
