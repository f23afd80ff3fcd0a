"""An independent oracle: the vLLM V1 scheduler with KV blocks and prefix cache, one step at a time, nothing in closed form.

Written from the rules and from nothing else: lists, every sequence touched at every step, every block has a number. It is
slow and checks its own books at every step. `tests/laws/stepwise.py` is the same oracle without blocks; with unlimited
blocks both give the same answer.

**Ties.** A step that ends at the instant of an arrival is over, and the next one has begun without it: what arrives
strictly before a step's end joins the next step. While nothing runs, the first arrival starts a step at its own instant,
and others at the very same instant come during that step. With `async_scheduling` what arrives during a step joins the
step after the next; when nothing is left to run at the end of the step it waits no longer, for there is no next step to miss.

**Where the rules leave room**, this is what is done here:

- Running sequences are walked in admission order. A prefill takes its chunk from what is left of the budget when the walk
  reaches it, and keeps that size whatever is preempted for it; what preempted sequences give back is for those behind it.
- A sequence that preempts itself (policy "priority") does not end the walk: those behind it are still scheduled.
- Whether a full block's hash is registered is decided once, when the block is first eligible: at the scheduling of the
  chunk that covers it if it lies within the prompt, else when the sequence leaves or is preempted, also where a prefill
  after a preemption covers generated tokens. A block that was private then stays private, even if the other copy is evicted.
- The hashes of blocks that a preempted sequence's chunk of this very step would have filled are withdrawn.
- Sequences that finish in the same step give their blocks back in the order in which they were scheduled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Literal


@dataclass
class Job:
    """One request. `hashes`: one number for each full block of prompt and answer, equal where all up to there is equal."""

    name: str
    at: float
    prompt: int
    output: int
    priority: int = 0
    hashes: tuple[int, ...] = ()
    token_times: list[float] = field(default_factory=list, init=False)
    scheduled_at: float | None = field(default=None, init=False)  # first admission
    num_cached: int = field(default=0, init=False)  # tokens, at the first admission
    num_preemptions: int = field(default=0, init=False)


@dataclass(frozen=True)
class Limits:
    max_num_seqs: int
    max_num_batched_tokens: int
    chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0  # 0: off
    num_blocks: int | None = None  # None: as many as are wanted
    block_size: int = 16
    prefix_caching: bool = False
    policy: Literal["fcfs", "priority"] = "fcfs"
    async_scheduling: bool = False

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1 or self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(f"{self}: 1 <= max_num_seqs <= max_num_batched_tokens, else a decode could miss its step")


@dataclass(frozen=True)
class Load:
    """What one step computes."""

    num_prefill_tokens: int
    num_prefills: int
    attention_work: float  # sum over prefills of q * (c + q / 2), q new tokens, c computed or cached before
    num_decodes: int
    num_kv_tokens: int  # sum over decodes of the tokens in context, the new one included


@dataclass(frozen=True)
class Step:
    start: float
    duration: float
    load: Load
    num_blocks_used: int  # referenced while the step runs


StepTime = Callable[[Load], float]


class _BlockPool:
    """Numbered blocks, their reference counts and hashes, and the free queue, least recently used first."""

    def __init__(self, num_blocks: int | None) -> None:
        self.bounded = num_blocks is not None
        self.references = [0] * (num_blocks or 0)
        self.free = list(range(num_blocks or 0))
        self.block_of: dict[int, int] = {}  # hash -> block
        self.hash_of: dict[int, int] = {}  # block -> hash

    def num_used(self) -> int:
        return len(self.references) - len(self.free)

    def num_free(self) -> float:
        return len(self.free) if self.bounded else inf

    def take(self) -> int:
        """The head of the free queue, which forgets what it held; without a bound, a block never used before."""
        if not self.bounded:
            self.references.append(1)
            return len(self.references) - 1
        block = self.free.pop(0)
        self.forget(block)
        self.references[block] = 1
        return block

    def touch(self, block: int) -> None:
        if self.references[block] == 0:
            self.free.remove(block)
        self.references[block] += 1

    def release(self, table: list[int]) -> None:
        for block in reversed(table):
            self.references[block] -= 1
            if self.references[block] == 0:
                self.free.append(block)

    def register(self, block: int, key: int) -> None:
        if key not in self.block_of:
            self.block_of[key] = block
            self.hash_of[block] = key

    def forget(self, block: int) -> None:
        if block in self.hash_of:
            del self.block_of[self.hash_of.pop(block)]

    def leading(self, keys: tuple[int, ...]) -> list[int]:
        hits: list[int] = []
        for key in keys:
            if key not in self.block_of:
                break
            hits.append(self.block_of[key])
        return hits

    def check(self, tables: list[list[int]]) -> None:
        held = Counter(block for table in tables for block in table)
        assert min(self.references, default=0) >= 0
        assert sum(self.references) == sum(held.values())
        assert all(self.references[block] == count for block, count in held.items())
        assert len(self.free) + len(held) == len(self.references), "referenced + free = all"
        assert len(set(self.free) - held.keys()) == len(self.free), "free ones are free, each once"
        assert {block: key for key, block in self.block_of.items()} == self.hash_of


@dataclass(eq=False)
class _Sequence:
    job: Job
    index: int
    prefill: int  # tokens to prefill: the prompt; after a preemption prompt and generated tokens
    computed: int = 0
    table: list[int] = field(default_factory=list)
    num_decided: int = 0  # leading blocks of `table` that are registered or will stay private

    @property
    def decoding(self) -> bool:
        return self.computed >= self.prefill

    @property
    def rank(self) -> tuple[int, float, int]:
        return (self.job.priority, self.job.at, self.index)


class _Scheduler:
    def __init__(self, jobs: list[Job], limits: Limits, step_time: StepTime) -> None:
        self.limits = limits
        self.step_time = step_time
        sequences = [_Sequence(job, index, job.prompt) for index, job in enumerate(jobs)]
        self.pending = sorted(sequences, key=lambda seq: seq.job.at)  # equal instants: in the order of submission
        self.held: list[_Sequence] = []  # arrived during the last step, and too late for the next (async scheduling)
        self.waiting: list[_Sequence] = []
        self.running: list[_Sequence] = []  # in the order of admission
        self.pool = _BlockPool(limits.num_blocks)
        self.now = -inf
        self.budget = 0
        self.scheduled: dict[_Sequence, int] = {}  # tokens of this step
        self.steps: list[Step] = []

    def run(self) -> list[Step]:
        while self.pending or self.held or self.waiting or self.running:
            if not self.waiting and not self.running:
                self._wake()
            self._schedule()
            self._compute()
            self._hear()
        return self.steps

    # Arrivals

    def _wake(self) -> None:
        if self.held:
            self._enqueue(self.held)
            self.held = []
            return
        assert self.pending[0].job.at >= self.now, "time runs forward"
        self.now = self.pending[0].job.at
        self._enqueue([self.pending.pop(0)])

    def _hear(self) -> None:
        """At the end of a step: what arrived while it ran."""
        arrived: list[_Sequence] = []
        while self.pending and self.pending[0].job.at < self.now:
            arrived.append(self.pending.pop(0))
        if self.limits.async_scheduling:
            arrived, self.held = self.held, arrived
        self._enqueue(arrived)

    def _enqueue(self, arrived: list[_Sequence]) -> None:
        self.waiting.extend(arrived)
        if self.limits.policy == "priority":
            self.waiting.sort(key=lambda seq: seq.rank)

    # One step's schedule

    def _schedule(self) -> None:
        self.scheduled = {}
        self.budget = self.limits.max_num_batched_tokens - sum(seq.decoding for seq in self.running)
        if not self._walk():
            while self.waiting and self.budget > 0 and len(self.running) < self.limits.max_num_seqs:
                if not self._admit(self.waiting[0]):
                    break
        if not self.scheduled:
            raise ValueError(f"{self.waiting[0].job}: cannot be admitted even while nothing runs, under {self.limits}")
        self._check(self.scheduled)

    def _chunk(self, remaining: int) -> int:
        return min(remaining, self.budget, self.limits.long_prefill_token_threshold or remaining)

    def _num_blocks(self, tokens: int) -> int:
        return -(-tokens // self.limits.block_size)

    def _walk(self) -> bool:
        """Blocks and tokens for what runs already; says whether anything was preempted for it."""
        preempted = False
        for seq in list(self.running):
            if seq not in self.running:
                continue
            chunk = 1 if seq.decoding else self._chunk(seq.prefill - seq.computed)
            if chunk == 0:
                continue
            while self._num_blocks(seq.computed + chunk) - len(seq.table) > self.pool.num_free():
                victim = max(self.running, key=lambda one: one.rank) if self._by_priority() else self.running[-1]
                self._preempt(victim)
                preempted = True
                if victim is seq:
                    break
            else:
                self._give(seq, chunk)
        return preempted

    def _by_priority(self) -> bool:
        return self.limits.policy == "priority"

    def _give(self, seq: _Sequence, chunk: int) -> None:
        self.scheduled[seq] = chunk
        while len(seq.table) < self._num_blocks(seq.computed + chunk):
            seq.table.append(self.pool.take())
        if not seq.decoding:
            self.budget -= chunk
            self._register(seq, min(seq.computed + chunk, seq.job.prompt))

    def _register(self, seq: _Sequence, tokens: int) -> None:
        """Decides on the hashes of the full blocks among the first `tokens`, those not decided on before."""
        if not self.limits.prefix_caching:
            return
        end = min(tokens // self.limits.block_size, len(seq.job.hashes))
        for place in range(seq.num_decided, end):
            self.pool.register(seq.table[place], seq.job.hashes[place])
        seq.num_decided = max(seq.num_decided, end)

    def _preempt(self, victim: _Sequence) -> None:
        self.running.remove(victim)
        tokens = self.scheduled.pop(victim, 0)
        self.budget += 1 if victim.decoding else tokens
        for block in victim.table[victim.computed // self.limits.block_size :]:
            self.pool.forget(block)
        self._leave(victim)
        victim.job.num_preemptions += 1
        victim.prefill = victim.job.prompt + len(victim.job.token_times)
        victim.computed = 0
        self.waiting.insert(0, victim)
        self._enqueue([])  # with policy "priority" to its place

    def _leave(self, seq: _Sequence) -> None:
        self._register(seq, seq.computed)
        self.pool.release(seq.table)
        seq.table = []
        seq.num_decided = 0

    def _admit(self, seq: _Sequence) -> bool:
        """The head of the queue, if it fits; nothing changes if it does not."""
        block_size = self.limits.block_size
        keys = seq.job.hashes[: (seq.prefill - 1) // block_size] if self.limits.prefix_caching else ()
        hits = self.pool.leading(keys)
        computed = len(hits) * block_size
        remaining = seq.prefill - computed
        if not self.limits.chunked_prefill and remaining > self.budget:
            return False
        chunk = self._chunk(remaining)
        wanted = self._num_blocks(computed + chunk) - len(hits)
        woken = sum(self.pool.references[block] == 0 for block in hits)
        if wanted > self.pool.num_free() - woken:
            return False
        for block in hits:
            self.pool.touch(block)
        seq.table = hits
        seq.num_decided = len(hits)
        seq.computed = computed
        self.running.append(self.waiting.pop(0))
        if seq.job.scheduled_at is None:
            seq.job.scheduled_at = self.now
            seq.job.num_cached = computed
        self._give(seq, chunk)
        return True

    # The step itself

    def _compute(self) -> None:
        load = self._load()
        duration = self.step_time(load)
        assert isfinite(duration)
        assert duration >= 0
        self.steps.append(Step(self.now, duration, load, self.pool.num_used()))
        self.now += duration
        for seq, tokens in self.scheduled.items():
            seq.computed += tokens
            if seq.decoding:
                seq.job.token_times.append(self.now)
            if len(seq.job.token_times) == seq.job.output:
                self.running.remove(seq)
                self._leave(seq)
        self._check({})

    def _load(self) -> Load:
        prefills = [(tokens, seq.computed) for seq, tokens in self.scheduled.items() if not seq.decoding]
        contexts = [seq.computed + 1 for seq in self.scheduled if seq.decoding]
        return Load(
            num_prefill_tokens=sum(new for new, _ in prefills),
            num_prefills=len(prefills),
            attention_work=sum(new * (before + new / 2) for new, before in prefills),
            num_decodes=len(contexts),
            num_kv_tokens=sum(contexts),
        )

    def _check(self, coming: dict[_Sequence, int]) -> None:
        """The books: budget, sequences, and exactly the blocks that computed and coming tokens need."""
        assert len(self.running) <= self.limits.max_num_seqs
        assert sum(coming.values()) <= self.limits.max_num_batched_tokens
        for seq in self.running:
            assert len(seq.table) == self._num_blocks(seq.computed + coming.get(seq, 0))
        self.pool.check([seq.table for seq in self.running])


def simulate(jobs: list[Job], limits: Limits, step_time: StepTime) -> list[Step]:
    """Run all jobs to their end; fills their result fields and returns the steps.

    Raises `ValueError` for a job that the blocks can never hold, has no tokens, was run before or has a hash twice, before
    anything runs; and, without chunked prefill, when the head of the queue is longer than the whole budget and nothing runs.
    """
    for job in jobs:
        if job.prompt < 1 or job.output < 1 or job.token_times:
            raise ValueError(f"{job}: a new job has at least one token of prompt and one of output, and no result yet")
        if len(set(job.hashes)) < len(job.hashes):
            raise ValueError(f"{job}: a hash stands for all that precedes its block too, so none comes twice")
        if limits.num_blocks is not None and -(-(job.prompt + job.output) // limits.block_size) > limits.num_blocks:
            raise ValueError(
                f"{job}: prompt and output need more than {limits.num_blocks} blocks of {limits.block_size}"
            )
    return _Scheduler(jobs, limits, step_time).run()
