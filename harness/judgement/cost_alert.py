"""An alert on cost: an answered request of a window costs more than so many times what it cost in the first windows of the run,
and more than by chance: the intervals of both lie apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np

from harness.judgement.dependence import variance_of_mean
from harness.judgement.means import student_quantile
from harness.judgement.quantities import shown
from harness.judgement.slo_keys import CostSpikeKeys
from harness.judgement.watching import FALSE_ALARMS, CannotWatchError, Fired
from harness.judgement.windows import Finding, windows_of
from harness.store import Manifest
from harness.table import Floats, Table

__all__ = ["cost_spike"]

_FEWEST = 10  # answered requests of a window; fewer say nothing about a mean


def cost_spike(keys: CostSpikeKeys, table: Table, manifest: Manifest) -> Fired:
    """What requests cost that were not answered is in it. Raises CannotWatchError when the cost is not known, or the run too short."""
    known = np.flatnonzero(~np.isnan(table["cost_usd"]))
    if not len(known):
        raise CannotWatchError("the cost is not known: give --prices, or a simulated deployment prices")
    usd, answered = table["cost_usd"][known], table.is_outcome("ok")[known].astype(np.float64)
    windows = windows_of(table["intended_at"][known], manifest, keys.window)

    for num_first in windows.beginnings(keys.baseline):
        rows = windows.samples(0, num_first)
        before = _Cost.of(usd[rows], answered[rows])
        if before is not None:
            break
    else:
        raise CannotWatchError(
            f"too few answers, or too few windows of {keys.window:g} s, to compare the run with its beginning"
        )
    limit, rest = keys.factor * before.usd, windows.rest(num_first)

    def findings() -> Iterator[Finding]:
        for window in rest:
            rows = windows.samples(window, window + 1)
            there = _Cost.of(usd[rows], answered[rows])
            if there is None or there.usd <= limit:
                continue
            least, most = (
                there.usd - there.reach(FALSE_ALARMS / 2 / len(rest)),
                before.usd + before.reach(FALSE_ALARMS / 2),
            )
            if least > most:
                yield windows.finding(window, there.usd)

    first_s = windows.edges[num_first] - windows.edges[0]
    return Fired(
        findings(),
        limit,
        lambda each: (
            f"an answered request cost {shown(each.worst, 'usd')}; it was {shown(before.usd, 'usd')} in the first {first_s:g} s, "
            f"the limit is {keys.factor:g} times that"
        ),
    )


@dataclass(frozen=True)
class _Cost:
    """USD an answered request, its standard error, and of how many requests."""

    usd: float
    error: float
    num: int

    @classmethod
    def of(cls, usd: Floats, answered: Floats) -> _Cost | None:
        """None: too few were answered."""
        num_answered = float(answered.sum())
        if num_answered < _FEWEST:
            return None
        return cls(float(usd.sum()) / num_answered, sqrt(variance_of_mean(usd, answered)), len(usd))

    def reach(self, chance: float) -> float:
        """How far off it is on one side with no more than this chance."""
        return student_quantile(chance, self.num - 1) * self.error
