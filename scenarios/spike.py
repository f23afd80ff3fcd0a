"""One spike, and what comes after.

Question:     how bad does it get while many times the usual load comes in at once, and how long until it is over?
Look at:      TTFT over time: the top during the spike, and the instant after it at which it is back where it was; requests in
              flight; errors by class. Phases: before, spike, after.
Useful when:  a newsletter goes out, a cache was flushed, a neighbour fails over to you. `burst` asks the same again and again.

Lengths are drawn like those of Azure's 2023 conversation trace.

    locust -f scenarios/spike.py --headless --host http://127.0.0.1:8000 -r 3 -t 90s --spike-factor 10
    harness simulate h100-8b --scenario scenarios/spike.py -r 10 -t 10m --spike-for 30s
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.arrivals.curves import spike
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.options import duration, gaps
from harness.workloads.synthetic import conversations


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("spike", "-r is the usual rate (default 3 per second), -t defaults to 90s.")
    group.add_argument("--spike-factor", type=float, default=10.0, help="The spike's rate over the usual rate.")
    group.add_argument(
        "--spike-at",
        type=duration,
        default=None,
        metavar="TIME",
        help="When it comes. Default: after a third of the run.",
    )
    group.add_argument("--spike-for", type=duration, default=10.0, metavar="TIME", help="How long it lasts.")
    group.add_argument(
        "--gaps", type=gaps, default="poisson", help="poisson, constant, gamma:CV or weibull:CV around the rate."
    )


class SpikeUser(LLMUser):
    """Before, spike, after."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own, duration_s = options.own, options.duration_s or 90.0
        pieces = spike(
            rate=options.rate or 3.0,
            factor=own.spike_factor,
            at_s=own.spike_at or duration_s / 3,
            for_s=own.spike_for,
            duration_s=duration_s,
        )
        return conversations(pieces, own.gaps, options.seed)
