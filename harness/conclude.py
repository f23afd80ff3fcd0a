"""The end of a run: its records folded, summary, facts and page written, the summary printed, the verdict as exit code."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from shutil import get_terminal_size

import msgspec

from harness.errors import RunError
from harness.gate.facts import FACTS_FILE, read_facts, write_facts
from harness.judgement.slo import load_slo
from harness.plain import plain_lines
from harness.run_files import readable
from harness.say import say
from harness.stack_text import stack_text
from harness.store import RunDirectory
from harness.summary import load_run, summarize
from harness.text import summary_text

__all__ = ["conclude"]


def conclude(directory: RunDirectory, *, slo: Path | None = None) -> int:
    """Fold a run, write summary, facts and page, print the summary. Returns the verdict's exit code.

    `slo`: objectives in the place of those that the run was started with; they are kept from now on. Raises RunError for a run
    that was kept without its records, whose figures would be lost.
    """
    from reports import write_report  # slow to import: pandas and plotly

    _require_records(directory)
    if slo is not None:
        manifest = directory.manifest()
        manifest.slo = load_slo(slo).plain()
        directory.write_manifest(manifest)
    data = load_run(directory)
    summary = summarize(data)
    directory.write_atomically("summary.json", msgspec.json.format(msgspec.json.encode(summary), indent=2))
    write_facts(data, objectives=summary.objectives)
    page = write_report(data, summary)
    say(summary_text(summary, get_terminal_size().columns if sys.stdout.isatty() else None))
    stack = directory.path / "stack.json"
    if stack.exists():
        say(f"\n{_stack(stack)}")
    say(f"\n  report      {page}\n  again       harness report {shlex.quote(str(directory.path))}")
    return summary.verdict.exit_code


def _stack(path: Path) -> str:
    """What the policies did, in words. Raises RunError for a file that `harness simulate` did not write."""
    with readable(path):
        document = msgspec.json.decode(path.read_bytes())
    try:
        return plain_lines(stack_text(document).split("\n"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RunError(f"{path}: is not what a simulated stack leaves ({error})") from error


def _require_records(directory: RunDirectory) -> None:
    """A run that lost its records is INVALID; one that was kept without them is a baseline, and no second fold may write over it."""
    if any(directory.path.glob("records-*.jsonl")) or not (directory.path / FACTS_FILE).is_file():
        return
    if read_facts(directory).num_requests:
        raise RunError(
            f"{directory.path} was kept without its records, so there is nothing to fold again; summary.json and {FACTS_FILE} have its "
            "figures, and `harness report` takes the run that it was kept from"
        )
