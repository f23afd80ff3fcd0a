"""Samples by what they are of, and the figures of one field: where several sources speak of one thing, one of them is believed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.gpu.samples import GpuSample, ServerSample
from harness.table import Floats

__all__ = ["by_gpu", "by_model", "column"]


def by_gpu(samples: Sequence[GpuSample]) -> dict[tuple[str, str], list[GpuSample]]:
    """In order of the GPUs, each with its instances after it."""
    found: dict[tuple[str, str], list[GpuSample]] = defaultdict(list)
    for sample in samples:
        found[sample.gpu, sample.mig or ""].append(sample)
    order = {gpu: number for number, gpu in enumerate(dict.fromkeys(sample.gpu for sample in samples))}
    return dict(sorted(found.items(), key=lambda entry: (order[entry[0][0]], entry[0][1])))


def by_model(samples: Sequence[ServerSample]) -> dict[str, list[ServerSample]]:
    """By model; where two servers serve one, each by its page as well."""
    pages = defaultdict(set)
    for sample in samples:
        pages[sample.model].add(sample.source)
    found: dict[str, list[ServerSample]] = defaultdict(list)
    for sample in samples:
        name = sample.model or "*"
        found[name if len(pages[sample.model]) == 1 else f"{name} at {sample.source}"].append(sample)
    return found


def column(samples: Sequence[GpuSample | ServerSample], field: str) -> tuple[Floats, Floats]:
    """Instants and values of one field. Where two sources give it, those of the one that gives more of it: their clocks,
    averages and counters differ, and going to and fro between them would be neither."""
    by_source: dict[str | None, list[tuple[float, float]]] = defaultdict(list)
    for sample in samples:
        value: Any = getattr(sample, field)
        if value is not None:
            by_source[sample.source].append((sample.at, value))
    best = max(by_source.values(), key=len, default=[])
    pairs = np.array(best, dtype=np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
