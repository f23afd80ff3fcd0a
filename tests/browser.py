"""A page in headless Chromium, as the tests of every page look at it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["rendered"]

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0",
)  # fmt: skip


def rendered(url: str, profile: Path, *, waits_ms: int) -> tuple[str, list[str]]:
    """The document after its scripts have had so long, and what they and the browser wrote to the console."""
    browser = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"NOT CHECKED in a browser: none of {', '.join(_NAMES)} is on the PATH")
    options = [*_OPTIONS, f"--virtual-time-budget={waits_ms}", f"--user-data-dir={profile}"]
    done = subprocess.run(
        [browser, *options, "--dump-dom", url], capture_output=True, text=True, timeout=100, check=True
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
