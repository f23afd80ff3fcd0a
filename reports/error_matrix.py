"""The error matrix: what went wrong, and where in the run."""

from __future__ import annotations

import numpy as np

from harness.table import OUTCOMES, Labels, Table
from reports.numbers import MISSING, count
from reports.tables import TextTable

__all__ = ["error_matrix"]

_MOST_ROWS = 30
_MOST_COLUMNS = 10


def error_matrix(table: Table) -> TextTable | None:
    """Requests by outcome and kind of error in rows, and phases in columns, or models where the plan has one phase; None without
    an error, and where neither divides the run."""
    where = next(
        (found for name in ("phase", "model", "class_name") if (found := (name, table.labels[name]))[1].names[1:]), None
    )
    kinds = table.labels["error_kind"]
    wrong = kinds.codes >= 0
    if where is None or not wrong.any():
        return None
    name, places = where
    rows, row_of = np.unique(
        np.stack([table.outcome[wrong].astype(np.int64), kinds.codes[wrong]]), axis=1, return_inverse=True
    )
    shown = _shown(places)
    column_of = np.array([*(shown.get(code, len(shown)) for code in range(len(places.names))), len(shown)])
    cells = np.zeros((rows.shape[1], len(shown) + 1), dtype=np.int64)
    np.add.at(cells, (row_of.ravel(), column_of[places.codes[wrong]]), 1)
    columns = [places.names[code] for code in shown]
    head = ["outcome", "kind", "all", *columns]
    has_others = bool(cells[:, -1].any())
    by_size = np.argsort(-cells.sum(axis=1), kind="stable")
    lines = [
        [
            OUTCOMES[rows[0, row]],
            kinds.names[rows[1, row]],
            count(cells[row].sum()),
            *(count(num) if num else MISSING for num in cells[row, : None if has_others else -1].tolist()),
        ]
        for row in by_size.tolist()
    ]
    what = name.removesuffix("_name")
    head += ["others"] if has_others else []
    return TextTable(f"Error matrix: requests by kind of error and {what}", head, lines, num_text=2).at_most(_MOST_ROWS)


def _shown(places: Labels) -> dict[int, int]:
    """Column of each label that gets one: the most frequent, in order of appearance."""
    sizes = np.bincount(places.codes[places.codes >= 0], minlength=len(places.names))
    largest = sorted(np.argsort(-sizes, kind="stable")[:_MOST_COLUMNS].tolist())
    return {code: column for column, code in enumerate(largest)}
