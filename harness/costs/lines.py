"""The bill by tenant, feature, model and day: lines that add up to the whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.costs.bill import Line
from harness.table import Labels, Table

__all__ = ["MOST", "by_day", "by_label", "by_model"]

MOST = 20
_DAY_S = 86_400
_NAMELESS = "(none)"


def by_label(table: Table, name: str) -> list[Line]:
    """Largest first; what has no label stands in a line of its own. Empty where no request has one."""
    labels = table.labels[name]
    return _largest(table, labels.codes, labels.names) if labels.names else []


def by_model(table: Table) -> list[Line]:
    """By the model that answered, and where that is not said, by the one that was asked for."""
    served, asked = table.labels["model_served"], table.labels["model"]
    names = tuple(dict.fromkeys((*served.names, *asked.names)))
    codes = np.where(served.codes >= 0, _renumbered(served, names), _renumbered(asked, names))
    return _largest(table, codes, names) if names else []


def by_day(table: Table, started_wall: float) -> list[Line]:
    """By the day, UTC, for which a request was intended, in order."""
    days = np.floor((started_wall + table["intended_at"]) / _DAY_S).astype(np.int64)
    there, codes = np.unique(days, return_inverse=True)
    names = [datetime.fromtimestamp(day * _DAY_S, UTC).date().isoformat() for day in there.tolist()]
    return [line for line in _lines(table, codes, names) if line.num_requests]


def _renumbered(labels: Labels, names: Sequence[str]) -> npt.NDArray[np.int32]:
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([*(numbers[name] for name in labels.names), -1], dtype=np.int32)[labels.codes]


def _largest(table: Table, codes: npt.NDArray[np.integer[Any]], names: Sequence[str]) -> list[Line]:
    shifted = np.where(codes < 0, len(names), codes)
    lines = [line for line in _lines(table, shifted, [*names, _NAMELESS]) if line.num_requests]
    lines.sort(key=lambda line: -line.usd)
    first, rest = lines[:MOST], lines[MOST:]
    return first if not rest else [*first, _together(rest)]


def _lines(table: Table, codes: npt.NDArray[np.integer[Any]], names: Sequence[str]) -> list[Line]:
    known = ~np.isnan(table["cost_usd"])
    tokens = np.nan_to_num(table["num_prompt_tokens"]) + np.nan_to_num(table["num_output_tokens"])
    there, num = codes[known], len(names)
    usd = np.bincount(there, weights=table["cost_usd"][known], minlength=num)
    requests = np.bincount(there, minlength=num)
    counts = np.bincount(there, weights=tokens[known], minlength=num)
    return [
        Line(name=name, usd=float(usd[row]), num_requests=int(requests[row]), num_tokens=int(counts[row]))
        for row, name in enumerate(names)
    ]


def _together(lines: Sequence[Line]) -> Line:
    return Line(
        name=f"({len(lines)} more)",
        usd=sum(line.usd for line in lines),
        num_requests=sum(line.num_requests or 0 for line in lines),
        num_tokens=sum(line.num_tokens or 0 for line in lines),
    )
