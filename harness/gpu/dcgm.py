"""NVIDIA's dcgm-exporter, read: its field names, units and labels (docs.nvidia.com, DCGM Exporter Metrics and DCGM field ids).

The mock serves its simulated GPUs in the same words, under a host name that says so.
"""

from __future__ import annotations

from msgspec.structs import replace

from harness.gpu.exposition import Series, read_series
from harness.gpu.samples import GpuSample
from harness.plain import short_plain

__all__ = ["NAMES", "gpu_samples_of"]

_MOCK = "mockllm"
_MIB = 2.0**20
_MOST_GPUS = 256  # of one exporter: a node has 8, each with 7 instances at most

# DCGM's field, ours, and what one of its units is in ours.
_FIELDS = {
    "DCGM_FI_DEV_GPU_UTIL": ("utilization", 0.01),
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": ("engine_active", 1.0),
    "DCGM_FI_PROF_SM_ACTIVE": ("sm_active", 1.0),
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": ("tensor_active", 1.0),
    "DCGM_FI_PROF_DRAM_ACTIVE": ("dram_active", 1.0),
    "DCGM_FI_DEV_FB_USED": ("memory_used", _MIB),
    "DCGM_FI_DEV_FB_TOTAL": ("memory_total", _MIB),
    "DCGM_FI_DEV_POWER_USAGE": ("power_w", 1.0),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("energy_j", 0.001),
    "DCGM_FI_DEV_SM_CLOCK": ("sm_clock_mhz", 1.0),
    "DCGM_FI_DEV_MEM_CLOCK": ("memory_clock_mhz", 1.0),
    "DCGM_FI_DEV_GPU_TEMP": ("temperature_c", 1.0),
}
_PARTS_OF_MEMORY = ("DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_RESERVED")
NAMES = (*_FIELDS, *_PARTS_OF_MEMORY)

# DCGM's blanks (dcgm_structs.h): the last sixteen of 32 bits and of 64 bits, and from 2^47 on in floating point say that
# there is no value, and why. No field of ours but the energy, in millijoules, comes near the first.
_BLANK_INT32, _BLANK_INT64 = 0x7FFFFFF0, 0x7FFFFFFFFFFFFFF0


def gpu_samples_of(text: str, at: float, source: str) -> list[GpuSample]:
    """What an exporter says of its GPUs and MIG instances, in its order. Raises ValueError for what cannot be read."""
    found: dict[tuple[str, str | None], dict[str, float]] = {}
    labels: dict[tuple[str, str | None], Series] = {}
    for series in read_series(text, NAMES):
        key = _gpu(series), _mig(series)
        if series.name in NAMES and not _is_blank(series):
            if key not in found and len(found) == _MOST_GPUS:
                raise ValueError(f"more than {_MOST_GPUS} GPUs")
            found.setdefault(key, {})[series.name] = series.value
            labels.setdefault(key, series)
    return [
        replace(
            GpuSample(
                at=at,
                gpu=gpu,
                mig=mig,
                name=_label(labels[gpu, mig], "modelName"),
                source=source,
                simulated=_label(labels[gpu, mig], "Hostname") == _MOCK,
            ),
            **_values(values),
        )
        for (gpu, mig), values in found.items()
    ]


def _is_blank(series: Series) -> bool:
    most = _BLANK_INT64 if series.name == "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION" else _BLANK_INT32
    return series.value >= most or series.value < 0


def _values(values: dict[str, float]) -> dict[str, float]:
    """In our names and units. Without a field for it, all memory is what is used, free and reserved."""
    ours = {name: values[theirs] * unit for theirs, (name, unit) in _FIELDS.items() if theirs in values}
    if "memory_total" not in ours and set(_PARTS_OF_MEMORY[:2]) <= values.keys():
        ours["memory_total"] = sum(values.get(part, 0.0) for part in _PARTS_OF_MEMORY) * _MIB
    return ours


def _gpu(series: Series) -> str:
    """The UUID; where there is none, the number on its host."""
    number = "/".join(part for part in (_label(series, "Hostname"), _label(series, "gpu")) if part)
    return _label(series, "UUID") or number or "?"


def _mig(series: Series) -> str | None:
    instance, profile = _label(series, "GPU_I_ID"), _label(series, "GPU_I_PROFILE")
    return f"{profile or 'instance'}/{instance}" if instance else None


def _label(series: Series, name: str) -> str | None:
    return short_plain(series.labels.get(name, "")) or None
