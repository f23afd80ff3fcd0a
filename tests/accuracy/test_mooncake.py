"""The prefix cache against published prompts: token hit rates at three sizes, and against an LRU of another make."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import pytest

from tests.accuracy.fidelity import prefix_rows
from tests.accuracy.prefixes import token_hit_rate


def test_token_hit_rates(shared_data: Path) -> None:
    rows = prefix_rows(shared_data)
    assert len(rows) == 3
    for row in rows:
        assert row.ours == pytest.approx(row.theirs, abs=0.001), row


@pytest.mark.parametrize("num_blocks", [2_000, 10_000, 30_000])
def test_hit_rate_equals_that_of_a_plain_lru(shared_data: Path, num_blocks: int) -> None:
    lru: OrderedDict[int, None] = OrderedDict()
    num_hit = num_asked = 0
    for line in (shared_data / "mooncake" / "conversation_trace.jsonl").read_text().splitlines():
        row = json.loads(line)
        hashes = row["hash_ids"]
        hits = next((number for number, content in enumerate(hashes) if content not in lru), len(hashes))
        num_hit += min(512 * hits, row["input_length"])
        num_asked += row["input_length"]
        for content in reversed(hashes):  # the head is used last, so it stays longest
            lru[content] = None
            lru.move_to_end(content)
        while len(lru) > num_blocks:
            lru.popitem(last=False)
    assert token_hit_rate(shared_data, num_blocks) == pytest.approx(num_hit / num_asked, abs=0.0005)
