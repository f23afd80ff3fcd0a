"""One measure over many nights: its levels, and the change points between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, isfinite

import numpy as np

from harness.history.changes import LEVEL, Change, change_points
from harness.history.nights import Night
from harness.history.wording import is_relative, tone
from harness.judgement.measures import Better, Measured, Unit
from harness.table import Floats

__all__ = ["ENDLESS", "ChangePoint", "Series", "endless_over", "series_over"]

ENDLESS = " is +∞"
_LEAST_CHANGE = 0.001  # of the value, or a tenth of a percentage point: less is nothing that anybody acts on


@dataclass(frozen=True)
class ChangePoint:
    """From night `at` on, a measure has another level. `change` is a part of the level before (None: that was 0), of a share the
    difference.

    `p` is that of this point in its own series (`harness.history.changes`). `alarm`: it became worse, and that stands when all series
    of a trend are taken together.
    """

    at: int
    before: float
    after: float
    change: float | None
    tone: str
    p: float
    first_run: str
    started_wall: float
    commit: str | None
    commit_before: str | None
    alarm: bool = False


@dataclass(frozen=True)
class Series:
    """One measure over the nights of a group; None: not measured in that night, or +∞ in one of its runs, as in `num_infinite` nights,
    which are in no level. `levels` has one value a night."""

    name: str
    unit: Unit
    better: Better
    values: tuple[float | None, ...]
    levels: tuple[float | None, ...]
    changes: tuple[ChangePoint, ...]
    num_infinite: int = 0


@dataclass(frozen=True)
class _Scale:
    """Relative measures are judged by their logarithms, because a tenth more is as much at every level."""

    values: Floats
    logarithmic: bool

    def means(self, found: Sequence[Change]) -> list[float]:
        """The level between each two change points, on the measure's own scale."""
        cuts = [0, *(change.at for change in found), len(self.values)]
        means = [float(self.values[begin:end].mean()) for begin, end in pairwise(cuts)]
        return [exp(mean) for mean in means] if self.logarithmic else means


def series_over(name: str, nights: Sequence[Night]) -> Series | None:
    """The series of a measure, each night by the mean of its runs; None where no night has a value."""
    kept = _kept(name, nights)
    infinite = [any(each.infinite for each in night) for night in kept]
    values = [None if inf else _mean([each.value for each in night]) for night, inf in zip(kept, infinite, strict=True)]
    like = next((night[0] for night, value in zip(kept, values, strict=True) if value is not None), None)
    return None if like is None else _series(name, like.unit, like.better, values, nights, sum(infinite))


def endless_over(name: str, nights: Sequence[Night]) -> Series | None:
    """In which nights a measure was +∞, as 1 and 0: when that began is a change like any other. None where it never was."""
    kept = _kept(name, nights)
    values = [float(any(each.infinite for each in night)) if night else None for night in kept]
    return _series(f"{name}{ENDLESS}", "share", "lower", values, nights) if any(values) else None


def _kept(name: str, nights: Sequence[Night]) -> list[list[Measured]]:
    return [[each for run in night.runs if (each := run.facts.measures.get(name))] for night in nights]


def _series(
    name: str,
    unit: Unit,
    better: Better,
    values: Sequence[float | None],
    nights: Sequence[Night],
    num_infinite: int = 0,
) -> Series:
    there = [night for night, value in enumerate(values) if value is not None]
    known = np.array([values[night] for night in there], dtype=np.float64)
    logarithmic = is_relative(unit) and bool((known > 0).all())
    scale = _Scale(np.log(known) if logarithmic else known, logarithmic)
    found = _worth_saying(change_points(scale.values, level=LEVEL), scale, unit)
    means = scale.means(found)
    levels: list[float | None] = [None] * len(values)
    for position, night in enumerate(there):
        levels[night] = means[sum(change.at <= position for change in found)]
    changes = []
    for change, (before, after) in zip(found, pairwise(means), strict=True):
        first, last = nights[there[change.at]], nights[there[change.at - 1]]
        changes.append(
            ChangePoint(
                at=there[change.at],
                before=before,
                after=after,
                change=_size(before, after, unit),
                tone=tone(after - before, better),
                p=change.p,
                first_run=first.runs[0].name,
                started_wall=first.started_wall,
                commit=first.commit,
                commit_before=last.commit,
            )
        )
    return Series(name, unit, better, tuple(values), tuple(levels), tuple(changes), num_infinite)


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None and isfinite(value)]
    return sum(there) / len(there) if there else None


def _worth_saying(found: list[Change], scale: _Scale, unit: Unit) -> list[Change]:
    """Without those that change next to nothing, the smallest first: the levels beside them become one."""
    while found:
        means = scale.means(found)
        sizes = [_size(before, after, unit) for before, after in pairwise(means)]
        known = [abs(size) if size is not None else np.inf for size in sizes]
        least = int(np.argmin(known))
        if known[least] >= _LEAST_CHANGE:
            break
        found = found[:least] + found[least + 1 :]
    return found


def _size(before: float, after: float, unit: Unit) -> float | None:
    if not is_relative(unit):
        return after - before
    return after / before - 1 if before else None
