"""A run holds on to nothing of a request that is over: its record is on disk, its numbers are in the totals."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from harness.live.stats import LiveStats
from harness.records import RecordWriter
from tests.harness.builders import HEADER, record

_NUM = 4_000


def test_more_requests_take_no_more_memory(tmp_path: Path) -> None:
    """A million of them: `python -m benchmarks.records`."""
    writer, live = RecordWriter(tmp_path / "records-1.jsonl", HEADER), LiveStats(objectives={})

    def some(begin: int) -> int:
        for number in range(begin, begin + _NUM):
            # Values of the whole range that a run meets, so that no histogram grows later.
            ended = record(
                number, class_name="chat", read_lag_s=1e-4, first_token_at=number * 0.5 + 0.1 + number % 97 / 97
            )
            writer.opened()
            writer.write(ended)
            live.add(ended)
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        early = some(0)
        late = max(some(_NUM), some(2 * _NUM))
    finally:
        tracemalloc.stop()
    writer.close(1.0)
    assert late - early < 20_000  # five bytes a request would be 40,000
