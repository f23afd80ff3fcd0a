"""Goodput: how many requests were not only answered but answered well enough for their class."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from harness.objectives import ROUNDING_S, Objective
from harness.table import Floats, Table

__all__ = ["Goodput", "goodput"]


class Goodput(msgspec.Struct, kw_only=True):
    """`num_good` of `num` requests were ok and met every bound of their class's objective; `rate` is good ones a second of the
    plan. Whatever failed, was throttled or kept back stays among `num`; clients that left as planned do not."""

    num: int
    num_good: int
    share: float | None
    rate: float


def goodput(table: Table, objectives: Mapping[str, Objective], duration_s: float) -> Goodput | None:
    """Over all requests whose class has an objective (`""` holds for those without one of their own); None when none has."""
    has_objective = np.zeros(len(table), dtype=bool)
    good = np.zeros(len(table), dtype=bool)
    classes = np.array([name or "" for name in table.class_name], dtype=object)
    for name in set(classes.tolist()):
        objective = objectives.get(name) or objectives.get("")
        if objective is not None:
            rows = classes == name
            has_objective |= rows
            good |= rows & _good(table, objective)
    counted = has_objective & ~table.is_outcome("left")
    if not counted.any():
        return None
    num, num_good = int(counted.sum()), int(good.sum())
    return Goodput(num=num, num_good=num_good, share=num_good / num, rate=num_good / duration_s)


def _good(table: Table, objective: Objective) -> npt.NDArray[np.bool_]:
    """The rule of `harness.objectives.record_is_good`, by columns."""
    intended, first, last = table["intended_at"], table["first_token_at"], table["last_token_at"]
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot = np.where(table["num_output_tokens"] > 1, (last - first) / (table["num_output_tokens"] - 1), np.nan)
    ok = table.is_outcome("ok") & ~np.isnan(table["done_at"])
    ok &= _within(first - intended, objective.ttft_s) & _within(tpot, objective.tpot_s)
    return np.asarray(ok & _within(table["done_at"] - intended, objective.e2e_s))


def _within(values: Floats, bound: float | None) -> npt.NDArray[np.bool_]:
    """A value that is missing breaks no bound."""
    if bound is None:
        return np.ones(len(values), dtype=bool)
    return np.asarray(np.isnan(values) | (values <= bound + ROUNDING_S))
