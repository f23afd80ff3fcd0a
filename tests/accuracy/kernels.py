"""Step times of the bundled GPUs against NVIDIA AIConfigurator's kernel database (0.12.0, vLLM 0.24.0 tables).

The grid is a model's output built on measured kernels, without the host's part of a step. One prompt in a step, or a
batch of decodes of equal context.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mockllm.engine.latency import StepLoad
from mockllm.engine.roofline import Host, RooflineStepTime
from mockllm.hardware import load_gpu, load_llm

__all__ = ["DENSE_GPUS", "EXPERT_GPUS", "KernelError", "kernel_error"]

_SYSTEMS = {
    "a100-sxm-80": "a100_sxm",
    "h100-sxm": "h100_sxm",
    "h200-sxm": "h200_sxm",
    "b200": "b200_sxm",
    "l40s": "l40s",
    "l40s-x4": "l40s",
}
_DENSE = {
    "meta-llama/Meta-Llama-3.1-8B": "llama-3.1-8b",
    "Qwen/Qwen3-32B": "qwen3-32b",
    "meta-llama/Meta-Llama-3.1-70B": "llama-3.1-70b",
}
_EXPERTS = {"Qwen/Qwen3-30B-A3B": "qwen3-30b-a3b"}
# Over PCIe a group of four is another interconnect than a pair; eight are in no bundled profile of the L40S.
_TENSOR_PARALLEL = {"l40s": (1, 2), "l40s-x4": (4,)}
DENSE_GPUS = tuple(_SYSTEMS)
EXPERT_GPUS = tuple(gpu for gpu in _SYSTEMS if gpu != "l40s-x4")


@dataclass(frozen=True)
class KernelError:
    """Relative errors of the step time over the grid points of one GPU."""

    num_points: int
    mean: float
    worst: float
    bias: float


@cache
def kernel_error(data: Path, gpu: str, *, experts: bool) -> KernelError:
    """How far this GPU's roofline is from the kernel database."""
    names = _EXPERTS if experts else _DENSE
    sizes = _TENSOR_PARALLEL.get(gpu, (1, 2, 4, 8))
    with (data / "aiconfigurator_grid" / "aic_grid.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["system"] == _SYSTEMS[gpu] and row["model"] in names]
    errors = np.array([_error(gpu, names[row["model"]], row) for row in rows if int(row["tp"]) in sizes])
    return KernelError(len(errors), float(abs(errors).mean()), float(abs(errors).max()), float(errors.mean()))


def _error(gpu: str, llm: str, row: dict[str, str]) -> float:
    batch, tokens = int(row["batch"]), int(row["ctx_or_isl"])
    if row["phase"] == "prefill":
        load = StepLoad(tokens * batch, batch, batch * tokens * tokens / 2, 0, 0, 0)
    else:
        load = StepLoad(0, 0, 0.0, batch, batch * tokens, batch)
    return _step_time(gpu, llm, int(row["tp"])).pace(load).first * 1e3 / float(row["ms"]) - 1


@cache
def _step_time(gpu: str, llm: str, tensor_parallel: int) -> RooflineStepTime:
    model = load_llm(llm)
    accelerator = load_gpu(gpu).accelerator(experts=model.experts is not None)
    return RooflineStepTime(accelerator, model.transformer(), tensor_parallel, Host())
