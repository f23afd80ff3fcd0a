"""One replica with continuous batching: the scheduler of vLLM V1.

A step gives one token to every decoding sequence and spends what is left of the token budget on
prompts, in order of arrival; a prompt that does not fit is computed in chunks. While nothing enters
or leaves the batch and memory lasts, all steps to the next finish are one stretch (`stretches.py`): O(1) work,
however many tokens. An arrival that could be admitted truncates the stretch to the step that is running.

When a running sequence needs a KV block and none is free, the last one gives way: its blocks are freed, it goes
back to the front of the line, and computes everything again. In such a step nobody is admitted.

Rules and their source: vLLM V1 scheduler, as described in Kwon et al. (SOSP 2023) and its code.
Ties: a step that ends at the instant of an arrival is over, and the next one has begun without it.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from itertools import count
from math import inf
from operator import attrgetter

from mockllm.engine.drafts import Drafts
from mockllm.engine.gpu import GpuMeter, Running
from mockllm.engine.kv_cache import KvCache
from mockllm.engine.latency import Pace, StepLoad, StepTime
from mockllm.engine.noise import StepNoise
from mockllm.engine.sequence import Sequence
from mockllm.engine.stretches import Runs, Stretch
from mockllm.engine.waiting import ByPriority, FirstComeFirstServed, WaitingLine
from mockllm.events import EventQueue
from mockllm.model import Began, CacheUse, Cut, Emission, Finished, Request, Tokens
from mockllm.streams import Streams

__all__ = ["BatchLimits", "BatchedReplica"]

_ADMITTED = attrgetter("admitted")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The scheduler's limits, under vLLM's names. `priority`: by rank instead of first come, first served."""

    max_num_seqs: int
    max_num_batched_tokens: int
    chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    priority: bool = False
    async_scheduling: bool = False

    def chunk(self, remaining: int, budget: int) -> int:
        """How many of `remaining` prompt tokens one step computes."""
        threshold = self.long_prefill_token_threshold
        return min(remaining, budget, threshold) if threshold else min(remaining, budget)


