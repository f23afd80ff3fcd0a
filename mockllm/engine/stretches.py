"""Stretches: the step times of a replica, as a chain that remembers only what somebody still needs.

Between two changes of the batch every step's duration is known, so a whole run of steps is one
`Stretch`. A sequence keeps the stretch it began in; the instants of its tokens are read off the chain
when asked for. A stretch nobody refers to any more is freed by reference counting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, repeat

from mockllm.engine.latency import Pace
from mockllm.engine.noise import NoisyPace
from mockllm.model import Chunk

__all__ = ["Runs", "StepSpan", "Stretch"]


class Stretch:
    """`num_steps` steps that follow step number `first_step`, starting at `started_at`; the last is `late_s` longer."""

    __slots__ = ("first_step", "late_s", "next", "num_steps", "pace", "started_at")

    def __init__(self, first_step: int, started_at: float, num_steps: int, pace: Pace | NoisyPace) -> None:
        self.first_step = first_step
        self.started_at = started_at
        self.num_steps = num_steps
        self.pace = pace
        self.late_s = 0.0
        self.next: Stretch | None = None

    def end_of(self, num_done: int) -> float:
        """The instant at which the first `num_done` steps of this stretch are done."""
        at = self.started_at + self.pace.elapsed(num_done)
        return at if num_done < self.num_steps else at + self.late_s

    def ends(self, first: int, last: int) -> list[float]:
        """`end_of` every step from the one number `first` to the one number `last`, counted from 1."""
        started_at, elapsed = self.started_at, self.pace.elapsed
        found = [started_at + elapsed(num_done) for num_done in range(first, last + 1)]
        if last >= self.num_steps and found:
            found[-1] = self.end_of(last)
        return found

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
    """A run of steps that gave tokens: from the end of step `first_step + 1` on, the first of them number `first`.

    `totals[k]` is the number of tokens that the first k + 1 of these steps gave; None: one token a step.
    """

    stretch: Stretch
    first_step: int
    first: int
    num_steps: int
    totals: Sequence[int] | None = None

    def chunks(self) -> Iterator[Chunk]:
        stretch: Stretch | None = self.stretch
        step = 0
        while stretch is not None and step < self.num_steps:
            start = self.first_step + step - stretch.first_step
            ends = stretch.ends(start + 1, min(stretch.num_steps, start + self.num_steps - step))
            if self.totals is None:
                yield from map(Chunk, ends, count(self.first + step), repeat(1))
            else:
                yield from (self._chunk(at, number, self.totals) for number, at in enumerate(ends, step))
            step += len(ends)
            stretch = stretch.next

    @property
    def num_tokens(self) -> int:
        """Tokens of all its steps."""
        return self.num_steps if self.totals is None else self.totals[self.num_steps - 1]

    def _chunk(self, at: float, step: int, totals: Sequence[int]) -> Chunk:
        before = totals[step - 1] if step else 0
        return Chunk(at, self.first + before, totals[step] - before)


@dataclass(frozen=True, slots=True)
class Runs:
    """Several runs one after the other: between two of them the sequence was preempted."""

    spans: Sequence[StepSpan]

    def chunks(self) -> Iterator[Chunk]:
        for span in self.spans:
            yield from span.chunks()
