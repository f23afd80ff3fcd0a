"""GPUs of this machine, by NVIDIA's management library (NVML) and its binding nvidia-ml-py, whose module is `pynvml`.

A card, a driver or a MIG instance that does not know a figure says so call by call; then that field is missing and nothing
else. Activity of SMs, tensor cores and memory comes from GPM (Hopper and newer), as the mean between two readings.
Source: NVML API Reference Guide (docs.nvidia.com/deploy/nvml-api), which also gives the units: mW, mJ, MHz, percent, bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module
from math import isfinite
from typing import Any

from msgspec.structs import replace

from harness.gpu.samples import GpuSample
from harness.plain import short_plain

__all__ = ["NAME", "NvmlError", "NvmlReader", "open_nvml"]

NAME = "nvml"
_CLOCK_SM, _CLOCK_MEMORY, _SENSOR_GPU = 1, 2, 0  # NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU
_PROFILE = re.compile(r"MIG (\S+)$")
# NVML_GPM_METRIC_GRAPHICS_UTIL, _SM_UTIL, _ANY_TENSOR_UTIL, _DRAM_BW_UTIL; percent.
_GPM = {"engine_active": 1, "sm_active": 2, "tensor_active": 5, "dram_active": 10}


class NvmlError(Exception):
    """There is nothing to read on this machine; the message says why."""


def open_nvml(now: Callable[[], float]) -> NvmlReader:
    """A reader of the GPUs of this machine. Raises NvmlError when there are none to be read."""
    try:
        nvml = import_module("pynvml")
    except ModuleNotFoundError:
        raise NvmlError("nvidia-ml-py is not installed; pip install 'llm-load-harness[gpu]'") from None
    try:
        nvml.nvmlInit()
        num = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        raise NvmlError(_why(nvml, error)) from None
    if num == 0:
        raise NvmlError("the NVIDIA driver sees no GPU")
    return NvmlReader(nvml, now)


def _why(nvml: Any, error: Exception) -> str:
    if isinstance(error, nvml.NVMLError_LibraryNotFound):
        return "libnvidia-ml.so.1 is not on this machine: it has no NVIDIA driver"
    return f"NVML says: {error}"


class NvmlReader:
    """Reads all GPUs and MIG instances; `nvml` is the binding, `now` the monotonic clock."""

    def __init__(self, nvml: Any, now: Callable[[], float]) -> None:
        self._nvml, self._now = nvml, now
        self._activity: dict[str, _Activity | None] = {}

    def read(self) -> list[GpuSample]:
        """A reading of each. Raises NvmlError when the driver does not answer any more."""
        try:
            devices = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(self._nvml.nvmlDeviceGetCount())]
        except self._nvml.NVMLError as error:
            raise NvmlError(_why(self._nvml, error)) from None
        return [sample for device in devices for sample in self._read_device(device)]

    def close(self) -> None:
        for activity in self._activity.values():
            if activity is not None:
                self._try(activity.close)
        self._try(self._nvml.nvmlShutdown)

    def _read_device(self, device: Any) -> Iterator[GpuSample]:
        asked_at = self._now()
        uuid = self._text(self._nvml.nvmlDeviceGetUUID, device)
        if uuid is None:
            return  # fallen off the bus: all that follows fails as well
        gauges = {**self._gauges(device), **self._memory(device), **self._active(uuid, device, None)}
        name = self._text(self._nvml.nvmlDeviceGetName, device)
        yield replace(GpuSample(at=(asked_at + self._now()) / 2, gpu=uuid, name=name, source=NAME), **gauges)
        for instance in self._instances(device):
            yield from self._read_instance(device, instance, uuid)

    def _read_instance(self, device: Any, instance: Any, uuid: str) -> Iterator[GpuSample]:
        """Memory and activity; power, clocks and temperature are the whole GPU's, and asked of it."""
        nvml, asked_at = self._nvml, self._now()
        own = self._text(nvml.nvmlDeviceGetUUID, instance)
        number = self._try(nvml.nvmlDeviceGetGpuInstanceId, instance)
        if own is None or number is None:
            return
        name = self._text(nvml.nvmlDeviceGetName, instance)
        profile = _PROFILE.search(name or "")
        mig = f"{profile[1] if profile else 'instance'}/{number}"
        part = self._try(nvml.nvmlDeviceGetComputeInstanceId, instance)
        if profile and profile[1].partition(".")[0].endswith(
            "c"
        ):  # a share of an instance's processors, like 1c.3g.20gb
            mig += f"/{part}"
        gauges = {**self._memory(instance), **self._active(own, device, number)}
        yield replace(GpuSample(at=(asked_at + self._now()) / 2, gpu=uuid, mig=mig, name=name, source=NAME), **gauges)

    def _instances(self, device: Any) -> Iterator[Any]:
        mode = self._try(self._nvml.nvmlDeviceGetMigMode, device)
        if mode is None or mode[0] != 1:
            return
        for index in range(self._try(self._nvml.nvmlDeviceGetMaxMigDeviceCount, device) or 0):
            instance = self._try(self._nvml.nvmlDeviceGetMigDeviceHandleByIndex, device, index)
            if instance is not None:  # NotFound: this place is empty
                yield instance

    def _gauges(self, device: Any) -> dict[str, float]:
        nvml = self._nvml
        rates = self._try(nvml.nvmlDeviceGetUtilizationRates, device)
        found = {
            "utilization": None if rates is None else rates.gpu / 100,
            "power_w": self._scaled(0.001, nvml.nvmlDeviceGetPowerUsage, device),
            "energy_j": self._scaled(0.001, nvml.nvmlDeviceGetTotalEnergyConsumption, device),
            "sm_clock_mhz": self._scaled(1.0, nvml.nvmlDeviceGetClockInfo, device, _CLOCK_SM),
            "memory_clock_mhz": self._scaled(1.0, nvml.nvmlDeviceGetClockInfo, device, _CLOCK_MEMORY),
            "temperature_c": self._scaled(1.0, nvml.nvmlDeviceGetTemperature, device, _SENSOR_GPU),
        }
        return {field: value for field, value in found.items() if value is not None}

    def _memory(self, device: Any) -> dict[str, float]:
        """By the second version of the call, which does not count what the driver keeps for itself as used."""
        nvml = self._nvml
        memory = self._try(nvml.nvmlDeviceGetMemoryInfo, device, nvml.nvmlMemory_v2)
        if memory is None:
            memory = self._try(nvml.nvmlDeviceGetMemoryInfo, device)
        return {} if memory is None else {"memory_used": float(memory.used), "memory_total": float(memory.total)}

    def _active(self, uuid: str, device: Any, instance: int | None) -> dict[str, float]:
        """Shares since the last reading; nothing at the first one, and where the chip does not count them."""
        if uuid not in self._activity:
            support = self._try(self._nvml.nvmlGpmQueryDeviceSupport, device)
            counts = support is not None and support.isSupportedDevice
            self._activity[uuid] = self._try(_Activity, self._nvml, device, instance) if counts else None
            return {}
        activity = self._activity[uuid]
        return {} if activity is None else self._try(activity.since_last) or {}

    def _text(self, call: Callable[..., str | bytes], *args: Any) -> str | None:
        found = self._try(call, *args)
        return short_plain(found.decode(errors="replace") if isinstance(found, bytes) else found) if found else None

    def _scaled(self, unit: float, call: Callable[..., int], *args: Any) -> float | None:
        found = self._try(call, *args)
        return None if found is None else found * unit

    def _try(self, call: Callable[..., Any], *args: Any) -> Any:
        """What a call gives; None where it is not supported, not known to the driver or not permitted."""
        try:
            return call(*args)
        except self._nvml.NVMLError:
            return None


