"""The page of a run: reports draw, they do not measure. Every number is the summary's or a record's."""

from __future__ import annotations

from pathlib import Path

from harness.gpu.axis import read_run
from harness.summary import RunData, Summary
from reports.page import render
from reports.view import Readings

__all__ = ["write_report"]


def write_report(run: RunData, summary: Summary) -> Path:
    """Write `report.html` into the run's directory; RunError when it cannot be written, or the sampler's file not be read."""
    found = read_run(run.directory, run.files)
    readings = Readings() if found is None else Readings(found.gpus, found.servers)
    page = render(run, summary, readings)
    return run.directory.write_atomically("report.html", page.encode("utf-8", "replace"))
