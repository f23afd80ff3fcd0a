"""From one model to another: an A-B test, a shadow, or a rollout step by step.

Question:     who was answered by which model, how do their latencies compare, and does a user who has the new one keep it?
Look at:      `model_served` over time; TTFT, TPOT and errors by model; the copies that a shadow sends, and their price.
Useful when:  you replace a model under load and must know when to go on and when to go back.

The steps of a rollout are the deployment's; choose -t so long that all of them are in it.

    locust -f scenarios/model_migration.py --headless --host http://127.0.0.1:8000 -r 4 -t 40m --askers 500
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.mixing import mixed


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("model migration", "-r defaults to 5 per second, -t to 60s. --model: the router.")
    group.add_argument("--askers", type=int, default=500, help="Users who ask; each should stay with one model.")


class MigrationUser(LLMUser):
    """Many users, each known by name. A candidate may be shorter or longer in its answers, so the models end them."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        return mixed({"users": options.own.askers, "answer_tokens": "model"}, "model_migration", options)
