"""Bundled hardware, models and profiles: they can be built, and their sizes are those of the published models."""

from __future__ import annotations

import pytest

from mockllm import bundled_profiles, load_profile
from mockllm.building import build_engine as build
from mockllm.building import num_blocks, step_time
from mockllm.deployment import load_deployment
from mockllm.engine.latency import StepLoad
from mockllm.hardware import load_gpu, load_llm
from mockllm.profile import BatchedProfile

ROOFLINES = [
    f"{gpu}-{size}"
    for gpu in ("a100", "b200", "h100", "h200", "l40s", "rtx4090")
    for size in ("8b", "32b", "70b", "moe-30b")
]
GPUS = ["a100-sxm-80", "b200", "h100-sxm", "h200-sxm", "l40s", "l40s-x4", "rtx-4090"]
# From config.json: vocabulary, inner size of the feed-forward layers (of one expert).
CONFIGS = {
    "llama-3.1-8b": (128_256, 14_336),
    "llama-3.1-70b": (128_256, 28_672),
    "qwen3-32b": (151_936, 25_600),
    "qwen3-30b-a3b": (151_936, 768),
}


def roofline(name: str) -> BatchedProfile:
    profile = load_profile(name)
    assert isinstance(profile, BatchedProfile)
    return profile


@pytest.mark.parametrize("name", bundled_profiles())
def test_every_profile_makes_an_engine_and_says_what_it_is_in_a_line(name: str) -> None:
    assert set(build(load_deployment(name), every_token=False).models) == {load_profile(name).model}
    assert len(load_profile(name).summary) <= 91


@pytest.mark.parametrize("name", ROOFLINES)
def test_memory_holds_a_request_of_full_length(name: str) -> None:
    """Else vLLM refuses to start."""
    profile = roofline(name)
    blocks = num_blocks(profile)
    assert blocks is not None
    assert blocks * profile.kv_cache.block_size > profile.max_model_len


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_follow_from_the_architecture(name: str) -> None:
    llm = load_llm(name)
    vocabulary, inner = CONFIGS[name]
    hidden, head = llm.hidden_size, llm.head_dim
    attention = 2 * hidden * llm.num_heads * head + 2 * hidden * llm.num_kv_heads * head
    feed_forward = 3 * hidden * inner
    routed = llm.experts.total if llm.experts else 1
    layers = llm.num_layers * (attention + routed * feed_forward + (hidden * routed if llm.experts else 0))
    assert llm.params_b * 1e9 == pytest.approx(2 * vocabulary * hidden + layers, rel=1e-3)
    if llm.experts:
        assert llm.experts.expert_params_b * 1e9 == pytest.approx(llm.num_layers * routed * feed_forward, rel=1e-3)
        assert llm.experts.dense_params_b + llm.experts.expert_params_b == pytest.approx(llm.params_b, rel=1e-3)
        idle = (routed - llm.experts.active) * llm.num_layers * feed_forward
        assert (llm.active_params_b or 0) * 1e9 == pytest.approx(llm.params_b * 1e9 - idle, rel=0.01)


@pytest.mark.parametrize("name", GPUS)
def test_every_gpu_says_where_its_numbers_come_from(name: str) -> None:
    gpu = load_gpu(name)
    sources = " ".join(gpu.sources)
    assert "data sheet" in sources or "white paper" in sources or sources.startswith("As l40s")
    assert "fitted to" in sources
    assert gpu.experts is not None


def test_newer_gpus_are_faster() -> None:
    """One 8B, 32 sequences of 1,000 tokens; then a prompt of 2,000."""
    profiles = [roofline(f"{gpu}-8b") for gpu in ("b200", "h200", "h100", "a100", "rtx4090", "l40s")]
    decode = [step_time(profile).pace(StepLoad(0, 0, 0.0, 32, 32_000, 32)).first for profile in profiles]
    assert decode == sorted(decode)
    b200, h200, h100, a100, rtx4090, _ = (
        step_time(profile).pace(StepLoad(2000, 1, 2e6, 0, 0, 0)).first for profile in profiles
    )
    assert b200 < h200 <= h100 * 1.01 < a100 < rtx4090
