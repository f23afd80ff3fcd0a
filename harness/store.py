"""The run directory: one place for everything a run leaves behind.

manifest.json      what was asked, of whom, with which versions, on which machine
records-*.jsonl    one line a request, one file a writing process
samples-*.jsonl    what the instrument noticed about itself, once a second
ledger.jsonl       the mock's own account, when the mock was the server
stack.json         what the policies of a simulated stack did
conclusion.txt     the scenario's own answer, where it has one
summary.json       the fold of all that       report.html   the page
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from math import inf
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.doctor.certificate import Attached
from harness.errors import RunError, UsageError
from harness.objectives import Objective
from harness.records import RecordFile, RequestRecord, read_record_file
from harness.run_files import read_whole, readable

__all__ = [
    "Manifest",
    "RunDirectory",
    "Sample",
    "create_run",
    "machine",
    "next_free",
    "open_run",
    "require_new",
    "versions",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_SCHEMA = 1
_LAST_WALL = 253402300800.0  # the year 10000: no calendar goes further
_PACKAGES = ("llm-load-harness", "locust", "gevent", "numpy", "msgspec")


class Manifest(msgspec.Struct, kw_only=True):
    """What was asked. Written when the run starts; `ended_*` when it ends in order.

    `clock` is real, or virtual where nothing was measured: a model was driven from event to event. `max_in_flight` is the
    cap on requests in flight; None: there was none. `reactive`: `num_planned` counts what was known beforehand, more
    followed from the answers. `stop_reason`: why the run was ended before its plan. `lost_workers`: whose
    records are missing, or may be, and where they lie. `uid` tells this run from all others of the same name. `objectives` by class; "" holds for
    those that have none of their own. `slo`: the objectives of the whole run (`harness.judgement.slo`). `warmup_s`: requests that were
    intended before are sent and recorded and stand in no metric. `labels`: what tells this run from others of its series, like its
    commit. `prices`: by model, and whose they are (`harness.prices`). `gpu_price_per_hour`: USD for all GPUs of the target together.
    `month_requests`: for which volume a month's bill is to be projected.
    """

    schema_version: int = _SCHEMA
    run_id: str
    scenario: str
    target: str
    model: str | None
    seed: int
    command: list[str]
    options: dict[str, Any]
    plan: dict[str, Any]
    num_planned: int
    duration_s: float
    max_in_flight: int | None
    num_workers: int
    started_wall: float
    versions: dict[str, str]
    machine: dict[str, Any]
    ended_at: float | None = None
    ended_how: str | None = None
    clock: Literal["real", "virtual"] = "real"
    reactive: bool = False
    stop_reason: str | None = None
    lost_workers: list[str] = []
    uid: str | None = None
    objectives: dict[str, Objective] = {}
    slo: dict[str, Any] | None = None
    warmup_s: float = 0.0
    labels: dict[str, str] = {}
    prices: dict[str, Any] | None = None
    gpu_price_per_hour: float | None = None
    month_requests: float | None = None
    certificate: Attached | None = None  # what `harness doctor` found on this machine; None: it was not asked

    @property
    def loaded_s(self) -> float:
        """Seconds over which the run was loaded: those of the plan; one that goes on from answers may have been over before."""
        return min(self.duration_s, self.ended_at) if self.reactive and self.ended_at else self.duration_s


class Sample(msgspec.Struct, kw_only=True):
    """One second of the instrument: CPU of the process (1.0 is one core), the event loop's lag, requests in flight.

    Of the machine: the share of all its processors' time that somebody used (`machine_cpu`), and that a hypervisor gave to
    others (`stolen_cpu`). `cpu_wait`: the share of the second in which this process was ready and was not run.
    """

    kind: str = "instrument"
    at: float
    cpu: float
    loop_lag_s: float
    num_in_flight: int
    machine_cpu: float | None = None
    stolen_cpu: float | None = None
    cpu_wait: float | None = None


class RunDirectory:
    """Paths and readers of one run directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.name

    def write_manifest(self, manifest: Manifest) -> None:
        self.write_atomically("manifest.json", msgspec.json.format(msgspec.json.encode(manifest), indent=2))

    def manifest(self) -> Manifest:
        """Raises RunError when this is no run directory, or one of another version."""
        path = self.path / "manifest.json"
        if not os.path.lexists(path):
            raise RunError(f"{self.path} is not a run directory: it has no manifest.json")
        with readable(path):
            manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        if wrong := _wrong(manifest):
            raise RunError(f"{path}: {wrong}")
        return manifest

    def records(self, files: list[RecordFile]) -> Iterator[RequestRecord]:
        """All records of the run; what was found in each file is appended to `files`."""
        for path in sorted(self.path.glob("records-*.jsonl")):
            found = RecordFile(path)
            files.append(found)
            yield from read_record_file(path, found)

    def samples(self) -> list[Sample]:
        """The instrument's samples in order of time; a torn last line of a killed writer is left out."""
        samples: list[Sample] = []
        decoder = msgspec.json.Decoder(Sample)
        for path in sorted(self.path.glob("samples-*.jsonl")):
            lines = read_whole(path).splitlines(keepends=True)
            with readable(path):
                samples += [decoder.decode(line) for line in lines if line.endswith(b"\n")]
        return sorted(samples, key=lambda sample: sample.at)

    def write_conclusion(self, lines: list[str]) -> None:
        """Keep the scenario's own answer: only a process that may import the scenario can work it out."""
        if lines:
            self.write_atomically("conclusion.txt", "".join(f"{line}\n" for line in lines).encode())

    def conclusion(self) -> list[str]:
        """The scenario's own answer, as lines; empty when it has none."""
        path = self.path / "conclusion.txt"
        if not os.path.lexists(path):
            return []
        with readable(path):
            return path.read_text(encoding="utf-8").splitlines()

    def write_atomically(self, name: str, content: bytes) -> Path:
        """Write a file so that a reader finds the old one or the new one, never half of it."""
        target, draft = self.path / name, self.path / f".{name}.{os.getpid()}.part"  # others may be writing it too
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, target)
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise RunError(f"cannot write {target}: {error.strerror}") from error
        return target


