"""The same questions streamed, as whole answers, and in batches.

Question:     what does a user wait until the first word, what until the last, and what does each way cost?
Look at:      TTFT of `streamed` against E2E of `whole`: that is what streaming is worth; E2E and cost of `batch`; whether
              batches slow the others.
Useful when:  somebody asks whether streaming is worth its trouble, or which work could go to the batch tier.

Each way is a class of the report. The questions of a round have the same lengths and different words. Batches go through the
batch API of the protocol (--protocol openai-chat or anthropic-messages); the time that a request waits for others to share its
job counts. In virtual time a batched request is one at the lowest priority and the batch price.

    locust -f scenarios/streaming_vs_batch.py --headless --host http://127.0.0.1:8000 -r 6 -t 60s --batched 2 --batch-poll 1s
"""

from __future__ import annotations

from typing import Any, ClassVar

from locust import events

from harness.arrivals.pacing import Piece
from harness.dialects import Dialect
from harness.dialects.anthropic_batch import ANTHROPIC_BATCH
from harness.dialects.openai_batch import OPENAI_BATCH
from harness.errors import UsageError
from harness.plan import Arrival, LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.workloads.synthetic import AZURE_CONVERSATION_OUTPUT, AZURE_CONVERSATION_PROMPT, SyntheticPlan
from harness.workloads.ways import Way, WaysPlan

BATCHES = {"openai-chat": OPENAI_BATCH, "anthropic-messages": ANTHROPIC_BATCH}


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group(
        "streaming vs batch", "-r is the rate of all ways together (default 6 per second), -t defaults to 60s."
    )
    for way, default in (("streamed", 1), ("answered-whole", 1), ("batched", 1)):
        group.add_argument(f"--{way}", type=int, default=default, metavar="N", help="So many of each round; 0: none.")


class WaysUser(LLMUser):
    """Rounds of matched questions, each put in its own way."""

    batches: ClassVar[Dialect]

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own = options.own
        numbers: dict[Way, int] = {"streamed": own.streamed, "whole": own.answered_whole, "batch": own.batched}
        ways = tuple(way for way, number in numbers.items() for _ in range(number))
        if own.whole:
            raise UsageError("--whole has no meaning here: leave the streams out with --streamed 0")
        if not ways or min(numbers.values()) < 0:
            raise UsageError(f"a round of {numbers} is none: --streamed, --answered-whole and --batched are counts")
        if numbers["batch"] and cls.dialect.name not in BATCHES:
            known = " and ".join(BATCHES)
            raise UsageError(f"{cls.dialect.name} has no batches; choose {known}, or leave them out with --batched 0")
        cls.batches = BATCHES.get(cls.dialect.name, cls.dialect)
        pieces = [Piece(0.0, options.duration_s or 60.0, options.rate or 6.0, "steady")]
        azure = AZURE_CONVERSATION_PROMPT, AZURE_CONVERSATION_OUTPUT
        return WaysPlan(SyntheticPlan(pieces, "poisson", *azure, options.seed), ways)

    def dialect_for(self, arrival: Arrival) -> Dialect:
        return self.batches if arrival.class_name == "batch" else self.dialect
