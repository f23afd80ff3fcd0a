"""Tables made of a few columns, for runs of many thousands of requests: records one by one would take a minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from harness.records import RequestRecord
from harness.table import OUTCOMES, Floats, Labels, Mask, Table, tabulate

_EMPTY = tabulate([])


def table(
    intended_at: Floats,
    *,
    ttft: Floats | None = None,
    ok: Mask | None = None,
    usd: Floats | None = None,
    classes: Sequence[str] | None = None,
) -> Table:
    """Requests that were sent when they were intended; those that are not ok failed at once."""
    num = len(intended_at)
    there = np.ones(num, dtype=bool) if ok is None else ok
    first = intended_at + (np.full(num, 0.1) if ttft is None else ttft)
    columns = {name: np.full(num, np.nan) for name in _EMPTY.columns}
    columns |= {
        "intended_at": intended_at,
        "sent_at": intended_at,
        "first_token_at": np.where(there, first, np.nan),
        "last_token_at": np.where(there, first + 0.09, np.nan),
        "done_at": np.where(there, first + 0.1, intended_at),
        "num_output_tokens": np.full(num, 10.0),
    }
    if usd is not None:
        columns["cost_usd"] = usd
    names = tuple(dict.fromkeys(classes or ()))
    labels = {name: Labels(np.full(num, -1, np.int32), ()) for name in _EMPTY.labels}
    if classes is not None:
        labels["class_name"] = Labels(np.array([names.index(each) for each in classes], dtype=np.int32), names)
    return Table(
        columns=columns,
        labels=labels,
        outcome=np.where(there, OUTCOMES.index("ok"), OUTCOMES.index("failed")).astype(np.int8),
        stream=np.ones(num, dtype=bool),
        counted_by_server=np.ones(num, dtype=bool),
        gaps=np.empty(0),
        gap_tokens=np.empty(0, dtype=np.int32),
        gap_start=np.zeros(num + 1, dtype=np.int64),
        errors=Counter(),
        error_examples={},
        token_sources=Counter(),
        request_ids=[str(number) for number in range(num)],
    )


def records_table(records: Sequence[RequestRecord]) -> Table:
    return tabulate(records)
