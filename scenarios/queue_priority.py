"""Real time, soon, and batch, all at once and more than the server can do.

Question:     does urgent work stay fast while the queue grows, and what becomes of the rest?
Look at:      TTFT by class (P0, P1, P2) over time; who is refused, and with what; the wait in the queue.
Useful when:  you put a priority queue before a model, or size its workers, time-outs and shedding.

Choose -r above what the server can do: without an overload every class waits equally little.

    locust -f scenarios/queue_priority.py --headless --host http://127.0.0.1:8000 -r 40 -t 2m --p0 0.1 --p1 0.3
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.errors import UsageError
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.mixing import mixed


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("queue priority", "-r defaults to 20 per second, -t to 60s.")
    group.add_argument("--p0", type=float, default=0.2, help="Share of real-time requests.")
    group.add_argument("--p1", type=float, default=0.3, help="Share of those that can wait for seconds.")


class QueuePriorityUser(LLMUser):
    """The same lengths in three classes, so that only their urgency tells them apart."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own = options.own
        shares = {"P0": own.p0, "P1": own.p1, "P2": 1 - own.p0 - own.p1}
        if min(shares.values()) <= 0:
            raise UsageError(f"--p0 {own.p0:g} and --p1 {own.p1:g} must be shares above 0 that leave something for P2")
        classes = [{"name": name, "weight": share, "urgency": name} for name, share in shares.items()]
        return mixed({"classes": classes}, "queue_priority", options, rate=20.0)
