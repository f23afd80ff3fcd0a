"""A run in parts, against a plain loop over its records."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.breakdown import DIMENSIONS, MOST, Breakdown, breakdowns
from harness.records import RequestRecord
from harness.table import OUTCOMES, tabulate
from tests.harness.builders import LAW, bare_record, record
from tests.metrics.columns import answered, table_of

_LABELS = st.sampled_from(["a", "b", "c", None])
_RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "outcome": st.sampled_from(["ok", "ok", "ok", "failed", "refused", "left"]),
            "first_token_at": st.one_of(st.none(), st.floats(0.0, 5.0)),
            "num_output_tokens": st.one_of(st.none(), st.integers(0, 50)),
            "num_cached_tokens": st.one_of(st.none(), st.integers(0, 50)),
            "cost_usd": st.one_of(st.none(), st.floats(0.0, 1.0)),
            **dict.fromkeys(DIMENSIONS, _LABELS),
        }
    ),
    max_size=60,
)


def _of(found: list[Breakdown], dimension: str) -> Breakdown:
    return next(each for each in found if each.dimension == dimension)


def _sum(values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _tpot(each: RequestRecord) -> float | None:
    first, last, num = each.first_token_at, each.last_token_at, each.num_output_tokens
    if first is None or last is None or num is None or num < 2:
        return None
    return (last - first) / (num - 1)


@LAW
@given(_RECORDS)
def test_each_group_is_what_a_loop_over_its_records_says(fields: list[dict[str, Any]]) -> None:
    records = [record(number, intended_at=0.0, **each) for number, each in enumerate(fields)]
    found = breakdowns(tabulate(records))
    for dimension in DIMENSIONS:
        groups = defaultdict(list)
        for each in records:
            groups[getattr(each, dimension)].append(each)
        if len(groups) < 2:
            assert dimension not in [each.dimension for each in found]
            continue
        breakdown = _of(found, dimension)
        assert breakdown.num_more == 0
        assert sorted(map(str, groups)) == sorted(str(group.name) for group in breakdown.groups)
        assert [group.num for group in breakdown.groups] == sorted(map(len, groups.values()), reverse=True)
        for group in breakdown.groups:
            own = groups[group.name]
            ok = [each for each in own if each.outcome == "ok"]
            assert group.outcomes == dict.fromkeys(OUTCOMES, 0) | Counter(each.outcome for each in own)
            assert group.num_prompt == _sum([each.num_prompt_tokens for each in ok])
            assert group.num_cached == _sum([each.num_cached_tokens for each in ok])
            assert group.num_output == _sum([each.num_output_tokens for each in ok])
            assert group.cost_usd == pytest.approx(_sum([each.cost_usd for each in own]))
            for name, values in (
                ("ttft", [each.first_token_at for each in ok]),
                ("e2e", [each.done_at for each in ok]),
                ("tpot", [_tpot(each) for each in ok]),
            ):
                known = [value for value in values if value is not None]
                metric = group.metrics[name]
                assert metric.num == len(known)
                assert metric.mean == (pytest.approx(np.mean(known)) if known else None)
                if len(known) >= 6:  # p50 needs six
                    assert metric.at(50) == pytest.approx(np.percentile(known, 50, method="inverted_cdf"))


def test_many_groups_are_cut_to_the_largest() -> None:
    """Tenant number n has n requests."""
    names = [f"tenant-{number}" for number in range(1, 41) for _ in range(number)]
    at = np.arange(len(names), dtype=float)
    table = answered(at, np.ones(len(names)))
    found = _of(breakdowns(table_of(table.columns, {"tenant": names})), "tenant")
    assert [group.name for group in found.groups] == [f"tenant-{number}" for number in range(40, 40 - MOST, -1)]
    assert [group.num for group in found.groups] == list(range(40, 40 - MOST, -1))
    assert found.num_more == 40 - MOST


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, []),
        ({"phase": ["one"] * 4}, []),
        ({"phase": ["one", "one", None, None]}, ["phase"]),
        ({"replica": ["r-0", "r-1"] * 2, "tenant": ["t"] * 4}, ["replica"]),
        ({"doubt": ["late", None] * 2}, []),
    ],
)
def test_only_what_divides_the_run_is_a_dimension(labels: dict[str, list[str | None]], expected: list[str]) -> None:
    table = table_of({"intended_at": np.arange(4.0)}, labels)
    assert [each.dimension for each in breakdowns(table)] == expected


def test_a_run_without_requests_has_no_parts() -> None:
    assert breakdowns(tabulate([])) == []


def test_who_failed_has_no_latency_and_may_have_a_price() -> None:
    records = [record(0, class_name="a"), bare_record(1, class_name="b", outcome="failed", done_at=9.0, cost_usd=0.25)]
    group = _of(breakdowns(tabulate(records)), "class_name").groups[1]
    assert (group.name, group.cost_usd, group.metrics["e2e"].num, group.num_output) == ("b", 0.25, 0, None)
