"""The hosted classes against the requests they were fitted to.

Sources: Ray llmperf leaderboard (December 2023, 550 tokens in, 150 out; Apache-2.0) and Epoch's ttft-latency-scaling
(2026, 50,000 tokens and more; MIT).
"""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path

import numpy as np

from mockllm import Request, build_engine
from mockllm.deployment import Deployment, load_profile
from tests.accuracy.measured import Seconds, run_load

__all__ = ["BY_LENGTH", "PROVIDERS", "measured_by_length", "measured_times", "mock_median", "mock_times"]

PROVIDERS = {
    "hosted": "anyscale_70b",
    "fast-silicon": "groq_70b",
    "steady-gpu-api": "fireworks_13b",
    "serverless-cold": "replicate_70b",
}
BY_LENGTH = {"frontier-mid": "GPT-5.6 Terra", "frontier-large": "Claude Opus 5"}


def measured_times(data: Path, provider: str) -> tuple[Seconds, Seconds]:
    """TTFT and TPOT of the answered requests."""
    rows = json.loads((data / "llmperf_leaderboard" / f"{provider}.json").read_text())
    good = [row for row in rows if not row["error_code"] and row["number_output_tokens"] > 1]
    ttft = np.array([row["ttft_s"] for row in good])
    e2e = np.array([row["end_to_end_latency_s"] for row in good])
    return ttft, (e2e - ttft) / (np.array([row["number_output_tokens"] for row in good]) - 1)


@cache
def mock_times(profile: str, num_prompt: int = 550, num: int = 20_000) -> tuple[Seconds, Seconds]:
    """TTFT and TPOT of so many answers of 150 tokens."""
    deployment = Deployment(name="hosted", seed=0, profiles={"m": load_profile(profile)})
    engine = build_engine(deployment, every_token=False)
    requests = (Request(f"r{n}", f"k{n}", "m", num_prompt, max_tokens=150, ignore_eos=True) for n in range(num))
    times = run_load(engine, ((0.0, request) for request in requests))
    return times.ttft_s, times.tpot_s


def measured_by_length(data: Path, model: str) -> dict[int, float]:
    """The median TTFT by prompt length."""
    with (data / "hosted_ttft_epoch" / "ttft_vs_input_tokens.csv").open() as file:
        rows = [
            (int(row["input_tokens"]), float(row["ttft_s"])) for row in csv.DictReader(file) if row["model"] == model
        ]
    return {
        length: float(np.median([ttft for n, ttft in rows if n == length])) for length in sorted({n for n, _ in rows})
    }


def mock_median(profile: str, num_prompt: int) -> float:
    """The median TTFT of prompts of one length. Raises AssertionError when the profile refuses the length."""
    ttft, _ = mock_times(profile, num_prompt, 1_000)
    assert len(ttft) == 1_000
    return float(np.median(ttft))
