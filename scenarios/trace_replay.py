"""Replay of a real trace.

Question:     how does the server hold up under traffic that really happened, request by request?
Look at:      asked against delivered load; TTFT over time; whether tokens in and out equal the trace's.
Useful when:  a synthetic load looks fine and production does not.

Reads Azure's and Mooncake's formats, and plain CSV or JSON lines with arrival_s, prompt_tokens, output_tokens and, where there
is something to say, class_name, user and model.

    locust -f scenarios/trace_replay.py --headless --host http://127.0.0.1:8000 --trace azure.csv --window 120s
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from locust import events

from harness.errors import UsageError
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.units import parse_window
from harness.workloads.traces import trace_plan


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group(
        "trace replay", "The rate is the trace's: -r is refused. -t cuts the replay short."
    )
    group.add_argument("--trace", default="", metavar="FILE", help="The trace to replay.")
    group.add_argument(
        "--window", default="", help="Piece of the trace: 120s is the first 120 s, 10m:12m what lies between."
    )
    group.add_argument("--speed", type=float, default=1.0, help="2 replays twice as fast.")
    group.add_argument("--scale", type=float, default=1.0, help="2 sends every request twice, 0.5 every other one.")


class TraceUser(LLMUser):
    """Every request of the window, at its time and with its lengths."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        options.refuse_rate("the rate is the trace's own; use --speed or --scale")
        own = options.own
        if not own.trace:
            raise UsageError("no trace to replay: give one with --trace FILE")
        window = parse_window(own.window) if own.window else None
        return trace_plan(Path(own.trace), window=window, speed=own.speed, scale=own.scale, seed=options.seed)
