"""Loads made by hypothesis, and what the laws look at."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from mockllm import Chunk, Cut, Emission, Finished, Refused, Request, Serving, Tokens, chunks_of
from mockllm.building import build_engine
from mockllm.deployment import Deployment
from mockllm.model import Began
from mockllm.profile import BatchedProfile, HostedProfile

BATCHED = BatchedProfile.model_validate_json(
    """{"kind": "batched", "name": "law", "model": "m", "summary": "", "as_of": "2026-11-21", "sources": [],
    "max_model_len": 400, "answer_length": {"median_tokens": 12, "sigma": 0.8},
    "overhead": {"median_s": 0.004, "sigma": 0.3},
    "step_time": {"b0": 0.007, "b1": 0.0001, "b2": 0.0003, "b3": 0.00001},
    "scheduler": {"max_num_seqs": 4, "max_num_batched_tokens": 64}}""",
    strict=False,
)
TIGHT = BatchedProfile.model_validate_json(
    """{"kind": "batched", "name": "tight", "model": "t", "summary": "", "as_of": "2026-11-21", "sources": [],
    "max_model_len": 400, "answer_length": {"median_tokens": 12, "sigma": 0.8},
    "overhead": {"median_s": 0.004, "sigma": 0.3},
    "step_time": {"b0": 0.007, "b1": 0.0001, "b2": 0.0003, "b3": 0.00001},
    "scheduler": {"max_num_seqs": 6, "max_num_batched_tokens": 64, "policy": "priority", "async_scheduling": true,
      "long_prefill_token_threshold": 40},
    "kv_cache": {"num_gpu_blocks": 30},
    "noise": {"step_cv": 0.1, "stall_probability": 0.02, "stall_min_s": 0.05, "stall_max_s": 0.2}}""",
    strict=False,
)
DRAFTED = BatchedProfile.model_validate_json(
    """{"kind": "batched", "name": "drafted", "model": "d", "summary": "", "as_of": "2026-11-21", "sources": [],
    "max_model_len": 400, "answer_length": {"median_tokens": 12, "sigma": 0.8},
    "step_time": {"b0": 0.007, "b1": 0.0001, "b2": 0.0003, "b3": 0.00001},
    "scheduler": {"max_num_seqs": 6, "max_num_batched_tokens": 64},
    "kv_cache": {"num_gpu_blocks": 40},
    "speculative": {"num_draft_tokens": 3, "acceptance_rate": 0.7, "draft_s": 0.001}}""",
    strict=False,
)
HOSTED = HostedProfile.model_validate_json(
    """{"kind": "hosted", "name": "law", "model": "h", "summary": "", "as_of": "2026-11-21", "sources": [],
    "max_model_len": 400, "answer_length": {"median_tokens": 12, "sigma": 0.8},
    "latency": {"floor_s": 0.1, "spread_median_s": 0.05, "spread_sigma": 0.6, "per_token_s": 1e-5, "per_token_squared_s": 1e-9,
      "spike_probability": 0.2, "spike_mean_s": 0.5, "tpot_median_s": 0.02, "tpot_sigma": 0.2, "tokens_per_chunk": 1.6,
      "gap_cv": 0.3, "stall_probability": 0.05, "stall_mean_tpots": 10},
    "faultiness": {"server_error_rate": 0.1, "cut_rate": 0.1}}""",
    strict=False,
)


def deployment(seed: int = 7) -> Deployment:
    return Deployment(name="law", seed=seed, profiles={"m": BATCHED, "t": TIGHT, "d": DRAFTED, "h": HOSTED})


def engine(*, every_token: bool, seed: int = 7) -> Serving:
    return build_engine(deployment(seed), every_token=every_token)


@st.composite
def loads(draw: st.DrawFn, max_size: int = 25) -> list[tuple[float, Request]]:
    """Arrivals in order of time, some at the same instant, on both models, some too long for the context."""
    gaps = draw(st.lists(st.one_of(st.just(0.0), st.floats(0, 0.2)), min_size=1, max_size=max_size))
    arrivals, now = [], 0.0
    for number, gap in enumerate(gaps):
        now += gap
        num_prompt_tokens = draw(st.integers(1, 410))
        family = draw(st.integers(0, 3))
        request = Request(
            request_id=f"r{number}",
            key=f"k{draw(st.integers(0, 50))}",
            model=draw(st.sampled_from("mtdh")),
            num_prompt_tokens=num_prompt_tokens,
            max_tokens=draw(st.one_of(st.none(), st.integers(1, 60))),
            min_tokens=draw(st.integers(0, 3)),
            watched=draw(st.booleans()),
            priority=draw(st.integers(0, 2)),
            # Prompts of a family begin alike.
            block_hashes=tuple(hash((family, block)) for block in range(num_prompt_tokens // 16)) if family else (),
        )
        arrivals.append((now, request))
    return arrivals


def told(emissions: Iterable[Emission]) -> dict[str, tuple[list[Chunk], Emission | None]]:
    """By request: every chunk with its instant, and how it ended. What a client would have seen."""
    seen: dict[str, tuple[list[Chunk], Emission | None]] = {}
    for emission in emissions:
        if isinstance(emission, Began):
            continue
        chunks, end = seen.get(emission.request_id, ([], None))
        if isinstance(emission, Tokens):
            assert end is None, "tokens after the end"
            seen[emission.request_id] = (chunks + list(chunks_of(emission)), None)
        else:
            assert isinstance(emission, Finished | Refused | Cut)
            assert end is None, "two ends"
            seen[emission.request_id] = (chunks, emission)
    return seen
