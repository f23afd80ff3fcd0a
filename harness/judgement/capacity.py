"""When what there is was nearly all in use: the cap on requests in flight, the blocks of a KV cache, a GPU's time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.gpu.grouping import by_gpu, by_model, column
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
    found: dict[str, Series] = {}
    if what == "gpu":
        gpus = by_gpu([sample for sample in samples if isinstance(sample, GpuSample)])
        for (gpu, mig), of_gpu in gpus.items():
            found[f"GPU {gpu}, MIG {mig}" if mig else f"GPU {gpu}"] = column(of_gpu, "utilization")
    else:
        servers = by_model([sample for sample in samples if isinstance(sample, ServerSample)])
        for name, of_server in servers.items():
            named = name if of_server[0].model else f"the server{name.removeprefix('*')}"
            found[f"KV cache of {named}"] = column(of_server, "kv_cache_usage")
    return {name: series for name, series in found.items() if len(series[0])}


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
