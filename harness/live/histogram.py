"""A histogram of durations whose percentiles are never wrong by more than half a percent, however many there are.

Buckets grow by 1 % each, so that a bucket's middle is within 0.5 % of everything in it (DDSketch: Masson, Rim, Lee, VLDB
2019). Histograms of several processes are added; an earlier one is taken from a later one to get what lies between.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from math import ceil, inf, log
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt

from harness.quantiles import PERCENTILES, Distribution, samples_needed

__all__ = ["LOWEST_S", "RELATIVE_ERROR", "Histogram"]

LOWEST_S = 1e-5  # what is shorter counts as 0
_HIGHEST_S = 1e4  # what is longer is only known to be longer
_GROWTH = 1.01
RELATIVE_ERROR = (_GROWTH - 1) / (_GROWTH + 1)

_LOG_GROWTH = log(_GROWTH)
_NUM_BETWEEN = ceil(log(_HIGHEST_S / LOWEST_S) / _LOG_GROWTH)
_NUM_BUCKETS = _NUM_BETWEEN + 2  # one below, one above
_BATCH = 1024  # counted together: 50 µs now and then instead of 3 µs for each

_MIDDLES = LOWEST_S * _GROWTH ** np.arange(_NUM_BETWEEN) * (2 * _GROWTH / (1 + _GROWTH))
_VALUES = np.concatenate([[0.0], _MIDDLES, [_HIGHEST_S]])


class _Wire(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What travels: only buckets that hold something, each as its distance from the one before."""

    minimum: float
    maximum: float
    total_ns: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    steps: list[Annotated[int, msgspec.Meta(ge=0, lt=_NUM_BUCKETS)]]
    counts: list[Annotated[int, msgspec.Meta(ge=1, lt=2**52)]]


