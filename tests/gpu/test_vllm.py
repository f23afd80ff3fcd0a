"""vLLM's /metrics, by its old and its new names."""

from __future__ import annotations

import pytest

from harness.gpu.vllm import server_samples_of

# Lines of vLLM's v1 engine (docs.vllm.ai, Production Metrics), two engines of one model, and one of another.
_V1 = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="meta-llama/Llama-3.1-8B"} 3.0
vllm:num_requests_running{engine="1",model_name="meta-llama/Llama-3.1-8B"} 5.0
vllm:num_requests_running{engine="0",model_name="other"} 1.0
vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="meta-llama/Llama-3.1-8B"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="meta-llama/Llama-3.1-8B"} 0.75
vllm:gpu_cache_usage_perc{engine="0",model_name="meta-llama/Llama-3.1-8B"} 0.9
vllm:num_preemptions_total{engine="0",model_name="meta-llama/Llama-3.1-8B"} 4.0
vllm:num_preemptions_created{engine="0",model_name="meta-llama/Llama-3.1-8B"} 1.7e+09
vllm:prefix_cache_queries_total{engine="0",model_name="meta-llama/Llama-3.1-8B"} 1000.0
vllm:prefix_cache_hits_total{engine="0",model_name="meta-llama/Llama-3.1-8B"} 250.0
vllm:prompt_tokens_total{engine="0",model_name="meta-llama/Llama-3.1-8B"} 11000.0
vllm:generation_tokens_total{engine="0",model_name="meta-llama/Llama-3.1-8B"} 2200.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="meta-llama/Llama-3.1-8B"} 0.0
vllm:num_requests_running_maximum 99.0
"""


def test_engines_of_a_model_are_taken_together() -> None:
    llama, other = server_samples_of(_V1, 3.0, "http://a/metrics")
    assert (llama.model, llama.at, llama.source) == ("meta-llama/Llama-3.1-8B", 3.0, "http://a/metrics")
    assert (llama.num_running, llama.num_waiting, llama.num_preemptions) == (8.0, 2.0, 4.0)
    assert llama.kv_cache_usage == 0.5, "a share is averaged, and the new name is believed"
    assert (llama.prefix_cache_queries, llama.prefix_cache_hits) == (1000.0, 250.0)
    assert (llama.num_prompt_tokens, llama.num_output_tokens) == (11000.0, 2200.0)
    assert (other.model, other.num_running, other.num_waiting, other.kv_cache_usage) == ("other", 1.0, None, None)


def test_the_old_names() -> None:
    text = 'vllm:gpu_cache_usage_perc{model_name="m"} 0.9\nvllm:gpu_prefix_cache_hits_total{model_name="m"} 7\n'
    (sample,) = server_samples_of(text, 0.0, "x")
    assert (sample.kv_cache_usage, sample.prefix_cache_hits, sample.num_running) == (0.9, 7.0, None)


def test_not_a_number_is_not_a_figure() -> None:
    text = 'vllm:num_requests_running{model_name="m"} NaN\nvllm:num_requests_waiting{model_name="m"} +Inf\n'
    assert server_samples_of(text, 0.0, "x") == []


def test_too_many_models() -> None:
    text = "".join(f'vllm:num_requests_running{{model_name="{number}"}} 1\n' for number in range(300))
    with pytest.raises(ValueError, match="more than 256 models"):
        server_samples_of(text, 0.0, "x")
