"""What one load process adds to the times it measures, and how many chunks a second it reads on one core.

    python -m benchmarks.load [CHUNKS_PER_SECOND …]

The first row is a usual load: 40 streams of 50 tokens a second. The others raise the number of streams of 100 tokens a
second. New streams begin all the time, so that first tokens are measured while the others are being read. Added TTFT is
arrival here minus write in the mock's ledger. Mock and load process have a core each, where there are two.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_line
from benchmarks.replay import replay
from harness.summary import RunData, Summary
from harness.text import percentile_cell

_PROFILE = """\
name: bench
kind: hosted
model: bench
summary: Known timings.
as_of: 2026-11-21
sources: [made up for the benchmark]
max_model_len: 100000
answer_length: {median_tokens: 100, sigma: 0}
latency: {floor_s: 0.2, tpot_median_s: PACE}
"""
_FLOOR_S = 0.2
_SECONDS = 12
_CHUNK_RATES = (5_000, 10_000, 20_000, 25_000)


@dataclass(frozen=True)
class Streams:
    """So many at once, each of so many tokens, one every `pace_s`. Short enough that p99 of the first tokens has samples."""

    num: int
    num_tokens: int
    pace_s: float

    @property
    def gap_s(self) -> float:
        """Between the beginnings of two."""
        return (_FLOOR_S + self.pace_s * self.num_tokens) / self.num


_USUAL = Streams(40, 50, 0.02)


def _streams(chunks_per_second: int) -> Streams:
    one = Streams(1, 100, 0.01)
    return Streams(round(chunks_per_second * one.gap_s / one.num_tokens), one.num_tokens, one.pace_s)


@dataclass(frozen=True)
class Measured:
    run: RunData
    summary: Summary

    def chunks_per_second(self) -> float:
        """In the middle half of the run, when every stream is running."""
        table = self.run.table
        first, last, chunks = table["first_token_at"], table["last_token_at"], table["num_chunks"]
        begin, end = _SECONDS * 0.4, _SECONDS * 0.9
        spans = (last.clip(begin, end) - first.clip(begin, end)) / (last - first)
        return float((spans * chunks).sum() / (end - begin))

    def microseconds_a_chunk(self) -> float:
        """CPU of the load process for each chunk, with everything else that it does."""
        busy = [sample.cpu for sample in self.run.samples if _SECONDS * 0.4 <= sample.at <= _SECONDS * 0.9]
        return sum(busy) / len(busy) / self.chunks_per_second() * 1e6


def measure(streams: Streams, folder: Path) -> Measured:
    """A run of such streams."""
    profile, own = folder / f"bench{streams.num}.yaml", folder / str(streams.num)
    own.mkdir()
    profile.write_text(_PROFILE.replace("PACE", str(streams.pace_s)))
    played = replay(
        own,
        str(profile),
        gap_s=streams.gap_s,
        num=int(_SECONDS / streams.gap_s),
        num_tokens=streams.num_tokens,
        words=("-u", str(4 * streams.num)),
        pinned=True,
    )
    return Measured(played.run, played.summary)


def main() -> None:
    rates = [int(word) for word in sys.argv[1:]] or list(_CHUNK_RATES)
    loads = [_USUAL, *map(_streams, rates)]
    table = Table(title=f"Load side, one process\n{machine_line()}", title_justify="left")
    for column in ("streams", "tok/s each", "chunks/s", "added TTFT p50 ms", "p99 ms", "read lag p99 ms",
                   "send lag p99 ms", "CPU", "us a chunk", "doubted", "mock late p99 ms", "state"):  # fmt: skip
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        for streams in loads:
            measured = measure(streams, Path(folder))
            instrument, truth = measured.summary.instrument, measured.summary.truth
            assert truth is not None
            assert instrument.read_lag is not None
            table.add_row(
                str(streams.num),
                f"{1 / streams.pace_s:.0f}",
                f"{measured.chunks_per_second():,.0f}",
                percentile_cell(truth.ttft_error, 50),
                percentile_cell(truth.ttft_error, 99),
                percentile_cell(instrument.read_lag, 99),
                percentile_cell(instrument.send_lag, 99),
                f"{instrument.cpu_max or 0:.0%}",
                f"{measured.microseconds_a_chunk():.0f}",
                f"{instrument.doubted_share or 0:.1%}",
                percentile_cell(truth.lateness, 99),
                instrument.state,
            )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
