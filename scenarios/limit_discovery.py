"""A provider's limits on requests and tokens a minute, found with a handful of refusals.

Question:     what does this key really get, and is it requests or tokens that end first?
Look at:      the answer: stated by the provider's headers, measured, and the bounds. The price stands beneath it.
Useful when:  headers are missing or doubted, a gateway shares a quota, or limits changed. Ask the provider before you do this
              to a key that others use: while it runs, they are refused too.

Small requests meet the limit on requests, large ones that on tokens. Every step stops at its first 429 and waits as asked.
The load comes from one process, because the search must hear every answer.

    locust -f scenarios/limit_discovery.py --headless --host http://127.0.0.1:8000 -t 30m
    harness simulate limited.yaml --scenario scenarios/limit_discovery.py -t 1h
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.errors import UsageError
from harness.plan import LoadPlan
from harness.reactive.limit_plan import LimitPlan
from harness.reactive.limit_report import limits_of, limits_text
from harness.reactive.limit_search import LimitSettings
from harness.summary import RunData
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.options import duration


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    text = "-r is the first rate (default: half of what is stated, else one in 2 seconds), -t the longest search: 30m."
    group = parser.add_argument_group("limit discovery", text)
    group.add_argument("--most-refusals", type=int, default=5, metavar="N", help="How many 429s may be provoked.")
    group.add_argument("--most-requests", type=int, default=10_000, metavar="N", help="How many requests may be sent.")
    group.add_argument("--most-tokens", type=int, default=5_000_000, metavar="N", help="How many tokens may be sent.")
    group.add_argument("--large-prompt", type=int, default=2000, metavar="N", help="Tokens of a large request.")
    group.add_argument("--window", type=duration, default=60.0, metavar="TIME", help="Length of a step.")


class LimitUser(LLMUser):
    """Steps of even load, each to its first refusal."""

    one_process = True

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own = options.own
        if own.retries:
            raise UsageError("--retries would hide the refusals that this search goes by; leave it out")
        settings = LimitSettings(
            first_rate=options.rate,
            window_s=own.window,
            most_throttled=own.most_refusals,
            most_requests=own.most_requests,
            most_tokens=own.most_tokens,
            large_prompt=own.large_prompt,
        )
        duration_s = options.duration_s or 1800.0
        if own.window >= duration_s:
            raise UsageError(f"-t {duration_s:g} s has no room for a step of {own.window:g} s; give a longer -t")
        return LimitPlan(settings, duration_s, options.seed)

    @classmethod
    def conclusion(cls, run: RunData) -> list[str]:
        return limits_text(limits_of(run.manifest.plan, run.directory.records([])))
