"""The fake library under the real binding: compiled once, loaded by child processes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["GPUS", "build_fake_nvml", "write_state"]

# Two GPUs: one that is whole and hides nothing but its power, and one with two MIG instances, which has no utilization then.
GPUS: dict[str, str | int] = {
    "count": 2,
    "gpu0.uuid": "GPU-aaaaaaaa-0000-0000-0000-000000000000",
    "gpu0.name": "NVIDIA L40S",
    "gpu0.utilization": 73,
    "gpu0.memory_used": 40 * 2**30,
    "gpu0.memory_used_with_reserved": 41 * 2**30,
    "gpu0.memory_total": 45 * 2**30,
    "gpu0.energy": 5_000_000_000_000,
    "gpu0.sm_clock": 2520,
    "gpu0.memory_clock": 9001,
    "gpu0.temperature": 61,
    "gpu0.mig_mode": 0,
    "gpu0.gpm": 0,
    "gpu1.uuid": "GPU-bbbbbbbb-0000-0000-0000-000000000000",
    "gpu1.name": "NVIDIA H100 80GB HBM3",
    "gpu1.memory_used_with_reserved": 60 * 2**30,
    "gpu1.memory_total": 80 * 2**30,
    "gpu1.power": 351_500,
    "gpu1.energy": 7_000_000,
    "gpu1.mig_mode": 1,
    "gpu1.max_mig": 7,
    "gpu1.gpm": 1,
    "gpu1.clock": 1_000,
    "gpu1.mig0.uuid": "MIG-cccccccc",
    "gpu1.mig0.name": "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
    "gpu1.mig0.gi": 1,
    "gpu1.mig0.ci": 0,
    "gpu1.mig0.memory_used": 20 * 2**30,
    "gpu1.mig0.memory_total": 40 * 2**30,
    "gpu1.gi1.clock": 1_000,
    "gpu1.gi1.graphics": 500,
    "gpu1.gi1.sm": 400,
    "gpu1.gi1.tensor": 300,
    "gpu1.gi1.dram": 200,
    "gpu1.mig4.uuid": "MIG-dddddddd",
    "gpu1.mig4.name": "NVIDIA H100 80GB HBM3 MIG 1c.2g.20gb",
    "gpu1.mig4.gi": 5,
    "gpu1.mig4.ci": 1,
    "gpu1.mig4.memory_used": 1 * 2**30,
    "gpu1.mig4.memory_total": 20 * 2**30,
}


def build_fake_nvml(folder: Path, *options: str) -> Path:
    """The folder with the library. Skips, loudly, where nothing can compile it."""
    if shutil.which("gcc") is None:
        pytest.skip("NOT CHECKED: the NVML binding, because there is no gcc to compile the fake library with")
    source = Path(__file__).parent / "fake_nvml.c"
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Werror",
        *options,
        str(source),
        "-o",
        str(folder / "libnvidia-ml.so.1"),
    ]
    subprocess.run(command, check=True, timeout=60)
    return folder


def write_state(path: Path, changes: dict[str, str | int | None] | None = None) -> Path:
    """What the library says; None: it does not support that."""
    values = GPUS | (changes or {})
    draft = path.with_suffix(".part")  # the library may be reading
    draft.write_text("".join(f"{name} {value}\n" for name, value in values.items() if value is not None))
    return draft.replace(path)
