"""One rate for a long time.

Question:     does latency stay flat under a load that does not change, or does it drift?
Look at:      TTFT and E2E of the last third beside the first; requests in flight over time: they must not grow.
Useful when:  you look for leaks, for queues that fill slowly, for throttling that comes after minutes, or for the highest
              rate that a server stands.

Lengths are drawn like those of Azure's 2023 conversation trace. With --clients the load is the sum of many clients, each
with its own rate, burstiness and lengths, from a table in ServeGen's format: as production traffic is.

    locust -f scenarios/sustained.py --headless --host http://127.0.0.1:8000 -r 5 -t 30m
    harness simulate h100-8b --scenario scenarios/sustained.py -r 20 -t 2h
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from locust import events

from harness.arrivals.pacing import Piece
from harness.errors import UsageError
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.options import gaps
from harness.workloads.clients import clients_plan
from harness.workloads.synthetic import conversations


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("sustained", "-r is the rate (default 5 per second), -t defaults to 10m.")
    group.add_argument(
        "--gaps", type=gaps, default=None, help="poisson (default), constant, gamma:CV or weibull:CV around the rate."
    )
    group.add_argument("--clients", default="", metavar="FILE", help="Table of clients; -r scales all of them alike.")
    group.add_argument("--clients-of", default="", metavar="NAME", help="Which workload of a table that holds several.")


class SustainedUser(LLMUser):
    """The same rate from the beginning to the end."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own, duration_s = options.own, options.duration_s or 600.0
        if own.clients:
            if own.gaps is not None:
                raise UsageError(f"--gaps {own.gaps} has no meaning here: every client of --clients has its own")
            return clients_plan(
                Path(own.clients),
                workload=own.clients_of or None,
                duration_s=duration_s,
                seed=options.seed,
                rate=options.rate,
            )
        if own.clients_of:
            raise UsageError(f"--clients-of {own.clients_of} needs a table: give one with --clients FILE")
        rate, third = options.rate or 5.0, duration_s / 3
        pieces = [
            Piece(0.0, third, rate, "first third"),
            Piece(third, 2 * third, rate, "second third"),
            Piece(2 * third, duration_s, rate, "last third"),
        ]
        return conversations(pieces, own.gaps or "poisson", options.seed)
