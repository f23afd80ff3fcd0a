"""The run that an export speaks of: its records after the warm-up, and what it was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from harness.records import RecordFile
from harness.store import Manifest, RunDirectory
from harness.table import Table, tabulate

__all__ = ["TOOL", "Measured", "measured"]

TOOL = "llm-load-harness"


@dataclass(frozen=True)
class Measured:
    """`table`: the requests that were intended after the warm-up."""

    manifest: Manifest
    table: Table

    @property
    def tool_version(self) -> str:
        return self.manifest.versions.get(TOOL, "unknown")

    @property
    def started(self) -> datetime:
        return datetime.fromtimestamp(self.manifest.started_wall, UTC)

    @property
    def ended_s(self) -> float:
        """When the run was over, in seconds from its start: as the manifest says, else when the last answer had ended."""
        if self.manifest.ended_at is not None:
            return self.manifest.ended_at
        ends = self.table["done_at"][~np.isnan(self.table["done_at"])]
        return float(ends.max()) if len(ends) else 0.0

    @property
    def asked_rate(self) -> float | None:
        """Requests a second that the plan asked for; None where answers decided when the next was sent."""
        manifest = self.manifest
        return None if manifest.reactive or not manifest.duration_s else manifest.num_planned / manifest.duration_s


def measured(directory: RunDirectory) -> Measured:
    """Raises RunError when the run cannot be read without guessing."""
    manifest = directory.manifest()
    files: list[RecordFile] = []
    table = tabulate(directory.records(files))
    late = table["intended_at"] >= manifest.warmup_s
    return Measured(manifest, table if late.all() else table.select(late))
