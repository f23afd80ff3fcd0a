"""Goodput against the rule for one record, and against arithmetic done by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.goodput import goodput
from harness.objectives import Objective, record_is_good
from harness.records import RequestRecord
from harness.table import OUTCOMES, tabulate
from tests.harness.builders import bare_record, record

_BOUND = st.none() | st.floats(0.001, 5)
_OBJECTIVES = st.builds(Objective, _BOUND, _BOUND, _BOUND)
_SPAN = st.integers(0, 3_000_000).map(lambda micros: micros / 1e6)


@st.composite
def _records(draw: Any) -> RequestRecord:
    if draw(st.booleans()):
        return bare_record(0, class_name=draw(st.sampled_from([None, "chat"])), outcome=draw(st.sampled_from(OUTCOMES)))
    first, last, done = sorted((draw(_SPAN), draw(_SPAN), draw(_SPAN)))
    return record(
        0,
        class_name=draw(st.sampled_from([None, "chat", "batch"])),
        outcome=draw(st.sampled_from(OUTCOMES)),
        intended_at=1.0,
        first_token_at=1.0 + first,
        last_token_at=1.0 + last,
        done_at=1.0 + done,
        num_output_tokens=draw(st.none() | st.integers(0, 50)),
        stream=draw(st.booleans()),
    )


@given(st.lists(_records(), max_size=15), _OBJECTIVES, _OBJECTIVES)
def test_it_counts_the_records_that_are_good(records: list[RequestRecord], chat: Objective, others: Objective) -> None:
    found = goodput(tabulate(records), {"chat": chat, "": others}, 2.0)
    objectives = [chat if each.class_name == "chat" else others for each in records]
    counted = [
        (each, objective)
        for each, objective in zip(records, objectives, strict=True)
        if each.outcome != "left" and (each.stream or objective.e2e_s is not None)
    ]
    good = [each for each, objective in counted if record_is_good(each, objective)]
    if not counted:
        assert found is None
    else:
        assert found is not None
        assert (found.num, found.num_good) == (len(counted), len(good))
        assert found.rate == len(good) / 2.0


def test_a_failure_stays_in_the_denominator_and_a_class_without_objective_is_left_out() -> None:
    quick = {"intended_at": 0.0, "first_token_at": 0.2, "last_token_at": 0.4, "done_at": 0.5}
    records = [
        record(0, class_name="chat", **quick),
        record(1, class_name="chat", **(quick | {"first_token_at": 0.3})),
        bare_record(2, class_name="chat", outcome="failed"),
        bare_record(3, class_name="chat", outcome="refused"),
        record(4, class_name="batch", **quick),
    ]
    found = goodput(tabulate(records), {"chat": Objective(ttft_s=0.25)}, 10.0)
    assert found is not None
    assert (found.num, found.num_good, found.share) == (4, 1, 0.25)
    assert found.rate == pytest.approx(0.1)
    assert goodput(tabulate(records), {}, 10.0) is None


def test_what_nobody_could_see_is_not_good() -> None:
    """Of a whole answer neither TTFT nor TPOT is known: bounds on them alone say nothing of it, met or failed."""
    whole: dict[str, Any] = {"stream": False, "first_token_at": None, "last_token_at": None}
    records = [record(n, **whole, outcome="failed" if n == 3 else "ok") for n in range(10)]
    assert goodput(tabulate(records), {"": Objective(ttft_s=1.0, tpot_s=0.06)}, 10.0) is None
    found = goodput(tabulate(records), {"": Objective(ttft_s=1.0, e2e_s=60.0)}, 10.0)
    assert found is not None
    assert (found.num, found.num_good) == (10, 9)
