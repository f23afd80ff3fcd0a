"""Options of every scenario, and what Locust's own `-u`, `-r` and `-t` mean in an open loop.

    -t, --run-time     how long the plan runs; a plan that is longer is cut there (a trace ends when it ends)
    -r, --spawn-rate   in an open loop every arrival is a new user: the arrival rate, requests per second
    -u, --users        the most requests in flight; an arrival beyond it is not sent and is counted as refused

A scenario that cannot honour one of them refuses it; none is ever ignored in silence.
"""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from dataclasses import dataclass
from math import inf
from typing import Any

from harness.arrivals.gaps import parse_gaps
from harness.dialects.table import DIALECTS
from harness.errors import UsageError
from harness.swarm.batching import add_batch_options
from harness.units import parse_duration

__all__ = ["DEFAULT_MAX_IN_FLIGHT", "PlanOptions", "add_options", "dollars", "duration", "gaps"]

DEFAULT_MAX_IN_FLIGHT = 1000

_DESCRIPTION = (
    "Open loop: requests are sent when the plan says, whether or not earlier ones were answered. "
    "-r is the arrival rate in requests per second, -u the most requests in flight (default "
    f"{DEFAULT_MAX_IN_FLIGHT}; arrivals beyond are counted as refused), -t how long the plan runs. "
    "The key of the API under test is read from the environment variable HARNESS_API_KEY."
)


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What the command line says about the load. None where it says nothing."""

    rate: float | None
    duration_s: float | None
    max_in_flight: int
    seed: int
    salt: str  # goes into every prompt; two runs with different ones share no word but those of a corpus
    own: Namespace  # the scenario's own options

    def refuse_rate(self, because: str) -> None:
        """For a scenario whose rate is not free. Raises UsageError when -r was given."""
        if self.rate is not None:
            raise UsageError(f"-r {self.rate:g} has no meaning here: {because}")


def duration(text: str) -> float:
    """A duration as an argparse type, so that a bad one is reported with the option's name."""
    try:
        return parse_duration(text)
    except UsageError as error:
        raise ArgumentTypeError(str(error)) from None


def gaps(text: str) -> str:
    """The name of a law of gaps as an argparse type; a name, because options travel to workers."""
    try:
        return str(parse_gaps(text))
    except UsageError as error:
        raise ArgumentTypeError(str(error)) from None


def dollars(text: str) -> float:
    """A sum of money as an argparse type."""
    try:
        usd = float(text.removeprefix("$"))
    except ValueError:
        usd = -1.0
    if not 0 < usd < inf:
        raise ArgumentTypeError(f"{text!r} is not a sum of money; write USD, like 5 or 0.50")
    return usd


def _count(text: str) -> int:
    """A number from 0 on, as an argparse type."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is no number from 0 on")
    return int(text)


def add_options(parser: Any) -> None:
    """Add the common options to Locust's parser."""
    group = parser.add_argument_group("LLM load (open loop)", _DESCRIPTION)
    group.add_argument("--out", default="", metavar="DIR", help="Run directory to create. Default: runs/SCENARIO-TIME")
    group.add_argument("--seed", type=int, default=0, help="Seed of the plan: arrivals, lengths and prompts.")
    group.add_argument("--model", default="", help="Model to ask for. Default: the first that /v1/models names.")
    group.add_argument(
        "--protocol",
        default="",
        metavar="NAME",
        help=f"{', '.join(DIALECTS)}. Default: the scenario's, mostly openai-chat.",
    )
    group.add_argument(
        "--objective",
        default="",
        metavar="BOUNDS",
        help="What a good request meets, as ttft<1s,tpot<60ms,e2e<10s; goodput counts those.",
    )
    group.add_argument(
        "--prompts",
        choices=["fresh", "same"],
        default="fresh",
        help="fresh: words that no earlier run has sent, so that no cache of yesterday answers. same: those of the seed.",
    )
    group.add_argument(
        "--fresh-connections",
        action="store_true",
        help="A new connection for every request instead of kept-alive ones.",
    )
    group.add_argument(
        "--retries",
        type=_count,
        default=0,
        metavar="N",
        help="Ask again up to N times when the server says when (Retry-After, retry-after-ms, x-should-retry). Default: never.",
    )
    group.add_argument(
        "--timeout", type=duration, default=300.0, metavar="TIME", help="The longest wait for a byte of an answer."
    )
    group.add_argument("--whole", action="store_true", help="Ask for whole answers instead of streams.")
    group.add_argument(
        "--any-length",
        action="store_true",
        help="Let the model stop by itself; the planned output length is only an upper bound. Needed for servers "
        "that do not know ignore_eos (vLLM, SGLang and mockllm know it; OpenAI does not).",
    )
    group.add_argument(
        "--drain",
        type=duration,
        default=60.0,
        metavar="TIME",
        help="How long to wait for open answers at the end.",
    )
    _add_judgement(parser)
    add_batch_options(parser, duration)
    _add_safety(parser)
    # Locust answers --help before it has read the scenario; this option is answered after.
    group.add_argument(
        "--scenario-help", action="help", help="Print this help with the scenario's own options, and exit."
    )
    group.add_argument("--progress", action="store_true", help="Print a line of progress to stderr every second.")


def _add_judgement(parser: Any) -> None:
    """What the run is judged by and filed under."""
    group = parser.add_argument_group("Judgement", "Kept in the manifest, so that `harness report` judges alike.")
    group.add_argument(
        "--slo", default="", metavar="FILE", help="Objectives of the whole run, budgets and alerts, as a YAML file."
    )
    group.add_argument(
        "--warmup",
        type=duration,
        default=0.0,
        metavar="TIME",
        help="Requests intended before are sent and recorded, but stand in no metric.",
    )
    group.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="What tells this run from others of its series; may be repeated. The commit is noted by itself.",
    )
    group.add_argument(
        "--gpu-price", type=dollars, default=None, metavar="USD", help="Price of the target's GPUs together, per hour."
    )
    group.add_argument(
        "--per-month", type=_volume, default=None, metavar="N", help="Project the bill to so many requests a month."
    )


def _volume(text: str) -> float:
    """A number of requests as an argparse type: 500000, 5e6."""
    try:
        num = float(text)
    except ValueError:
        num = 0.0
    if not 0 < num < inf:
        raise ArgumentTypeError(f"{text!r} is not a number of requests; write 500000 or 5e6")
    return num


def _add_safety(parser: Any) -> None:
    """What keeps a load test from harming somebody: its aim, and its bill."""
    group = parser.add_argument_group(
        "Safety",
        "Hosts on the public internet are loaded only when they are named; a cloud's metadata service never. With a "
        "budget no request is sent whose worst case would make the bill larger.",
    )
    group.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST",
        help="Load this public host: it is yours, or its owner agreed. May be repeated; HARNESS_ALLOW_HOSTS=A,B says the same.",
    )
    group.add_argument(
        "--allow-plain-http",
        action="store_true",
        help="Let the key of the API cross a network unencrypted.",
    )
    group.add_argument(
        "--prices",
        default="",
        metavar="WHAT",
        help="A price file, or a provider of the package genai-prices, like openai. Default: the provider whose API it is.",
    )
    group.add_argument(
        "--budget",
        type=dollars,
        default=None,
        metavar="USD",
        help="The most this run may cost. It is shared out equally among load processes, and the run stops when it is used up.",
    )
