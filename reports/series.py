"""What the figures draw and the tables beside them say: a run's records, folded over time.

Pure. Seconds from the run's origin; NaN is missing. Percentiles come from harness.quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.quantiles import Distribution, distribution
from harness.summary import RunData
from harness.table import OUTCOMES, Floats, Table
from reports.buckets import Buckets, known

__all__ = [
    "Phase",
    "distributions_over_time",
    "instrument_over_time",
    "load_over_time",
    "outcomes_over_time",
    "phases",
    "tokens_over_time",
    "ttft_points",
]

_MOST_PHASES = 24
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
            "in_flight": _most_in_flight(table, buckets),
        }
    )


def _most_in_flight(table: Table, buckets: Buckets) -> Floats:
    sent = table["sent_at"]
    begins, ends = known(sent), known(table["done_at"][~np.isnan(sent)])
    steps = pd.DataFrame({"at": np.concatenate([begins, ends]), "step": np.repeat([1, -1], [len(begins), len(ends)])})
    steps = steps.sort_values(["at", "step"])  # an end at the same instant comes first
    still_open = steps["step"].cumsum().groupby(buckets.index_of(steps["at"].to_numpy()))
    every = range(buckets.num)
    most = still_open.max().reindex(every).fillna(0).to_numpy(dtype=np.float64)
    carried = still_open.last().reindex(every).ffill().shift().fillna(0).to_numpy(dtype=np.float64)
    busiest: Floats = np.fmax(most, carried)
    return busiest


def distributions_over_time(values: Floats, instants: Floats, buckets: Buckets) -> list[Distribution]:
    """The distribution of `values` in each bucket, placed by `instants`."""
    there = ~np.isnan(values) & ~np.isnan(instants)
    frame = pd.DataFrame({"bucket": buckets.index_of(instants[there]), "value": values[there]}).sort_values("bucket")
    edges = np.searchsorted(frame["bucket"].to_numpy(), np.arange(1, buckets.num))
    return [distribution(part) for part in np.split(frame["value"].to_numpy(dtype=np.float64), edges)]


def ttft_points(table: Table) -> tuple[Floats, Floats]:
    """Intended time and TTFT of ok requests in order of time; of very many an even choice and the slowest."""
    intended, first = table["intended_at"], table["first_token_at"]
    rows = np.flatnonzero(table.is_outcome("ok") & ~np.isnan(first))
    rows = rows[np.argsort(intended[rows], kind="stable")]
    at, ttft = intended[rows], (first - intended)[rows]
    if len(at) <= _MOST_POINTS:
        return at, ttft
    evenly = np.linspace(0, len(at) - 1, _MOST_POINTS).round().astype(np.int64)
    kept = np.union1d(evenly, np.argsort(ttft)[-_NUM_SLOWEST:])
    return at[kept], ttft[kept]


def tokens_over_time(table: Table, buckets: Buckets) -> pd.DataFrame:
    """Per bucket: output tokens per second of ok requests, spread over the arrivals of their chunks.

    Each request's tokens are dealt out in proportion to the tokens of its chunks; the first chunk, whose
    tokens the table does not hold, counts as one. An answer that was no stream counts at its end.
    """
    ok = table.is_outcome("ok")
    first = np.where(np.isnan(table["first_token_at"]), table["done_at"], table["first_token_at"])
    num_gaps = np.diff(table.gap_start)
    row_of_gap = np.repeat(np.arange(len(table)), num_gaps)
    # Seconds since the first content: the running sum of all gaps less its value where the request begins.
    running = np.concatenate([[0.0], np.cumsum(table.gaps)])
    later = first[row_of_gap] + running[1:] - np.repeat(running[table.gap_start[:-1]], num_gaps)
    chunk_tokens = 1 + np.bincount(row_of_gap, table.gap_tokens, minlength=len(table))
    scale = np.nan_to_num(table["num_output_tokens"]) * ok / chunk_tokens
    instants = np.concatenate([first, later])
    weights = np.concatenate([scale, scale[row_of_gap] * table.gap_tokens])
    per_second = buckets.counts(instants, weights) / buckets.width_s
    return pd.DataFrame({"tokens": per_second})


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


def phases(table: Table) -> list[Phase]:
    """The phases in order; none when requests have no phase or change it too often to be drawn."""
    intended = table["intended_at"]
    frame = pd.DataFrame({"at": intended, "name": pd.Series(table.labels["phase"].texts(), dtype=object)}).sort_values(
        "at", kind="stable"
    )
    names = frame["name"].fillna("")
    if not len(frame) or not names.any():
        return []
    starts = frame[names != names.shift()]
    if len(starts) > _MOST_PHASES:
        return []
    ends = [*starts["at"].iloc[1:], float(intended.max())]
    named = zip(starts["name"], starts["at"], ends, strict=True)
    return [Phase(str(name), float(begin), float(end)) for name, begin, end in named if name]
