"""Clients that read slowly, and clients that go away.

Question:     does the server feel it when a client leaves or stops reading, or does it go on working for nobody?
Look at:      TTFT and ITL of the class `reads on` beside a run with both shares at 0; requests running on the server after
              clients have left; `left` among the outcomes.
Useful when:  users close tabs and phones lose the network; a gateway buffers; you pay for tokens that nobody reads.

Lengths are drawn like those of Azure's 2023 conversation trace. A slow reader is a client with a small receive buffer that
takes in so many bytes a second: an event of a token has about 250. In virtual time nobody reads slowly.

    locust -f scenarios/slow_readers_and_disconnects.py --headless --host http://127.0.0.1:8000 -r 10 -t 60s --leave-share 0.3
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.arrivals.pacing import Piece
from harness.conducts import Kind, MixedConduct
from harness.errors import UsageError
from harness.plan import Conduct, LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.options import duration, gaps
from harness.workloads.synthetic import conversations


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group(
        "slow readers and disconnects", "-r is the rate (default 5 per second), -t defaults to 60s."
    )
    group.add_argument("--gaps", type=gaps, default="poisson", help="poisson, constant, gamma:CV or weibull:CV.")
    group.add_argument("--slow-share", type=float, default=0.1, help="Share of clients that read slowly.")
    group.add_argument("--slow-bytes", type=float, default=2000.0, help="Bytes a second that a slow reader takes in.")
    group.add_argument("--leave-share", type=float, default=0.2, help="Share of clients that leave midway.")
    group.add_argument("--leave-tokens", type=int, default=20, help="They leave after so many chunks with content.")
    group.add_argument("--leave-after", type=duration, default=None, metavar="TIME", help="They leave after this time.")


class RestlessUser(LLMUser):
    """One rate; some clients read slowly, some leave, the others read on."""

    leaves_midway = True

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own = options.own
        if not own.slow_bytes > 0 or own.leave_tokens < 1:
            raise UsageError("--slow-bytes must be above 0, and --leave-tokens at least 1")
        kinds = [
            Kind("reads slowly", own.slow_share, Conduct(read_bytes_per_s=own.slow_bytes)),
            Kind("leaves", own.leave_share, Conduct(own.leave_after, own.leave_tokens)),
        ]
        pieces = [Piece(0.0, options.duration_s or 60.0, options.rate or 5.0, "steady")]
        return MixedConduct(conversations(pieces, own.gaps, options.seed), kinds, options.seed)
