"""`gpu.jsonl`: what the sampler wrote. One writer, one `write` a line, so what was read survives SIGKILL of the sampler.

header     who reads, by which clock, from which sources
gpu        a reading of a GPU (`samples.py`)
server     a reading of a server
source     a source that gave nothing says why, whenever the reason changes
footer     the sampler ended in order
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from harness.errors import RunError
from harness.gpu.samples import GpuSample, ServerSample
from harness.run_files import read_whole

__all__ = ["FILE", "GpuFile", "GpuWriter", "SamplerFooter", "SamplerHeader", "SourceNote", "read_gpu_file"]

FILE = "gpu.jsonl"
_SCHEMA = 1


class SamplerHeader(msgspec.Struct, kw_only=True, tag_field="kind", tag="header"):
    """`clocks`: one reading of monotonic and wall clock. `clock`: virtual, where `at` counts from the run's origin already."""

    schema_version: int = _SCHEMA
    host: str
    boot_id: str | None
    clocks: dict[str, float]
    every_s: float
    sources: list[str]
    clock: Literal["monotonic", "virtual"] = "monotonic"


class SourceNote(msgspec.Struct, kw_only=True, tag_field="kind", tag="source"):
    """A source gave nothing at `at`, for this reason. `final`: it was not asked again."""

    at: float
    source: str
    why_not: str
    final: bool = False


class SamplerFooter(msgspec.Struct, kw_only=True, tag_field="kind", tag="footer"):
    at: float
    num_samples: dict[str, int]


_Line = GpuSample | ServerSample | SourceNote | SamplerHeader | SamplerFooter
_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(_Line).decode


class GpuWriter:
    """Writes one file. Raises RunError when it cannot be written."""

    def __init__(self, path: Path, header: SamplerHeader) -> None:
        self._path = path
        self._num: dict[str, int] = dict.fromkeys(header.sources, 0)
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunError(f"cannot write GPU readings to {path}: {error.strerror}") from error
        self._write(header)

    def sample(self, sample: GpuSample | ServerSample) -> None:
        source = sample.source or ""
        self._num[source] = self._num.get(source, 0) + 1
        self._write(sample)

    def note(self, note: SourceNote) -> None:
        self._write(note)

    def close(self, at: float) -> None:
        """Write the footer and close the file."""
        try:
            self._write(SamplerFooter(at=at, num_samples=self._num))
        finally:
            os.close(self._descriptor)

    def _write(self, line: _Line) -> None:
        text = _ENCODE(line) + b"\n"
        try:
            written = os.write(self._descriptor, text)
        except OSError as error:
            raise RunError(f"cannot write GPU readings to {self._path}: {error.strerror}") from error
        if written != len(text):
            raise RunError(f"only {written} of {len(text)} bytes of a reading went to {self._path}; is the disk full?")


@dataclass
class GpuFile:
    """What one file holds, in the order in which it was written. `whole`: its writer ended in order."""

    header: SamplerHeader
    gpus: list[GpuSample] = field(default_factory=list)
    servers: list[ServerSample] = field(default_factory=list)
    notes: list[SourceNote] = field(default_factory=list)
    whole: bool = False

    def take(self, line: _Line) -> None:
        match line:
            case GpuSample():
                self.gpus.append(line)
            case ServerSample():
                self.servers.append(line)
            case SourceNote():
                self.notes.append(line)
            case SamplerFooter():
                self.whole = True
            case SamplerHeader():
                raise msgspec.ValidationError("a second header")


def read_gpu_file(path: Path) -> GpuFile | None:
    """None where there is none, or where its writer was killed before it had begun. Tolerates a torn last line.

    Raises RunError for any other line that cannot be read."""
    if not os.path.lexists(path):
        return None
    lines = read_whole(path).splitlines(keepends=True)
    found: GpuFile | None = None
    for number, text in enumerate(lines, start=1):
        if not text.endswith(b"\n"):
            break
        try:
            line = _DECODE(text)
            if found is not None:
                found.take(line)
                continue
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RunError(f"{path}:{number}: {error}") from error
        if not isinstance(line, SamplerHeader):
            raise RunError(f"{path}:{number}: a reading before the header")
        if line.schema_version != _SCHEMA:
            raise RunError(f"{path}: schema {line.schema_version}; this version reads schema {_SCHEMA}")
        found = GpuFile(line)
    return found
