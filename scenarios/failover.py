"""A provider dies under a steady load.

Question:     does anybody notice: are requests lost, how much later do answers come, and who gives them?
Look at:      errors by phase: only answers that had begun when it died may be cut; model_served in the records before,
              during and after the outage; TTFT in its first seconds, when the breaker has not opened yet; cost, if the
              second is dearer.
Useful when:  you have a chain of providers, breakers, health checks, and never saw them work. The outage itself is the
              deployment's (`faults` of a mock, or your own hand on a switch); --outage-at and --outage-for only tell this
              scenario when, so that the phases of its records are before, outage and after.

Lengths are drawn like those of Azure's 2023 conversation trace.

    locust -f scenarios/failover.py --headless --host http://127.0.0.1:8000 --model assistant -r 2 -t 8m
    harness simulate failover --scenario scenarios/failover.py --model assistant -r 2 -t 8m
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.arrivals.pacing import Piece
from harness.errors import UsageError
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.options import duration, gaps
from harness.workloads.synthetic import conversations


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("failover", "-r is the rate (default 2 per second), -t defaults to 8m.")
    group.add_argument(
        "--outage-at", type=duration, default=180.0, metavar="TIME", help="When the provider dies, for the phases (3m)."
    )
    group.add_argument(
        "--outage-for", type=duration, default=120.0, metavar="TIME", help="How long it is away, for the phases (2m)."
    )
    group.add_argument(
        "--gaps", type=gaps, default="poisson", help="poisson, constant, gamma:CV or weibull:CV around the rate."
    )


class FailoverUser(LLMUser):
    """One rate; the phases say what the provider was doing."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own, rate, duration_s = options.own, options.rate or 2.0, options.duration_s or 480.0
        over_at = own.outage_at + own.outage_for
        if over_at >= duration_s:
            raise UsageError(
                f"the outage ends at {over_at:g} s, and the run at {duration_s:g} s: nothing would be seen of what comes "
                "after; give a longer -t, or a shorter --outage-at and --outage-for"
            )
        pieces = [
            Piece(0.0, own.outage_at, rate, "before"),
            Piece(own.outage_at, over_at, rate, "outage"),
            Piece(over_at, duration_s, rate, "after"),
        ]
        return conversations(pieces, own.gaps, options.seed)
