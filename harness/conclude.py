"""The end of a run: its records folded, summary, facts and page written, the summary printed, the verdict as exit code."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from shutil import get_terminal_size

import msgspec

from harness.gate.facts import write_facts_of_data
from harness.judgement.slo import load_slo
from harness.stack_text import stack_text
from harness.store import RunDirectory
from harness.summary import load_run, summarize
from harness.text import summary_text

__all__ = ["conclude"]


def conclude(directory: RunDirectory, *, slo: Path | None = None) -> int:
    """Fold a run, write summary, facts and page, print the summary. Returns the verdict's exit code.

    `slo`: objectives in the place of those that the run was started with; they are kept from now on.
    """
    from reports import write_report  # slow to import: pandas and plotly

    if slo is not None:
        manifest = directory.manifest()
        manifest.slo = load_slo(slo).plain()
        directory.write_manifest(manifest)
    data = load_run(directory)
    summary = summarize(data)
    directory.write_atomically("summary.json", msgspec.json.format(msgspec.json.encode(summary), indent=2))
    write_facts_of_data(data, objectives=summary.objectives)
    page = write_report(data, summary)
    print(summary_text(summary, get_terminal_size().columns if sys.stdout.isatty() else None))
    stack = directory.path / "stack.json"
    if stack.exists():
        print(f"\n{stack_text(msgspec.json.decode(stack.read_bytes()))}")
    print(f"\n  report      {page}\n  again       harness report {shlex.quote(str(directory.path))}")
    return summary.verdict.exit_code
