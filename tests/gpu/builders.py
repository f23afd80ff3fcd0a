"""A run with GPU readings, made by hand: what the sampler would have written beside the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.gpu.axis import read_run
from harness.gpu.file import FILE, GpuWriter, SamplerHeader, SourceNote
from harness.gpu.fold import gpu_report
from harness.gpu.samples import GpuReport, GpuSample, ServerSample
from harness.records import RecordFile, RequestRecord
from harness.store import RunDirectory
from harness.table import tabulate
from tests.harness.builders import HEADER, record, write_run

__all__ = ["ORIGIN", "gpu", "report_of", "server", "write_readings"]

ORIGIN = HEADER.origin_monotonic  # the run's origin on its machine's monotonic clock


def gpu(at: float, *, gpu: str = "GPU-0", source: str | None = "nvml", **fields: Any) -> GpuSample:
    """A reading `at` seconds of the run."""
    return GpuSample(at=ORIGIN + at, gpu=gpu, source=source, **fields)


def server(at: float, *, source: str | None = "http://a/metrics", **fields: Any) -> ServerSample:
    return ServerSample(at=ORIGIN + at, source=source, **fields)


def write_readings(
    path: Path,
    samples: Sequence[GpuSample | ServerSample],
    *,
    notes: Sequence[SourceNote] = (),
    whole: bool = True,
    **header: Any,
) -> Path:
    fields: dict[str, Any] = {
        "host": "load-1",
        "boot_id": HEADER.boot_id,
        "clocks": HEADER.clocks,
        "every_s": 1.0,
        "sources": ["nvml"],
    }
    writer = GpuWriter(path / FILE, SamplerHeader(**(fields | header)))
    for note in notes:
        writer.note(note)
    for sample in samples:
        writer.sample(sample)
    if whole:
        writer.close(ORIGIN + 100)
    return path / FILE


def run_of(path: Path, begin: float = 0.0, end: float = 10.0) -> RunDirectory:
    """A run whose first request is sent at `begin`, and whose last answer ends at `end`."""
    records: list[RequestRecord] = [
        record(0, intended_at=begin, sent_at=begin, done_at=begin + 0.2),
        record(1, intended_at=end - 0.2, sent_at=end - 0.2, done_at=end),
    ]
    return write_run(path, [records])


def report_of(directory: RunDirectory) -> GpuReport | None:
    files: list[RecordFile] = []
    table = tabulate(directory.records(files))
    readings = read_run(directory, files)
    return None if readings is None else gpu_report(readings, table)
