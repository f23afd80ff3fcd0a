"""Latencies with failures as +∞: what the people who asked have seen, not only those who were answered.

A server that answers the easy half of its requests fast and fails the others has a fine p99 of answered requests. Here every
request that was not ok takes for ever, so that a percentile is +∞ once too many of them failed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Unanswered"]


class Unanswered(msgspec.Struct, kw_only=True):
    """One metric over all requests but those that our own side held back (`refused`) or went away from (`left`).

    `percentiles`: seconds; "inf" where it falls among the `num_infinite` requests that were not ok; null where the samples are
    too few.
    """

    num: int
    num_infinite: int
    percentiles: dict[str, float | Literal["inf"] | None]
