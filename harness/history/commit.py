"""Which commit of the tested code a run belongs to."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from shutil import which

from harness.errors import UsageError

__all__ = ["commit_of", "short_commit"]

# Ours first, because what is tested need not be what the CI job has checked out.
_VARIABLES = ("HARNESS_COMMIT", "GITHUB_SHA", "CI_COMMIT_SHA")
_COMMIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,99}")
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?(-dirty)?")
_LONGEST_S = 5.0


def commit_of(environ: Mapping[str, str], cwd: Path) -> str | None:
    """The commit by HARNESS_COMMIT, GITHUB_SHA or CI_COMMIT_SHA, else by git in `cwd`, with -dirty where tracked files were changed.

    None where nobody knows. Raises UsageError when HARNESS_COMMIT is no name of a commit.
    """
    for name in _VARIABLES:
        if value := environ.get(name, "").strip():
            if _COMMIT.fullmatch(value):
                return value
            if name == _VARIABLES[0]:
                raise UsageError(f"{name}={value!r}: a commit has 1 to 100 of A-Z a-z 0-9 . _ / + -")
    return _by_git(cwd)


def short_commit(commit: str | None) -> str:
    """As people write it: a hash by its first 10 digits; a dash where there is none."""
    if commit is None:
        return "–"
    return commit[:10] + (found[1] or "") if (found := _HASH.fullmatch(commit)) else commit


def _by_git(cwd: Path) -> str | None:
    commit = _git(cwd, "rev-parse", "--verify", "HEAD")
    if not commit or not _COMMIT.fullmatch(commit):
        return None
    changed = _git(cwd, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit


def _git(cwd: Path, *words: str) -> str | None:
    """What git says; None where there is no git, no repository or no answer in time."""
    program = which("git")
    if program is None or not cwd.is_dir():
        return None
    command = [program, "--no-optional-locks", *words]
    try:
        done = subprocess.run(  # noqa: S603 - nothing of it comes from outside
            command, cwd=cwd, capture_output=True, text=True, errors="replace", timeout=_LONGEST_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
