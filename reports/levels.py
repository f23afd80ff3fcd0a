"""Throughput against latency: what a run says of several levels of load, and where the knee of that curve lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.metrics.latencies import latency
from harness.quantiles import Distribution
from harness.table import Ints, Table
from reports import series
from reports.buckets import Buckets

__all__ = ["Level", "knee", "levels", "windows"]

LEAST_FOR_KNEE = 4
_LEAST_REQUESTS = 20
_MOST_STRETCHES = 500
_MOST_LEVELS = 40
_METRICS = ("ttft", "tpot", "e2e")


@dataclass(frozen=True)
class Level:
    """A load of `rate` requests a second that were sent, `num` in all, of which `share_ok` were ok, and their latencies."""

    name: str
    rate: float
    num: int
    share_ok: float
    metrics: dict[str, Distribution]


def levels(table: Table) -> list[Level]:
    """The phases of a plan as levels, in order of their rate; none where phases change too often to be levels.

    The rate of a level: sends from its first to its last, less one for each stretch of it, over that time. A capacity search lets
    every probe settle first; those requests count for no level.
    """
    starts, codes = series.stretches(table)
    names = table.labels["phase"].names
    if not names or len(starts) > min(_MOST_STRETCHES, len(table) / 5):
        return []
    order = np.argsort(table["intended_at"], kind="stable")
    sent = table["sent_at"][order]
    group = np.repeat(codes, np.diff([*starts, len(order)]))
    there = ~np.isnan(sent) & (group >= 0)
    stretch = np.repeat(np.arange(len(starts)), np.diff([*starts, len(order)]))
    first, last = np.full(len(starts), np.inf), np.full(len(starts), -np.inf)
    np.minimum.at(first, stretch[there], sent[there])
    np.maximum.at(last, stretch[there], sent[there])
    seen = np.isfinite(first) & (codes >= 0)
    spans = np.bincount(codes[seen], (last - first)[seen], minlength=len(names))
    num_stretches = np.bincount(codes[seen], minlength=len(names))
    num = np.bincount(group[there], minlength=len(names))
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = (num - num_stretches) / spans
    counted = [not name.startswith("settle ") for name in names]
    kept = np.flatnonzero((num >= _LEAST_REQUESTS) & (spans > 0) & counted)
    row_codes = table.labels["phase"].codes.astype(np.int64)
    found = _levels(table, row_codes, list(names), rates.tolist())
    return sorted((found[code] for code in kept[:_MOST_LEVELS]), key=lambda level: level.rate)


def windows(table: Table, buckets: Buckets, from_s: float, until_s: float) -> list[Level]:
    """Windows of time as levels, in order of time: those that lie whole in the time that was to be loaded and is looked at."""
    intended, sent = table["intended_at"], table["sent_at"]
    rates = buckets.counts(sent) / buckets.width_s
    names = [f"{start:,.4g} s" for start in buckets.starts_s]
    found = _levels(table, buckets.index_of(intended), names, rates.tolist())
    inside = (buckets.starts_s >= from_s - 1e-9) & (buckets.starts_s + buckets.width_s <= until_s + 1e-9)
    return [level for level, there in zip(found, inside, strict=True) if there and level.num]


def _levels(table: Table, groups: Ints, names: list[str], rates: list[float]) -> list[Level]:
    ok, num_groups = table.is_outcome("ok"), len(names)
    sent = ~np.isnan(table["sent_at"]) & (groups >= 0)
    num = np.bincount(groups[sent], minlength=num_groups)
    num_ok = np.bincount(groups[sent & ok], minlength=num_groups)
    by_metric = {
        name: series.distributions_by(np.where(ok, latency(table, name), np.nan), groups, num_groups)
        for name in _METRICS
    }
    return [
        Level(
            names[group],
            rates[group],
            int(num[group]),
            float(num_ok[group] / max(1, num[group])),
            {name: found[group] for name, found in by_metric.items()},
        )
        for group in range(num_groups)
    ]


def knee(found: Sequence[Level], metric: str, percent: float) -> Level | None:
    """Where latency begins to grow faster than the rate; None for fewer than 4 levels, and where it nowhere does.

    Kneedle (Satopää et al., Finding a Kneedle in a Haystack, 2011) for an increasing convex curve, with sensitivity 1 and without
    smoothing: both axes scaled to 0 to 1, the level furthest below the diagonal, if it lies further below than the mean step
    between two rates.
    """
    known = [(level, value) for level in found if (value := level.metrics[metric].at(percent)) is not None]
    if len(known) < LEAST_FOR_KNEE:
        return None
    known.sort(key=lambda pair: pair[0].rate)
    rates, values = np.array([level.rate for level, _ in known]), np.array([value for _, value in known])
    if np.ptp(rates) <= 0 or np.ptp(values) <= 0:
        return None
    below = (rates - rates[0]) / np.ptp(rates) - (values - values.min()) / np.ptp(values)
    best = int(np.argmax(below))
    return known[best][0] if below[best] > 1 / (len(known) - 1) else None
