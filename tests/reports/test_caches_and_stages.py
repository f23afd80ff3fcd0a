"""Who counts as a hit, and where the time goes that no record tells apart."""

from __future__ import annotations

from pathlib import Path

from harness.summary import load_run, summarize
from harness.table import tabulate
from reports.caches import cache_sides, hit_and_miss
from reports.page import render
from tests.harness.builders import record, write_run
from tests.reports.pages import parse


def test_only_answers_are_hits_or_misses() -> None:
    outcomes = ("hit", "miss", "stale", None, "hit")
    records = [record(n, cache_outcome=outcomes[n % 5], num_cached_tokens=n % 2 * 7) for n in range(20)]
    for number in (1, 4, 6):  # a miss, a hit, a miss
        records[number].outcome = "failed"
    found = hit_and_miss(tabulate(records))
    assert found is not None
    hit, miss = found
    assert [n for n in range(20) if hit[n]] == [0, 2, 5, 7, 9, 10, 12, 14, 15, 17, 19]
    assert [n for n in range(20) if miss[n]] == [11, 16]
    sides = cache_sides(tabulate(records))
    assert {name: int(rows.sum()) for name, rows in sides["reply cache"].items()} == {"hit": 7, "stale": 4, "miss": 2}
    # Of the prompt's cache only what a model answered: 3, 8, 11, 13, 16, 18; odd ones read from it.
    assert {name: int(rows.sum()) for name, rows in sides["prompt cache"].items()} == {
        "tokens read from it": 3,
        "nothing read": 3,
    }


def test_a_cache_that_did_the_same_for_all_divides_nothing() -> None:
    assert hit_and_miss(tabulate(record(n, cache_outcome="hit") for n in range(5))) is None
    assert hit_and_miss(tabulate(record(n) for n in range(5))) is None
    assert cache_sides(tabulate(record(n, cache_outcome="hit", num_cached_tokens=0) for n in range(5))) == {}


def test_what_a_simulation_does_not_tell_apart_is_a_stage_of_its_own(tmp_path: Path) -> None:
    # First token after 100 ms, last after 190, end after 200; nobody saw a connection or a byte.
    records = [record(n, connected_at=None, first_byte_at=None) for n in range(30)]
    run = load_run(write_run(tmp_path / "run", [records], clock="virtual"))
    head, *rows = parse(render(run, summarize(run))).tables()["Stages of ok requests, ms"]
    mean, share = head.index("mean, all"), head.index("share of E2E")
    assert {row[0]: (row[mean], row[share]) for row in rows} == {
        "sent late by us": ("0.00", "0.0 %"),
        "first to last token": ("90.0", "45.0 %"),
        "last token to the end": ("10.0", "5.0 %"),
        "not told apart": ("100", "50.0 %"),
    }
