"""vLLM's /metrics, read: what its scheduler and its KV cache are doing. Names of v0 (gpu_cache…) and v1 (kv_cache…)."""

from __future__ import annotations

from collections import defaultdict

from msgspec.structs import replace

from harness.gpu.exposition import read_series
from harness.gpu.samples import ServerSample
from harness.plain import short_plain

__all__ = ["NAMES", "server_samples_of"]

_MOST_MODELS = 256

_FIELDS = {
    "vllm:num_requests_running": "num_running",
    "vllm:num_requests_waiting": "num_waiting",
    "vllm:kv_cache_usage_perc": "kv_cache_usage",
    "vllm:gpu_cache_usage_perc": "kv_cache_usage",
    "vllm:num_preemptions_total": "num_preemptions",
    "vllm:prefix_cache_queries_total": "prefix_cache_queries",
    "vllm:gpu_prefix_cache_queries_total": "prefix_cache_queries",
    "vllm:prefix_cache_hits_total": "prefix_cache_hits",
    "vllm:gpu_prefix_cache_hits_total": "prefix_cache_hits",
    "vllm:prompt_tokens_total": "num_prompt_tokens",
    "vllm:generation_tokens_total": "num_output_tokens",
}
NAMES = tuple(_FIELDS)
_MEAN = "kv_cache_usage"  # a share: engines are averaged, not added


def server_samples_of(text: str, at: float, source: str) -> list[ServerSample]:
    """What a server says of each of its models, its engines taken together. Raises ValueError for what cannot be read.

    A server that says the same by its old and its new name is believed once, by the new one."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for series in read_series(text, NAMES):
        if series.name in _FIELDS and series.value >= 0:
            model = short_plain(series.labels.get("model_name", ""))
            if model not in values and len(values) == _MOST_MODELS:
                raise ValueError(f"more than {_MOST_MODELS} models")
            values[model][series.name].append(series.value)
    return [
        replace(ServerSample(at=at, model=model or None, source=source), **_together(names))
        for model, names in values.items()
    ]


def _together(names: dict[str, list[float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, field in _FIELDS.items():  # new names stand before old ones
        if name in names and field not in found:
            engines = names[name]
            found[field] = sum(engines) / (len(engines) if field == _MEAN else 1)
    return found
