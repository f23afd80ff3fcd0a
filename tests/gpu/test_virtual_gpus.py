"""Readings in virtual time: they change nothing, end with the simulation, and add up to what the meter says."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from harness.gpu.file import GpuFile, read_gpu_file
from harness.virtual.gpus import Metered, metered
from mockllm import Emission, Request, Serving, build_engine, build_stack, drive, load_deployment, read_gpus


class Script:
    """Ten requests, three seconds apart from the fifth on."""

    def __init__(self) -> None:
        self.at = [0.0, 0.5, 1.0, 1.5, 2.0, 5.0, 8.0, 11.0, 14.0, 17.0]
        self.now = 0.0

    def next_at(self) -> float:
        return self.at[0] if self.at else inf

    def act(self, serving: Serving, now: float) -> None:
        number = 10 - len(self.at)
        assert now == self.at.pop(0)
        self.now = now
        model = next(iter(serving.models))
        serving.submit(Request(f"r{number}", f"k{number}", model, 500, max_tokens=300, ignore_eos=True), now)


def _emissions(deployment: str, folder: Path | None, duration_s: float = 20.0) -> tuple[list[Emission], Serving, float]:
    """`every_token`: without it a deployment has no meters, which cost time."""
    loaded = load_deployment(deployment)
    serving = (build_stack if loaded.models else build_engine)(loaded, seed=5, every_token=True)
    script = Script()
    meter = None if folder is None else metered(script, serving, folder, duration_s)
    emissions = list(drive(serving, meter or script))
    end = max(emission.at for emission in emissions)
    if meter is not None:
        meter.close(end)
    return emissions, serving, end


def _shown(emission: Emission) -> tuple[str, str, float, int | None]:
    return type(emission).__name__, emission.request_id, emission.at, getattr(emission, "first", None)


def _read(folder: Path) -> GpuFile:
    found = read_gpu_file(folder / "gpu.jsonl")
    assert found is not None
    return found


@pytest.mark.parametrize("deployment", ["h100-8b", "h100-70b", "load-balancing"])
def test_reading_changes_nothing(deployment: str, tmp_path: Path) -> None:
    with_readings, serving, end = _emissions(deployment, tmp_path)
    without = _emissions(deployment, None)[0]
    assert [_shown(each) for each in with_readings] == [_shown(each) for each in without]
    found = _read(tmp_path)
    assert found.whole
    assert found.header.clock == "virtual"
    num_gpus = len(list(read_gpus(serving.backends, end)))
    assert len(found.gpus) == num_gpus * (int(end) + 2), "one at 0, one a second, and one at the end"
    assert all(sample.simulated for sample in found.gpus)


def test_the_last_reading_is_the_meters(tmp_path: Path) -> None:
    _, serving, end = _emissions("h100-8b", tmp_path)
    (gpu,) = read_gpus(serving.backends, end)
    last = _read(tmp_path).gpus[-1]
    assert (last.at, last.energy_j, last.gpu) == (end, gpu.reading.energy_j, gpu.uuid)
    powers = [sample.power_w or 0.0 for sample in _read(tmp_path).gpus[1:-1]]
    # Each is the mean over the second before it, so they tile the whole seconds, but for the work of a stretch across two of them.
    before_the_last = _read(tmp_path).gpus[-2]
    assert sum(powers) == pytest.approx(before_the_last.energy_j, rel=1e-3)


def test_a_long_run_is_read_less_often(tmp_path: Path) -> None:
    _, _, end = _emissions("h100-8b", tmp_path, duration_s=10_000.0)
    assert [sample.at for sample in _read(tmp_path).gpus[:-1]] == [5.0 * number for number in range(int(end / 5) + 1)]


def test_no_gpu_no_file(tmp_path: Path) -> None:
    _emissions("hosted", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_meter_does_not_hide_that_requests_wait_for_ever() -> None:
    class Stuck:
        idle = False

        def due(self) -> float:
            return inf

    script = Script()
    script.at = []
    meter = Metered(script, Stuck(), None, 1.0)  # type: ignore[arg-type]
    assert meter.next_at() == inf
