"""Which runs make one point, and which make one series."""

from __future__ import annotations

from typing import Any

import pytest

from harness.history.nights import group_runs, nights_of
from harness.history.series import series_of
from tests.harness.builders import manifest
from tests.history.past import DAY_S, FIRST, past


def seeds(runs: list[Any]) -> list[list[int]]:
    return [[run.manifest.seed for run in night.runs] for night in nights_of(runs)]


@pytest.mark.parametrize(
    ("why", "runs", "expected"),
    [
        ("eight seeds of one night", [(0, seed, "a") for seed in (1, 2, 3)], [[1, 2, 3]]),
        ("the seeds begin again", [(0, 1, "a"), (0, 2, "a"), (0.1, 1, "a")], [[1, 2], [1]]),
        ("another commit", [(0, 1, "a"), (0, 2, "b")], [[1], [2]]),
        ("a pause of six hours", [(0, 1, "a"), (0.3, 2, "a")], [[1], [2]]),
        ("a pause of an hour", [(0, 1, "a"), (0.04, 2, "a")], [[1, 2]]),
        ("no commit is known", [(0, 1, None), (0.01, 2, None), (1, 1, None)], [[1, 2], [1]]),
    ],
)
def test_runs_are_folded_into_nights(why: str, runs: list[tuple[float, int, str]], expected: list[list[int]]) -> None:
    made = [past(0, {}, seed=seed, commit=commit, started_wall=FIRST + at * DAY_S) for at, seed, commit in runs]
    assert seeds(made) == expected, why


def test_what_cannot_be_compared_makes_series_of_its_own() -> None:
    runs = [
        past(0, {}),
        past(1, {}, labels={"series": "other"}),
        past(2, {}, model="large"),
        past(3, {}, seed=7),
        past(4, {}, duration_s=20.0),
    ]
    groups = [[run.name for run in group] for group in group_runs(runs)]
    assert groups == [["run-000-1", "run-003-7"], ["run-001-1"], ["run-002-1"], ["run-004-1"]]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"labels": {"series": "gateway"}, "clock": "virtual"}, "gateway"),
        ({"clock": "virtual", "target": "hierarchy in virtual time"}, "hierarchy in virtual time"),
        ({"target": "http://127.0.0.1:40123"}, ""),
    ],
)
def test_the_name_of_a_series(fields: dict[str, Any], expected: str) -> None:
    assert series_of(manifest(**fields)) == expected
