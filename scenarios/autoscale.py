"""A load that an autoscaler has to follow.

Question:     how long after the load has grown does capacity follow, what do users feel until then, and what does the way
              back cost?
Look at:      TTFT by phase: `up` and the first minutes of `high` are the lag of decision and cold start; replicas over time
              (the server's own metrics; stack.json in virtual time); replica hours against the load.
Useful when:  you choose signal, target, cold-start budget or the number that is always warm. A cold start takes minutes: give
              -t in tens of minutes, or look at it in virtual time.

Lengths are drawn like those of Azure's 2023 conversation trace.

    locust -f scenarios/autoscale.py --headless --host http://127.0.0.1:8000 -r 40 -t 60m
    harness simulate autoscale --scenario scenarios/autoscale.py -r 40 -t 3h --shape day
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.arrivals.curves import diurnal
from harness.arrivals.pacing import Piece
from harness.errors import UsageError
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.options import gaps
from harness.workloads.synthetic import conversations


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group(
        "autoscale", "-r is the highest rate (default 40 per second), -t defaults to 60m."
    )
    group.add_argument("--shape", choices=["ramp", "day"], default="ramp", help="Up and down once, or a sinusoid.")
    group.add_argument("--low", type=float, default=0.1, metavar="SHARE", help="The lowest rate over the highest.")
    group.add_argument(
        "--gaps", type=gaps, default="poisson", help="poisson, constant, gamma:CV or weibull:CV around the rate."
    )


class AutoscaleUser(LLMUser):
    """Low, up, high, down, low again; or one day in the time there is."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own, high, duration_s = options.own, options.rate or 40.0, options.duration_s or 3600.0
        if not 0 < own.low < 1:
            raise UsageError(f"--low {own.low:g} is not between 0 and 1: it is a share of the highest rate")
        low = high * own.low
        if own.shape == "day":
            mean = (low + high) / 2
            pieces = diurnal(mean, peak=high / mean, duration_s=duration_s, day_s=duration_s)
        else:
            tenth = duration_s / 10
            pieces = [
                Piece(0.0, tenth, low, "low"),
                Piece(tenth, 2 * tenth, low, "up", high),
                Piece(2 * tenth, 6 * tenth, high, "high"),
                Piece(6 * tenth, 7 * tenth, high, "down", low),
                Piece(7 * tenth, duration_s, low, "low again"),
            ]
        return conversations(pieces, own.gaps, options.seed)
