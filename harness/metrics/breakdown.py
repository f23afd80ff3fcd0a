"""A run in parts: the same metrics for every class, tenant, model served, cache outcome and phase."""

from __future__ import annotations

import msgspec
import numpy as np

from harness.metrics.latencies import latency
from harness.quantiles import Distribution, distribution
from harness.table import OUTCOMES, Floats, Ints, Table

__all__ = ["DIMENSIONS", "METRICS", "MOST", "Breakdown", "Group", "breakdowns"]

MOST = 20
METRICS = ("ttft", "tpot", "e2e")

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


def breakdowns(table: Table) -> list[Breakdown]:
    """One for every dimension by which the run falls into two groups or more; rows without a label are a group too.

    Tokens and metrics are of ok requests; cost is of all that have one, since whoever fails may have to be paid for.
    """
    if not len(table):
        return []
    columns = _Columns(table)
    found = (_breakdown(columns, name) for name in DIMENSIONS)
    return [each for each in found if each is not None]


class _Columns:
    """What is folded, group by group: worked out once for all dimensions."""

    def __init__(self, table: Table) -> None:
        ok = table.is_outcome("ok")
        self.table = table
        self.metrics = {name: np.where(ok, latency(table, name), np.nan) for name in METRICS}
        tokens = {"prompt": "num_prompt_tokens", "cached": "num_cached_tokens", "output": "num_output_tokens"}
        self.tokens = {name: np.where(ok, table[column], np.nan) for name, column in tokens.items()}


def _breakdown(columns: _Columns, dimension: str) -> Breakdown | None:
    labels = columns.table.labels[dimension]
    sizes = np.bincount(labels.codes + 1)  # place 0: those that have none
    there = np.flatnonzero(sizes)
    if len(there) < 2:
        return None
    largest = there[np.argsort(-sizes[there], kind="stable")][:MOST]
    # The place of each group in the table below; all others share the last one. A byte a row: numpy sorts that by counting.
    place = np.full(len(sizes), len(largest), dtype=np.uint8)
    place[largest] = np.arange(len(largest))
    of_row = place[labels.codes + 1]
    rows = np.split(np.argsort(of_row, kind="stable"), np.cumsum(sizes[largest]))
    names = [None if code == 0 else labels.names[code - 1] for code in largest]
    groups = [_group(columns, name, each) for name, each in zip(names, rows[: len(largest)], strict=True)]
    return Breakdown(dimension=dimension, groups=groups, num_more=len(there) - len(largest))


def _group(columns: _Columns, name: str | None, rows: Ints) -> Group:
    outcomes = np.bincount(columns.table.outcome[rows], minlength=len(OUTCOMES))
    cost = columns.table["cost_usd"][rows]
    num = {name: _total(column[rows]) for name, column in columns.tokens.items()}
    return Group(
        name=name,
        num=len(rows),
        outcomes=dict(zip(OUTCOMES, outcomes.tolist(), strict=True)),
        metrics={name: distribution(values[rows]) for name, values in columns.metrics.items()},
        num_prompt=num["prompt"],
        num_cached=num["cached"],
        num_output=num["output"],
        cost_usd=None if np.isnan(cost).all() else float(np.nansum(cost)),
    )


def _total(counts: Floats) -> int | None:
    """The sum of what is known; None when nothing is."""
    return None if np.isnan(counts).all() else int(np.nansum(counts))
