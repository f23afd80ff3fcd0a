"""Which runs belong to one series: those that may be compared and are about the same thing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.errors import RunError
from harness.gate.comparable import differences
from harness.store import Manifest, RunDirectory

__all__ = ["apart", "runs_below", "series_of"]


def series_of(manifest: Manifest) -> str:
    """The name of a run's series: its label `series`, or the deployment of a run in virtual time; empty where neither is known.

    Of a run over HTTP the address says nothing: a mock has another port every time.
    """
    return manifest.labels.get("series") or (manifest.target if manifest.clock == "virtual" else "")


def apart(a: Manifest, b: Manifest) -> list[str]:
    """Why two runs are not of one series, each field with both values. Empty: they are."""
    found = differences(a, b)
    if series_of(a) != series_of(b):
        found.append(
            f"series: {series_of(a) or 'none'} and {series_of(b) or 'none'} (--label series=NAME makes them one)"
        )
    return found


def runs_below(folder: Path) -> Iterator[RunDirectory]:
    """The run directories in a folder, by name. Raises RunError when it is none."""
    if not folder.is_dir():
        raise RunError(f"{folder} is not a directory")
    for path in sorted(folder.iterdir()):
        if (path / "manifest.json").is_file() and not path.name.startswith("."):
            yield RunDirectory(path)
