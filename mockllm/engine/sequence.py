"""One request inside a batched replica: how far its prompt is computed, which tokens it has given."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

from mockllm.engine.stretches import Runs, StepSpan, Stretch
from mockllm.model import Request, Span

__all__ = ["Sequence"]


class Sequence:
    """A request with its progress. Steps are numbered by the replica; `start_step` is the one that ended its prefill.

    A preempted sequence starts again: everything it had, prompt and tokens given, is computed as one new prompt.
    """

    __slots__ = (
        "admitted",
        "began",
        "blocks",
        "cancelled",
        "chunk",
        "computed",
        "eligible_step",
        "finish_step",
        "given",
        "num_cached",
        "num_published",
        "order",
        "prompt",
        "queued_at",
        "reason",
        "request",
        "runs",
        "scheduled_at",
        "size",
        "start_step",
        "totals",
    )

    def __init__(self, request: Request, size: int, reason: str, queued_at: float, order: int) -> None:
        self.request = request
        self.size = size  # output tokens
        self.reason = reason
        self.queued_at = queued_at
        self.order = order
        self.admitted = -1  # number of the admission; its blocks are freed in this order
        self.scheduled_at: float | None = None
        self.eligible_step = 0  # finished steps of the replica before it may be admitted
        self.prompt = max(1, request.num_prompt_tokens)  # tokens of the present prefill
        self.computed = 0  # of these, computed or cached
        self.chunk = 0  # of these, computed in the running step
        self.num_cached: int | None = None  # found in the prefix cache at the first admission
        self.given = 0  # output tokens given before the present run
        self.start_step = -1  # -1: not decoding
        self.finish_step = -1
        self.totals: list[int] | None = None  # tokens of this run after k decode steps; None: k + 1
        self.began: Stretch | None = None
        self.runs: list[StepSpan] = []
        self.blocks: list[tuple[int, int]] = []  # (position, hash) of the blocks that have one
        self.num_published = 0
        self.cancelled = False

    @property
    def rank(self) -> tuple[int, int]:
        """Smallest first: priority, then arrival."""
        return self.request.priority, self.order

    @property
    def decoding(self) -> bool:
        return self.start_step >= 0

    def tokens_by(self, num_decode_steps: int) -> int:
        """Tokens given in this run after so many decode steps; the prefill gave the first."""
        if self.totals is None:
            return num_decode_steps + 1
        return self.totals[num_decode_steps]

    def begin(self, stretch: Stretch, step: int, totals: list[int] | None) -> None:
        """The prefill is complete with step number `step`: the first token of a run is there."""
        self.began, self.start_step, self.totals = stretch, step, totals
        left = self.size - self.given
        self.finish_step = step + (left if totals is None else len(totals)) - 1

    def end_run(self, step: int) -> None:
        """The run ends with step number `step`; what it gave is kept."""
        run = self.run_until(step)
        self.runs.append(run)
        self.given += run.num_tokens
        self.began, self.start_step, self.finish_step = None, -1, -1

    def run_until(self, step: int) -> StepSpan:
        """What the present run has given by the end of step number `step`."""
        assert self.began is not None
        num_steps = step - self.start_step + 1
        totals: SequenceOf[int] | None = self.totals and self.totals[:num_steps]
        return StepSpan(self.began, self.start_step - 1, self.given, num_steps, totals)

    def start_again(self) -> None:
        """After a preemption: everything is to be computed anew."""
        self.prompt = max(1, self.request.num_prompt_tokens) + self.given
        self.computed = self.chunk = self.num_published = 0

    def span(self) -> Span:
        """The instants of all tokens; the last run has ended."""
        return self.runs[0] if len(self.runs) == 1 else Runs(self.runs)
