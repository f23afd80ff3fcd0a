"""What makes a request good."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.objectives import Objective, objectives_of, parse_objective, record_is_good
from harness.plan import Materialized, cut_at
from tests.harness.builders import record


def test_bounds_are_read() -> None:
    assert parse_objective("ttft<1s, tpot<=60ms,e2e<2m") == Objective(1.0, 0.06, 120.0)
    assert parse_objective("e2e<10") == Objective(e2e_s=10.0)


@pytest.mark.parametrize("text", ["", "ttft", "ttft>1s", "itl<1s", "ttft<1s,ttft<2s", "ttft<fast", "ttft<-1s"])
def test_what_is_no_objective_is_an_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_objective(text)


@pytest.mark.parametrize(
    ("objective", "good"),
    [
        (Objective(), True),
        (Objective(ttft_s=0.5), True),
        (Objective(ttft_s=0.499), False),
        (Objective(tpot_s=0.1), True),
        (Objective(tpot_s=0.099), False),
        (Objective(e2e_s=0.9), True),
        (Objective(e2e_s=0.899), False),
        (Objective(1.0, 1.0, 0.1), False),
    ],
)
def test_a_request_is_held_against_every_bound(objective: Objective, good: bool) -> None:
    # intended at 10, first token .5 s later, three more in .3 s, over at 10.9
    fields = {"intended_at": 10.0, "sent_at": 10.1, "first_token_at": 10.5, "last_token_at": 10.8, "done_at": 10.9}
    assert record_is_good(record(0, **fields, num_output_tokens=4), objective) is good


def test_what_failed_is_never_good_and_one_token_has_no_tpot() -> None:
    assert not record_is_good(record(0, outcome="failed"), Objective())
    assert record_is_good(record(0, num_output_tokens=1), Objective(tpot_s=1e-9))


def test_a_plan_s_own_objectives_stand_beside_the_command_line_s() -> None:
    own = {"chat": Objective(ttft_s=0.5)}
    plan = Materialized((), 5.0, objectives=own)
    assert objectives_of(plan, "e2e<2s") == {"chat": Objective(ttft_s=0.5), "": Objective(e2e_s=2.0)}
    assert objectives_of(cut_at(plan, 1.0), "") == own
    assert objectives_of(object(), "") == {}