def _wrong(manifest: Manifest) -> str | None:
    """What no run can have been asked; None: nothing."""
    if manifest.schema_version != _SCHEMA:
        return f"schema {manifest.schema_version}; this version reads schema {_SCHEMA}"
    if not 0 < manifest.duration_s < inf:
        return f"duration_s {manifest.duration_s:g}: must be more than 0"
    if not 0 <= manifest.warmup_s < manifest.duration_s:
        return f"warmup_s {manifest.warmup_s:g}: must be shorter than the run, which has {manifest.duration_s:g} s"
    if not 0 <= manifest.started_wall < _LAST_WALL:
        return f"started_wall {manifest.started_wall:g}: must be seconds since 1970"
    if manifest.num_planned < 0:
        return f"num_planned {manifest.num_planned}: must be 0 or more"
    return None


def require_new(path: Path) -> None:
    """Raises UsageError when a run cannot be made there: its name is unsafe, or something stands there already."""
    if not _NAME.fullmatch(path.name):
        raise UsageError(
            f"run name {path.name!r} must be 1 to 80 of A-Z a-z 0-9 . _ - and start with a letter or digit"
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{path} exists and is not empty; a run needs a directory of its own")


def create_run(path: Path) -> RunDirectory:
    """Make a new, empty run directory. Raises UsageError when there is one already or its name is unsafe."""
    require_new(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot create {path}: {error.strerror}") from error
    return RunDirectory(path)


def next_free(path: Path) -> Path:
    """The path, or path-2, path-3 and so on: the first that no run has taken."""
    number, free = 1, path
    while free.exists() and (not free.is_dir() or any(free.iterdir())):
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def open_run(path: Path) -> RunDirectory:
    """A run directory that exists. Raises RunError when it does not."""
    if not path.is_dir():
        raise RunError(f"{path} is not a directory")
    return RunDirectory(path)


def versions() -> dict[str, str]:
    """Versions of what measures; a package that is not installed is left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The machine in words: enough to tell whether two runs may be compared."""
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpu": _cpu_model(),
        "num_cpus": os.cpu_count(),
        "memory_bytes": _memory(),
    }


def _cpu_model() -> str | None:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), None)
    except OSError:
        return None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
