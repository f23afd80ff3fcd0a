"""The budget guard, against a bill that is added up apart from it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.records import RequestRecord
from harness.safety.budget import Budget
from tests.harness.builders import LAW, bare_record


def _most(record: RequestRecord) -> float | None:
    return None if record.planned_output_tokens is None else record.planned_output_tokens / 100


def _asked(number: int, cents: int | None) -> RequestRecord:
    return bare_record(number, planned_output_tokens=cents)


def _ended(record: RequestRecord, cost_usd: float | None) -> RequestRecord:
    record.sent_at, record.cost_usd = 0.0, cost_usd
    return record


@LAW
@example(limit_cents=176, steps=[(1, 0.0, 0, False), (68, 0.0, 0, False), (107, 0.0, 0, False)])
@given(
    limit_cents=st.integers(1, 500),
    steps=st.lists(st.tuples(st.integers(1, 200), st.floats(0, 1), st.integers(0, 30), st.booleans()), max_size=60),
)
def test_spent_and_under_way_never_exceed_the_budget_and_nothing_that_fits_is_refused(
    limit_cents: int, steps: list[tuple[int, float, int, bool]]
) -> None:
    """Requests are sent and end in any order, at any cost up to their most, known or not."""
    guard = Budget(limit_cents / 100, _most)
    flying: list[tuple[RequestRecord, float | None, int]] = []
    bill = Fraction(0)  # cents
    for number, (cents, share, which, known) in enumerate(steps):
        asked = _asked(number, cents)
        under_way = sum(most for _, _, most in flying)
        fits = bill + under_way + cents <= limit_cents
        assert (guard.refusal(asked) is None) == fits
        if fits:
            flying.append((asked, share * cents / 100 if known else None, cents))
        if flying and which < len(flying):
            record, cost, most = flying.pop(which)
            guard.ended(_ended(record, cost))
            # What it cost, rounded up to the unit of account; the most, where nobody knows.
            bill += most if cost is None else Fraction(-(-Fraction(repr(cost)) * 10**12 // 1), 10**10)
        assert guard.spent_usd + guard.reserved_usd <= limit_cents / 100 + 1e-12
    for record, cost, _ in flying:
        guard.ended(_ended(record, cost))
    assert guard.reserved_usd == 0
    assert guard.spent_usd <= limit_cents / 100 + 1e-12


def test_settling_gives_back_what_was_not_used() -> None:
    guard = Budget(1.0, _most)
    first, second = _asked(0, 60), _asked(1, 60)
    assert guard.refusal(first) is None
    refusal = guard.refusal(second)
    assert refusal is not None
    assert refusal[0] == "budget"
    assert "$0 spent, $0.6 under way and $0.6 for this request are more than the budget of $1" in refusal[1]
    guard.ended(_ended(first, 0.10))
    assert guard.refusal(second) is None
    assert guard.spent_usd == pytest.approx(0.10)
    assert guard.reserved_usd == pytest.approx(0.60)


def test_a_request_of_unknown_cost_counts_with_the_most() -> None:
    guard = Budget(1.0, _most)
    asked = _asked(0, 60)
    guard.refusal(asked)
    guard.ended(_ended(asked, None))
    assert guard.spent_usd == pytest.approx(0.60)


def test_a_request_that_another_guard_held_back_costs_nothing() -> None:
    guard = Budget(1.0, _most)
    asked = _asked(0, 60)
    guard.refusal(asked)
    guard.ended(asked)  # never sent
    assert (guard.spent_usd, guard.reserved_usd) == (0, 0)


def test_the_run_stops_when_not_even_the_cheapest_would_fit() -> None:
    guard = Budget(1.0, _most)
    big, small = _asked(0, 70), _asked(1, 20)
    assert guard.refusal(big) is None
    assert guard.refusal(small) is None
    assert guard.refusal(_asked(2, 20)) is not None  # waits for money under way: no reason to stop
    assert guard.stop_reason is None
    guard.ended(_ended(big, 0.70))
    guard.ended(_ended(small, 0.09))
    assert guard.stop_reason is None  # 0.21 left
    last = _asked(3, 20)
    assert guard.refusal(last) is None
    guard.ended(_ended(last, 0.20))
    assert guard.stop_reason == "the budget of $1 is used up: 3 requests cost at most $0.99"


def test_a_budget_below_the_first_request_says_so() -> None:
    guard = Budget(0.01, _most)
    assert guard.refusal(_asked(0, 5)) is not None
    assert guard.stop_reason == "the budget of $0.01 is too small: the cheapest request may cost $0.05"


def test_what_has_no_bound_is_not_sent() -> None:
    guard = Budget(1.0, _most)
    refusal = guard.refusal(_asked(0, None))
    assert refusal is not None
    assert "max_output in the price file" in refusal[1]
    assert guard.stop_reason is None


@LAW
@given(num_shares=st.integers(1, 9), cents=st.integers(1, 50))
def test_shares_together_stay_within_the_budget(num_shares: int, cents: int) -> None:
    shares = [Budget(1.0, _most, num_shares=num_shares) for _ in range(num_shares)]
    for guard in shares:
        for number in range(200):
            guard.refusal(_asked(number, cents))
    assert sum(guard.reserved_usd for guard in shares) <= 1.0 + 1e-9


def test_a_million_sums_do_not_drift() -> None:
    guard = Budget(1e6, lambda _: 0.1)
    asked = bare_record()
    for _ in range(100_000):
        guard.refusal(asked)
        guard.ended(_ended(asked, 0.1))
    assert guard.reserved_usd == 0
    assert guard.spent_usd == pytest.approx(10_000, abs=1e-7)
