"""Pools of real replicas for tests, on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mockllm import Emission, Request, Tokens, chunks_of, simulate
from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.drafts import Drafts
from mockllm.engine.engine import Engine, Replica
from mockllm.engine.hosted import HostedReplica
from mockllm.engine.kv_cache import KvCache
from mockllm.engine.latency import LinearStepTime
from mockllm.stack.pool import Pool, build_pool
from mockllm.stack.pool_settings import PoolSettings
from mockllm.stack.timeline import Timeline
from tests.stack.build import STREAMS, engine, known

__all__ = ["COLD_S", "batched", "first_tokens", "hosted", "pool", "serve", "serving"]

Make = Callable[[str], Replica]
COLD = {"decision": "0s", "provision": "60s", "driver": "20s", "image": "10s", "weights_gb": 5.0, "init": "20s"}
COLD_S = 60.0 + 20.0 + 10.0 + 5.0 / 0.5 + 20.0


def hosted(ttft_s: float = 1.0, tpot_s: float = 0.1, *, every_token: bool = False) -> Make:
    """Replicas without a queue: every answer takes `ttft_s` and `tpot_s` for each token but the first."""
    return lambda name: HostedReplica(known(ttft_s, tpot_s), STREAMS, every_token=every_token)


def batched(
    *,
    num_slots: int = 8,
    step_s: float = 0.02,
    prefill_token_s: float = 1e-4,
    num_blocks: int | None = None,
    drafts: Drafts | None = None,
    every_token: bool = False,
) -> Make:
    """Replicas with a queue, a batch and a prefix cache, and without noise."""

    def make(name: str) -> Replica:
        limits = BatchLimits(num_slots, 2048)
        steps = LinearStepTime(step_s, prefill_token_s, 0.0, 0.0)
        kv = KvCache(num_blocks, 16, prefix_caching=True)
        return BatchedReplica(steps, limits, kv, every_token=every_token, drafts=drafts, streams=STREAMS)

    return make


def pool(keys: Mapping[str, Any] | int, make: Make, name: str = "large", timeline: Timeline | None = None) -> Pool:
    """A pool as a deployment file would build it; a start takes COLD_S unless the keys say otherwise."""
    settings = PoolSettings.model_validate(keys)
    if settings.elastic and isinstance(keys, Mapping) and "cold_start" not in keys:
        settings = PoolSettings.model_validate({**keys, "cold_start": COLD})
    return build_pool(name, settings, make, streams=STREAMS, timeline=timeline or Timeline(), weight_bytes=None)


def serve(subject: Pool, load: Iterable[tuple[float, Request]]) -> list[Emission]:
    """Everything that comes out of a pool behind a bare engine, in virtual time."""
    return list(simulate(serving(subject), load))


def serving(subject: Pool) -> Engine:
    """The pool behind a bare engine."""
    return engine({subject.fleet.name: subject})


def first_tokens(load: Iterable[tuple[float, Request]], out: Iterable[Emission]) -> dict[str, float]:
    """Seconds to the first token, by request."""
    came = {request.request_id: at for at, request in load}
    firsts: dict[str, float] = {}
    for each in out:
        if isinstance(each, Tokens) and each.first == 0:
            firsts[each.request_id] = next(chunks_of(each)).at - came[each.request_id]
    return firsts
