"""Below a quota, at it, and beyond it.

Question:     what do users meet beyond their quota: 429 with an honest Retry-After, a smaller model, a wait; and do those
              within it stay unharmed?
Look at:      throttled share and TTFT of those that were let in, by phase (0.5, 1, 2 and 4 times -r); `model_served`.
Useful when:  you set quotas and what happens beyond them, or check that a client waits as long as it is told (--retries 3).

-r is the rate that the quotas should allow, of all users together.

    locust -f scenarios/rate_limit.py --headless --host http://127.0.0.1:8000 -r 3 -t 4m --askers 10
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.mixing import mixed


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("rate limit", "-r defaults to 3 per second, -t to 4m.")
    group.add_argument("--askers", type=int, default=10, help="Users who ask.")
    group.add_argument("--zipf", type=float, default=0.0, help="Share of the k-th user is 1 / k^zipf; 0: all alike.")
    group.add_argument("--prompt-tokens", type=int, default=500, help="Tokens of a prompt.")
    group.add_argument("--answer-tokens", type=int, default=150, help="Tokens of an answer.")


class RateLimitUser(LLMUser):
    """Four steps of equal length."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own = options.own
        keys = {
            "arrivals": {"curve": {"kind": "steps", "factors": [0.5, 1.0, 2.0, 4.0]}},
            "users": {"num": own.askers, "zipf": own.zipf},
            "prompt_tokens": own.prompt_tokens,
            "answer_tokens": own.answer_tokens,
        }
        return mixed(keys, "rate_limit", options, rate=3.0, duration_s=240.0)
