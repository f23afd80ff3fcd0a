"""What the tools see of a run: the columns that their definitions speak of, and which answers they take for good."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

import numpy as np

from harness.dictionary.spread import Spread, linear, nearest
from harness.metrics.latencies import latency
from harness.table import Floats, Mask, Table

__all__ = ["MS", "Ours", "S", "Sight", "both", "rate", "span_s", "total"]

# A unit and how many of it are a second.
MS = ("ms", 1e3)
S = ("s", 1.0)


class Sight:
    """A run as another tool would have seen it; instants in seconds from the run's origin, NaN is missing.

    `sent`: the requests that were sent and ended by themselves. Those that a client went away from as planned, that the end of the
    run broke off or that we kept back have no counterpart in these tools. `prompt`: tokens as the server counted them, else as planned.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.sent_at, self.done_at = table["sent_at"], table["done_at"]
        self.first_at, self.last_at = table["first_token_at"], table["last_token_at"]
        self.opened_at = _else(table["connected_at"], self.sent_at)  # a kept connection was open at the send
        self.output = table["num_output_tokens"]
        self.prompt = _else(table["num_prompt_tokens"], table["planned_prompt_tokens"])
        self.ok = table.is_outcome("ok")
        self.sent: Mask = ~np.isnan(self.sent_at)
        for outcome in ("left", "incomplete", "refused"):
            self.sent &= ~table.is_outcome(outcome)
        self._gaps: dict[bytes, Spread] = {}

    @cached_property
    def ours(self) -> Ours:
        return Ours(self)

    @property
    def span_s(self) -> float:
        """From the first send to the last end, whatever came of the requests."""
        return span_s(self.sent_at[self.sent], self.done_at[self.sent])

    def answered(self, also: Collection[str] = ()) -> Mask:
        """The answers that are ok, and those that we count as broken for one of these reasons (`harness.outcome`)."""
        labels = self.table.labels["error_kind"]
        broken = np.zeros_like(self.ok)
        for kind in also:
            broken |= labels.is_(kind)
        return np.asarray(self.ok | (broken & self.sent))

    def gaps(self, rows: Mask) -> Spread:
        """The gaps between content chunks, each once. The tools mostly ask for the same rows, and this is the dearest fold."""
        num_gaps = np.diff(self.table.gap_start)
        has = rows & (num_gaps > 0)
        key = has.tobytes()
        if key not in self._gaps:
            self._gaps[key] = linear(self.table.gaps[np.repeat(has, num_gaps)])
        return self._gaps[key]


class Ours:
    """Our numbers of the same things, as in the summary: of ok requests, latencies in seconds, TTFT and E2E from the intended time,
    ITL by token; rates a second from their first send to their last end."""

    def __init__(self, sight: Sight) -> None:
        table, ok = sight.table, sight.ok
        self.num, self.num_failed = int(ok.sum()), int((sight.sent & ~ok).sum())
        self.ttft, self.tpot, self.e2e = (nearest(latency(table, name)[ok]) for name in ("ttft", "tpot", "e2e"))
        self.itl = nearest(_by_token(table, ok))
        seconds = span_s(sight.sent_at[ok], sight.done_at[ok])
        prompt, output = total(table["num_prompt_tokens"][ok]), total(sight.output[ok])
        self.request_rate, self.output_rate = rate(self.num, seconds), rate(output, seconds)
        self.total_rate = rate(both(prompt, output), seconds)


def span_s(begins: Floats, ends: Floats) -> float:
    """From the first begin to the last end; 0 where there is none."""
    begins, ends = begins[~np.isnan(begins)], ends[~np.isnan(ends)]
    return float(ends.max() - begins.min()) if len(begins) and len(ends) else 0.0


def total(counts: Floats) -> float | None:
    """The sum of what is known; None when nothing is."""
    return None if np.isnan(counts).all() else float(np.nansum(counts))


def rate(num: float | None, seconds: float) -> float | None:
    """A second; None where there is no number or no time."""
    return None if num is None or seconds <= 0 else num / seconds


def both(prompt: float | None, output: float | None) -> float | None:
    """Their sum; None where one of them is not known."""
    return None if prompt is None or output is None else prompt + output


def _by_token(table: Table, rows: Mask) -> Floats:
    """The gap between two chunks over the tokens of the later one, once for each of them."""
    chosen = np.repeat(rows, np.diff(table.gap_start))
    gaps, tokens = table.gaps[chosen], table.gap_tokens[chosen]
    return gaps if (tokens == 1).all() else np.repeat(gaps / tokens, tokens)


def _else(column: Floats, other: Floats) -> Floats:
    return np.asarray(np.where(np.isnan(column), other, column))
