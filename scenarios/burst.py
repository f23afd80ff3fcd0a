"""Bursts over a quiet load.

Question:     what do users feel while a burst of N times the quiet rate comes in, and how long does it echo?
Look at:      TTFT over time with the load on the same axis; requests in flight after each burst; errors by class.
Useful when:  you size headroom, tune a queue limit, or want to know how autoscaling would have to react.

Lengths are drawn like those of Azure's 2023 conversation trace.

    locust -f scenarios/burst.py --headless --host http://127.0.0.1:8000 -r 5 -t 60s --burst-factor 4
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.arrivals.curves import bursts
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.options import duration, gaps
from harness.workloads.synthetic import conversations


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("burst", "-r is the quiet rate (default 5 per second), -t defaults to 60s.")
    group.add_argument("--burst-factor", type=float, default=4.0, help="The burst's rate over the quiet rate.")
    group.add_argument("--burst-every", type=duration, default=20.0, metavar="TIME", help="One burst in this time.")
    group.add_argument("--burst-for", type=duration, default=5.0, metavar="TIME", help="How long a burst lasts.")
    group.add_argument(
        "--gaps", type=gaps, default="poisson", help="poisson, constant, gamma:CV or weibull:CV around the rate."
    )


class BurstUser(LLMUser):
    """Quiet, burst, quiet, again and again."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        pieces = bursts(
            quiet_rate=options.rate or 5.0,
            factor=options.own.burst_factor,
            every_s=options.own.burst_every,
            for_s=options.own.burst_for,
            duration_s=options.duration_s or 60.0,
        )
        return conversations(pieces, options.own.gaps, options.seed)
