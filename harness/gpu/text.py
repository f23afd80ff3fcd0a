"""GPUs and servers of a run as lines for a terminal."""

from __future__ import annotations

from harness.gpu.samples import GpuReport, GpuSeries
from harness.plain import short_plain

__all__ = ["gpu_lines"]

_MOST_LINES = 8
_GIB = 2**30
# Share, and whether its name says enough: "utilization" is the time in which some kernel ran, however small.
_SHARES = {
    "utilization": "some kernel ran",
    "engine_active": "engine active",
    "sm_active": "SMs active",
    "tensor_active": "tensor cores",
    "dram_active": "memory bus",
}


def gpu_lines(report: GpuReport) -> list[str]:
    """One line a GPU (the first eight), one for all of them, one a server, and what else must be known."""
    if not report.gpus:
        lines = [f"not measured: {short_plain(report.why_not or 'nobody sampled')}"]
    else:
        lines = [_gpu(series) for series in report.gpus[:_MOST_LINES]]
        if len(report.gpus) > _MOST_LINES:
            lines.append(f"and {len(report.gpus) - _MOST_LINES} more")
        lines.append(_all(report))
    lines += [_server(short_plain(name), figures) for name, figures in list(report.servers.items())[:_MOST_LINES]]
    return [*lines, *map(short_plain, report.notes)]


def _gpu(series: GpuSeries) -> str:
    name = short_plain(series.name or series.gpu)
    if series.mig and series.mig.partition("/")[0] not in name:
        name += f" {short_plain(series.mig)}"
    mean, most = series.mean, series.maximum
    parts = [f"{word} {mean[field]:.0%}" for field, word in _SHARES.items() if field in mean]
    if "memory_used" in most:
        total = f" of {mean['memory_total'] / _GIB:.1f}" if "memory_total" in mean else ""
        parts.append(f"memory {most['memory_used'] / _GIB:.1f}{total} GiB")
    if "power_w" in mean:
        parts.append(f"{mean['power_w']:.0f} W (max {most.get('power_w', mean['power_w']):.0f})")
    if "temperature_c" in most:
        parts.append(f"{most['temperature_c']:.0f} °C")
    return f"{name}: {', '.join(parts) or 'nothing was measured'}"


def _all(report: GpuReport) -> str:
    num = len({series.gpu for series in report.gpus})
    what = f"{num} {'simulated ' if report.simulated else ''}GPU{'s' if num != 1 else ''}"
    energy = (
        "energy not measured"
        if report.energy_j is None
        else f"{_joules(report.energy_j)} in {report.window_s or 0:.0f} s"
    )
    return f"{what} by {short_plain(report.source or '?')}: {energy}"


def _joules(energy_j: float) -> str:
    return f"{energy_j / 1000:,.1f} kJ" if energy_j >= 1000 else f"{energy_j:.1f} J"


def _server(name: str, figures: dict[str, float]) -> str:
    parts = []
    for field, word in (("num_running", "running"), ("num_waiting", "waiting")):
        if f"{field}_mean" in figures:
            parts.append(f"{word} {figures[f'{field}_mean']:.1f} (max {figures.get(f'{field}_max', 0):.0f})")
    if "kv_cache_usage_mean" in figures:
        parts.append(f"KV blocks {figures['kv_cache_usage_mean']:.0%} (max {figures['kv_cache_usage_max']:.0%})")
    if "num_preemptions" in figures:
        parts.append(f"{figures['num_preemptions']:.0f} preemptions")
    if figures.get("prefix_cache_queries"):
        parts.append(f"prefix hits {figures.get('prefix_cache_hits', 0) / figures['prefix_cache_queries']:.0%}")
    return f"{name}: {', '.join(parts)}"
