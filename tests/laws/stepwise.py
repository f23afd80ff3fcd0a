"""An independent oracle: the same scheduler, one step at a time, with nothing in closed form.

Written from the rules (vLLM V1, first come first served), not from `mockllm.engine`: plain lists, every
sequence touched at every step, the clock advanced by one step's duration at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Job:
    name: str
    at: float
    prompt: int
    output: int
    left: int = field(init=False)
    given: int = 0
    token_times: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = self.prompt


@dataclass(frozen=True)
class Costs:
    b0: float
    b1: float
    b2: float
    b3: float
    max_num_seqs: int
    max_num_batched_tokens: int
    chunked_prefill: bool = True


def stepwise(
    jobs: list[Job],
    costs: Costs,
    wakes: Callable[[float], float] = lambda at: at,
    ends: Callable[[float, float], float] = lambda start, work_s: start + work_s,
) -> None:
    """Run all jobs to their end; fills `token_times`. An arrival at the instant a step ends misses the next step.

    `wakes` is when an idle replica begins to work for an arrival, `ends` when a step of so much work is over.
    """
    pending = sorted(jobs, key=lambda job: job.at)
    waiting: list[Job] = []
    running: list[Job] = []
    now = -1.0
    idle = True
    while pending or waiting or running:
        if idle:
            now = wakes(pending[0].at)
            waiting.append(pending.pop(0))
            while pending and pending[0].at < now:
                waiting.append(pending.pop(0))
        budget = costs.max_num_batched_tokens
        decoding = [job for job in running if job.left == 0]
        budget -= len(decoding)
        chunks: list[tuple[Job, int]] = []
        for job in running:
            if job.left > 0:
                chunks.append((job, min(job.left, budget)))
                budget -= chunks[-1][1]
        while waiting and budget > 0 and len(running) < costs.max_num_seqs:
            job = waiting[0]
            if not costs.chunked_prefill and job.left > budget:
                break
            running.append(waiting.pop(0))
            chunks.append((job, min(job.left, budget)))
            budget -= chunks[-1][1]
        prefill = sum(chunk for _, chunk in chunks)
        kv = sum(job.prompt + job.given for job in decoding)
        now = ends(now, costs.b0 + costs.b1 * prefill + costs.b2 * len(decoding) + costs.b3 * kv)
        for job in decoding:
            job.given += 1
            job.token_times.append(now)
        for job, chunk in chunks:
            job.left -= chunk
            if job.left == 0:
                job.given = 1
                job.token_times.append(now)
        running = [job for job in running if job.left > 0 or job.given < job.output]
        while pending and pending[0].at < now:
            waiting.append(pending.pop(0))
        idle = not waiting and not running
