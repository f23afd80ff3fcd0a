"""Goodput: how many requests were not only answered but answered well enough for their class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np

from harness.metrics.latencies import latency
from harness.objectives import ROUNDING_S, Objective
from harness.table import Floats, Mask, Table

__all__ = ["Goodput", "good_rows", "goodput", "with_objective"]


class Goodput(msgspec.Struct, kw_only=True):
    """`num_good` of `num` requests were ok and met every bound of their class's objective; `rate` is good ones a second of the
    plan. Whatever failed, was throttled or kept back stays among `num`; clients that left as planned do not, nor do whole answers
    where nothing is bounded that can be seen of them."""

    num: int
    num_good: int
    share: float | None
    rate: float


def goodput(table: Table, objectives: Mapping[str, Objective], duration_s: float) -> Goodput | None:
    """Over all requests whose class has an objective (`""` holds for those without one of their own); None when none has."""
    counted, good = good_rows(table, objectives)
    if not counted.any():
        return None
    num, num_good = int(counted.sum()), int(good.sum())
    return Goodput(num=num, num_good=num_good, share=num_good / num, rate=num_good / duration_s)


def with_objective(table: Table, objectives: Mapping[str, Objective]) -> Mask:
    """The rows whose class has an objective, those of clients that left included."""
    found = np.zeros(len(table), dtype=bool)
    for rows, _ in _by_objective(table, objectives):
        found |= rows
    return found


def good_rows(table: Table, objectives: Mapping[str, Objective]) -> tuple[Mask, Mask]:
    """The rows that goodput counts, and those of them that are good."""
    counted, good = np.zeros(len(table), dtype=bool), np.zeros(len(table), dtype=bool)
    for rows, objective in _by_objective(table, objectives):
        judged = rows & ~table.is_outcome("left")
        if not objective.judges(stream=False):
            judged &= table.stream
        counted |= judged
        good |= judged & _good(table, objective)
    return counted, good


def _by_objective(table: Table, objectives: Mapping[str, Objective]) -> Iterator[tuple[Mask, Objective]]:
    """The rows of each class, with the objective that holds for it."""
    classes = table.labels["class_name"]
    for name in (*classes.names, None):
        objective = objectives.get(name or "") or objectives.get("")
        if objective is not None:
            yield classes.is_(name), objective


def _good(table: Table, objective: Objective) -> Mask:
    """The rule of `harness.objectives.record_is_good`, by columns."""
    ok = table.is_outcome("ok") & ~np.isnan(table["done_at"])
    for name, bound in objective.bounds.items():
        ok &= _within(latency(table, name), bound)
    return np.asarray(ok)


def _within(values: Floats, bound: float) -> Mask:
    """A value that is missing breaks no bound."""
    return np.asarray(np.isnan(values) | (values <= bound + ROUNDING_S))
