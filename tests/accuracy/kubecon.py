"""The KubeCon NA 2025 sweep: Llama-3.1-8B on one H100 under vLLM 0.11, seven rates, 60 s each.

Source: kubernetes-sigs/inference-perf, demos/kubecon-na-2025 (Apache-2.0). The load is the tool's own: int(rate * 60)
requests with exponential gaps scaled to fill 60 s, at most 440 in flight (44 workers of 10), 64 tokens out, and
10 system prompts with 10 questions each in random order. TTFT and E2E count from the send.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mockllm import Request, build_engine
from mockllm.deployment import Deployment, load_profile
from mockllm.profile import BatchedProfile, NoiseModel
from mockllm.streams import Streams
from tests.accuracy.measured import percentile, run_load

__all__ = ["CHUNKED", "PLAIN", "Stage", "knee", "measured", "plateau", "profile_of", "simulated", "sweep"]

PLAIN = "vllm"
CHUNKED = "vllm+chunking_and_prefix_caching"
_CAP = 440
_DURATION_S = 60.0
_STARTED_AT = 10.0  # before it the prefix cache is filled
_NUM_OUTPUT = 64  # ignore_eos; the client counts 62.4 because it tokenizes the text again
_OVERHEAD_S = 0.0189  # API and client of this sweep; the profile's default is 8 ms
_NUM_PROMPT = {PLAIN: 204, CHUNKED: 203}


@dataclass(frozen=True)
class Stage:
    """One rate: requests a second, milliseconds for TTFT, seconds for E2E."""

    offered: float
    throughput: float
    ttft_ms: dict[int, float]
    e2e_s: float
    e2e_p99_s: float
    e2e_max_s: float


def measured(data: Path, variant: str) -> list[Stage]:
    """What was measured, by rate."""
    return [_stage(json.loads(path.read_text())) for path in _stage_files(data, variant)]


def _stage_files(data: Path, variant: str) -> list[Path]:
    folder = data / "inference_perf_kubecon"
    return sorted(folder / f"{variant}__stage_{stage}_lifecycle_metrics.json" for stage in range(7))


def _stage(report: dict[str, Any]) -> Stage:
    good = report["successes"]
    ttft, e2e = good["latency"]["time_to_first_token"], good["latency"]["request_latency"]
    names = {50: "median", 90: "p90", 99: "p99"}
    return Stage(
        offered=report["load_summary"]["requested_rate"],
        throughput=good["throughput"]["requests_per_sec"],
        ttft_ms={percent: ttft[name] * 1e3 for percent, name in names.items()},
        e2e_s=e2e["mean"],
        e2e_p99_s=e2e["p99"],
        e2e_max_s=e2e["max"],
    )


def profile_of(variant: str, noise: NoiseModel | None = None) -> BatchedProfile:
    """The bundled `h100-8b` with the sweep's own server options and the sweep's own overhead of API and client."""
    profile = load_profile("h100-8b")
    assert isinstance(profile, BatchedProfile)
    plain = variant == PLAIN
    scheduler = {"max_num_seqs": 128, "chunked_prefill": not plain, "async_scheduling": False}
    return profile.model_copy(
        update={
            "max_model_len": 512,
            "scheduler": profile.scheduler.model_copy(update=scheduler),
            "kv_cache": profile.kv_cache.model_copy(update={"prefix_caching": not plain}),
            "overhead": profile.overhead.model_copy(update={"median_s": _OVERHEAD_S}),
            "noise": profile.noise if noise is None else noise,
        }
    )


def load(variant: str, rate: float, seed: int, *, bursts: bool) -> Iterator[tuple[float, Request]]:
    """One stage's arrivals, after each prompt was sent once to fill the prefix cache. Without `bursts`: equal gaps."""
    random = Streams(seed).generator("sweep", f"{variant} {rate}")
    for prompt in range(100):
        yield prompt * 0.05, _request(f"warm-{prompt}", variant, prompt)
    num = int(rate * _DURATION_S)
    gaps = random.exponential(1.0, num) if bursts else np.ones(num)
    instants = (_STARTED_AT + np.cumsum(gaps) * (_DURATION_S / gaps.sum())).tolist()
    for number, (at, prompt) in enumerate(zip(instants, random.integers(0, 100, num).tolist(), strict=True)):
        yield at, _request(f"{number}", variant, prompt)


def _request(name: str, variant: str, prompt: int) -> Request:
    num_prompt = _NUM_PROMPT[variant]
    # The first 8 blocks are the system prompt, shared by ten prompts.
    hashes = tuple(hash((prompt // 10 if block < 8 else (prompt,), block)) for block in range(num_prompt // 16))
    return Request(
        name, name, "m", num_prompt, max_tokens=_NUM_OUTPUT, ignore_eos=True, watched=False, block_hashes=hashes
    )


@cache
def simulated(
    variant: str, rate: float, *, seed: int = 1, noise: NoiseModel | None = None, bursts: bool = True
) -> Stage:
    """The same stage in virtual time; `noise` other than the profile's own where it is given."""
    deployment = Deployment(name="sweep", seed=seed, profiles={"m": profile_of(variant, noise)})
    engine = build_engine(deployment, every_token=False)
    times = run_load(engine, load(variant, rate, seed, bursts=bursts), cap=_CAP).since(_STARTED_AT)
    return Stage(
        offered=rate,
        throughput=len(times.done_at) / float(times.done_at.max() - times.sent_at.min()),
        ttft_ms={percent: percentile(times.ttft_s, percent) * 1e3 for percent in (50, 90, 99)},
        e2e_s=float(times.e2e_s.mean()),
        e2e_p99_s=percentile(times.e2e_s, 99),
        e2e_max_s=float(times.e2e_s.max()),
    )


def sweep(data: Path, variant: str) -> tuple[list[Stage], list[Stage]]:
    """Every rate: as simulated, as measured."""
    real = measured(data, variant)
    return [simulated(variant, stage.offered) for stage in real], real


def plateau(stages: list[Stage]) -> float:
    """Requests a second where more are offered than served: the mean over those stages."""
    return float(np.mean([stage.throughput for stage in stages if stage.throughput < 0.95 * stage.offered]))


def knee(stages: list[Stage]) -> float:
    """The rate at which the median TTFT reaches ten times its idle value, log-interpolated between stages."""
    idle = stages[0].ttft_ms[50]
    growth = [float(np.log(stage.ttft_ms[50] / idle)) for stage in stages]
    above = next(number for number, value in enumerate(growth) if value >= np.log(10))
    return float(
        np.interp(np.log(10), growth[above - 1 : above + 1], [s.offered for s in stages[above - 1 : above + 1]])
    )
