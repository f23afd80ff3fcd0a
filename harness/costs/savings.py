"""What caches, routes and batches have saved: each against the same requests without it, all else as it was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.costs.bill import Saving
from harness.costs.tokens import Codes, Tariffs, TokensByKind, TokenSums, usd_of
from harness.table import Mask, Table

__all__ = ["Billed", "savings"]

_READ, _WRITTEN, _WRITTEN_1H = 1, 2, 3  # kinds of tokens that a prompt cache had to do with


@dataclass(frozen=True)
class Billed:
    """A run as a provider bills it: the tariff of each row, the number of the model that was asked for and of the one that is paid, who
    came in a batch; which rows are billed by tokens, and which would be, had the reply cache not answered them."""

    book: Tariffs
    tokens: TokensByKind
    tariffs: Codes
    asked: Codes
    paid: Codes
    batch: Mask
    rows: Mask
    hits: Mask

    @property
    def num_tariffs(self) -> int:
        return int(self.book.rates.shape[1])

    def sums(self, rows: Mask, tariffs: Codes | None = None) -> TokenSums:
        return self.tokens.sums(rows, self.tariffs if tariffs is None else tariffs, self.num_tariffs)

    def usd(self, sums: TokenSums) -> float:
        return float(usd_of(sums, self.book).sum())


def savings(table: Table, billed: Billed) -> list[Saving]:
    """Those that make a difference."""
    found = (_provider_cache(billed), _reply_cache(table, billed), _route(table, billed), _batch(table, billed))
    return [each for each in found if each is not None and each.usd != 0]


def _provider_cache(billed: Billed) -> Saving | None:
    counts = billed.tokens.counts
    rows = billed.rows & (counts[_READ] + counts[_WRITTEN] + counts[_WRITTEN_1H] > 0)
    if not rows.any():
        return None
    sums = billed.sums(rows)
    plain = sums.copy()
    plain[0] += plain[_READ] + plain[_WRITTEN] + plain[_WRITTEN_1H]
    plain[_READ : _WRITTEN_1H + 1] = 0
    without, paid = billed.usd(plain), billed.usd(sums)
    num_read, num_written = int(sums[_READ].sum()), int(sums[_WRITTEN].sum() + sums[_WRITTEN_1H].sum())
    why = (
        f"{num_read:,} of {int(plain[0].sum()):,} prompt tokens were read from the provider's cache and {num_written:,} written to it; "
        "compared with the full price of input for all of them"
    )
    if without < paid:
        why += ": writing cost more than reading saved"
    return Saving(kind="provider cache", usd=without - paid, without_usd=without, num_requests=int(rows.sum()), why=why)


def _reply_cache(table: Table, billed: Billed) -> Saving | None:
    """A stale answer saves nothing: it was given because no model answered."""
    rows = billed.hits & table.labels["cache_outcome"].is_("hit") & ~np.isnan(table["cost_usd"])
    if not rows.any():
        return None
    without, paid = billed.usd(billed.sums(rows)), float(table["cost_usd"][rows].sum())
    return Saving(
        kind="reply cache",
        usd=without - paid,
        without_usd=without,
        num_requests=int(rows.sum()),
        why="requests that the server's response cache answered, compared with the price of their own tokens",
    )


def _route(table: Table, billed: Billed) -> Saving | None:
    rows = billed.rows & (billed.asked >= 0) & (billed.asked != billed.paid)
    if not rows.any():
        return None
    asked = billed.book.numbers(billed.asked, table["num_prompt_tokens"], billed.batch)
    without, paid = billed.usd(billed.sums(rows, asked)), billed.usd(billed.sums(rows))
    why = "another model answered than was asked for; compared with the same tokens at the price of the one that was"
    if without < paid:
        why += ", which is cheaper"
    return Saving(kind="route", usd=without - paid, without_usd=without, num_requests=int(rows.sum()), why=why)


def _batch(table: Table, billed: Billed) -> Saving | None:
    rows = billed.rows & billed.batch
    if not rows.any():
        return None
    alone = billed.book.numbers(billed.paid, table["num_prompt_tokens"], np.zeros(len(table), dtype=np.bool_))
    without, paid = billed.usd(billed.sums(rows, alone)), billed.usd(billed.sums(rows))
    return Saving(
        kind="batch",
        usd=without - paid,
        without_usd=without,
        num_requests=int(rows.sum()),
        why="asked through a batch API, compared with the price of the same tokens asked alone",
    )
