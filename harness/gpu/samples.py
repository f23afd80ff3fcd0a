"""One reading of one GPU, as a line of `gpu-*.jsonl`, and what a run's readings add up to."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["GpuReport", "GpuSample", "GpuSeries", "ServerSample"]


class GpuSample(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one GPU, or one MIG instance, was doing at `at` (seconds from the run's origin). Missing: not measured, never 0.

    Shares are 0 to 1: `utilization` says only that some kernel ran; `sm_active` and `engine_active` say how much of the chip was
    busy. Memory in bytes, power in watts, `energy_j` the counter since the driver was loaded, clocks in MHz, degrees Celsius.
    """

    kind: Literal["gpu"] = "gpu"
    at: float
    gpu: str  # its UUID, or the exporter's number
    name: str | None = None
    mig: str | None = None
    utilization: float | None = None
    engine_active: float | None = None
    sm_active: float | None = None
    tensor_active: float | None = None
    dram_active: float | None = None
    memory_used: float | None = None
    memory_total: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None


class ServerSample(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a server said of itself at `at` on /metrics (vLLM's names): requests running and waiting, share of KV blocks used, and
    counters since its start."""

    kind: Literal["server"] = "server"
    at: float
    model: str | None = None
    num_running: float | None = None
    num_waiting: float | None = None
    kv_cache_usage: float | None = None
    num_preemptions: float | None = None
    prefix_cache_queries: float | None = None
    prefix_cache_hits: float | None = None
    num_prompt_tokens: float | None = None
    num_output_tokens: float | None = None


class GpuSeries(msgspec.Struct, kw_only=True):
    """One GPU over the run: mean and most of what was measured, between the first request and the last answer."""

    gpu: str
    name: str | None
    mig: str | None
    num_samples: int
    mean: dict[str, float]
    maximum: dict[str, float]
    energy_j: float | None


class GpuReport(msgspec.Struct, kw_only=True):
    """All GPUs of a run. `source`: nvml, dcgm, or the mock's simulated GPU; `why_not` says why nothing was measured.

    `energy_j` is the difference of the counters where there are any, else the integral of the power; None: not measured."""

    source: str | None
    why_not: str | None = None
    simulated: bool = False
    gpus: list[GpuSeries] = []
    energy_j: float | None = None
    servers: dict[str, dict[str, float]] = {}
