"""Long beginnings that many requests share, beside prompts of the same length that share nothing.

Question:     what does a prompt cache save: how much sooner does an answer begin, and how much cheaper is it?
Look at:      TTFT of the class shared against own; cached tokens among prompt tokens; cost.
Useful when:  you put a long system prompt before every question, or route by prefix.

    locust -f scenarios/prompt_cache.py --headless --host http://127.0.0.1:8000 -r 4 -t 60s --prefix-tokens 4000
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
    group = parser.add_argument_group("prompt cache", "-r defaults to 4 per second, -t to 60s.")
    group.add_argument("--prefix-tokens", type=int, default=2000, help="Tokens that the shared beginnings have.")
    group.add_argument("--prefixes", type=int, default=4, help="How many different beginnings there are.")
    group.add_argument("--zipf", type=float, default=1.0, help="Popularity of the k-th is 1 / k^zipf; 0: all alike.")
    group.add_argument("--shared", type=float, default=0.5, help="Share of requests with a shared beginning.")
    group.add_argument("--question-tokens", type=int, default=100, help="Tokens after the beginning.")
    group.add_argument("--answer-tokens", type=int, default=100, help="Tokens of an answer.")


class PromptCacheUser(LLMUser):
    """Two classes of equal lengths; only one of them can be found in a cache."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own = options.own
        if not 0 < own.shared < 1:
            raise UsageError(f"--shared {own.shared:g} must lie between 0 and 1: the two classes are compared")
        prefix = {"tokens": own.prefix_tokens, "num": own.prefixes, "zipf": own.zipf}
        classes = [
            {"name": "shared", "weight": own.shared, "prefix": prefix, "prompt_tokens": own.question_tokens},
            {"name": "own", "weight": 1 - own.shared, "prompt_tokens": own.prefix_tokens + own.question_tokens},
        ]
        return mixed({"answer_tokens": own.answer_tokens, "classes": classes}, "prompt_cache", options, rate=4.0)