class _Activity:
    """Two buffers of hardware counters of one GPU or instance, used in turn."""

    def __init__(self, nvml: Any, device: Any, instance: int | None) -> None:
        self._nvml, self._device, self._instance = nvml, device, instance
        self._before, self._after = nvml.nvmlGpmSampleAlloc(), nvml.nvmlGpmSampleAlloc()
        self._read_into(self._before)

    def since_last(self) -> dict[str, float]:
        """Raises NVMLError."""
        nvml = self._nvml
        self._read_into(self._after)
        asked = nvml.c_nvmlGpmMetricsGet_t()
        asked.version, asked.numMetrics = nvml.NVML_GPM_METRICS_GET_VERSION, len(_GPM)
        asked.sample1, asked.sample2 = self._before, self._after
        for index, metric in enumerate(_GPM.values()):
            asked.metrics[index].metricId = metric
        self._before, self._after = self._after, self._before
        nvml.nvmlGpmMetricsGet(asked)
        answers = zip(_GPM, asked.metrics, strict=False)  # the binding's array has room for all there are
        return {
            field: answer.value / 100
            for field, answer in answers
            if answer.nvmlReturn == nvml.NVML_SUCCESS and isfinite(answer.value)
        }

    def close(self) -> None:
        self._nvml.nvmlGpmSampleFree(self._before)
        self._nvml.nvmlGpmSampleFree(self._after)

    def _read_into(self, buffer: Any) -> None:
        if self._instance is None:
            self._nvml.nvmlGpmSampleGet(self._device, buffer)
        else:
            self._nvml.nvmlGpmMigSampleGet(self._device, self._instance, buffer)
