"""What a stack did, as text."""

from __future__ import annotations

from typing import Any

import pytest

from harness.stack_text import stack_text


def _document(**changes: Any) -> dict[str, Any]:
    state: dict[str, Any] = {
        "calls": 70,
        "cost_usd": 12.5,
        "stages": [
            {
                "name": "exact_cache",
                "does": "up to 10 answers",
                "state": {"hit_rate": 0.3, "entries": 0, "counts": {"hits": 30, "misses": 70, "evicted": 0}},
            },
            {
                "name": "route",
                "does": "",
                "state": {"shares": {"small": 0.75, "large": 0.25}, "open": True, "of": None},
            },
        ],
        "models": [
            {"name": "large", "pool": {"desired": 3, "counts": {"started": 2, "lost": 0}}},
            {"name": "small", "pool": None},
        ],
    }
    clients: dict[str, Any] = {
        "num": 100,
        "num_calls": 70,
        "num_wrong_hits": 4,
        "num_unlabelled_hits": 0,
        "answered_by": {"small": 50, "exact_cache": 30, "large": 20},
        "cache_outcomes": {"hit": 28, "stale": 2, "miss": 70},
        "num_waited": {"exact_cache": 70},
        "waited_s": {"exact_cache": 0.14},
        "saved_usd": {"exact_cache": 0.004321},
    }
    return {"state": state | changes.get("state", {}), "clients": clients | changes.get("clients", {})}


def _line(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"  {name} ")).split(maxsplit=1)[1]


def test_a_stage_says_what_it_counted_what_it_took_and_what_it_saved() -> None:
    text = stack_text(_document())
    expected = "hits 30, misses 70, hit rate 0.3; held up 70 for 0.002 s on average; saved $0.00432"
    assert _line(text, "exact_cache") == expected
    assert _line(text, "route") == "shares (small 0.75, large 0.25), open yes"


def test_the_totals_follow() -> None:
    text = stack_text(_document())
    assert "small 50 (50.0%), exact_cache 30 (30.0%), large 20 (20.0%)" in text
    assert _line(text, "caches") == "30.0% of 100 hit; 4 of 30 hits wrong"
    assert _line(text, "calls") == "70 to models for 100 requests"
    assert _line(text, "cost") == "$12.50, $125.00 per 1,000 requests; saved $0.00432"
    assert "replicas of large" in text
    assert "started 2, desired 3" in text
    assert "replicas of small" not in text


def test_replicas_that_are_paid_by_the_hour_are_part_of_the_cost() -> None:
    pool = {"desired": 3, "cost_usd": 7.5, "counts": {}}
    models = [{"name": "large", "pool": pool}, {"name": "small", "pool": pool | {"cost_usd": None}}]
    text = stack_text(_document(state={"models": models}))
    expected = "$20.00, $200.00 per 1,000 requests; $12.50 for calls and $7.50 for replicas; saved $0.00432 of calls"
    assert expected in " ".join(text.split())


def test_hits_that_nobody_can_judge_are_said_apart() -> None:
    text = stack_text(_document(clients={"num_unlabelled_hits": 9}))
    expected = "30.0% of 100 hit; 4 of 21 hits wrong, of 9 nobody knows: the load says no intents"
    assert _line(text, "caches") == expected
    nobody_knows = stack_text(_document(clients={"num_wrong_hits": 0, "num_unlabelled_hits": 30}))
    assert _line(nobody_knows, "caches") == "30.0% of 100 hit; of 30 nobody knows: the load says no intents"


def test_what_did_nothing_says_nothing() -> None:
    quiet = _document(
        state={
            "stages": [{"name": "idle", "does": "", "state": {"counts": {"hits": 0}}}],
            "models": [],
            "cost_usd": 0.0,
        },
        clients={"answered_by": {}, "cache_outcomes": {}, "saved_usd": {}, "num_waited": {}},
    )
    assert stack_text(quiet).splitlines() == ["  stack", "  calls  70 to models for 100 requests"]


@pytest.mark.parametrize("num", [3, 400])
def test_no_line_is_wider_than_a_terminal(num: int) -> None:
    counts = {f"event number {number}": 10**number % 9973 for number in range(num)}
    text = stack_text(_document(state={"stages": [{"name": "busy", "does": "", "state": {"counts": counts}}]}))
    assert max(map(len, text.splitlines())) <= 118
    assert all(name in " ".join(text.split()) for name in counts)
