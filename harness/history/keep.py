"""A history of runs without their records: what a later gate, baseline or trend asks for, some 80 kB a run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from harness.errors import RunError, UsageError
from harness.gate.facts import FACTS_FILE, KEPT_MEASURES, RunFacts, facts_of, fresh_facts
from harness.store import RunDirectory, open_run, require_new
from harness.summary import load_run

__all__ = ["keep"]

_FILES = ("manifest.json", "summary.json")
_OPTIONAL = ("conclusion.txt",)
_PAGE = "report.html"


def keep(paths: Sequence[Path], into: Path, *, with_page: bool = False) -> list[Path]:
    """Copy manifest, summary and facts of each run to `into/RUN_ID`; `with_page`: its report too. Returns the copies.

    A run appears whole or not at all. Raises UsageError where one of that name is kept already or is given twice, RunError for what
    is no finished run.
    """
    found = [(open_run(path), open_run(path).manifest().run_id) for path in paths]
    names = [name for _, name in found]
    for name in names:
        if Path(name).name != name:  # out of the history
            raise UsageError(f"run name {name!r} must be the name of a directory, not a path")
        require_new(into / name)
        if names.count(name) > 1:
            raise UsageError(f"two of the runs are called {name}; a history holds each name once")
    return [_keep(directory, into / name, with_page=with_page) for directory, name in found]


def _keep(directory: RunDirectory, target: Path, *, with_page: bool) -> Path:
    missing = [name for name in _FILES if not (directory.path / name).is_file()]
    if missing:
        raise RunError(f"{directory.path} has no {missing[0]}: fold it first, harness report {directory.path}")
    facts = _facts(directory)
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)  # of a copy that was cut short
    try:
        draft.mkdir(parents=True)
        for name in (*_FILES, *_OPTIONAL, *([_PAGE] if with_page else [])):
            if name in _FILES or (directory.path / name).is_file():
                shutil.copyfile(directory.path / name, draft / name)
        RunDirectory(draft).write_atomically(FACTS_FILE, msgspec.json.format(msgspec.json.encode(facts), indent=1))
        if target.is_dir():
            target.rmdir()  # empty, or it would have been refused
        draft.rename(target)
    except OSError as error:
        raise RunError(f"cannot keep {directory.path} in {target}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            shutil.rmtree(draft, ignore_errors=True)
    return target


def _facts(directory: RunDirectory) -> RunFacts:
    """Those that lie beside the records, unless they are older; of a run that was kept before, those that it was kept with."""
    return fresh_facts(directory, KEPT_MEASURES) or facts_of(load_run(directory))
