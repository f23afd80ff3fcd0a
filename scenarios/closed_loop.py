"""A number of clients, each of whom waits for its answer before it asks again.

Question:     what throughput and latency do N clients get who each have one request under way at most?
Look at:      requests and tokens per second, E2E; N = throughput x (E2E + think time) tells whether the run was long enough.
Useful when:  the callers really wait: agents, batch workers, a pool of connections. For users who come whether or not others
              were answered take an open loop: here a server that stands still is asked nothing, and looks better than it is.

Latencies from the intended time and from sending are the same here. Lengths are drawn like those of Azure's 2023 conversations.

    locust -f scenarios/closed_loop.py --headless --host http://127.0.0.1:8000 --clients 20 -t 60s --think exponential:2s
    harness simulate h100-8b --scenario scenarios/closed_loop.py --clients 64 -t 10m
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.errors import UsageError
from harness.plan import LoadPlan
from harness.reactive.closed_loop import ClosedLoopPlan
from harness.reactive.pauses import parse_think_time
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.options import duration
from harness.workloads.synthetic import AZURE_CONVERSATION_OUTPUT, AZURE_CONVERSATION_PROMPT


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("closed loop", "The rate follows from the answers: -r has no meaning. -t: 60s.")
    group.add_argument("--clients", type=int, default=10, metavar="N", help="How many clients.")
    group.add_argument(
        "--think", default="none", metavar="TIME", help="none, 2s, exponential:5s or lognormal:5s:0.8, after an answer."
    )
    group.add_argument("--clients-within", type=duration, default=0.0, metavar="TIME", help="Clients start within it.")


class ClosedLoopUser(LLMUser):
    """Ask, wait, think, ask again."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own = options.own
        options.refuse_rate("a closed loop asks as fast as it is answered; use --clients and --think")
        if own.clients > options.max_in_flight:
            raise UsageError(f"{own.clients} clients need -u {own.clients}; {options.max_in_flight} may be in flight")
        return ClosedLoopPlan(
            num_clients=own.clients,
            think_time=parse_think_time(own.think),
            prompt_tokens=AZURE_CONVERSATION_PROMPT,
            output_tokens=AZURE_CONVERSATION_OUTPUT,
            duration_s=options.duration_s or 60.0,
            seed=options.seed,
            ramp_s=own.clients_within,
            stream=not own.whole,
        )
