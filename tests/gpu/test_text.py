"""GPUs and servers on a terminal."""

from __future__ import annotations

from harness.gpu.samples import GpuReport, GpuSeries
from harness.gpu.text import gpu_lines


def _series(**fields: object) -> GpuSeries:
    values: dict[str, object] = {
        "gpu": "GPU-0",
        "name": "NVIDIA H100",
        "mig": None,
        "num_samples": 20,
        "mean": {"utilization": 0.931, "sm_active": 0.412, "memory_total": 80 * 2.0**30, "power_w": 512.4},
        "maximum": {"memory_used": 71.25 * 2**30, "power_w": 689.6, "temperature_c": 64.0},
        "energy_j": 12_345.0,
    }
    return GpuSeries(**(values | fields))  # type: ignore[arg-type]


def test_a_gpu_a_server_and_the_sum() -> None:
    figures = {
        "num_running_mean": 12.34,
        "num_running_max": 31.0,
        "num_waiting_mean": 0.4,
        "num_waiting_max": 9.0,
        "kv_cache_usage_mean": 0.34,
        "kv_cache_usage_max": 0.61,
        "num_preemptions": 3.0,
        "prefix_cache_queries": 1000.0,
        "prefix_cache_hits": 420.0,
    }
    report = GpuReport(source="nvml", gpus=[_series()], energy_j=12_345.0, window_s=24.1, servers={"llama": figures})
    assert gpu_lines(report) == [
        "NVIDIA H100: some kernel ran 93%, SMs active 41%, memory 71.2 of 80.0 GiB, 512 W (max 690), 64 °C",
        "1 GPU by nvml: 12.3 kJ in 24 s",
        "llama: running 12.3 (max 31), waiting 0.4 (max 9), KV blocks 34% (max 61%), 3 preemptions, prefix hits 42%",
    ]


def test_absent_is_not_measured() -> None:
    assert gpu_lines(GpuReport(source=None, why_not="nvml: no driver")) == ["not measured: nvml: no driver"]
    bare = GpuReport(source="mock", simulated=True, gpus=[_series(mean={}, maximum={}, energy_j=None)])
    assert gpu_lines(bare) == ["NVIDIA H100: nothing was measured", "1 simulated GPU by mock: energy not measured"]


def test_many_gpus_and_an_instance() -> None:
    many = [_series(gpu=f"GPU-{number}", mig="1g.10gb/7") for number in range(12)]
    lines = gpu_lines(GpuReport(source="dcgm", gpus=many, energy_j=None))
    assert lines[0].startswith("NVIDIA H100 1g.10gb/7: ")
    assert lines[8:] == ["and 4 more", "12 GPUs by dcgm: energy not measured"]


def test_names_from_outside_do_nothing_to_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\r\n"
    report = GpuReport(source=evil, gpus=[_series(name=evil)], servers={evil: {"num_preemptions": 1.0}}, notes=[evil])
    assert all(line.isprintable() for line in gpu_lines(report))
