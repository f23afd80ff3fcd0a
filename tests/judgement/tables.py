"""Tables made of a few columns, for runs of many thousands of requests: records one by one would take a minute."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.table import Floats, Mask, Table
from tests.metrics.columns import table_of


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
    columns = {
        "intended_at": intended_at,
        "sent_at": intended_at,
        "first_token_at": np.where(there, first, np.nan),
        "last_token_at": np.where(there, first + 0.09, np.nan),
        "done_at": np.where(there, first + 0.1, intended_at),
        "num_output_tokens": np.full(num, 10.0),
    }
    if usd is not None:
        columns["cost_usd"] = usd
    outcomes = np.where(there, "ok", "failed").tolist()
    return table_of(columns, None if classes is None else {"class_name": classes}, outcomes)
