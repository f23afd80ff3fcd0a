"""Any workload file.

Question:     how does the server hold up under your own mix: classes, users, lengths, repeats, sessions, tools, pictures?
Look at:      the report by class; goodput against the objectives that the file states.
Useful when:  you know who asks what, and no ready scenario says it. `harness simulate --workload FILE` is the same plan.

    locust -f scenarios/workload.py --headless --host http://127.0.0.1:8000 --workload mix.yaml -t 5m
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from locust import events

from harness.errors import UsageError
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.workloads.file import read_workload
from harness.workloads.mixture import mixture_plan


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("workload", "-r and -t go before the rate and the duration of the file.")
    group.add_argument("--workload", default="", metavar="FILE", help="Who sends what (harness/workloads/file.py).")


class WorkloadUser(LLMUser):
    """What stands in the file."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        if not options.own.workload:
            raise UsageError("no workload to run: give one with --workload FILE")
        workload = read_workload(Path(options.own.workload))
        rate, duration_s = options.rate, options.duration_s
        return mixture_plan(workload, rate=rate, duration_s=duration_s, seed=options.seed, salt=options.salt)
