"""GPUs and language models as files: the numbers that a roofline is made of, each with its source.

A batched profile names one of each (`gpu: h100-sxm`, `llm: llama-3.1-8b`), bundled or a path to a file of one's own.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter, model_validator

from mockllm.engine.roofline import Accelerator, Experts, Host, Transformer
from mockllm.errors import DeploymentError
from mockllm.fields import Count, Name, Positive, Seconds, Strict
from mockllm.strictyaml import read_yaml, validated

__all__ = ["GpuModel", "HostModel", "LlmModel", "load_gpu", "load_llm"]

_PARTS = Path(__file__).parent / "profiles"
_GIB = 2**30


class _PartModel(Strict):
    name: Name
    summary: str
    as_of: date
    sources: list[str]


class EfficiencyModel(Strict):
    """Shares of the peaks that kernels reach: weights and KV of bandwidth, matrix products and attention of FLOP/s."""

    weights: Positive
    compute: Positive
    kv: Positive
    attention: Positive


class ExpertTuning(Strict):
    """What differs on this GPU for mixtures of experts (see `roofline.py`)."""

    efficiency: EfficiencyModel
    layer_latency_s: Seconds
    skew: Positive


class GpuModel(_PartModel):
    """One accelerator."""

    kind: Literal["gpu"]
    peak_tflops: Positive  # bf16, dense
    bandwidth_tb_s: Positive
    memory_gib: Positive
    idle_power_w: Positive | None = None
    max_power_w: Positive | None = None
    efficiency: EfficiencyModel
    norm: Annotated[float, Field(ge=1)]
    layer_latency_s: Seconds = 0.0
    interconnect_gb_s: Positive | None = None  # None: not measured, tensor parallelism is refused
    experts: ExpertTuning | None = None  # None: not measured, mixtures of experts are refused

    def accelerator(self, *, experts: bool) -> Accelerator:
        """The engine's view. Raises ValueError for a mixture of experts on a GPU without numbers for it."""
        tuning = self.experts if experts else None
        if experts and tuning is None:
            raise ValueError(f"gpu {self.name} has no `experts` numbers, so it cannot serve a mixture of experts")
        share = tuning.efficiency if tuning else self.efficiency
        return Accelerator(
            flops=self.peak_tflops * 1e12,
            bandwidth=self.bandwidth_tb_s * 1e12,
            memory=self.memory_gib * _GIB,
            weight_efficiency=share.weights,
            compute_efficiency=share.compute,
            kv_efficiency=share.kv,
            attention_efficiency=share.attention,
            norm=self.norm,
            layer_latency=self.layer_latency_s,
            interconnect=(self.interconnect_gb_s or 1.0) * 1e9,
            expert_layer_latency=tuning.layer_latency_s if tuning else 0.0,
            expert_skew=tuning.skew if tuning else 1.0,
        )


class ExpertsModel(Strict):
    """Sizes of a mixture of experts: parameters outside and inside the experts, `active` of `total` per token."""

    dense_params_b: Positive
    expert_params_b: Positive
    active: Count
    total: Count


class LlmModel(_PartModel):
    """One language model. Parameters in billions (10^9)."""

    kind: Literal["llm"]
    model: Annotated[str, Field(min_length=1, max_length=200)]
    params_b: Positive
    active_params_b: Positive | None = None  # None: all of them
    bytes_per_param: Positive = 2.0
    num_layers: Count
    hidden_size: Count
    num_heads: Count
    num_kv_heads: Count
    head_dim: Count
    kv_bytes_per_value: Positive = 2.0
    max_model_len: Count
    experts: ExpertsModel | None = None

    @model_validator(mode="after")
    def _heads_divide(self) -> LlmModel:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} must be a multiple of num_kv_heads {self.num_kv_heads}")
        return self

    @property
    def kv_bytes_per_token(self) -> float:
        """Keys and values over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * self.kv_bytes_per_value

    def transformer(self) -> Transformer:
        """The engine's view."""
        experts = self.experts
        return Transformer(
            weight_bytes=self.params_b * 1e9 * self.bytes_per_param,
            active_params=(self.active_params_b or self.params_b) * 1e9,
            num_layers=self.num_layers,
            hidden_size=self.hidden_size,
            num_heads=self.num_heads,
            head_dim=self.head_dim,
            kv_bytes_per_token=self.kv_bytes_per_token,
            experts=None
            if experts is None
            else Experts(
                experts.dense_params_b * 1e9 * self.bytes_per_param,
                experts.expert_params_b * 1e9 * self.bytes_per_param,
                experts.active,
                experts.total,
            ),
        )


class HostModel(Strict):
    """The CPU's part of a step."""

    step_s: Seconds = 0.0
    per_sequence_s: Seconds = 0.0
    per_prefill_s: Seconds = 0.0

    def host(self) -> Host:
        return Host(self.step_s, self.per_sequence_s, self.per_prefill_s)


Part = TypeVar("Part", GpuModel, LlmModel)


def load_gpu(name: str) -> GpuModel:
    """A bundled GPU by name, or a file by path. Raises DeploymentError."""
    return _load(name, "gpus", GpuModel)


def load_llm(name: str) -> LlmModel:
    """A bundled language model by name, or a file by path. Raises DeploymentError."""
    return _load(name, "llms", LlmModel)


def _load(name: str, folder: str, kind: type[Part]) -> Part:
    bundled = {path.stem: path for path in (_PARTS / folder).glob("*.yaml")}
    path = bundled.get(name) or Path(name)
    if not path.is_file():
        known = ", ".join(sorted(bundled))
        raise DeploymentError(name, f"is neither a file nor one of the bundled {folder}: {known}")
    part: Part = validated(read_yaml(path), TypeAdapter(kind))
    return part
