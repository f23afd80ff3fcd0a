"""Conversations and agents: every turn repeats all that was said before it.

Question:     what do long sessions cost, and how much of it does a prefix cache take away?
Look at:      the table by turn: prompt tokens, the share of them that was cached, TTFT. Without a cache TTFT grows with the
              turn; with one it stays near that of the first. Sessions that ended early: a turn of theirs was not answered.
Useful when:  you serve chats or agents; to choose a cache size, sticky routing, or how long an agent may go on.

Sessions arrive in an open loop at -r; their turns follow the answers. Tool results are user messages as long as --tool-tokens.

    locust -f scenarios/multi_turn_agents.py --headless --host http://127.0.0.1:8000 -r 0.5 -t 5m --tool-share 0.8
    harness simulate h100-8b --scenario scenarios/multi_turn_agents.py -r 1 -t 20m --turns 20
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.arrivals.curves import steady
from harness.plan import LoadPlan
from harness.reactive.pauses import parse_think_time
from harness.reactive.sessions import SessionLaw, SessionPlan
from harness.reactive.turns import sessions_of, sessions_text
from harness.summary import RunData
from harness.swarm import LLMUser, PlanOptions
from harness.workloads.synthetic import Lognormal

_MOST_TURNS, _MOST_TOKENS = 200, 20_000


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("sessions", "-r is the rate of new sessions (default 0.5 per second), -t: 5m.")
    group.add_argument("--turns", type=float, default=8.0, metavar="N", help="Median number of turns of a session.")
    group.add_argument("--system-tokens", type=int, default=1000, metavar="N", help="System prompt, the same for all.")
    group.add_argument("--question-tokens", type=float, default=80.0, metavar="N", help="Median length of a question.")
    group.add_argument("--answer-tokens", type=float, default=150.0, metavar="N", help="Median length of an answer.")
    group.add_argument(
        "--think", default="lognormal:8s:0.8", metavar="TIME", help="Before a question: 2s, exponential:5s."
    )
    group.add_argument(
        "--tool-share", type=float, default=0.5, metavar="SHARE", help="Turns that bring a tool's result."
    )
    group.add_argument("--tool-tokens", type=float, default=600.0, metavar="N", help="Median length of such a result.")
    group.add_argument("--tool-time", default="exponential:1s", metavar="TIME", help="How long a tool runs.")
    group.add_argument("--context", type=int, default=None, metavar="N", help="A session ends before more tokens.")


class MultiTurnUser(LLMUser):
    """Sessions of several turns."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own = options.own
        law = SessionLaw(
            turns=Lognormal(own.turns, 0.6, _MOST_TURNS),
            question_tokens=Lognormal(own.question_tokens, 0.8, _MOST_TOKENS),
            answer_tokens=Lognormal(own.answer_tokens, 0.8, _MOST_TOKENS),
            think_time=parse_think_time(own.think),
            system_tokens=own.system_tokens,
            tool_share=own.tool_share,
            tool_tokens=Lognormal(own.tool_tokens, 1.0, _MOST_TOKENS),
            tool_time=parse_think_time(own.tool_time),
            context_tokens=own.context,
        )
        pieces = steady(options.rate or 0.5, options.duration_s or 300.0)
        return SessionPlan(pieces, "poisson", law, options.seed, stream=not own.whole)

    @classmethod
    def conclusion(cls, run: RunData) -> list[str]:
        return sessions_text(sessions_of(run.directory.records([])))
