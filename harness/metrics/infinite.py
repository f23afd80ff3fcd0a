"""Latencies with failures as +∞: what the people who asked have seen, not only those who were answered.

A server that answers the easy half of its requests fast and fails the others has a fine p99 of answered requests. Here every
request that was not ok takes for ever, so that a percentile is +∞ once too many of them failed.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from harness.metrics.latencies import latency
from harness.quantiles import PERCENTILES, nearest_rank, samples_needed
from harness.table import Table

__all__ = ["METRICS", "Unanswered", "unanswered"]

METRICS = ("ttft", "e2e")


class Unanswered(msgspec.Struct, kw_only=True):
    """One metric over all requests but those that our own side held back (`refused`) or went away from (`left`).

    `percentiles`: seconds; "inf" where it falls among the `num_infinite` requests that were not ok; null where the samples are
    too few.
    """

    num: int
    num_infinite: int
    percentiles: dict[str, float | Literal["inf"] | None]


def unanswered(table: Table) -> dict[str, Unanswered]:
    """TTFT and E2E with failures as +∞, by name.

    TTFT is of requests that asked for a stream, for the others have none whether they fail or not. An ok request whose latency is
    not known counts in neither way.
    """
    return {name: _unanswered(table, name) for name in METRICS}


def _unanswered(table: Table, name: str) -> Unanswered:
    ok = table.is_outcome("ok")
    asked = ~(table.is_outcome("refused") | table.is_outcome("left"))
    if name == "ttft":
        asked &= table.stream
    values = latency(table, name)
    ordered = np.sort(values[asked & ok & ~np.isnan(values)])
    num_infinite = int((asked & ~ok).sum())
    num = len(ordered) + num_infinite
    percentiles: dict[str, float | Literal["inf"] | None] = dict.fromkeys(f"{percent:g}" for percent in PERCENTILES)
    for percent in PERCENTILES:
        rank = nearest_rank(percent, num)
        if num >= samples_needed(percent):
            percentiles[f"{percent:g}"] = float(ordered[rank]) if rank < len(ordered) else "inf"
    return Unanswered(num=num, num_infinite=num_infinite, percentiles=percentiles)
