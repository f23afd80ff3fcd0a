"""A real vLLM run, request by request: Llama-3.1-8B on an RTX 4090 under vLLM 0.19, short of KV memory.

Source: LLMServingSim (casys-kaist, 5daddb2, MIT): 300 ShareGPT requests at 10 a second, 2,588 blocks of 16 tokens.
Times count from the arrival in vLLM's scheduler, so the overhead before it is left out. The number of preemptions
of the real run was not recorded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mockllm import Request, build_engine
from mockllm.deployment import Deployment, load_profile
from mockllm.engine.batching import BatchedReplica
from mockllm.profile import BatchedProfile
from tests.accuracy.measured import Seconds, Times, run_load

__all__ = ["Replay", "replay"]


@dataclass(frozen=True)
class Replay:
    """Ours and theirs, seconds; how often ours preempted."""

    ours: Times
    ttft_s: Seconds
    tpot_s: Seconds
    e2e_s: Seconds
    num_preemptions: int


@cache
def replay(data: Path) -> Replay:
    """The same arrivals and lengths through the bundled `rtx4090-8b`."""
    path = data / "llmservingsim_vllm" / "RTX4090_Llama-3.1-8B" / "requests.jsonl"
    rows = sorted((json.loads(line) for line in path.read_text().splitlines()), key=lambda row: row["queued_ts"])
    profile = load_profile("rtx4090-8b")
    assert isinstance(profile, BatchedProfile)
    profile = profile.model_copy(update={"overhead": profile.overhead.model_copy(update={"median_s": 0.0})})
    engine = build_engine(Deployment(name="run", seed=1, profiles={"m": profile}), every_token=False)
    start = rows[0]["queued_ts"]
    load = [
        (
            row["queued_ts"] - start,
            Request(
                row["request_id"], row["request_id"], "m", row["input_toks"], max_tokens=row["output_toks"],
                ignore_eos=True, watched=False,
            ),
        )
        for row in rows
    ]  # fmt: skip
    ours = run_load(engine, load)
    queued, first, last, num = (
        np.array([row[name] for row in rows])
        for name in ("queued_ts", "first_token_ts", "last_token_ts", "output_toks")
    )
    several = num > 1
    replica = engine.models["m"].replica
    assert isinstance(replica, BatchedReplica)
    return Replay(
        ours, first - queued, ((last - first)[several] / (num - 1)[several]), last - queued, replica.num_preemptions
    )
