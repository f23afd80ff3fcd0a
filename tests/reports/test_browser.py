"""The page in a real browser: the charts are drawn, and the browser has nothing to complain about."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import rendered
from tests.reports import runs

pytestmark = pytest.mark.realtime

_NUM_CHARTS = 6


def _rendered(page: Path, profile: Path) -> tuple[str, list[str]]:
    return rendered(page.as_uri(), profile, waits_ms=10_000)


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
