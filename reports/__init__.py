"""The page of a run: reports draw, they do not measure. Every number is the summary's or a record's."""

from __future__ import annotations

from pathlib import Path

from harness.summary import RunData, Summary
from reports.page import render

__all__ = ["write_report"]


def write_report(run: RunData, summary: Summary) -> Path:
    """Write `report.html` into the run's directory; RunError when it cannot be written."""
    return run.directory.write_atomically("report.html", render(run, summary).encode("utf-8", "replace"))
