"""Stretches: the step times of a replica, as a chain that remembers only what somebody still needs.

Between two changes of the batch every step's duration is known, so a whole run of steps is one
`Stretch`. A sequence keeps the stretch it began in; the instants of its tokens are read off the chain
when asked for. A stretch nobody refers to any more is freed by reference counting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mockllm.engine.latency import Pace
from mockllm.model import Chunk

__all__ = ["StepSpan", "Stretch"]


class Stretch:
    """`num_steps` steps that follow step number `first_step`, starting at `started_at`."""

    __slots__ = ("first_step", "next", "num_steps", "pace", "started_at")

    def __init__(self, first_step: int, started_at: float, num_steps: int, pace: Pace) -> None:
        self.first_step = first_step
        self.started_at = started_at
        self.num_steps = num_steps
        self.pace = pace
        self.next: Stretch | None = None

    def end_of(self, num_done: int) -> float:
        """The instant at which the first `num_done` steps of this stretch are done."""
        return self.started_at + self.pace.elapsed(num_done)

    def ended_at(self) -> float:
        return self.end_of(self.num_steps)

    def steps_done_by(self, now: float) -> int:
        """How many steps are done at `now`; a step that ends at this very instant is done."""
        done = self.pace.steps_done_by(now - self.started_at, self.num_steps)
        # The difference above is rounded: let the instants themselves have the last word.
        while done < self.num_steps and self.end_of(done + 1) <= now:
            done += 1
        while done > 0 and self.end_of(done) > now:
            done -= 1
        return done


@dataclass(frozen=True, slots=True)
class StepSpan:
    """One token a step: token `first` at the end of step `first_step + 1`, and so on for `num` tokens."""

    stretch: Stretch
    first_step: int
    first: int
    num: int

    def chunks(self) -> Iterator[Chunk]:
        stretch: Stretch | None = self.stretch
        token, end = self.first, self.first + self.num
        while stretch is not None and token < end:
            start = self.first_step + (token - self.first) - stretch.first_step
            for done in range(start + 1, min(stretch.num_steps, start + end - token) + 1):
                yield Chunk(stretch.end_of(done), token, 1)
                token += 1
            stretch = stretch.next
