"""What the figures draw and the tables beside them say: a run's records, folded over time.

Pure. Seconds from the run's origin; NaN is missing. Percentiles come from harness.quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from harness.metrics.latencies import latency
from harness.quantiles import Distribution, distribution
from harness.summary import RunData
from harness.table import OUTCOMES, Counts, Floats, Ints, Mask, Table
from reports.buckets import Buckets, known

__all__ = [
    "Phase",
    "distributions_by",
    "distributions_over_time",
    "instrument_over_time",
    "latency_points",
    "load_over_time",
    "most_in_flight",
    "outcomes_over_time",
    "phases",
    "stretches",
    "tokens_over_time",
]

_MOST_PHASES = 24
_GAPS_IN_BLOCK = 2_000_000
_MOST_POINTS = 1500
_NUM_SLOWEST = 100


@dataclass(frozen=True)
class Phase:
    """A stretch of the plan whose requests carry the same phase."""

    name: str
    start_s: float
    end_s: float


def load_over_time(table: Table, buckets: Buckets) -> pd.DataFrame:
    """Per bucket: requests `asked` for and `sent` per second, and the most `in_flight` at one instant."""
    return pd.DataFrame(
        {
            "asked": buckets.counts(table["intended_at"]) / buckets.width_s,
            "sent": buckets.counts(table["sent_at"]) / buckets.width_s,
            "in_flight": most_in_flight(table, np.ones(len(table), dtype=np.bool_), buckets),
        }
    )


def distributions_over_time(values: Floats, instants: Floats, buckets: Buckets) -> list[Distribution]:
    """The distribution of `values` in each bucket, placed by `instants`."""
    there = ~np.isnan(instants)
    return distributions_by(values[there], buckets.index_of(instants[there]), buckets.num)


def distributions_by(values: Floats, groups: Ints, num_groups: int) -> list[Distribution]:
    """The distribution of the values of each group; NaN is no value, and a group below 0 none."""
    there = ~np.isnan(values) & (groups >= 0)
    values, groups = values[there], groups[there]
    if num_groups < np.iinfo(np.int16).max:
        groups = groups.astype(np.int16)  # sorted by digits, ten times as fast
    order = np.argsort(groups, kind="stable")
    edges = np.searchsorted(groups[order], np.arange(1, num_groups))
    return [distribution(part) for part in np.split(values[order], edges)]


def most_in_flight(table: Table, rows: Mask, buckets: Buckets) -> Floats:
    """Per bucket the most requests of these rows that were open at one instant: sent, and not yet over."""
    sent = table["sent_at"][rows]
    ends = table["done_at"][rows]
    begins, ends = known(sent), known(ends[~np.isnan(sent)])
    at = np.concatenate([begins, ends])
    steps = np.repeat([1, -1], [len(begins), len(ends)])
    order = np.lexsort((steps, at))  # an end at the same instant comes first
    still_open = np.cumsum(steps[order])
    index = buckets.index_of(at[order])
    most = np.zeros(buckets.num)
    firsts = np.flatnonzero(np.diff(index, prepend=-1))  # of each bucket, as instants are in order
    if len(firsts):
        most[index[firsts]] = np.maximum.reduceat(still_open, firsts)
    # What is open when a bucket begins: the count after the last event before it.
    last = np.searchsorted(index, np.arange(buckets.num)) - 1
    carried = np.where(last >= 0, still_open[last] if len(still_open) else 0, 0)
    busiest: Floats = np.fmax(most, carried)
    return busiest


def latency_points(table: Table, name: str) -> tuple[Floats, Floats]:
    """Intended time and a latency of ok requests in order of time; of very many an even choice and the slowest."""
    intended, values = table["intended_at"], latency(table, name)
    rows = np.flatnonzero(table.is_outcome("ok") & ~np.isnan(values))
    rows = rows[np.argsort(intended[rows], kind="stable")]
    at, found = intended[rows], values[rows]
    if len(at) <= _MOST_POINTS:
        return at, found
    evenly = np.linspace(0, len(at) - 1, _MOST_POINTS).round().astype(np.int64)
    kept = np.union1d(evenly, np.argpartition(found, -_NUM_SLOWEST)[-_NUM_SLOWEST:])
    return at[kept], found[kept]


def tokens_over_time(table: Table, buckets: Buckets) -> pd.DataFrame:
    """Per bucket: output tokens per second of ok requests, spread over the arrivals of their chunks.

    Each request's tokens are dealt out in proportion to the tokens of its chunks; the first chunk, whose
    tokens the table does not hold, counts as one. An answer that was no stream counts at its end.
    """
    ok = table.is_outcome("ok")
    first = np.where(np.isnan(table["first_token_at"]), table["done_at"], table["first_token_at"])
    tokens = np.nan_to_num(table["num_output_tokens"]) * ok
    found = np.zeros(buckets.num)
    # A block of requests at a time: twenty million gaps at once would take gigabytes.
    blocks = np.unique(np.searchsorted(table.gap_start, np.arange(_GAPS_IN_BLOCK, len(table.gaps), _GAPS_IN_BLOCK)))
    for begin, end in pairwise([0, *blocks.tolist(), len(table)]):
        starts = table.gap_start[begin : end + 1]
        found += _tokens_of(
            first[begin:end],
            tokens[begin:end],
            np.diff(starts),
            table.gaps[starts[0] : starts[-1]],
            table.gap_tokens[starts[0] : starts[-1]],
            buckets,
        )
    return pd.DataFrame({"tokens": found / buckets.width_s})


def _tokens_of(
    first: Floats, tokens: Floats, num_gaps: Ints, gaps: Floats, gap_tokens: Counts, buckets: Buckets
) -> Floats:
    row_of_gap = np.repeat(np.arange(len(first)), num_gaps)
    # Seconds since the first content: the running sum of all gaps less its value where the request begins.
    running = np.concatenate([[0.0], np.cumsum(gaps)])
    begins = np.cumsum(num_gaps) - num_gaps
    later = first[row_of_gap] + running[1:] - running[begins][row_of_gap]
    chunk_tokens = 1 + np.bincount(row_of_gap, gap_tokens, minlength=len(first))
    scale = tokens / chunk_tokens
    return buckets.counts(first, scale) + buckets.counts(later, scale[row_of_gap] * gap_tokens)


def outcomes_over_time(table: Table, buckets: Buckets) -> pd.DataFrame:
    """Per bucket of intended time: how many requests ended in each outcome."""
    intended = table["intended_at"]
    columns = {name: buckets.counts(intended[table.is_outcome(name)]) for name in OUTCOMES}
    return pd.DataFrame(columns)


def instrument_over_time(run: RunData, buckets: Buckets) -> pd.DataFrame:
    """Per bucket the worst of any process: CPU (1.0 is a core), loop lag, send lag; NaN without a sample, and in virtual
    time, where nobody measured how late a request was."""
    inside = [sample for sample in run.samples if buckets.start_s <= sample.at < buckets.end_s]
    at = np.array([sample.at for sample in inside], dtype=np.float64)
    seen = pd.DataFrame(
        {
            "cpu": np.array([sample.cpu for sample in inside], dtype=np.float64),
            "loop_lag_s": np.array([sample.loop_lag_s for sample in inside], dtype=np.float64),
        }
    )
    sent = run.table["sent_at"]
    there = ~np.isnan(sent) & (run.manifest.clock != "virtual")
    lag = pd.Series((sent - run.table["intended_at"])[there])
    every = range(buckets.num)
    frame = seen.groupby(buckets.index_of(at)).max().reindex(every)
    frame["send_lag_s"] = lag.groupby(buckets.index_of(sent[there])).max().reindex(every)
    return frame


def stretches(table: Table) -> tuple[Ints, Ints]:
    """Where, in the order of intended times, a stretch of requests of one phase begins; and the code of its phase, -1 for none.

    The order is that of `np.argsort(intended, kind="stable")`.
    """
    codes = table.labels["phase"].codes[np.argsort(table["intended_at"], kind="stable")]
    starts = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1)) if len(codes) else np.zeros(0, dtype=np.int64)
    return starts.astype(np.int64), codes[starts].astype(np.int64)


def phases(table: Table) -> list[Phase]:
    """The phases in order; none when requests have no phase or change it too often to be drawn."""
    starts, codes = stretches(table)
    names = table.labels["phase"].names
    if not names or len(starts) > _MOST_PHASES:
        return []
    at = np.sort(table["intended_at"])
    ends = [*at[starts[1:]], at[-1]]
    named = zip(codes.tolist(), at[starts].tolist(), ends, strict=True)
    return [Phase(names[code], begin, float(end)) for code, begin, end in named if code >= 0 and names[code]]
