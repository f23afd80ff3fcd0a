"""One replica with continuous batching: the scheduler of vLLM V1, first come first served.

A step gives one token to every decoding sequence and spends what is left of the token budget on
prompts, in order of arrival; a prompt that does not fit is computed in chunks. While nothing enters
or leaves the batch, all steps to the next finish are one stretch (`stretches.py`): O(1) work, however
many tokens. An arrival that could be admitted truncates the stretch to the step that is running.

Rules and their source: vLLM V1 scheduler, as described in Kwon et al. (SOSP 2023) and its code.
Ties: a step that ends at the instant of an arrival is over, and the next one has begun without it.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from itertools import count
from math import inf

from mockllm.engine.latency import StepTime
from mockllm.engine.stretches import StepSpan, Stretch
from mockllm.events import EventQueue
from mockllm.model import Emission, Finished, Request, Tokens

__all__ = ["BatchLimits", "BatchedReplica"]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The scheduler's limits, under vLLM's names."""

    max_num_seqs: int
    max_num_batched_tokens: int
    chunked_prefill: bool = True


class _Sequence:
    """One request in the replica. Steps count the replica's finished steps."""

    __slots__ = (
        "began",
        "cancelled",
        "first_step",
        "queued_at",
        "reason",
        "remaining",
        "request",
        "scheduled_at",
        "size",
    )

    def __init__(self, request: Request, size: int, reason: str, queued_at: float) -> None:
        self.request = request
        self.size = size  # output tokens
        self.reason = reason
        self.queued_at = queued_at
        self.scheduled_at: float | None = None
        self.remaining = max(1, request.num_prompt_tokens)  # prompt tokens not computed yet
        self.began: Stretch | None = None  # the stretch whose end gave the first token
        self.first_step = 0  # the step before the one that gave the first token
        self.cancelled = False


