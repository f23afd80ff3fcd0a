"""Starting scenarios as their users do: in virtual time, or by stock Locust."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

from tests.conftest import REPOSITORY

Ended: TypeAlias = subprocess.CompletedProcess[str]


def rehearse(deployment: str | Path, scenario: str, out: Path, *words: str) -> Ended:
    """A scenario by name or path in virtual time; the run is in `out` when the exit code is 0."""
    return _run("harness.swarm.rehearsal", str(deployment), "-f", _path(scenario), "--out", str(out), *words)


def locust(url: str, scenario: str, out: Path, *words: str) -> Ended:
    """A scenario by name or path by stock Locust, without its web page."""
    return _run("locust", "-f", _path(scenario), "--headless", "--host", url, "--out", str(out), *words)


def _path(scenario: str) -> str:
    return scenario if scenario.endswith(".py") else f"scenarios/{scenario}.py"


def _run(module: str, *words: str) -> Ended:
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=110)
