"""One reading of one GPU, as a line of `gpu.jsonl`, and what a run's readings add up to."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["GAUGES", "GpuReport", "GpuSample", "GpuSeries", "ServerSample"]

# What a GPU shows now, as opposed to its energy counter.
GAUGES = (
    "utilization", "engine_active", "sm_active", "tensor_active", "dram_active", "memory_used", "memory_total", "power_w",
    "sm_clock_mhz", "memory_clock_mhz", "temperature_c",
)  # fmt: skip


class GpuSample(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="kind", tag="gpu"):
    """What one GPU, or one MIG instance, was doing at `at` (seconds from the run's origin; in `gpu.jsonl` seconds of the
    sampler's monotonic clock). Missing: not measured, never 0.

    Shares are 0 to 1: `utilization` says only that some kernel ran; `sm_active` and `engine_active` say how much of the chip was
    busy. Memory in bytes, power in watts, `energy_j` the counter since the driver was loaded, clocks in MHz, degrees Celsius.
    `mig` is profile and number of an instance, like 1g.10gb/7. `source`: nvml, or the URL of an exporter. `simulated`: a mock says
    so of a GPU that is not there.
    """

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
    source: str | None = None
    simulated: bool = False


class ServerSample(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="kind", tag="server"):
    """What a server said of itself at `at` on /metrics (vLLM's names): requests running and waiting, share of KV blocks used, and
    counters since its start. Of several engines of one model the sum, of their KV blocks the mean."""

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
    source: str | None = None


class GpuSeries(msgspec.Struct, kw_only=True):
    """One GPU over the run: mean and most of what was measured, between the first request and the last answer.

    `mean` is weighted by time, over the `covered_s` seconds that lie between readings near enough to each other. `energy_j` of a
    MIG instance is that of its whole GPU, where an exporter says so; None: not measured, or not over the whole run."""

    gpu: str
    name: str | None
    mig: str | None
    num_samples: int
    mean: dict[str, float]
    maximum: dict[str, float]
    energy_j: float | None
    covered_s: float = 0.0


class GpuReport(msgspec.Struct, kw_only=True):
    """All GPUs of a run. `source`: nvml, dcgm, or the mock's simulated GPU; `why_not` says why nothing was measured.

    `energy_j` is the difference of the counters where there are any, else the integral of the power, summed over the GPUs, each
    counted once; None: not measured. `servers`: by model, `*_mean` and `*_max` of what it showed, and how far its counters went.
    `window_s` runs from the first send to the last end. `aligned_by`: what ties the readings to the requests: one machine's
    monotonic clock, or two machines' wall clocks. `notes`: what else must be known."""

    source: str | None
    why_not: str | None = None
    simulated: bool = False
    gpus: list[GpuSeries] = []
    energy_j: float | None = None
    servers: dict[str, dict[str, float]] = {}
    window_s: float | None = None
    aligned_by: Literal["monotonic clock", "wall clock", "virtual time"] | None = None
    notes: list[str] = []
