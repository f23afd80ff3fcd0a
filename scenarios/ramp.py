"""A rate that grows.

Question:     at which rate does latency leave the floor, and is it a slope or a cliff?
Look at:      TTFT and requests in flight over time, with the rate on the same axis; output tokens per second: where they stop
              growing with the rate is the server's limit.
Useful when:  you do not know yet what a server can do. `capacity` finds the exact number, this shows the shape.

Lengths are drawn like those of Azure's 2023 conversation trace.

    locust -f scenarios/ramp.py --headless --host http://127.0.0.1:8000 -r 40 -t 5m
    harness simulate h100-8b --scenario scenarios/ramp.py -r 60 -t 20m --ramp-steps 10
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.arrivals.curves import ramp, steps
from harness.errors import UsageError
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.options import duration, gaps
from harness.workloads.synthetic import conversations


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group(
        "ramp", "-r is the rate that is reached (default 20 per second), -t defaults to 5m."
    )
    group.add_argument("--ramp-from", type=float, default=0.0, metavar="RATE", help="The rate at the start.")
    group.add_argument("--ramp-hold", type=duration, default=0.0, metavar="TIME", help="How long the end stays at -r.")
    group.add_argument("--ramp-steps", type=int, default=0, metavar="N", help="N equal steps up to -r, not a slope.")
    group.add_argument(
        "--gaps", type=gaps, default="poisson", help="poisson, constant, gamma:CV or weibull:CV around the rate."
    )


class RampUser(LLMUser):
    """From one rate to another, in a slope or in steps."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own, top, duration_s = options.own, options.rate or 20.0, options.duration_s or 300.0
        if not own.ramp_steps:
            pieces = ramp(own.ramp_from, top, duration_s=duration_s, hold_s=own.ramp_hold)
        elif not 0 < own.ramp_steps <= 1000 or own.ramp_hold:
            raise UsageError(f"--ramp-steps {own.ramp_steps} must be 1 to 1000 and goes without --ramp-hold")
        else:
            rise = (top - own.ramp_from) / own.ramp_steps
            pieces = steps([own.ramp_from + rise * (n + 1) for n in range(own.ramp_steps)], duration_s=duration_s)
        return conversations(pieces, own.gaps, options.seed)
