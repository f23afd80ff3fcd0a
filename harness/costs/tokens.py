"""The tokens of a run by kind, and the tariff under which each request was billed.

A bill is sums of tokens times rates. Tokens are whole numbers, so their sums are exact, however many requests there are; only the
few products at the end are rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.prices import FROM_REPLY_CACHE, Prices, Rates, is_batch
from harness.table import Floats, Labels, Mask, Table

__all__ = [
    "KINDS",
    "Codes",
    "Tariffs",
    "TokenSums",
    "TokensByKind",
    "from_reply_cache",
    "in_batch",
    "models_in",
    "usd_of",
]

# The names of lines, in the order of the fields of `Rates`.
KINDS = ("prompt", "cached prompt", "cache write", "cache write, 1 h", "output", "reasoning", "request")

Codes = npt.NDArray[np.int32]
TokenSums = npt.NDArray[np.float64]  # a row a kind, a column a tariff


class Tariffs:
    """All the rates that may hold in a run, numbered: one for each model, step of its price, and way to ask (alone or in a batch)."""

    def __init__(self, prices: Prices) -> None:
        self.models = tuple(prices.models)
        self._starts: dict[tuple[int, bool], tuple[int, list[int]]] = {}
        rates: list[Rates] = []
        for number, price in enumerate(prices.models.values()):
            for batch in (False, True):
                steps = price.steps_for(batch=batch)
                self._starts[number, batch] = len(rates), [start for start, _ in steps]
                rates += [each for _, each in steps]
        self.rates = np.array(rates, dtype=np.float64).reshape(-1, len(KINDS)).T

    def numbers(self, models: Codes, num_prompt: Floats, batch: Mask) -> Codes:
        """The number of the tariff of each row, by its model's number, the length of its prompt and whether it came in a batch; -1:
        there is none."""
        found = np.full(len(models), -1, dtype=np.int32)
        for (model, in_batch), (first, starts) in self._starts.items():
            rows = (models == model) & (batch == in_batch)
            found[rows] = first + np.searchsorted(starts, num_prompt[rows], side="left") - 1
        return found


def usd_of(sums: TokenSums, tariffs: Tariffs) -> Floats:
    """What summed tokens cost, USD by kind."""
    return np.asarray((sums * tariffs.rates).sum(axis=1) / 1e6)


@dataclass(frozen=True)
class TokensByKind:
    """Tokens a row, `counts[kind, row]`, no kind within another. `known`: the rows that a provider bills by tokens, and whose tokens
    are known: the rule of `harness.prices.Prices.cost`, by columns."""

    counts: npt.NDArray[np.float64]
    known: Mask

    @classmethod
    def of(cls, table: Table) -> TokensByKind:
        prompt, output = table["num_prompt_tokens"], _output(table)
        known = _billed(table) & ~np.isnan(prompt) & ~np.isnan(output)
        cached, written = (np.nan_to_num(table[f"num_{name}_tokens"]) for name in ("cached", "cache_write"))
        for_an_hour = np.minimum(np.nan_to_num(table["num_cache_write_1h_tokens"]), written)
        output = np.nan_to_num(output)
        thought = np.minimum(np.nan_to_num(table["num_reasoning_tokens"]), output)
        plain = np.maximum(0.0, np.nan_to_num(prompt) - cached - written)
        counts = plain, cached, written - for_an_hour, for_an_hour, output - thought, thought, np.ones(len(table))
        return cls(np.stack(counts), known)

    def sums(self, rows: Mask, tariffs: Codes, num_tariffs: int) -> TokenSums:
        """Tokens of these rows by kind and tariff; the rows must have one."""
        numbers = tariffs[rows]
        return np.stack([np.bincount(numbers, weights=kind[rows], minlength=num_tariffs) for kind in self.counts])

    def usd_by_row(self, rates: npt.NDArray[np.float64], tariffs: Codes) -> Floats:
        """What each row costs, USD; NaN where it has no tariff or its tokens are not known."""
        usd = sum((kind * rate[tariffs] for kind, rate in zip(self.counts, rates, strict=True)), np.zeros(len(tariffs)))
        return np.where(self.known & (tariffs >= 0), usd / 1e6, np.nan)


def _output(table: Table) -> Floats:
    """A vector has no tokens."""
    vectors = _has(table.labels["protocol"], lambda name: name.endswith("embeddings"))
    return np.where(vectors, 0.0, table["num_output_tokens"])


def _billed(table: Table) -> Mask:
    finished = table.labels["finish_reason"].codes >= 0
    answered = table.is_outcome("ok") | (table.is_outcome("failed") & finished)
    free = np.isnan(table["sent_at"]) | (table["status"] >= 300) | table.labels["error_kind"].is_("unreachable")
    return np.asarray(answered & ~free)


def from_reply_cache(table: Table) -> Mask:
    """The rows that the server's own response cache answered: nobody bills their tokens."""
    return _has(table.labels["cache_outcome"], lambda name: name in FROM_REPLY_CACHE)


def in_batch(table: Table) -> Mask:
    """The rows that came through a batch API."""
    return _has(table.labels["protocol"], is_batch)


def _has(labels: Labels, is_so: Callable[[str], bool]) -> Mask:
    """The rows whose label is so; one without a label is not."""
    return np.array([*map(is_so, labels.names), False], dtype=np.bool_)[labels.codes]


def models_in(labels: Labels, models: tuple[str, ...]) -> Codes:
    """The number in `models` of each row's label; -1 for one that is not among them, and where there is none."""
    numbers = {name: number for number, name in enumerate(models)}
    return np.array([*(numbers.get(name, -1) for name in labels.names), -1], dtype=np.int32)[labels.codes]
