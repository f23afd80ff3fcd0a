"""Tables of records with their costs, as a load process leaves them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.costs.bill import Bill
from harness.costs.fold import bill
from harness.gpu.samples import GpuReport
from harness.objectives import Objective
from harness.prices import Prices, priced
from harness.records import RequestRecord
from harness.table import Table, tabulate
from tests.harness.builders import manifest

PRICES = Prices.of(
    {
        "large": {
            "input": 4.0,
            "cached_input": 0.4,
            "cache_write": 5.0,
            "cache_write_1h": 8.0,
            "output": 20.0,
            "above": {1000: {"input": 8.0, "cached_input": 0.8, "output": 30.0}},
            "batch": {"input": 2.0, "cached_input": 0.4, "output": 10.0, "above": {1000: {"input": 3.0}}},
        },
        "small": {"input": 0.5, "output": 2.0, "reasoning": 3.0, "per_request": 0.001, "batch": 0.5},
    },
    "a test",
)


def costed(records: Iterable[RequestRecord], prices: Prices = PRICES) -> Table:
    """As `LoadRun.close` does: what was kept back has no cost, all else what the prices say."""
    kept = list(records)
    for record in kept:
        record.cost_usd = None if record.outcome == "refused" else prices.cost(record)
    return tabulate(kept)


def bill_of(
    table: Table,
    prices: Prices | None = PRICES,
    *,
    objectives: dict[str, Objective] | None = None,
    gpu: GpuReport | None = None,
    month_requests: float | None = None,
    **manifest_fields: Any,
) -> Bill:
    found = bill(
        table,
        manifest(prices=priced(prices), **manifest_fields),
        objectives=objectives or {},
        gpu=gpu,
        month_requests=month_requests,
    )
    assert found is not None
    return found