class BatchedReplica:
    """Continuous batching over one model replica.

    `every_token` makes `advance` stop at every token of a watched request (real time); without it a
    request's tokens come as one span when it ends (virtual time). Both give the same instants.
    """

    def __init__(self, step_time: StepTime, limits: BatchLimits, *, every_token: bool) -> None:
        self._step_time = step_time
        self._limits = limits
        self._every_token = every_token
        self._incoming: EventQueue[_Sequence] = EventQueue()
        self._waiting: deque[_Sequence] = deque()
        self._prefilling: list[_Sequence] = []
        self._chunks: list[int] = []  # this step's prompt tokens, beside _prefilling
        self._sequences: dict[str, _Sequence] = {}
        self._watched: dict[str, _Sequence] = {}  # decoding and watched, in the order they began
        self._finishes: list[tuple[int, int, _Sequence]] = []  # heap of (step, order, sequence)
        self._order = count()
        self._steps = 0  # finished steps
        self._num_decodes = 0
        self._num_kv_tokens = 0  # of the decoding sequences
        self._dropped: list[_Sequence] = []  # cancelled while in the batch: leave at the next step's end
        self._stretch: Stretch | None = None
        self._told = 0  # steps of the stretch whose tokens were let out already
        self._step_due = inf  # when the next step ends that somebody waits for; follows the four fields above

    # -- the four verbs ------------------------------------------------------------------------------

    def submit(self, request: Request, size: int, reason: str, *, ready_at: float) -> None:
        """Queue a request that reaches the scheduler at `ready_at`, for `size` output tokens."""
        sequence = _Sequence(request, size, reason, ready_at)
        self._sequences[request.request_id] = sequence
        self._incoming.push(ready_at, sequence)

    def cancel(self, request_id: str, now: float) -> bool:
        """Forget a request; one that is in the batch leaves it when the running step ends."""
        sequence = self._sequences.pop(request_id, None)
        if sequence is None:
            return False
        sequence.cancelled = True
        self._watched.pop(request_id, None)
        if self._incoming.discard(sequence):
            return True
        if sequence in self._waiting:
            self._waiting.remove(sequence)
            return True
        self._dropped.append(sequence)
        self._truncate(now)
        return True

    def due(self) -> float:
        """The next instant at which something happens."""
        return min(self._incoming.due(), self._step_due)

    def advance(self, now: float) -> list[Emission]:
        """Let everything happen that is due at or before `now`, in order."""
        out: list[Emission] = []
        while True:
            arrival = self._incoming.due()
            if self._step_due > now and arrival > now:
                return out
            if self._step_due <= arrival:
                self._end_step(out)
            else:
                self._enqueue(*self._incoming.pop())

    # -- what the gauges show ------------------------------------------------------------------------

    @property
    def num_running(self) -> int:
        return self._num_decodes + len(self._prefilling)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting) + len(self._incoming)

    # -- inside --------------------------------------------------------------------------------------

    def _follow_stretch(self) -> None:
        """Work out when the next step ends that somebody waits for: the next one of a watched batch, else the last."""
        stretch = self._stretch
        if stretch is None:
            self._step_due = inf
        elif self._watched:
            self._step_due = stretch.end_of(self._told + 1)
        else:
            self._step_due = stretch.ended_at()

    def _enqueue(self, at: float, sequence: _Sequence) -> None:
        self._waiting.append(sequence)
        if self._stretch is None:
            self._plan(at)
        elif self.num_running < self._limits.max_num_seqs:
            self._truncate(at)

    def _truncate(self, now: float) -> None:
        """End the stretch with the step that is running at `now`, because the batch will change."""
        stretch = self._stretch
        if stretch is not None:
            stretch.num_steps = min(stretch.num_steps, stretch.steps_done_by(now) + 1)
            self._follow_stretch()

    def _plan(self, at: float) -> None:
        """Compose the batch of the next step and run it until it must change."""
        self._admit(at)
        num_prefill = sum(self._chunks)
        if not num_prefill and not self._num_decodes:
            self._stretch = None
            self._follow_stretch()
            return
        pace = self._step_time.pace(
            num_prefill_tokens=num_prefill, num_decodes=self._num_decodes, num_kv_tokens=self._num_kv_tokens
        )
        num_steps = 1 if num_prefill else self._finishes[0][0] - self._steps
        stretch = Stretch(self._steps, at, num_steps, pace)
        if self._stretch is not None:
            self._stretch.next = stretch
        self._stretch, self._told = stretch, 0
        self._follow_stretch()

    def _admit(self, at: float) -> None:
        """Spend the step's token budget: decodes first, then prompts in progress, then the queue."""
        limits = self._limits
        budget = limits.max_num_batched_tokens - self._num_decodes
        self._chunks = []
        for sequence in self._prefilling:
            self._chunks.append(min(sequence.remaining, budget))
            budget -= self._chunks[-1]
        while self._waiting and budget > 0 and self.num_running < limits.max_num_seqs:
            sequence = self._waiting[0]
            if not limits.chunked_prefill and sequence.remaining > budget:
                break  # the head of the line waits for room, and everybody behind it
            self._waiting.popleft()
            sequence.scheduled_at = at
            self._prefilling.append(sequence)
            self._chunks.append(min(sequence.remaining, budget))
            budget -= self._chunks[-1]

    def _end_step(self, out: list[Emission]) -> None:
        """End the step that is due."""
        stretch, at = self._stretch, self._step_due
        assert stretch is not None
        done = self._told + 1 if self._watched else stretch.num_steps
        if self._every_token:
            step = stretch.first_step + done
            for request_id, sequence in self._watched.items():
                out.append(Tokens(request_id, at, step - 1 - sequence.first_step, 1))
        self._told = done
        if done < stretch.num_steps:
            self._follow_stretch()
            return
        self._steps = stretch.first_step + stretch.num_steps
        self._num_kv_tokens += self._num_decodes * stretch.num_steps
        self._finish(at, out)
        self._drop()
        self._begin_decodes(stretch, at, out)
        self._plan(at)

    def _finish(self, at: float, out: list[Emission]) -> None:
        """Let go the decoding sequences whose last token this step gave."""
        while self._finishes and self._finishes[0][0] == self._steps:
            sequence = heapq.heappop(self._finishes)[2]
            if not sequence.cancelled:
                self._leave_decodes(sequence, sequence.size)
                self._emit_finish(sequence, at, out)

    def _leave_decodes(self, sequence: _Sequence, num_generated: int) -> None:
        self._num_decodes -= 1
        self._num_kv_tokens -= sequence.request.num_prompt_tokens + num_generated

    def _drop(self) -> None:
        """Free the sequences that were cancelled during the step."""
        for sequence in self._dropped:
            if sequence in self._prefilling:
                position = self._prefilling.index(sequence)
                del self._prefilling[position], self._chunks[position]
            else:
                self._leave_decodes(sequence, self._steps - sequence.first_step)
                self._finishes = [entry for entry in self._finishes if entry[2] is not sequence]
                heapq.heapify(self._finishes)
        self._dropped.clear()

    def _begin_decodes(self, stretch: Stretch, at: float, out: list[Emission]) -> None:
        """A prompt that is complete gives its first token at the end of the same step."""
        if not self._prefilling:
            return
        still: list[_Sequence] = []
        for sequence, chunk in zip(self._prefilling, self._chunks, strict=True):
            sequence.remaining -= chunk
            if sequence.remaining:
                still.append(sequence)
                continue
            sequence.began, sequence.first_step = stretch, self._steps - 1
            if self._every_token and sequence.request.watched:
                out.append(Tokens(sequence.request.request_id, at, 0, 1))
            if sequence.size == 1:
                self._emit_finish(sequence, at, out)
                continue
            self._num_decodes += 1
            self._num_kv_tokens += sequence.request.num_prompt_tokens + 1
            heapq.heappush(self._finishes, (self._steps + sequence.size - 1, next(self._order), sequence))
            if self._every_token and sequence.request.watched:
                self._watched[sequence.request.request_id] = sequence
        self._prefilling = still

    def _emit_finish(self, sequence: _Sequence, at: float, out: list[Emission]) -> None:
        request_id = sequence.request.request_id
        self._sequences.pop(request_id)
        self._watched.pop(request_id, None)
        if not (self._every_token and sequence.request.watched):
            assert sequence.began is not None
            span = StepSpan(sequence.began, sequence.first_step, 0, sequence.size)
            out.append(Tokens(request_id, at, 0, sequence.size, span))
        assert sequence.scheduled_at is not None
        queue_s = sequence.scheduled_at - sequence.queued_at
        out.append(Finished(request_id, at, sequence.reason, sequence.size, queue_s=queue_s))
