"""NVIDIA's own binding over a fake library: what a card, a driver or an instance does not know is missing, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.gpu.fake import build_fake_nvml, write_state

_GIB = 2.0**30
_READ = """
import json, os, sys
from itertools import count
import msgspec
from harness.gpu.nvml import NvmlError, open_nvml
steps = count()
readings = []
os.environ["FAKE_NVML"] = sys.argv[1]
try:
    reader = open_nvml(lambda: float(next(steps)))
    for state in sys.argv[1:]:
        os.environ["FAKE_NVML"] = state
        readings.append(msgspec.to_builtins(reader.read()))
    reader.close()
except NvmlError as error:
    readings.append(str(error))
print(json.dumps(readings))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_nvml(tmp_path_factory.mktemp("nvml"))


def _read(library: Path, *states: Path) -> list[Any]:
    """One reading a state, by a process that finds the library in the folder."""
    environment = os.environ | {"LD_LIBRARY_PATH": str(library), "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-c", _READ, *map(str, states)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


@pytest.mark.realtime
def test_two_gpus_and_two_instances(library: Path, tmp_path: Path) -> None:
    later: dict[str, str | int | None] = {
        "gpu0.energy": 5_000_000_350_000,
        "gpu1.clock": 3_000,
        "gpu1.sm": 500,
        "gpu1.gi1.clock": 2_000,
        "gpu1.gi1.graphics": 1_250,
        "gpu1.gi1.sm": 1_000,
        "gpu1.gi1.tensor": 550,
        "gpu1.gi1.dram": 310,
    }
    first, second = _read(library, write_state(tmp_path / "a"), write_state(tmp_path / "b", later))
    whole, parent, instance, part = first
    assert whole == {
        "kind": "gpu",
        "at": 0.5,  # the middle of two looks at a clock that goes by one a look
        "gpu": "GPU-aaaaaaaa-0000-0000-0000-000000000000",
        "name": "NVIDIA L40S",
        "utilization": 0.73,
        "memory_used": 40 * _GIB,
        "memory_total": 45 * _GIB,
        "energy_j": 5e9,
        "sm_clock_mhz": 2520.0,
        "memory_clock_mhz": 9001.0,
        "temperature_c": 61.0,
        "source": "nvml",
    }, "power is not supported, and must be missing"
    assert parent == {
        "kind": "gpu",
        "at": 2.5,
        "gpu": "GPU-bbbbbbbb-0000-0000-0000-000000000000",
        "name": "NVIDIA H100 80GB HBM3",
        "memory_used": 60 * _GIB,  # by the first version of the call: this one does not know the second
        "memory_total": 80 * _GIB,
        "power_w": 351.5,
        "energy_j": 7000.0,
        "source": "nvml",
    }
    assert (instance["gpu"], instance["mig"], instance["memory_used"]) == (parent["gpu"], "3g.40gb/1", 20 * _GIB)
    assert (part["gpu"], part["mig"], part["memory_total"]) == (parent["gpu"], "1c.2g.20gb/5/1", 20 * _GIB)
    assert "power_w" not in instance, "power is the whole GPU's: twice on one page would be counted twice"

    assert second[0]["energy_j"] - whole["energy_j"] == pytest.approx(350)
    active = {field: second[2][field] for field in ("engine_active", "sm_active", "tensor_active", "dram_active")}
    assert active == {"engine_active": 0.75, "sm_active": 0.6, "tensor_active": 0.25, "dram_active": 0.11}
    assert second[1]["sm_active"] == 0.25
    assert "dram_active" not in second[1], "this one does not count it"
    assert "sm_active" not in second[0]
    assert not {"sm_active", "dram_active"} & first[2].keys(), "a share needs two readings"


@pytest.mark.realtime
def test_no_time_between_two_readings_is_no_activity(library: Path, tmp_path: Path) -> None:
    state = write_state(tmp_path / "a")
    _, second = _read(library, state, state)
    assert all("sm_active" not in sample for sample in second), "not a number is not a share"


@pytest.mark.realtime
def test_a_gpu_that_fell_off_the_bus_and_a_driver_that_went_away(library: Path, tmp_path: Path) -> None:
    lost: dict[str, str | int | None] = {"gpu0.uuid": None}
    first, second, gone = _read(
        library, write_state(tmp_path / "a"), write_state(tmp_path / "b", lost), tmp_path / "nothing"
    )
    assert len(first) == 4
    assert {sample["name"] for sample in second} == {sample["name"] for sample in first[1:]}
    assert gone == "NVML says: Driver Not Loaded"


@pytest.mark.realtime
def test_a_driver_without_gpus(library: Path, tmp_path: Path) -> None:
    assert _read(library, write_state(tmp_path / "a", {"count": 0})) == ["the NVIDIA driver sees no GPU"]


@pytest.mark.realtime
def test_a_library_from_before_these_functions(tmp_path: Path) -> None:
    state = write_state(tmp_path / "a")
    (tmp_path / "old").mkdir()
    readings = _read(build_fake_nvml(tmp_path / "old", "-DWITHOUT_GPM"), state, state)
    assert [sample["memory_total"] for sample in readings[1]] == [45 * _GIB, 80 * _GIB, 40 * _GIB, 20 * _GIB]
    assert all("sm_active" not in sample for reading in readings for sample in reading)


@pytest.mark.realtime
def test_a_machine_without_a_driver(tmp_path: Path) -> None:
    """The loader finds an empty file of that name before any other, so this holds on a machine with a GPU too."""
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")
    (why,) = _read(tmp_path, tmp_path / "a")
    assert "libnvidia-ml.so.1" in why
    assert "no NVIDIA driver" in why


@pytest.mark.realtime
def test_a_real_gpu() -> None:
    """On a machine with one: figures are there, and where they must be."""
    pynvml = pytest.importorskip("pynvml")
    try:
        pynvml.nvmlInit()
        num = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        pytest.skip(f"NOT CHECKED: NVML on hardware, because this machine has no NVIDIA GPU ({error})")
    from harness.clock import monotonic
    from harness.gpu.nvml import open_nvml

    began = monotonic()
    reader = open_nvml(monotonic)
    samples = [sample for sample in reader.read() if sample.mig is None]
    reader.close()
    assert len(samples) == num
    for sample in samples:
        assert began <= sample.at <= monotonic()
        assert sample.gpu.startswith("GPU-")
        assert sample.memory_total is None or 0 <= (sample.memory_used or 0) <= sample.memory_total
        assert sample.utilization is None or 0 <= sample.utilization <= 1
        assert sample.power_w is None or 1 < sample.power_w < 2000
