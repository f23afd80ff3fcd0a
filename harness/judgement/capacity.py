"""When what there is was nearly all in use: the cap on requests in flight, the blocks of a KV cache, a GPU's time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from harness.gpu.samples import GpuSample, ServerSample
from harness.judgement.windows import Finding
from harness.store import Manifest
from harness.table import Floats, Mask, Table

__all__ = ["Series", "in_flight", "over", "series_of", "since"]

Series = tuple[Floats, Floats]  # instants in order, and the share in use from each to the next


def in_flight(table: Table, manifest: Manifest) -> Series | None:
    """Requests in flight as a share of the cap, from one send or end to the next; None: there was no cap, or no request."""
    sent, done = table["sent_at"], table["done_at"]
    there = ~np.isnan(sent)
    if not manifest.max_in_flight or not there.any():
        return None
    ends = done[there & ~np.isnan(done)]  # one that was still open counts to the end
    instants = np.concatenate([sent[there], ends])
    steps = np.concatenate([np.ones(int(there.sum())), -np.ones(len(ends))])
    order = np.lexsort((steps, instants))  # an end at the same instant comes first
    return instants[order], np.cumsum(steps[order]) / manifest.max_in_flight


def series_of(samples: Sequence[GpuSample | ServerSample], what: str) -> dict[str, Series]:
    """By GPU its utilization, or by model the share of its KV blocks in use (`what`: gpu, kv_cache), where they were measured."""
    points: dict[str, dict[str | None, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        if what == "gpu" and isinstance(sample, GpuSample) and sample.utilization is not None:
            name = f"GPU {sample.gpu}" if sample.mig is None else f"GPU {sample.gpu}, MIG {sample.mig}"
            points[name][sample.source].append((sample.at, sample.utilization))
        if what == "kv_cache" and isinstance(sample, ServerSample) and sample.kv_cache_usage is not None:
            name = f"KV cache of {sample.model or 'the server'}"
            points[name][sample.source].append((sample.at, sample.kv_cache_usage))
    found: dict[str, Series] = {}
    for name, by_source in points.items():
        if what == "gpu":  # one GPU, watched twice: who says more
            found[name] = _series(max(by_source.values(), key=len))
        else:  # each page is another server
            found |= {
                name if len(by_source) == 1 else f"{name} at {source}": _series(each)
                for source, each in by_source.items()
            }
    return found


def _series(points: list[tuple[float, float]]) -> Series:
    points = sorted(points)
    return np.array([at for at, _ in points]), np.array([share for _, share in points])


def since(series: Series, begin: float) -> Series:
    """From this instant on; what was in use then counts from there."""
    instants, shares = series
    first = max(0, int(np.searchsorted(instants, begin, side="right")) - 1)
    return np.maximum(instants[first:], begin), shares[first:]


def over(series: Series, limit: float) -> Iterator[Finding]:
    """The stretches in which the share was at the limit or over it, each to the first instant at which it was not."""
    instants, shares = series
    high: Mask = np.concatenate([[False], shares >= limit - 1e-9, [False]])
    turns = np.flatnonzero(high[1:] != high[:-1])
    for first, last in zip(turns[0::2], turns[1::2], strict=True):
        until = instants[min(last, len(instants) - 1)]
        yield Finding(float(instants[first]), float(until), float(shares[first:last].max()))
