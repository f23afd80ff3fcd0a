"""What a mock is doing at this moment, as plain values: for `/mock/state`, for its page, and for tests.

A number that nobody knows is None: a hosted API has no queue to look into, an unlimited KV cache no usage.
"""

from __future__ import annotations

from mockllm.engine.batching import BatchedReplica
from mockllm.engine.engine import Replica, ServedModel, Serving
from mockllm.stack.pool import Pool
from mockllm.stack.stack import Stack

__all__ = ["state_of"]


def state_of(serving: Serving, now: float) -> dict[str, object]:
    """`now` is on the clock that drives the mock; `run_s` counts from the first request of the run."""
    counts = serving.counts
    stack = serving if isinstance(serving, Stack) else None
    return {
        "now_s": now,
        "run_s": stack.timeline.at(now) if stack and stack.timeline.zero is not None else None,
        "requests": {
            "submitted": counts.num_submitted,
            "in_flight": counts.num_in_flight,
            "finished": counts.num_finished,
            "refused": counts.num_refused,
            "cut": counts.num_cut,
            "cancelled": counts.num_cancelled,
        },
        "tokens": {"prompt": counts.num_prompt_tokens, "output": counts.num_output_tokens},
        "calls": stack.num_calls if stack else None,
        "cost_usd": stack.cost_usd if stack else None,
        "stages": [
            {"name": stage.name, "does": stage.describe(), "state": stage.state(now)}
            for stage in (stack.stages if stack else ())
        ],
        "faults": stack.faults.state(now) if stack else [],
        "models": [_model(name, model, now) for name, model in serving.backends.items()],
    }


def _model(name: str, model: ServedModel, now: float) -> dict[str, object]:
    pool = model.replica.state(now) if isinstance(model.replica, Pool) else None
    return {
        "name": name,
        "running": model.replica.num_running,
        "waiting": model.replica.num_waiting,
        "replicas": [_replica(part, replica, now) for part, replica in model.replica.parts()],
        "pool": pool,
    }


def _replica(name: str, replica: Replica, now: float) -> dict[str, object]:
    shown: dict[str, object] = {"name": name, "running": replica.num_running, "waiting": replica.num_waiting}
    if isinstance(replica, BatchedReplica):
        kv = replica.kv
        looked_up = replica.num_queried_tokens
        shown |= {
            "kv_usage": None if kv.num_blocks is None else kv.usage,
            "prefix_hit_rate": replica.num_hit_tokens / looked_up if looked_up else None,
            "preemptions": replica.num_preemptions,
            "busy_s": replica.busy_s(now),
        }
    return shown
