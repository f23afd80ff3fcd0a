"""An alert on latency: a percentile of a window is worse than so many times what it was in the first windows of the run.

Both are samples, so it must be worse than by chance, too: the first windows give the most that the percentile can have been
there, an order statistic above it, and more of the window's requests must be over that than chance explains, counted as the
independent ones that they are worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor

import numpy as np

from harness.judgement.binomial import incomplete_beta
from harness.judgement.dependence import effective_size
from harness.judgement.measuring import parse_measure
from harness.judgement.quantities import shown
from harness.judgement.slo_keys import LatencyKeys
from harness.judgement.watching import FALSE_ALARMS, CannotWatchError, Fired
from harness.judgement.windows import Finding, Windows, windows_of
from harness.quantiles import nearest_rank
from harness.store import Manifest
from harness.table import Floats, Mask, Table

__all__ = ["latency_degradation"]


def latency_degradation(keys: LatencyKeys, table: Table, manifest: Manifest) -> Fired:
    """Raises CannotWatchError when the run is too short to be compared with its beginning."""
    measure = parse_measure(keys.measure)
    assert measure.samples is not None
    percent = measure.percent
    assert percent is not None
    found = measure.samples(table)
    windows = windows_of(table["intended_at"][found.rows], manifest, keys.window)
    num_first, before, most, worth = _first_windows(keys, windows, found.values, percent)
    limit, rest = keys.factor * before, windows.rest(num_first)

    def findings() -> Iterator[Finding]:
        for window in rest:
            values = found.values[windows.samples(window, window + 1)]
            value = float(np.sort(values)[nearest_rank(percent, len(values))])
            if value > limit and _is_rare(values > most, worth, 1 - percent / 100, FALSE_ALARMS / 2 / len(rest)):
                yield windows.finding(window, value)

    first_s = windows.edges[num_first] - windows.edges[0]
    return Fired(
        findings(),
        limit,
        lambda each: (
            f"{measure.name} rose to {shown(each.worst, 's')}; it was {shown(before, 's')} in the first {first_s:g} s, "
            f"the limit is {keys.factor:g} times that"
        ),
    )


def _first_windows(
    keys: LatencyKeys, windows: Windows, values: Floats, percent: float
) -> tuple[int, float, float, float]:
    """How many windows are the first, what the percentile was in them, the most that it can be, and what part of an independent
    request one of theirs is worth."""
    for num_first in windows.beginnings(keys.baseline):
        found = _upper_bound(values[windows.samples(0, num_first)], percent, FALSE_ALARMS / 2)
        if found is not None:
            return num_first, *found
    raise CannotWatchError(
        f"{keys.measure}: too few requests, or too few windows of {keys.window:g} s, to compare the run with its beginning"
    )


def _upper_bound(values: Floats, percent: float, chance: float) -> tuple[float, float, float] | None:
    """The percentile of the sample, the order statistic that the true one exceeds with no more than this chance, and what part of
    an independent request each is worth. None: there is none, because the sample is too small, or too many requests of it failed."""
    if not len(values):
        return None
    ordered, p = np.sort(values), percent / 100
    here = float(ordered[nearest_rank(percent, len(values))])
    share = min(_worth(values > here), _worth(values > here / 2))
    worth = floor(share * len(values))
    if p**worth > chance:
        return None
    few, many = 0, worth  # so many below the true percentile are not rare enough, are rare enough
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if incomplete_beta(p, middle, worth - middle + 1) <= chance else (middle, many)
    bound = float(ordered[ceil(many / worth * len(values)) - 1])
    return None if np.isinf(bound) else (here, bound, share)


def _worth(over: Mask) -> float:
    return effective_size(over.astype(np.float64), np.ones(len(over))) / len(over)


def _is_rare(over: Mask, most_worth: float, share: float, chance: float) -> bool:
    """Whether so many over the limit have no more than this chance where no more than this share is expected. Within one window
    slow dependence cannot be seen: a request is worth no more than one of the first windows was (`most_worth`)."""
    num, num_over = len(over), float(over.sum())
    if num_over <= share * num:
        return False
    worth = min(most_worth, _worth(over))
    return incomplete_beta(share, num_over * worth, (num - num_over) * worth + 1) <= chance
