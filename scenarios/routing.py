"""Easy and hard questions, several tasks, free and paying users: everything that a router may look at.

Question:     does each question reach the model that it should, and what do latency and bill gain by it?
Look at:      `model_served` by class; TTFT and cost by class; what the classifier adds to every request.
Useful when:  you set the thresholds of a router, or weigh a small model against a large one.

A mock reads difficulty, task and tier from headers; a real router must find them out from the words.

    locust -f scenarios/routing.py --headless --host http://127.0.0.1:8000 -r 5 -t 60s --hard 0.3
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.errors import UsageError
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.mixing import mixed

_TASKS = {"chat": 4.0, "code": 3.0, "summarization": 2.0, "translation": 1.0}


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("routing", "-r defaults to 5 per second, -t to 60s. --model names the router.")
    group.add_argument("--easy", type=float, default=0.5, help="Share of easy questions: difficulty up to 0.5.")
    group.add_argument("--hard", type=float, default=0.15, help="Share of hard ones: difficulty from 0.85 on.")
    group.add_argument(
        "--paying", type=float, default=0.25, help="Share of users in the tier pro; the others are free."
    )
    group.add_argument("--askers", type=int, default=200, help="Users who ask.")


class RoutingUser(LLMUser):
    """Three classes by difficulty; task and tier are drawn apart from it."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own = options.own
        if not (own.easy > 0 and own.hard > 0 and own.easy + own.hard < 1 and 0 < own.paying < 1):
            raise UsageError("--easy, --hard and --paying are shares above 0; easy and hard leave room for the others")
        classes = [
            {"name": "easy", "weight": own.easy, "difficulty": {"least": 0.0, "most": 0.5}},
            {"name": "medium", "weight": 1 - own.easy - own.hard, "difficulty": {"least": 0.5, "most": 0.85}},
            {"name": "hard", "weight": own.hard, "difficulty": {"least": 0.85, "most": 1.0}},
        ]
        keys = {
            "users": own.askers,
            "task": _TASKS,
            "tier": {"free": 1 - own.paying, "pro": own.paying},
            "answer_tokens": "model",
            "classes": classes,
        }
        return mixed(keys, "routing", options)
