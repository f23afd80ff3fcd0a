"""Permutation tests of a shift between two sides, with runs as the unit, and their exact intervals.

If the candidate's runs are shifted by `margin` against the baseline's and by nothing else, then every relabelling of the
data, once the margin is taken off, is as likely as the one that was seen. Pairs: the sign of each difference may be turned
round (Fisher's sign-flip test; it takes the differences as symmetric about the shift). Without pairs: any runs may be the
candidate's (Pitman's test).

For each relabelling there is one shift at which it does exactly as well as what was seen: its *limit*. Sorted once, the
limits answer everything. P values count the limits on one side of the margin; the ends of a confidence interval are two of
them, because a shift lies between neighbouring limits with equal probability (Hartigan, Using subsample values as typical
values, JASA 64, 1969). No search and no assumption about the shape of the noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from math import comb, floor

import numpy as np

from harness.streams import stream
from harness.table import Floats

__all__ = ["Design", "Shift", "paired_design", "shift_of", "unpaired_design"]

_MOST_EXACT = 20_000
_NUM_RANDOM = 10_000
_ROUNDING = 1e-12  # sums of the same numbers in another order are the same sum


@dataclass(frozen=True, eq=False)
class Design:
    """The relabellings of one arrangement of runs, as rows of weights.

    `statistics[g] @ data` is the mean shift under relabelling g; row 0 is what was seen. A shift of 1 adds `direction` to
    the data. `exact`: all relabellings are there, else as many drawn by lot.
    """

    statistics: Floats
    direction: Floats
    exact: bool

    @property
    def num(self) -> int:
        """Relabellings, the one that was seen among them; no p value is smaller than one over it."""
        return len(self.statistics)

    @property
    def limits(self) -> Floats:
        """Weights that make limits of data: statistic g of (data - limit * direction) equals that of row 0."""
        differences = self.statistics[0] - self.statistics[1:]
        return np.asarray(differences / (differences @ self.direction)[:, None])


@lru_cache(maxsize=8)
def paired_design(num_pairs: int) -> Design:
    """Sign flips; the data are the differences within the pairs."""
    exact = 2**num_pairs <= _MOST_EXACT
    if exact:
        signs = np.array(list(product((1.0, -1.0), repeat=num_pairs)))
    else:
        drawn = stream(num_pairs, "sign flips").integers(0, 2, (_NUM_RANDOM, num_pairs)) * 2.0 - 1
        signs = np.concatenate([np.ones((1, num_pairs)), drawn[(drawn < 0).any(axis=1)]])
    return Design(signs / num_pairs, np.ones(num_pairs), exact)


@lru_cache(maxsize=8)
def unpaired_design(num_candidates: int, num_baselines: int) -> Design:
    """Relabellings; the data are the candidates' values, then the baselines'."""
    num = num_candidates + num_baselines
    exact = comb(num, num_candidates) <= _MOST_EXACT
    chosen = (
        combinations(range(num), num_candidates) if exact else _drawn_by_lot(num_candidates, num_baselines)
    )  # the first combination is what was seen
    rows = []
    for members in chosen:
        row = np.full(num, -1 / num_baselines)
        row[list(members)] = 1 / num_candidates
        rows.append(row)
    return Design(np.array(rows), np.repeat([1.0, 0.0], [num_candidates, num_baselines]), exact)


def _drawn_by_lot(num_candidates: int, num_baselines: int) -> Iterator[tuple[int, ...]]:
    num, seen = num_candidates + num_baselines, tuple(range(num_candidates))
    yield seen
    draws = stream(num * 1000 + num_candidates, "relabellings")
    for _ in range(_NUM_RANDOM):
        members = tuple(sorted(draws.permutation(num)[:num_candidates].tolist()))
        if members != seen:
            yield members


@dataclass(frozen=True, eq=False)
class Shift:
    """The shift between two sides: its estimate, and the sorted limits of the `num` relabellings but the first."""

    estimate: float
    limits: Floats
    num: int

    def p_above(self, margin: float) -> float:
        """One-sided p value of "the shift is at most `margin`": small where it is proven to be more."""
        return (1 + self._num_up_to(margin)) / self.num

    def p_below(self, margin: float) -> float:
        """One-sided p value of "the shift is more than `margin`": small where it is proven not to be."""
        return (1 + len(self.limits) - self._num_up_to(margin)) / self.num

    def _num_up_to(self, margin: float) -> int:
        """Limits that do not pass the margin. One that is the margin itself does not: so much is allowed."""
        return int(np.searchsorted(self.limits, margin + _ROUNDING, side="right"))

    def interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """All shifts that neither one-sided test at half of 1 - confidence rejects; None: the runs are too few for any end."""
        rank = floor(round((1 - confidence) / 2 * self.num, 9))
        return None if rank == 0 else (float(self.limits[rank - 1]), float(self.limits[-rank]))


def shift_of(design: Design, data: Floats) -> Shift:
    """The shift in these data."""
    return Shift(float(design.statistics[0] @ data), np.sort(design.limits @ data), design.num)
