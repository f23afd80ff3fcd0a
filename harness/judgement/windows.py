"""A run in windows of equal length, and the stretches of time that those of them make which lie side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np

from harness.store import Manifest
from harness.table import Floats, Ints

__all__ = ["Finding", "Windows", "joined", "windows_of"]


@dataclass(frozen=True)
class Finding:
    """From when to when something was over its limit, and how far at its worst."""

    from_s: float
    to_s: float
    worst: float


@dataclass(frozen=True)
class Windows:
    """Samples in order of time: those of window i are `order[start[i]:start[i + 1]]`, and it ends at `edges[i + 1]`."""

    edges: Floats
    order: Ints
    start: Ints

    def __len__(self) -> int:
        return len(self.edges) - 1

    def samples(self, first: int, last: int) -> Ints:
        """Those of the windows from the first to before the last."""
        return self.order[self.start[first] : self.start[last]]

    def beginnings(self, seconds: float | None) -> range:
        """How many windows may be the beginning with which the others are compared: those of the first seconds, or else two, or
        more where two are not enough; at least one is left."""
        if seconds is None:
            return range(2, len(self))
        given = int(np.searchsorted(self.edges, self.edges[0] + seconds + 1e-9, side="right")) - 1
        return range(given, min(given + 1, len(self)))

    def rest(self, num_first: int) -> list[int]:
        """The windows after the first that have samples."""
        return [window for window in range(num_first, len(self)) if self.start[window] < self.start[window + 1]]

    def finding(self, window: int, worst: float) -> Finding:
        return Finding(float(self.edges[window]), float(self.edges[window + 1]), worst)


def windows_of(at: Floats, manifest: Manifest, window_s: float) -> Windows:
    """Samples by their instants, from the end of the warm-up to the end of the load; what comes later is in no window."""
    begin = manifest.warmup_s
    num = max(1, ceil((manifest.loaded_s - begin) / window_s - 1e-9))
    edges: Floats = np.asarray(begin + window_s * np.arange(num + 1), dtype=np.float64)
    edges[-1] = max(min(edges[-1], manifest.loaded_s), edges[-2])
    order = np.argsort(at, kind="stable")
    start = np.searchsorted(at[order], edges)
    start[-1] = np.searchsorted(at[order], edges[-1], side="right")
    return Windows(edges, order, start)


def joined(findings: Iterable[Finding], apart_s: float) -> Iterator[Finding]:
    """One for those that follow one another with no more than so many seconds between; they come in order of time."""
    last: Finding | None = None
    for found in findings:
        if last is not None and found.from_s - last.to_s <= apart_s:
            last = Finding(last.from_s, max(last.to_s, found.to_s), max(last.worst, found.worst))
            continue
        if last is not None:
            yield last
        last = found
    if last is not None:
        yield last