class Histogram:
    """Durations in seconds, counted. Memory is constant; adding costs about 0.2 µs."""

    __slots__ = ("_batch", "_counts", "_maximum", "_minimum", "_total_ns", "_weights")

    def __init__(self) -> None:
        self._counts: npt.NDArray[np.int64] = np.zeros(_NUM_BUCKETS, dtype=np.int64)
        self._total_ns = 0  # whole, so that the order of additions cannot matter
        self._minimum, self._maximum = inf, -inf
        self._batch: list[float] = []
        self._weights: list[int] = []

    # -- filling -------------------------------------------------------------------------------------

    def add(self, seconds: float) -> None:
        """Count one duration. What is not finite raises ValueError, at the latest when the histogram is read."""
        self._batch.append(seconds)
        self._weights.append(1)
        if len(self._batch) >= _BATCH:
            self._count()

    def add_all(self, seconds: Sequence[float], weights: Sequence[int] | None = None) -> None:
        """Count many durations; each `weights` times, as a gap before k tokens stands for k."""
        self._batch.extend(seconds)
        self._weights.extend(repeat(1, len(seconds)) if weights is None else weights)
        if len(self._batch) >= _BATCH:
            self._count()

    def merge(self, other: Histogram) -> None:
        """Add everything that another one has counted."""
        self._count()
        other._count()
        self._counts += other._counts
        self._total_ns += other._total_ns
        self._minimum = min(self._minimum, other._minimum)
        self._maximum = max(self._maximum, other._maximum)

    def copy(self) -> Histogram:
        """One that stays as it is while this one goes on."""
        copied = Histogram()
        copied.merge(self)
        return copied

    def since(self, earlier: Histogram) -> Histogram:
        """What was counted after `earlier`, a copy of this one, was made. Its extremes are those of its buckets.

        Raises ValueError when `earlier` has counted something that this one has not.
        """
        self._count()
        earlier._count()
        left = Histogram()
        left._counts = self._counts - earlier._counts
        if (left._counts < 0).any():
            raise ValueError("a later histogram holds everything of an earlier one; this one does not")
        left._total_ns = self._total_ns - earlier._total_ns
        held = np.flatnonzero(left._counts)
        if len(held):
            left._minimum = min(max(self._minimum, float(_VALUES[held[0]])), self._maximum)
            left._maximum = max(min(self._maximum, float(_VALUES[held[-1]])), left._minimum)
        return left

    # -- reading -------------------------------------------------------------------------------------

    @property
    def num(self) -> int:
        """How many were counted."""
        self._count()
        return int(self._counts.sum())

    @property
    def mean(self) -> float | None:
        """To the nanosecond, not to the bucket; None when there is none."""
        return self._total_ns / 1e9 / self.num if self.num else None

    @property
    def maximum(self) -> float | None:
        """Exactly the longest; of a difference only its bucket. None when there is none."""
        return self._maximum if self.num else None

    def percentile(self, percent: float) -> float | None:
        """Nearest rank, within RELATIVE_ERROR of the observed value (below LOWEST_S: within LOWEST_S); None when there is
        none. Whether the samples support it is another question: `distribution` asks it."""
        cumulative = self._cumulative()
        return self._at_rank(percent, cumulative) if cumulative[-1] else None

    def distribution(self) -> Distribution:
        """The same as `quantiles.distribution` says of the samples; a percentile that they do not support is None."""
        cumulative = self._cumulative()
        num = int(cumulative[-1])
        percentiles = {
            f"{percent:g}": self._at_rank(percent, cumulative) if num >= samples_needed(percent) else None
            for percent in PERCENTILES
        }
        return Distribution(num, self.mean, self._minimum if num else None, self.maximum, percentiles)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    # -- travelling ----------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """A few hundred bytes, at most about two for each of the buckets that hold something."""
        self._count()
        held = np.flatnonzero(self._counts)
        total = self._total_ns.to_bytes(16, "big", signed=True)
        steps = np.diff(held, prepend=0).tolist()
        return msgspec.msgpack.encode(
            _Wire(self._minimum, self._maximum, total, steps, self._counts[held].tolist()),
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Histogram:
        """The histogram that `to_bytes` wrote. Raises ValueError for anything else."""
        try:
            wire = msgspec.msgpack.decode(data, type=_Wire)
        except msgspec.DecodeError as error:
            raise ValueError(f"this is no histogram: {error}") from None
        held = np.cumsum(np.array(wire.steps, dtype=np.int64))
        counts = np.array(wire.counts, dtype=np.int64)
        if len(held) != len(counts) or 0 in wire.steps[1:] or (len(held) and held[-1] >= _NUM_BUCKETS):
            raise ValueError("this is no histogram: its buckets are not those of one")
        histogram = cls()
        histogram._counts[held] = counts
        histogram._total_ns = int.from_bytes(wire.total_ns, "big", signed=True)
        histogram._minimum, histogram._maximum = wire.minimum, wire.maximum
        return histogram

    # -- inside --------------------------------------------------------------------------------------

    def _cumulative(self) -> npt.NDArray[np.int64]:
        self._count()
        return np.cumsum(self._counts)

    def _at_rank(self, percent: float, cumulative: npt.NDArray[np.int64]) -> float:
        rank = max(1, ceil(round(percent / 100 * int(cumulative[-1]), 9)))
        bucket = int(np.searchsorted(cumulative, rank))
        return min(max(float(_VALUES[bucket]), self._minimum), self._maximum)

    def _count(self) -> None:
        """Put what was added since into its buckets."""
        if not self._batch:
            return
        values, weights = np.array(self._batch), np.array(self._weights, dtype=np.int64)
        self._batch, self._weights = [], []
        if not np.isfinite(values).all():
            raise ValueError("a duration that is missing or infinite cannot be counted")
        values, weights = values[weights > 0], weights[weights > 0]
        if not len(values):
            return
        buckets = np.zeros(len(values), dtype=np.int64)
        long = values >= LOWEST_S
        buckets[long] = np.floor(np.log(values[long] / LOWEST_S) / _LOG_GROWTH).astype(np.int64) + 1
        np.add.at(self._counts, np.minimum(buckets, _NUM_BUCKETS - 1), weights)
        self._total_ns += int(np.rint(values * 1e9).astype(np.int64) @ weights)
        self._minimum = min(self._minimum, float(values.min()))
        self._maximum = max(self._maximum, float(values.max()))
