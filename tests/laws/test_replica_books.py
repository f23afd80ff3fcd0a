"""The books of a replica balance, whatever is cancelled, preempted, drafted or stalled.

Large random loads; hypothesis prefers small ones, in which memory is never short and cancelled at once.
"""

from __future__ import annotations

from math import inf
from random import Random

import pytest

from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.drafts import Drafts
from mockllm.engine.kv_cache import KvCache
from mockllm.engine.latency import LinearStepTime
from mockllm.engine.noise import StepNoise
from mockllm.model import Emission, Finished, Request, Tokens, chunks_of
from mockllm.streams import Streams


class Clients:
    """What the clients of a replica have seen, and what they were promised."""

    def __init__(self) -> None:
        self.promised: dict[str, int] = {}  # answers that are not over
        self.seen: dict[str, int] = {}

    def take(self, emissions: list[Emission]) -> None:
        for emission in emissions:
            assert emission.request_id in self.promised, "told after its end"
            if isinstance(emission, Tokens):
                assert emission.first == self.seen.get(emission.request_id, 0)
                assert sum(chunk.num for chunk in chunks_of(emission)) == emission.num
                self.seen[emission.request_id] = emission.first + emission.num
            elif isinstance(emission, Finished):
                assert emission.num_output_tokens == self.promised.pop(emission.request_id)
                assert self.seen[emission.request_id] == emission.num_output_tokens


def a_replica(rng: Random) -> tuple[BatchedReplica, int]:
    """A replica with anything switched on, and how many tokens fit into its memory."""
    streams, block_size = Streams(rng.randint(0, 10**6)), rng.choice([1, 2, 3, 16])
    drafts = Drafts(rng.randint(1, 4), rng.random(), 0.0001) if rng.random() < 0.4 else None
    num_drafts = drafts.num_tokens if drafts else 0
    num_blocks = rng.randint(8, 20) * 16 // block_size if rng.random() < 0.9 else None
    room = (num_blocks * block_size if num_blocks else 300) - num_drafts - 1
    max_num_seqs, chunked = rng.randint(1, 6), rng.random() < 0.8
    budget = max(max_num_seqs * (1 + num_drafts), rng.randint(1, 80), 0 if chunked else room + 1)
    threshold, priority, lag = rng.choice([0, 0, 7]), rng.random() < 0.5, rng.random() < 0.5
    noise = StepNoise(streams, "law", step_cv=0.1, stall_probability=rng.choice([0.0, 0.2, 1.0]), stall_s=(0.0, 0.01))
    replica = BatchedReplica(
        LinearStepTime(rng.choice([0.0, 0.01]), 0.001, 0.0005, 0.00001),
        BatchLimits(max_num_seqs, budget, chunked, threshold, priority, lag),
        KvCache(num_blocks, block_size, prefix_caching=rng.random() < 0.6),
        every_token=rng.random() < 0.6,
        noise=noise if rng.random() < 0.3 else None,
        drafts=drafts,
        streams=streams,
    )
    return replica, room


def an_arrival(rng: Random, name: str, room: int, block_size: int) -> tuple[Request, int]:
    prompt = rng.randint(1, max(1, room // 2))
    size, family = rng.randint(1, max(1, room - prompt)), rng.randint(0, 2)
    hashes = tuple(hash((family, block)) for block in range((prompt + size) // block_size))
    request = Request(
        name,
        name,
        "m",
        prompt,
        block_hashes=hashes if rng.random() < 0.7 else (),
        watched=rng.random() < 0.6,
        priority=rng.randint(0, 2),
    )
    return request, size


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_and_all_memory_is_free_in_the_end(seed: int) -> None:
    rng, num_preemptions = Random(seed), 0
    for _ in range(120):
        replica, room = a_replica(rng)
        clients, now = Clients(), 0.0
        for number in range(rng.randint(5, 40)):
            now += rng.choice([0.0, rng.random() * 0.05, rng.random() * 0.3])
            clients.take(replica.advance(now))
            if rng.random() < 0.7 or not clients.promised:
                request, size = an_arrival(rng, f"r{number}", room, replica.kv.block_size)
                clients.promised[request.request_id] = size
                replica.submit(request, size, "stop", ready_at=now + rng.choice([0.0, rng.random() * 0.02]))
            else:
                victim = rng.choice(list(clients.promised))
                assert replica.cancel(victim, now)
                del clients.promised[victim]
        while replica.due() < inf:
            clients.take(replica.advance(replica.due()))
        assert not clients.promised
        assert replica.num_running == replica.num_waiting == 0
        if replica.kv.num_blocks is not None:
            assert replica.kv.num_free == replica.kv.num_blocks
        num_preemptions += replica.num_preemptions
    assert num_preemptions > 100
