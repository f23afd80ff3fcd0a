"""The simulated GPUs in the text that NVIDIA's dcgm-exporter serves: its field names, units and labels.

Written by hand because its energy counter has no `_total`, which the client library would add. Rates are means over the
last second of the mock's clock (`engine/gpu.py`); a profile without a GPU has no series, and a GPU whose power nobody
gave has no power and no energy: absent is not 0. Clocks and temperatures are not modelled, so not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mockllm.engine.engine import ServedModel
from mockllm.engine.gpu import Gpu, GpuReading
from mockllm.gpus import HOSTNAME, SimulatedGpu, read_gpus

__all__ = ["dcgm_text"]

_MIB = 2**20


class _Field(NamedTuple):
    name: str
    kind: str
    help: str
    value: Callable[[Gpu, GpuReading], str | None]


_FIELDS = (
    _Field("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).", lambda _, now: _decimal(now.power_w)),
    _Field(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "counter",
        "Total energy consumption since boot (in mJ).",
        lambda _, now: None if now.energy_j is None else str(int(now.energy_j * 1000)),
    ),
    _Field("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", lambda _, now: str(round(100 * now.busy))),
    _Field(
        "DCGM_FI_DEV_FB_FREE",
        "gauge",
        "Framebuffer memory free (in MiB).",
        lambda gpu, _: str(int(gpu.memory / _MIB) - int(gpu.used / _MIB)),
    ),
    _Field(
        "DCGM_FI_DEV_FB_USED",
        "gauge",
        "Framebuffer memory used (in MiB).",
        lambda gpu, _: str(int(gpu.used / _MIB)),
    ),
    _Field(
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "gauge",
        "Ratio of time the graphics engine is active.",
        lambda _, now: _decimal(now.busy),
    ),
    _Field(
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "gauge",
        "Ratio of cycles the tensor (HMMA) pipe is active.",
        lambda _, now: _decimal(now.tensor),
    ),
    _Field(
        "DCGM_FI_PROF_DRAM_ACTIVE",
        "gauge",
        "Ratio of cycles the device memory interface is active sending or receiving data.",
        lambda _, now: _decimal(now.dram),
    ),
)


def dcgm_text(models: Mapping[str, ServedModel], now: float) -> str:
    """The fields of all GPUs of a deployment at `now`, numbered in the order of its models; empty without GPUs."""
    found = [(_labels(one), one) for one in read_gpus(models, now)]
    lines: list[str] = []
    for field in _FIELDS:
        values = [(labels, field.value(one.gpu, one.reading)) for labels, one in found]
        samples = [f"{field.name}{{{labels}}} {value}" for labels, value in values if value is not None]
        if samples:
            lines += [f"# HELP {field.name} {field.help}", f"# TYPE {field.name} {field.kind}", *samples]
    return "".join(line + "\n" for line in lines)


def _labels(one: SimulatedGpu) -> str:
    """GPU names are restricted by the schema of GPU files, so nothing needs quoting."""
    return (
        f'gpu="{one.number}",UUID="{one.uuid}",device="nvidia{one.number}",'
        f'modelName="{one.gpu.name}",Hostname="{HOSTNAME}"'
    )


def _decimal(value: float | None) -> str | None:
    """Six decimals, as the exporter writes floats."""
    return None if value is None else f"{value:.6f}"
