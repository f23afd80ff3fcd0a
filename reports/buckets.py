"""Equal pieces of a run's time, to draw counts and percentiles over it. Seconds from the run's origin."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import numpy as np

from harness.summary import RunData
from harness.table import Floats, Ints

__all__ = ["Buckets", "known", "time_buckets"]


_MOST = 60
_WIDTHS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_DAY_S = 86400.0


@dataclass(frozen=True)
class Buckets:
    """`num` buckets of `width_s` from `start_s` on. What lies on an edge belongs to the later bucket."""

    start_s: float
    width_s: float
    num: int

    @property
    def starts_s(self) -> Floats:
        return self.start_s + self.width_s * np.arange(self.num, dtype=np.float64)

    @property
    def end_s(self) -> float:
        return self.start_s + self.width_s * self.num

    def index_of(self, instants: Floats) -> Ints:
        """The bucket of each instant; none may be NaN."""
        # 0.3 / 0.1 is a little less than 3: what lies on an edge belongs to the bucket that begins there.
        position = (instants - self.start_s) / self.width_s + 1e-9
        np.clip(position, 0, self.num - 1, out=position)  # what is not negative is cut down to its floor below
        return position.astype(np.int64)

    def counts(self, instants: Floats, weights: Floats | None = None) -> Floats:
        """How many instants lie in each bucket (or the sum of their weights); NaN instants are left out."""
        there = ~np.isnan(instants)
        weights = None if weights is None else weights[there]
        return np.bincount(self.index_of(instants[there]), weights, minlength=self.num).astype(np.float64)


def known(values: Floats) -> Floats:
    """The values that are not missing."""
    return values[~np.isnan(values)]


def time_buckets(run: RunData, at_least_s: float = 0.0) -> Buckets:
    """At most 60 buckets of a round width, from the run's origin to the end of its last request."""
    table = run.table
    seen = known(np.concatenate([table[name] for name in ("intended_at", "sent_at", "done_at")]))
    begin = min(0.0, float(seen.min(initial=0.0)))
    end = max(run.manifest.loaded_s, float(seen.max(initial=0.0)))
    span = end - begin
    fits = (width for width in _WIDTHS_S if width >= at_least_s and span / width <= _MOST - 1)
    width = next(fits, None) or _DAY_S * max(1, ceil(span / _DAY_S / (_MOST - 1)))
    start = floor(begin / width) * width
    return Buckets(start, width, max(1, ceil(round((end - start) / width, 9))))
