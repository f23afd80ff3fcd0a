"""Ten times the load that is expected.

Question:     does the system degrade gracefully: are those whom it serves served well, and do the others hear no at once?
Look at:      throttled and refused requests against failed ones; TTFT and E2E of the requests that are ok during the overload;
              whether the time after it is like the time before. Phases: expected, ten times, expected again.
Useful when:  you decide on rate limits, queue lengths, load shedding and time-outs. Without any, a queue grows and nobody is
              served in time.

Half of the time is overload, so the number of requests is known beforehand; a plan of more than --at-most is refused.
Lengths are drawn like those of Azure's 2023 conversation trace.

    locust -f scenarios/ten_times.py --headless --host http://127.0.0.1:8000 -r 2 -t 60s
    harness simulate rate-limits --scenario scenarios/ten_times.py -r 5 -t 20m
"""

from __future__ import annotations

from typing import Any

from locust import events

from harness.arrivals.pacing import Piece, expected_count
from harness.errors import UsageError
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.options import gaps
from harness.workloads.synthetic import conversations


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group(
        "ten times", "-r is the expected rate (default 2 per second), -t defaults to 60s."
    )
    group.add_argument("--times", type=float, default=10.0, help="The overload over the expected rate.")
    group.add_argument("--at-most", type=int, default=50_000, metavar="N", help="Refuse a plan of more requests.")
    group.add_argument(
        "--gaps", type=gaps, default="poisson", help="poisson, constant, gamma:CV or weibull:CV around the rate."
    )


class TenTimesUser(LLMUser):
    """A quarter as expected, half of it too much, a quarter as expected."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own, rate, duration_s = options.own, options.rate or 2.0, options.duration_s or 60.0
        if not own.times > 1:
            raise UsageError(f"--times {own.times:g} is no overload; give more than 1")
        begin, end = duration_s / 4, duration_s * 3 / 4
        pieces = [
            Piece(0.0, begin, rate, "expected"),
            Piece(begin, end, rate * own.times, f"{own.times:g} times"),
            Piece(end, duration_s, rate, "expected again"),
        ]
        if (num := expected_count(pieces)) > own.at_most:
            raise UsageError(
                f"about {num:,.0f} requests would be sent, more than {own.at_most:,}; lower -r or -t, or raise --at-most"
            )
        return conversations(pieces, own.gaps, options.seed)
