"""The page in a real browser: the charts are drawn, and the browser has nothing to complain about."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.reports import runs

pytestmark = pytest.mark.realtime

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0",
    "--virtual-time-budget=10000",
)  # fmt: skip
_NUM_CHARTS = 6


def _rendered(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts have run, and what they and the browser wrote to the console."""
    browser = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"NOT CHECKED in a browser: none of {', '.join(_NAMES)} is on the PATH")
    command = [browser, *_OPTIONS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_every_chart_is_drawn(tmp_path: Path) -> None:
    document, console = _rendered(runs.page_of(runs.mixed(tmp_path / "run")), tmp_path / "profile")
    assert console == []
    assert document.count('class="plot js-plotly-plot"') == _NUM_CHARTS
    assert document.count('class="main-svg"') >= _NUM_CHARTS
    assert document.count("could not be drawn") == 1  # in the script that would say so


def test_an_empty_run_is_drawn(tmp_path: Path) -> None:
    document, console = _rendered(runs.page_of(runs.empty(tmp_path / "run")), tmp_path / "profile")
    assert console == []
    assert document.count('class="plot js-plotly-plot"') == _NUM_CHARTS


def test_no_text_of_an_attacker_comes_alive(tmp_path: Path) -> None:
    text = "".join(runs.HOSTILE[:4])
    document, console = _rendered(runs.page_of(runs.texts(tmp_path / "run", text)), tmp_path / "profile")
    assert console == []  # an image or a script that was kept from running would be reported here
    assert document.count('class="plot js-plotly-plot"') == _NUM_CHARTS
    assert "<img" not in document.partition("<script>")[0]
