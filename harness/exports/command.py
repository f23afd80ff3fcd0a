"""`harness export RUN FORMAT`: a run in the format of others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import RunError, UsageError
from harness.exports.llm_d import benchmark_report
from harness.exports.measured import Measured, measured
from harness.exports.otel import otlp_metrics
from harness.exports.rows import write_csv, write_parquet
from harness.exports.vllm import vllm_result
from harness.exports.writing import write_pieces
from harness.gate.facts import facts_of, fresh_facts
from harness.store import RunDirectory, open_run
from harness.summary import load_run

__all__ = ["FORMATS", "export", "reservation"]


def export(run_path: Path, format: str, out: Path | None = None) -> Path:  # noqa: A002  # what the option is called
    """Write the run in this format to `out`, else to `RUN/export-FORMAT.EXT`, and say where it is; what stands there is replaced.

    Raises UsageError for a format that there is not and a file that cannot be written, RunError for a run that cannot be read.
    """
    if format not in FORMATS:
        raise UsageError(f"--format {format!r}: there are {', '.join(FORMATS)}")
    ending, write = FORMATS[format]
    directory = open_run(run_path)
    directory.manifest()  # says what is wrong before anything is read
    if not any(directory.path.glob("records-*.jsonl")):  # a kept run, for one: zeros would be false
        raise RunError(f"{directory.path} has no records; there is nothing to export")
    target = out if out is not None else directory.path / f"export-{format}.{ending}"
    _check(target, directory)
    write(directory, target)
    return target


def reservation(run_path: Path) -> str | None:
    """Why what is exported is not to be believed; None: nothing speaks against it. No format has a place for it."""
    directory = open_run(run_path)
    facts = fresh_facts(directory, ()) or facts_of(load_run(directory), ())
    return f"{run_path} is INVALID: {'; '.join(facts.reasons)}" if facts.state == "INVALID" else None


def _check(target: Path, directory: RunDirectory) -> None:
    if target.is_dir():
        raise UsageError(f"--out {target} is a directory; name a file in it")
    if not target.parent.is_dir():
        raise UsageError(f"--out {target}: there is no directory {target.parent}; make it first")
    if target.resolve().parent == directory.path.resolve() and not target.name.startswith("export-"):
        raise UsageError(f"--out {target} is beside the run's own files; name it export-…, or choose another directory")


def _write_vllm(directory: RunDirectory, target: Path) -> None:
    write_pieces(target, vllm_result(measured(directory)))


def _json(build: Callable[[Measured], dict[str, Any]]) -> Callable[[RunDirectory, Path], None]:
    def write(directory: RunDirectory, target: Path) -> None:
        write_pieces(target, [msgspec.json.format(msgspec.json.encode(build(measured(directory))), indent=2), b"\n"])

    return write


FORMATS: dict[str, tuple[str, Callable[[RunDirectory, Path], None]]] = {
    "parquet": ("parquet", write_parquet),
    "csv": ("csv", write_csv),
    "vllm": ("json", _write_vllm),
    "llm-d": ("json", _json(benchmark_report)),
    "otel": ("json", _json(otlp_metrics)),
}
