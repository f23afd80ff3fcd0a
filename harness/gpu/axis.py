"""The sampler's file on the run's time axis: its instants are the machine's, the records' count from the run's origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

from msgspec.structs import replace

from harness.gpu.file import FILE, GpuFile, read_gpu_file
from harness.gpu.samples import GpuSample, ServerSample
from harness.records import Header, RecordFile
from harness.store import RunDirectory

__all__ = ["Readings", "read_run"]

AlignedBy = Literal["monotonic clock", "wall clock", "virtual time"]


@dataclass(frozen=True)
class Readings:
    """All readings in order of time, in seconds from the run's origin, also before the first request and after the last, and the file
    they come from.

    `aligned_by` is None, and there are no readings, where no record file says when the run began."""

    gpus: list[GpuSample]
    servers: list[ServerSample]
    file: GpuFile
    aligned_by: AlignedBy | None


def read_run(directory: RunDirectory, files: Sequence[RecordFile]) -> Readings | None:
    """None: nobody sampled. Where the server was a mock, this machine's own GPUs served nothing, and are left out.

    Raises RunError when the file cannot be read."""
    file = read_gpu_file(directory.path / FILE)
    if file is None:
        return None
    headers = [found.header for found in files if found.header is not None]
    if not headers and file.header.clock == "monotonic":
        return Readings([], [], file, None)
    shift_s, aligned_by = _shift(file, headers)
    simulated = any(sample.simulated for sample in file.gpus)
    gpus = [replace(sample, at=sample.at + shift_s) for sample in file.gpus if sample.simulated or not simulated]
    servers = [replace(sample, at=sample.at + shift_s) for sample in file.servers]
    at = attrgetter("at")
    return Readings(sorted(gpus, key=at), sorted(servers, key=at), file, aligned_by)


def _shift(file: GpuFile, headers: list[Header]) -> tuple[float, AlignedBy]:
    """What to add to the sampler's instants. One boot of one machine has one monotonic clock, and then nothing is uncertain."""
    own = file.header
    if own.clock == "virtual":
        return 0.0, "virtual time"
    for header in headers:
        if header.boot_id is not None and header.boot_id == own.boot_id:
            return -header.origin_monotonic, "monotonic clock"
    there = headers[0]
    origin_wall = there.origin_monotonic + there.clocks["wall"] - there.clocks["monotonic"]
    return own.clocks["wall"] - own.clocks["monotonic"] - origin_wall, "wall clock"
