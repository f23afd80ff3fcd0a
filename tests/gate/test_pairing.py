"""Who is compared with whom, and when nobody may be."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.gate.facts import JudgedRun
from harness.gate.pairing import arrange
from tests.gate.builders import by_seed, in_order, judged


def _runs(order: str) -> tuple[list[JudgedRun], list[JudgedRun]]:
    return in_order(order, [1.0] * order.count("B"), [1.0] * order.count("A"))


@pytest.mark.parametrize(
    ("order", "pairs"),
    [
        ("ABBA", ((0, 0), (1, 1))),
        ("ABBAABBA", ((0, 0), (1, 1), (2, 2), (3, 3))),
        ("ABAB", ((0, 0), (1, 1))),
        ("BAAB", ((0, 0), (1, 1))),
        ("AABBBBAA", None),  # as early on the whole, but neighbours are of one side
        ("ABA", None),
    ],
)
def test_interleaved_runs_are_compared(order: str, pairs: object) -> None:
    found = arrange(*_runs(order))
    assert found.drift is None
    assert found.pairs == pairs
    assert found.order == order
    assert bool(found.notes) == (order == "ABAB")


@pytest.mark.parametrize(
    ("order", "later"), [("AAAABBBB", "candidate"), ("BBAA", "baseline"), ("AAABABBB", "candidate")]
)
def test_a_drift_cannot_be_told_from_a_change(order: str, later: str) -> None:
    found = arrange(*_runs(order))
    assert found.drift is not None
    assert found.drift.startswith(f"the {later} ran after the ")
    assert f"({order})" in found.drift


def test_the_order_on_the_command_line_does_not_matter() -> None:
    candidates, baselines = _runs("ABBAABBA")
    found = arrange(candidates[::-1], baselines)
    assert found.order == "ABBAABBA"
    assert found.pairs == ((3, 0), (2, 1), (1, 2), (0, 3))


def test_runs_that_overlap_disturbed_each_other_unless_on_two_hosts() -> None:
    long = judged("long", {}, started_wall=1000.0, ended_at=100.0)
    short = judged("short", {}, started_wall=1020.0, ended_at=5.0)
    late = judged("late", {}, started_wall=1050.0, ended_at=5.0)
    after = judged("after", {}, started_wall=1200.0, ended_at=5.0)
    assert arrange([short, after], [long, late]).overlaps == (
        "short began before long had ended: they disturbed each other",
        "late began before long had ended: they disturbed each other",
    )
    elsewhere = judged("elsewhere", {}, started_wall=1020.0, ended_at=5.0, machine={"host": "b"})
    assert arrange([elsewhere], [long]).overlaps == ()
    # A longer run on another host between them hides nothing.
    first = judged("first", {}, started_wall=0.0, ended_at=100.0, machine={"host": "a"})
    other = judged("other", {}, started_wall=10.0, ended_at=300.0, machine={"host": "b"})
    second = judged("second", {}, started_wall=50.0, ended_at=100.0, machine={"host": "a"})
    assert arrange([second, other], [first]).overlaps == (
        "second began before first had ended: they disturbed each other",
    )


def test_virtual_runs_are_pairs_by_seed_or_none() -> None:
    candidates, baselines = by_seed("b", {"e2e_p50": [1, 2, 3]}), by_seed("a", {"e2e_p50": [1, 2, 3]})
    assert arrange(candidates, baselines[::-1]).pairs == ((0, 2), (1, 1), (2, 0))
    fewer = arrange(candidates, baselines[:2])
    assert (fewer.pairs, fewer.notes) == (
        ((0, 0), (1, 1)),
        ("1 candidate run of a seed that the other side has not: left out",),
    )
    others = by_seed("a", {"e2e_p50": [1, 2, 3, 4]})[2:]
    assert arrange(candidates, others).pairs is None
    assert arrange(candidates, baselines).overlaps == ()  # they all ran at one wall time, and disturb nobody


@pytest.mark.parametrize("side", ["candidates", "baselines"])
def test_a_run_counts_once(side: str) -> None:
    virtual = by_seed("b", {"e2e_p50": [1, 2]})
    twice = [*virtual, virtual[0]]
    with pytest.raises(UsageError, match="both have seed 0"):
        arrange(*(twice, virtual) if side == "candidates" else (virtual, twice))


def test_a_real_run_stands_on_one_side_only() -> None:
    candidates, baselines = _runs("ABBA")
    with pytest.raises(UsageError, match="A0 and A0 are one run"):
        arrange([*candidates, baselines[0]], baselines)
