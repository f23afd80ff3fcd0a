"""The highest rate at which the objective is met.

Question:     how many requests a second does this server answer well enough?
Look at:      the answer, and the probes beneath it; TTFT over time with the rate: where the last good probe ends and the first
              bad one begins. A verdict near the bound is called unclear: longer probes settle it.
Useful when:  you size a deployment, compare two engines or two settings, or sell a rate. Give --objective as your users feel it.

Each probe is Poisson at one rate. The rate doubles until a probe fails, then the interval is halved. A probe that was cut short
is never a bound. The load comes from one process, because the search must hear every answer.

    locust -f scenarios/capacity.py --headless --host http://127.0.0.1:8000 --objective 'ttft<1s,tpot<60ms' -r 1 -t 30m
    harness simulate h100-8b --scenario scenarios/capacity.py --objective 'ttft<500ms' -r 1 -t 2h --probe 2m
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.errors import UsageError
from harness.objectives import parse_objective
from harness.plan import LoadPlan
from harness.reactive.capacity import CapacitySettings
from harness.reactive.capacity_plan import CapacityPlan
from harness.reactive.capacity_report import capacity_of, capacity_text
from harness.summary import RunData
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.options import duration
from harness.workloads.synthetic import AZURE_CONVERSATION_OUTPUT, AZURE_CONVERSATION_PROMPT


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group(
        "capacity", "-r is the first rate (default 1 per second), -t the longest search: 30m."
    )
    group.add_argument("--good-share", type=float, default=0.95, metavar="SHARE", help="Of requests that must be good.")
    group.add_argument(
        "--resolution", type=float, default=0.1, metavar="X", help="The answer is a rate to 1 + X times it."
    )
    group.add_argument("--probe", type=duration, default=30.0, metavar="TIME", help="What counts of a probe, at least.")
    group.add_argument("--settle", type=duration, default=5.0, metavar="TIME", help="Of a probe before it counts.")
    group.add_argument("--highest", type=float, default=None, metavar="RATE", help="Default: a thousand times -r.")
    parser.set_defaults(objective="ttft<1s,tpot<60ms")


class CapacityUser(LLMUser):
    """Probe after probe, until the capacity lies between two of them."""

    one_process = True

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own, rate = options.own, options.rate or 1.0
        settings = CapacitySettings(
            objective=parse_objective(own.objective),
            first_rate=rate,
            highest_rate=1000 * rate if own.highest is None else own.highest,
            share=own.good_share,
            resolution=own.resolution,
            probe_s=own.probe,
            settle_s=own.settle,
        )
        duration_s, probe_s = options.duration_s or 1800.0, own.settle + settings.length_s(rate)
        if probe_s + 1 > duration_s:
            raise UsageError(
                f"-t {duration_s:g} s has no room for a probe: one at {rate:g}/s takes {probe_s:g} s (--settle, then --probe or "
                f"the time of {settings.least_requests} requests); give a longer -t, or begin higher with -r"
            )
        if own.whole and settings.objective.e2e_s is None:
            raise UsageError(
                "whole answers have no TTFT and no TPOT, so every rate would be good; give --objective 'e2e<10s'"
            )
        lengths = AZURE_CONVERSATION_PROMPT, AZURE_CONVERSATION_OUTPUT
        return CapacityPlan(settings, *lengths, duration_s, options.seed)

    @classmethod
    def conclusion(cls, run: RunData) -> list[str]:
        return capacity_text(capacity_of(run.manifest.plan, run.directory.records([])))
