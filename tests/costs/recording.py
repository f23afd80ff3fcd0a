"""From bytes to records, in a process of its own: importing Locust patches the standard library. Prints a line of JSON a case."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from harness.exchange import Exchange
from harness.plan import Arrival
from harness.prices import load_prices
from harness.records import RequestRecord
from harness.swarm.asking import complete_record, open_record
from tests.costs.documented import CASES, Case


def recorded(case: Case, number: int) -> RequestRecord:
    """As a load process does it with an answer that has come."""
    arrival = Arrival(number, number * 0.5, 100, 100)
    record = open_record(
        f"run-1-{number}", arrival, arrival.at_s, scenario="burst", user_class="Burst", dialect=case.dialect, model=case.model, stream=case.stream
    )  # fmt: skip
    at = arrival.at_s + 0.2
    kind = "text/event-stream" if case.stream else "application/json"
    exchange = Exchange(
        at - 0.2, at - 0.2, at, at, 200, {"content-type": kind}, [(at, case.body)], "complete", num_attempts=1
    )
    complete_record(record, exchange, case.dialect, lambda text: len(text.split()))
    return record


if __name__ == "__main__":
    prices = load_prices(Path(sys.argv[1]))
    for number, case in enumerate(CASES):
        record = recorded(case, number)
        record.cost_usd = prices.cost(record)
        print(msgspec.json.encode(record).decode())
