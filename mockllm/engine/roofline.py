"""The duration of a step from what the GPU must read and compute: a roofline with rounded corner.

    N      = prefill tokens + decode tokens             B = sequences in the step
    T_w    = weight bytes / (tp * bandwidth * e_w)      T_c = 2 * active parameters * N / (tp * flops * e_f)
    T_kv   = KV tokens of the decodes * KV bytes per token / (tp * bandwidth * e_kv)
    T_attn = 4 * layers * heads * head_dim * attention work / (tp * flops * e_a)
    T_tp   = layers * latency + 2 * layers * N * hidden * 2 bytes * 2 * (tp-1)/tp / interconnect       (0 for tp = 1)
    T_host = step + B * per sequence + prefills * per prefill
    T_step = T_host + (T_w^n + T_c^n)^(1/n) + T_kv + T_attn + T_tp

The norm n of about 1.6 makes the passage from memory-bound to compute-bound smooth; a hard maximum (n = inf)
is too fast around 64-256 sequences. A mixture of experts reads only the experts that N tokens touch, has n = 1
and a latency per layer of its own. Form and coefficients were fitted to NVIDIA AIConfigurator 0.12.0's kernel
measurements, host terms to 18 points of the KubeCon NA 2025 sweep (vLLM 0.11); errors: docs/fidelity.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mockllm.engine.latency import Pace, StepLoad

__all__ = ["Accelerator", "Experts", "Host", "RooflineStepTime", "Transformer", "Work", "num_kv_blocks"]


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One GPU and the share of its peaks that kernels reach. FLOP/s, bytes/s, bytes, seconds."""

    flops: float
    bandwidth: float
    memory: float
    weight_efficiency: float
    compute_efficiency: float
    kv_efficiency: float
    attention_efficiency: float
    norm: float
    layer_latency: float = 0.0  # of the all-reduces of one layer, tensor parallel only
    interconnect: float = 1.0  # bytes/s between the GPUs, tensor parallel only
    expert_layer_latency: float = 0.0  # of routing and small kernels in one expert layer
    expert_skew: float = 1.0  # eta: routing is skewed, N tokens touch as many experts as eta*N uniform ones


@dataclass(frozen=True, slots=True)
class Experts:
    """The sparse part of a mixture of experts. Bytes of all experts; `active` of `total` experts per token."""

    dense_bytes: float
    expert_bytes: float
    active: int
    total: int


@dataclass(frozen=True, slots=True)
class Transformer:
    """The sizes of a decoder that decide its speed. `kv_bytes_per_token` over all layers, before tensor parallelism."""

    weight_bytes: float
    active_params: float
    num_layers: int
    hidden_size: int
    num_heads: int
    head_dim: int
    kv_bytes_per_token: float
    experts: Experts | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """The CPU's part of a step in seconds: fixed, per sequence, and per sequence that is being prefilled."""

    step_s: float = 0.0
    per_sequence_s: float = 0.0
    per_prefill_s: float = 0.0


class Work(NamedTuple):
    """What a run of steps asks of every GPU: seconds it would take at the peak FLOP/s, and at the peak bandwidth."""

    tensor_s: float
    dram_s: float


class RooflineStepTime:
    """The roofline of one model on `tensor_parallel` GPUs."""

    def __init__(self, gpu: Accelerator, llm: Transformer, tensor_parallel: int, host: Host) -> None:
        tp, layers = tensor_parallel, llm.num_layers
        self._gpu = gpu
        self._host = host
        self._experts = llm.experts
        self._skew = gpu.expert_skew
        self._norm = 1.0 if llm.experts else gpu.norm
        self._read_s = 1 / (tp * gpu.bandwidth * gpu.weight_efficiency)  # per byte
        self._weights_s = llm.weight_bytes * self._read_s
        self._token_s = 2 * llm.active_params / (tp * gpu.flops * gpu.compute_efficiency)
        self._kv_token_s = llm.kv_bytes_per_token / (tp * gpu.bandwidth * gpu.kv_efficiency)
        self._attention_s = 4 * layers * llm.num_heads * llm.head_dim / (tp * gpu.flops * gpu.attention_efficiency)
        self._layers_s = layers * gpu.expert_layer_latency if llm.experts else 0.0
        self._reduced_token_s = 0.0
        if tp > 1:
            self._layers_s += layers * gpu.layer_latency
            self._reduced_token_s = 2 * layers * llm.hidden_size * 2 * 2 * (tp - 1) / tp / gpu.interconnect

    def pace(self, load: StepLoad) -> Pace:
        """The pace of steps with this load."""
        num_tokens = load.num_prefill_tokens + load.num_decode_tokens
        num_sequences = load.num_prefills + load.num_decodes
        host = self._host
        first = (
            host.step_s
            + host.per_sequence_s * num_sequences
            + host.per_prefill_s * load.num_prefills
            + self.linear_layers(num_tokens)
            + self._kv_token_s * load.num_kv_tokens
            + self._attention_s * load.attention_work
            + self._layers_s
            + self._reduced_token_s * num_tokens
        )
        return Pace(first, self._kv_token_s * load.num_decodes)

    def work(self, load: StepLoad, num_steps: float = 1.0) -> Work:
        """The work of `num_steps` steps that begin with this load, each decode one token longer at every step.

        The compute terms and the memory terms of the step without the efficiencies: a kernel that is bound by memory
        at e_w = .8 keeps the bus busy for .8 of its time. The reads and writes that prompts make in the cache and
        the traffic between GPUs are not in the roofline as memory terms, so not in here.
        """
        gpu = self._gpu
        num_tokens = load.num_prefill_tokens + load.num_decode_tokens
        num_kv_tokens = load.num_kv_tokens + load.num_decodes * max(0.0, num_steps - 1) / 2
        linear = self._token_s * gpu.compute_efficiency * num_tokens
        attention = self._attention_s * gpu.attention_efficiency * load.attention_work
        weights = self._weights_read_s(num_tokens) * gpu.weight_efficiency
        cache = self._kv_token_s * gpu.kv_efficiency * num_kv_tokens
        return Work(num_steps * (linear + attention), num_steps * (weights + cache))

    def _weights_read_s(self, num_tokens: int) -> float:
        """Seconds for reading the weights that so many tokens touch."""
        if self._experts is None:
            return self._weights_s
        experts = self._experts
        untouched = float((1 - experts.active / experts.total) ** (self._skew * num_tokens))
        return (experts.dense_bytes + experts.expert_bytes * (1 - untouched)) * self._read_s

    def linear_layers(self, num_tokens: int) -> float:
        """Seconds for the matrix products: reading the weights and computing with them, whichever binds."""
        read, compute = self._weights_read_s(num_tokens), self._token_s * num_tokens
        if self._norm == 1.0:
            return read + compute
        norm = self._norm
        return float((read**norm + compute**norm) ** (1 / norm))


def num_kv_blocks(
    gpu: Accelerator, llm: Transformer, tensor_parallel: int, *, utilization: float, activations: float, block_size: int
) -> int:
    """KV blocks that fit beside the weights: (memory*utilization - weights/tp - activations) / (block * KV bytes/tp).

    vLLM measures `activations` (bytes) while it profiles; a derived count is a guess that the tail of TTFT
    depends on. Give the real `num_gpu_blocks` where it is known: it stands in vLLM's start-up log.
    """
    free = gpu.memory * utilization - llm.weight_bytes / tensor_parallel - activations
    return int(free // (block_size * llm.kv_bytes_per_token / tensor_parallel))
