"""Requests that are known to have cost nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.costs.tokens import from_reply_cache
from harness.table import Mask, Table

__all__ = ["was_sent", "with_free_requests"]


def with_free_requests(table: Table, *, has_prices: bool = True) -> Table:
    """A simulation writes no cost where no call was made. What the server refused or its response cache answered is known to be free,
    as soon as anything is known. A deployment without prices pays nothing for its calls: that is not known, not free."""
    usd = table["cost_usd"]
    if np.isnan(usd).all():
        return table
    if not has_prices and not np.nansum(usd):
        return replace(table, columns={**table.columns, "cost_usd": np.full(len(table), np.nan)})
    free = was_sent(table) & (from_reply_cache(table) | table.is_outcome("throttled") | (table["status"] >= 300))
    return replace(table, columns={**table.columns, "cost_usd": np.where(np.isnan(usd) & free, 0.0, usd)})


def was_sent(table: Table) -> Mask:
    """Whether a request went out at all."""
    return np.asarray(~np.isnan(table["sent_at"]) & ~table.is_outcome("refused"))
