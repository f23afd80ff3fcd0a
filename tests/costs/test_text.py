"""The bill on a terminal."""

from __future__ import annotations

import pytest

from harness.costs.bill import Bill, Saving
from harness.costs.text import bill_lines, dollars
from harness.objectives import parse_objective
from tests.costs.runs import bill_of, costed
from tests.harness.builders import record


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (None, "–"),
        (0.0, "$0.0000"),
        (1234.567, "$1,234.57"),
        (12.345, "$12.35"),
        (9.87654, "$9.8765"),
        (0.0123456, "$0.0123"),
        (0.00099996, "$0.00100"),
        (0.0000123456, "$0.0000123"),
        (-0.5, "-$0.5000"),
        (-1234.5, "-$1,234.50"),
    ],
)
def test_an_amount_has_the_digits_that_say_something(usd: float | None, text: str) -> None:
    assert dollars(usd) == text


_FIGURES = (
    "              $4.2000 for 1,000 answered requests, $3.8182 for a million tokens, $42.00 for a million output tokens, "
    "$4.2000 for 1,000 good requests"
)


def test_a_bill_in_a_few_lines() -> None:
    """A thousand answers, half of whose prompts came from the cache: 1,000 x (500 x 4 + 500 x 0.4 + 100 x 20) millionths."""
    records = [
        record(n, model="large", num_prompt_tokens=1000, num_cached_tokens=500, num_output_tokens=100)
        for n in range(1000)
    ]
    found = bill_of(costed(records), objectives={"": parse_objective("ttft<1s")}, month_requests=5e6)
    assert bill_lines(found) == [
        "  cost        $4.2000 by a test",
        _FIGURES,
        "  saved       provider cache $1.8000 of $6.0000",
        "  month       $21,000.00; 5,000,000 requests a month: each at what an answered one of this run cost",
    ]


def test_gpus_by_the_hour() -> None:
    records = [record(0, intended_at=0.0), record(1, intended_at=1799.8)]
    found = bill_of(costed(records), None, gpu_price_per_hour=4.0, month_requests=1000.0)
    lines = bill_lines(found)
    assert lines[0] == "  cost        $2.0000 for 0.5 h of the target's GPUs at $4.0000 an hour"
    assert lines[1].startswith("              $1,000.00 for 1,000 answered requests, $9,090.91 for a million tokens")
    assert lines[2].startswith("  month       $2,920.00; 1,000 requests a month: at the 0.00111 a second")


def test_lines_are_broken_at_the_width_and_say_all_the_same() -> None:
    found = bill_of(costed([record(0, model="large")]), month_requests=1e6, gpu_price_per_hour=2.0)
    narrow = bill_lines(found, 60)
    assert max(map(len, narrow)) <= 60
    assert " ".join(" ".join(narrow).split()) == " ".join(" ".join(bill_lines(found)).split())


def test_what_costs_more_than_it_saves_has_its_sign() -> None:
    loss = Saving(kind="provider cache", usd=-0.25, without_usd=2.0, num_requests=1, why="")
    found = Bill(usd=2.25, source="x", num_priced=1, num_unknown=3, savings=[loss])
    assert bill_lines(found) == [
        "  cost        $2.2500 by x; 3 requests of unknown cost",
        "  saved       provider cache -$0.2500 of $2.0000",
    ]
