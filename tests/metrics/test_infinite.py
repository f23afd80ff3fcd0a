"""Latencies with failures as +∞: a table of cases, and a law against counting."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judgement.measuring import Subject, measure
from harness.metrics.infinite import Unanswered, unanswered
from harness.quantiles import PERCENTILES, samples_needed
from harness.table import OUTCOMES, Table, tabulate
from tests.harness.builders import LAW, bare_record, record
from tests.metrics.columns import table_of


def _run(**nums: int) -> Table:
    """So many requests of each outcome; ok ones take 1, 2, 3 … seconds."""
    kinds = [kind for kind, num in nums.items() for _ in range(num)]
    done = np.arange(1.0, len(kinds) + 1)
    return table_of({"intended_at": np.zeros(len(kinds)), "first_token_at": done, "done_at": done}, outcomes=kinds)


@pytest.mark.parametrize(
    ("nums", "num", "num_infinite", "p50", "p90"),
    [
        ({"ok": 100}, 100, 0, 50.0, 90.0),
        ({"ok": 90, "failed": 10}, 100, 10, 50.0, 90.0),  # the 90th is the last that was answered
        ({"ok": 89, "failed": 11}, 100, 11, 50.0, "inf"),
        ({"ok": 50, "cut": 20, "throttled": 20, "incomplete": 10}, 100, 50, 50.0, "inf"),
        ({"ok": 49, "failed": 51}, 100, 51, "inf", "inf"),
        ({"failed": 40}, 40, 40, "inf", "inf"),
        ({"ok": 90, "refused": 50, "left": 50, "failed": 10}, 100, 10, 50.0, 90.0),
        ({"ok": 4, "failed": 1}, 5, 1, None, None),
        ({"ok": 5, "failed": 1}, 6, 1, 3.0, None),  # p50 needs 6, p90 36
        ({"refused": 9}, 0, 0, None, None),
        ({}, 0, 0, None, None),
    ],
)  # fmt: skip
def test_cases(
    nums: dict[str, int], num: int, num_infinite: int, p50: float | str | None, p90: float | str | None
) -> None:
    for found in unanswered(_run(**nums)).values():
        assert (found.num, found.num_infinite) == (num, num_infinite)
        assert (found.percentiles["50"], found.percentiles["90"]) == (p50, p90)


def test_who_asked_for_no_stream_has_no_first_token_to_wait_for() -> None:
    whole = {"stream": False, "first_token_at": None, "last_token_at": None}
    records = [
        *(record(number, intended_at=0.0) for number in range(10)),
        *(record(number, intended_at=0.0, **whole) for number in range(10, 20)),
        *(bare_record(number, stream=False, outcome="failed") for number in range(20, 40)),
        *(bare_record(number, outcome="failed") for number in range(40, 43)),
    ]
    found = unanswered(tabulate(records))
    assert (found["ttft"].num, found["ttft"].num_infinite, found["ttft"].percentiles["50"]) == (13, 3, 0.1)
    assert (found["e2e"].num, found["e2e"].num_infinite, found["e2e"].percentiles["50"]) == (43, 23, "inf")


_REQUESTS = st.lists(st.tuples(st.sampled_from(OUTCOMES), st.one_of(st.none(), st.floats(0.001, 100.0))), max_size=400)


def _by_counting(values: list[float], percent: float) -> float | None:
    """The smallest value that at least so many percent do not exceed."""
    if len(values) < samples_needed(percent):
        return None
    return next(v for v in sorted(values) if 100 * sum(w <= v for w in values) >= percent * len(values) - 1e-9)


@LAW
@given(_REQUESTS)
def test_every_percentile_is_what_counting_says(requests: list[tuple[str, float | None]]) -> None:
    done = np.array([np.nan if took is None else took for _, took in requests])
    table = table_of(
        {"intended_at": np.zeros(len(requests)), "first_token_at": done, "done_at": done},
        outcomes=[kind for kind, _ in requests],
    )
    values = [
        inf if kind != "ok" else took
        for kind, took in requests
        if kind not in ("refused", "left") and not (kind == "ok" and took is None)
    ]
    expected = {f"{percent:g}": _by_counting([v for v in values if v is not None], percent) for percent in PERCENTILES}
    for name, found in unanswered(table).items():
        assert isinstance(found, Unanswered)
        assert found.num == len(values)
        assert {key: inf if value == "inf" else value for key, value in found.percentiles.items()} == expected
        measured = measure(f"{name}_p50", Subject(table, 1.0, {}))  # an objective speaks of the same number
        assert (inf if measured.infinite else measured.value) == expected["50"]