class BatchedReplica:
    """Continuous batching over one model replica.

    `every_token` makes `advance` stop at every token of a watched request (real time); without it a
    request's tokens come as one span when it ends (virtual time). Both give the same instants.
    With `drafts` every step is a stretch of its own, because nobody knows how far the next one gets.
    `gpus` are told of every stretch when it ends; `running_stretch` is what they have not been told of.
    """

    def __init__(
        self,
        step_time: StepTime,
        limits: BatchLimits,
        kv: KvCache | None = None,
        *,
        every_token: bool,
        noise: StepNoise | None = None,
        drafts: Drafts | None = None,
        streams: Streams | None = None,
        gpus: GpuMeter | None = None,
    ) -> None:
        self.gpus = gpus
        self.kv = kv or KvCache(None, 16, prefix_caching=False)
        self._step_time = step_time
        self._limits = limits
        self._every_token = every_token
        self._noise = noise
        self._drafts = drafts
        self._streams = streams or Streams(0)
        self._incoming: EventQueue[Sequence] = EventQueue()
        self._line: WaitingLine[Sequence] = ByPriority() if limits.priority else FirstComeFirstServed()
        self._held: deque[Sequence] = deque()  # came too late for the next step (async scheduling)
        self._running: dict[str, Sequence] = {}  # in the order of admission
        self._prefilling: list[Sequence] = []
        self._sequences: dict[str, Sequence] = {}
        self._watched: dict[str, Sequence] = {}  # decoding and watched, in the order they began
        self._finishes: list[tuple[int, int, Sequence]] = []  # heap of (step, order, sequence), stale ones included
        self._order = count()
        self._admissions = count()
        self._steps = 0  # finished steps
        self._num_decodes = 0
        self._num_kv_tokens = 0  # of the decoding sequences
        self._phase = [0] * self.kv.block_size  # decodes that need a block in the steps with this remainder
        self._dropped: list[Sequence] = []  # cancelled while in the batch: leave at the next step's end
        self._stretch: Stretch | None = None
        self._stretch_load = StepLoad(0, 0, 0.0, 0, 0, 0)
        self._told = 0  # steps of the stretch whose tokens were let out already
        self._step_due = inf  # when the next step ends that somebody waits for; follows the four fields above
        self._busy_s = 0.0
        self._slowness = 1.0
        self._still_until = -inf
        self.num_preemptions = 0
        self.num_queried_tokens = 0  # of prompts that were looked up in the prefix cache
        self.num_hit_tokens = 0

    # -- the four verbs ------------------------------------------------------------------------------

    def submit(self, request: Request, size: int, reason: str, *, ready_at: float) -> None:
        """Queue a request that reaches the scheduler at `ready_at`, for `size` output tokens.

        Raises ValueError for a request that all of the KV cache could not hold.
        """
        sequence = Sequence(request, size, reason, ready_at, next(self._order))
        needed = self._blocks_for(sequence.prompt + size + self._num_drafts)
        if self.kv.num_blocks is not None and needed > self.kv.num_blocks:
            raise ValueError(f"{request.request_id!r} needs {needed} KV blocks; there are {self.kv.num_blocks}")
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
        if sequence in self._held:
            self._held.remove(sequence)
            return True
        if not self._line.leave(sequence):
            self._dropped.append(sequence)
        self._truncate(now)  # its place, or its place at the head of the line, is free
        return True

    def break_off(self, request_id: str, now: float) -> list[Emission]:
        """End a watched request with a `Cut`, after the tokens that it has by `now`: those of them that were not told yet
        come before it. Everything that is due by `now` has happened."""
        sequence, stretch = self._sequences[request_id], self._stretch
        runs = list(sequence.runs)
        if sequence.decoding and stretch is not None:
            runs.append(sequence.run_until(stretch.first_step + stretch.steps_done_by(now)))
        self.cancel(request_id, now)
        num = sum(run.num_tokens for run in runs)
        tokens = [Tokens(request_id, now, 0, num, Runs(runs))] if num and not self._every_token else []
        return [*tokens, Cut(request_id, now, num)]

    def due(self) -> float:
        """The next instant at which something happens."""
        arrival, step = self._incoming.due(), self._step_due
        return arrival if arrival < step else step  # not min(): a pool asks all its replicas, at every event

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

    # -- what goes wrong -----------------------------------------------------------------------------

    def slow(self, factor: float, now: float) -> None:
        """From the next step on every step takes `factor` times as long as it would; 1 is the normal pace."""
        if factor != self._slowness:
            self._slowness = factor
            self._truncate(now)

    def stall(self, until: float, now: float) -> None:
        """Stand still from `now` until `until`: the step that is running ends so much later, and no other begins.

        Called again, it moves the end; with one that is over the work goes on at once.
        """
        before, self._still_until = max(self._still_until, now), max(until, now)
        stretch = self._stretch
        if self._still_until == before:
            return
        if stretch is not None:
            self._truncate(now)
            stretch.late_s += self._still_until - before
            self._follow_stretch()
        elif len(self._line):
            self._step_due = self._still_until

    # -- what the gauges show ------------------------------------------------------------------------

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._line) + len(self._held) + len(self._incoming)

    def parts(self) -> tuple[tuple[str, BatchedReplica]]:
        return (("0", self),)

    @property
    def num_steps(self) -> int:
        """Finished steps, whole stretches only."""
        return self._steps

    def busy_s(self, now: float) -> float:
        """Seconds in which steps were running, up to `now`."""
        stretch = self._stretch
        return self._busy_s if stretch is None else self._busy_s + min(now, stretch.ended_at()) - stretch.started_at

    def running_stretch(self, now: float) -> Running | None:
        """The stretch in progress as far as it is at `now`; None when idle.

        The step that is running counts with the share of its time that has passed.
        """
        stretch = self._stretch
        if stretch is None or now <= stretch.started_at:
            return None
        until = min(now, stretch.ended_at())
        done = stretch.steps_done_by(until)
        progress = float(done)
        if done < stretch.num_steps:
            began, ends = stretch.end_of(done), stretch.end_of(done + 1)
            progress += (until - began) / (ends - began)
        return stretch.started_at, until, progress, self._stretch_load

    def lone_step_s(self) -> float:
        """The duration of a step with nothing but one short sequence in it: the fastest token."""
        return self._step_time.pace(StepLoad(0, 0, 0.0, 1, 1, 1 + self._num_drafts)).first

    # -- arrivals and the length of a stretch --------------------------------------------------------

    def _follow_stretch(self) -> None:
        """Work out when the next step ends that somebody waits for: the next one of a watched batch, else the last."""
        stretch = self._stretch
        if stretch is None:
            self._step_due = inf
        elif self._watched:
            self._step_due = stretch.end_of(self._told + 1)
        else:
            self._step_due = stretch.ended_at()

    def _enqueue(self, at: float, sequence: Sequence) -> None:
        stretch = self._stretch
        if stretch is None:
            self._line.join(sequence)
            if at < self._still_until:
                self._step_due = self._still_until
            else:
                self._plan(at)
            return
        # Behind somebody who was not admitted, first come first served, nobody will be before the batch changes.
        hopeless = len(self._line) > 0 and not self._limits.priority
        lag = 1 if self._limits.async_scheduling else 0
        if lag:
            sequence.eligible_step = stretch.first_step + stretch.steps_done_by(at) + 1 + lag
            self._held.append(sequence)
        else:
            self._line.join(sequence)
        if not hopeless and self.num_running < self._limits.max_num_seqs:
            self._truncate(at, lag)

    def _truncate(self, now: float, lag: int = 0) -> None:
        """End the stretch with the step that is running at `now` (or `lag` later), because the batch will change."""
        stretch = self._stretch
        if stretch is not None:
            stretch.num_steps = min(stretch.num_steps, stretch.steps_done_by(now) + 1 + lag)
            self._follow_stretch()

    def _plan(self, at: float) -> None:
        """Compose the batch of the next step and run it until it must change."""
        self._hear()
        gave_way = self._make_room()
        if not gave_way:
            self._admit(at)
        load = self._load()
        if not load.num_prefill_tokens and not load.num_decodes:
            self._stretch = None
            self._follow_stretch()
            return
        pace: Pace = self._step_time.pace(load)
        if self._drafts is not None and load.num_decodes:
            pace = Pace(pace.first + self._drafts.draft_s, pace.growth)
        num_steps = 1 if gave_way or load.num_prefill_tokens or self._drafts else self._steps_until_change()
        if self._noise is not None:
            num_steps, pace = self._with_stall(num_steps, pace)
        if self._slowness != 1.0:
            pace = Pace(pace.first * self._slowness, pace.growth * self._slowness)
        stretch = Stretch(self._steps, at, num_steps, self._noise.disturb(pace, self._steps) if self._noise else pace)
        if self._stretch is not None:
            self._stretch.next = stretch
        self._stretch, self._told, self._stretch_load = stretch, 0, load
        self._follow_stretch()

    def _hear(self) -> None:
        """Let those into the line who came early enough for the next step; all of them when there is nothing else to do."""
        while self._held and self._held[0].eligible_step <= self._steps:
            self._line.join(self._held.popleft())
        if not self._running and not len(self._line):
            while self._held:
                self._line.join(self._held.popleft())

    def _load(self) -> StepLoad:
        num_prefill_tokens = num_prefills = 0
        work = 0.0
        for sequence in self._prefilling:
            if chunk := sequence.chunk:
                num_prefill_tokens += chunk
                num_prefills += 1
                work += chunk * (sequence.computed + chunk / 2)
        decodes = self._num_decodes
        return StepLoad(
            num_prefill_tokens, num_prefills, work, decodes, self._num_kv_tokens, decodes * (1 + self._num_drafts)
        )

    def _steps_until_change(self) -> int:
        """Steps until a sequence finishes, memory runs out or an arrival becomes eligible."""
        finishes = self._finishes
        while finishes[0][2].finish_step != finishes[0][0]:
            heapq.heappop(finishes)  # preempted or cancelled meanwhile
        num_steps = finishes[0][0] - self._steps
        if self._held:
            num_steps = min(num_steps, self._held[0].eligible_step - self._steps)
        if self.kv.num_blocks is not None:
            num_steps = min(num_steps, 1 + self._steps_that_fit())
            if self._head_may_fit_later():
                num_steps = min(num_steps, self._steps_to_next_block())
        return num_steps

    def _head_may_fit_later(self) -> bool:
        """Whether the head of the line may be admitted although nobody leaves: a decode that takes one of the cached blocks
        it would use makes its claim on free blocks smaller."""
        if not len(self._line) or not self.kv.prefix_caching or self.num_running >= self._limits.max_num_seqs:
            return False
        return bool(self._line.head().request.block_hashes)

    def _steps_to_next_block(self) -> int:
        """Steps before the one for which a decode takes a block; the blocks for the next step are taken already."""
        size = self.kv.block_size
        return next((step for step in range(1, size) if self._phase[(self._steps + 1 + step) % size]), size)

    def _with_stall(self, num_steps: int, pace: Pace) -> tuple[int, Pace]:
        """End before the step that stalls, or be that step."""
        assert self._noise is not None
        stall_step = self._noise.stall_step
        if stall_step is None:
            return num_steps, pace
        if stall_step > self._steps:
            return min(num_steps, stall_step - self._steps), pace
        return 1, Pace(pace.first + self._noise.stall(), pace.growth)

    # -- memory --------------------------------------------------------------------------------------

    @property
    def _num_drafts(self) -> int:
        return self._drafts.num_tokens if self._drafts else 0

    def _blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.kv.block_size)

    def _blocks_of(self, sequence: Sequence, num_decode_steps: int) -> int:
        """Blocks held by a decoding sequence after so many decode steps, or by a prefilling one."""
        if not sequence.decoding:
            return self._blocks_for(sequence.computed)
        if num_decode_steps == 0:
            return self._blocks_for(sequence.prompt)
        return self._blocks_for(sequence.prompt + sequence.tokens_by(num_decode_steps - 1) + self._num_drafts)

    def _growth_of(self, sequence: Sequence) -> int:
        """Blocks that a running sequence needs for the next step."""
        if not sequence.decoding:
            return self._blocks_for(sequence.computed + sequence.chunk) - self._blocks_for(sequence.computed)
        done = self._steps - sequence.start_step
        return self._blocks_of(sequence, done + 1) - self._blocks_of(sequence, done)

    def _growth(self, after: int, num_steps: int) -> int:
        """Blocks that all decoding sequences need in `num_steps` steps after step number `after`; without drafts."""
        cycles, rest = divmod(num_steps, self.kv.block_size)
        phase, size = self._phase, self.kv.block_size
        return cycles * self._num_decodes + sum(phase[(after + step) % size] for step in range(1, rest + 1))

    def _steps_that_fit(self) -> int:
        """How many steps after the next one the free blocks suffice for."""
        cycles, free = divmod(int(self.kv.num_free), self._num_decodes)
        num_steps, after = cycles * self.kv.block_size, self._steps + 1
        while (needed := self._phase[(after + num_steps + 1) % self.kv.block_size]) <= free:
            free -= needed
            num_steps += 1
        return num_steps

    def _make_room(self) -> bool:
        """Blocks for what the running sequences compute in the next step. True when somebody had to give way."""
        self._share_budget()
        kv = self.kv
        if kv.num_blocks is not None:
            if self._drafts is None:
                needed = self._growth(self._steps, 1) + sum(map(self._growth_of, self._prefilling))
            else:
                needed = sum(map(self._growth_of, self._running.values()))
            # One by one where somebody must give way, or where the order of taking and publishing counts.
            if needed > kv.num_free or (self._prefilling and kv.forgets(needed)):
                return self._make_room_one_by_one()
            kv.take(needed)
        for sequence in self._prefilling:
            self._publish(sequence, sequence.computed + sequence.chunk)
        return False

    def _share_budget(self) -> None:
        """Chunks for the prompts in progress: what the decodes leave of the step's tokens."""
        budget = self._limits.max_num_batched_tokens - self._num_decodes * (1 + self._num_drafts)
        for sequence in self._prefilling:
            sequence.chunk = self._limits.chunk(sequence.prompt - sequence.computed, budget)
            budget -= sequence.chunk

    def _make_room_one_by_one(self) -> bool:
        """In order of admission every running sequence gets its blocks, at the expense of the last if need be.

        True when somebody had to give way.
        """
        tokens_a_decode = 1 + self._num_drafts
        budget = self._limits.max_num_batched_tokens - self._num_decodes * tokens_a_decode
        order, before = list(self._running.values()), self.num_preemptions
        index = 0
        while index < len(order):
            sequence = order[index]
            if not sequence.decoding:
                sequence.chunk = self._limits.chunk(sequence.prompt - sequence.computed, budget)
            needed = self._growth_of(sequence)
            while needed > self.kv.num_free:
                victim = self._line.victim(order)
                position = order.index(victim)
                budget += tokens_a_decode if victim.decoding else victim.chunk if position < index else 0
                self._preempt(victim, granted=position < index)
                del order[position]
                if position <= index:
                    index -= 1
                if victim is sequence:
                    break
            else:
                self.kv.take(needed)
                if not sequence.decoding:
                    budget -= sequence.chunk
                    self._publish(sequence, sequence.computed + sequence.chunk)
            index += 1
        return self.num_preemptions > before

    def _preempt(self, sequence: Sequence, *, granted: bool) -> None:
        """Take a running sequence out of the batch; `granted`: it has its blocks for the next step already."""
        blocks = self._blocks_of(sequence, self._steps - sequence.start_step)
        blocks += self._growth_of(sequence) if granted else 0
        if not sequence.decoding:  # what was to be computed in this step will not be
            while sequence.blocks and (sequence.blocks[-1][0] + 1) * self.kv.block_size > sequence.computed:
                self.kv.withdraw(sequence.blocks.pop()[1])
        self._leave(sequence, blocks)
        sequence.start_again()
        self._line.return_preempted(sequence)
        self._watched.pop(sequence.request.request_id, None)
        self.num_preemptions += 1

    def _publish(self, sequence: Sequence, num_tokens: int, *, answer: bool = False) -> None:
        """Let others share the blocks that are full with the first `num_tokens` tokens; of the `answer` at its end."""
        hashes = sequence.request.block_hashes
        if not hashes or not self.kv.prefix_caching:
            return
        limit = num_tokens if answer else min(num_tokens, sequence.request.num_prompt_tokens)
        full = min(limit // self.kv.block_size, len(hashes))
        for position in range(sequence.num_published, full):
            if self.kv.publish(hashes[position]):
                sequence.blocks.append((position, hashes[position]))
        sequence.num_published = max(sequence.num_published, full)

    def _free(self, sequence: Sequence, num_blocks: int) -> None:
        """Free all blocks, the last first."""
        end = num_blocks
        for position, content in reversed(sequence.blocks):
            self.kv.give_back(end - position - 1)
            self.kv.release(content)
            end = position
        self.kv.give_back(end)
        sequence.blocks.clear()

    # -- admission -----------------------------------------------------------------------------------

    def _admit(self, at: float) -> None:
        """Spend what is left of the step's token budget on the line, until its head does not fit."""
        limits = self._limits
        budget = limits.max_num_batched_tokens - self._num_decodes * (1 + self._num_drafts)
        budget -= sum(sequence.chunk for sequence in self._prefilling)
        while len(self._line) and budget > 0 and self.num_running < limits.max_num_seqs:
            sequence = self._line.head()
            if not self._fits(sequence, budget):
                return  # the head of the line waits for room, and everybody behind it
            self._line.pop()
            budget -= sequence.chunk
            sequence.admitted = next(self._admissions)
            self._running[sequence.request.request_id] = sequence
            self._prefilling.append(sequence)
            if sequence.scheduled_at is None:
                sequence.scheduled_at = at

    def _fits(self, sequence: Sequence, budget: int) -> bool:
        """Give a sequence its first chunk and the blocks for it, if both are to be had."""
        kv, hashes = self.kv, sequence.request.block_hashes
        num_hits = kv.hits(hashes, (sequence.prompt - 1) // kv.block_size) if hashes else 0
        cached = num_hits * kv.block_size
        remaining = sequence.prompt - cached
        if not self._limits.chunked_prefill and remaining > budget:
            return False
        chunk = self._limits.chunk(remaining, budget)
        needed = self._blocks_for(cached + chunk) - num_hits
        if needed + (kv.num_idle(hashes[:num_hits]) if num_hits else 0) > kv.num_free:
            return False
        for position in range(num_hits):
            kv.reuse(hashes[position])
            sequence.blocks.append((position, hashes[position]))
        kv.take(needed)
        sequence.num_published, sequence.computed, sequence.chunk = num_hits, cached, chunk
        self._publish(sequence, cached + chunk)
        if sequence.num_cached is None:
            sequence.num_cached = cached
            if kv.prefix_caching:
                self.num_queried_tokens += sequence.prompt
                self.num_hit_tokens += cached
        return True

    # -- the end of a step ---------------------------------------------------------------------------

    def _end_step(self, out: list[Emission]) -> None:
        """End the step that is due, or the wait of a replica that stood still with nothing to do."""
        stretch, at = self._stretch, self._step_due
        if stretch is None:
            self._plan(at)
            return
        done = self._told + 1 if self._watched else stretch.num_steps
        if self._every_token:
            self._tell(stretch.first_step + done, at, out)
        self._told = done
        if done < stretch.num_steps:
            self._follow_stretch()
            return
        self._busy_s += at - stretch.started_at
        if self.gpus is not None:
            self.gpus.ran(stretch.started_at, at, stretch.num_steps, self._stretch_load)
        if self._drafts is None:
            self._num_kv_tokens += self._num_decodes * stretch.num_steps
            if self.kv.num_blocks is not None and stretch.num_steps > 1:
                self.kv.take(self._growth(self._steps + 1, stretch.num_steps - 1))
        else:
            self._num_kv_tokens += self._num_drafted_tokens()
        self._steps = stretch.first_step + stretch.num_steps
        self._told = 0
        ended = self._ended_decodes()
        self._drop()
        ended += self._begin_decodes(stretch, at, out)
        for sequence in sorted(ended, key=_ADMITTED):
            self._leave(sequence, self._blocks_of(sequence, self._steps - sequence.start_step))
            self._emit_finish(sequence, at, out)
        self._plan(at)

    def _num_drafted_tokens(self) -> int:
        """Tokens that the step which ends now gives to the decoding sequences, with drafts."""
        total = 0
        for sequence in self._running.values():
            if sequence.decoding:
                done = self._steps - sequence.start_step
                total += sequence.tokens_by(done + 1) - sequence.tokens_by(done)
        return total

    def _tell(self, step: int, at: float, out: list[Emission]) -> None:
        """The tokens that step number `step` gives to those who watch."""
        if self._drafts is None:
            for request_id, sequence in self._watched.items():
                out.append(Tokens(request_id, at, sequence.given + step - sequence.start_step, 1))
            return
        for request_id, sequence in self._watched.items():
            before, after = (sequence.tokens_by(step - sequence.start_step - back) for back in (1, 0))
            out.append(Tokens(request_id, at, sequence.given + before, after - before))

    def _ended_decodes(self) -> list[Sequence]:
        """The decoding sequences whose last token this step gave."""
        ended: list[Sequence] = []
        while self._finishes and self._finishes[0][0] <= self._steps:
            step, _, sequence = heapq.heappop(self._finishes)
            if step == sequence.finish_step and not sequence.cancelled:
                sequence.finish_step = -1  # a run before a preemption may have been meant to end with this step too
                ended.append(sequence)
        return ended

    def _leave(self, sequence: Sequence, num_blocks: int) -> None:
        """Take a sequence out of the batch and free its blocks; a decoding one ends its run with the last step."""
        if sequence.decoding:
            done = self._steps - sequence.start_step
            context = sequence.prompt + sequence.tokens_by(done)
            self._num_decodes -= 1
            self._num_kv_tokens -= context
            self._phase[(1 - sequence.prompt + sequence.start_step) % self.kv.block_size] -= 1
            self._publish(sequence, context - 1, answer=True)
            sequence.end_run(self._steps)
        else:
            self._publish(sequence, sequence.computed, answer=True)
            self._prefilling.remove(sequence)
        self._free(sequence, num_blocks)
        del self._running[sequence.request.request_id]

    def _drop(self) -> None:
        """Free the sequences that were cancelled during the step."""
        for sequence in self._dropped:
            if not sequence.decoding:
                sequence.computed += sequence.chunk
            self._leave(sequence, self._blocks_of(sequence, self._steps - sequence.start_step))
        self._dropped.clear()

    def _begin_decodes(self, stretch: Stretch, at: float, out: list[Emission]) -> list[Sequence]:
        """A prompt that is complete gives its first token at the end of the same step; those for which it is the last."""
        ended: list[Sequence] = []
        for sequence in list(self._prefilling):
            sequence.computed += sequence.chunk
            if sequence.computed < sequence.prompt:
                continue
            left, watched = sequence.size - sequence.given, self._every_token and sequence.request.watched
            totals = self._totals(sequence, left)
            self._prefilling.remove(sequence)
            if sequence.given == 0 and (watched or sequence.request.tell_first):
                out.append(Began(sequence.request.request_id, at, CacheUse(sequence.num_cached or 0)))
            if watched:
                out.append(Tokens(sequence.request.request_id, at, sequence.given, 1))
            sequence.begin(stretch, self._steps, totals)
            self._num_decodes += 1
            self._num_kv_tokens += sequence.prompt + 1
            self._phase[(1 - sequence.prompt + self._steps) % self.kv.block_size] += 1
            if left == 1:
                ended.append(sequence)
                continue
            heapq.heappush(self._finishes, (sequence.finish_step, sequence.order, sequence))
            if watched:
                self._watched[sequence.request.request_id] = sequence
        return ended

    def _totals(self, sequence: Sequence, left: int) -> list[int] | None:
        """Tokens after each decode step of the run that begins, where drafts decide it."""
        if self._drafts is None:
            return None
        return self._drafts.tokens_after_steps(left, f"{sequence.request.key}\x00{sequence.given}", self._streams)

    def _emit_finish(self, sequence: Sequence, at: float, out: list[Emission]) -> None:
        request_id = sequence.request.request_id
        self._sequences.pop(request_id)
        self._watched.pop(request_id, None)
        if not (self._every_token and sequence.request.watched):
            out.append(Tokens(request_id, at, 0, sequence.size, sequence.span()))
        assert sequence.scheduled_at is not None
        queue_s = sequence.scheduled_at - sequence.queued_at
        out.append(
            Finished(request_id, at, sequence.reason, sequence.size, CacheUse(sequence.num_cached or 0), queue_s)
        )
