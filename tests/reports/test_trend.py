"""The page of a trend: alarms first, points with their commits, and no text from outside that comes alive."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.history.levels import series_over
from harness.history.nights import Night
from harness.history.trend import Group, Trend, trend_of
from reports.trend_page import render_trend
from tests.browser import rendered
from tests.history.past import past, write_past
from tests.reports.pages import Page, parse
from tests.reports.payloads import PAYLOADS

TTFT = "ttft_p50(ok)"
HASHES = ("a" * 40, "b" * 40)


@pytest.fixture(scope="module")
def trend(tmp_path_factory: pytest.TempPathFactory) -> Trend:
    """Twenty nights; from the 15th on, with another commit, TTFT is a quarter higher and cost a fifth lower."""
    folder = tmp_path_factory.mktemp("trend")
    for night in range(20):
        values = {
            TTFT: 0.4 + night % 2 / 100 if night < 15 else 0.5 + night % 2 / 100,
            "error_rate": 0.01,
            "cost_per_request": 0.001 if night < 15 else 0.0008,
        }
        write_past(folder, past(night, values, commit=HASHES[night >= 15]))
    return trend_of(folder)


@pytest.fixture(scope="module")
def html(trend: Trend) -> str:
    return render_trend(trend)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return parse(html)


def test_the_alarm_stands_first_with_its_commits(page: Page) -> None:
    banner = page.only("section", id="verdict")
    assert banner.attributes["data-answer"] == "FAIL"
    assert page.only("p", class_="answer").text == "1 ALARM"
    assert f"{TTFT} +25.0 % since 2027-01-30, commits aaaaaaaaaa to bbbbbbbbbb" in banner.text


def test_every_change_point_is_a_row(page: Page) -> None:
    rows = page.tables()["Change points"]
    assert [row[0] for row in rows[1:]] == [TTFT, "cost_per_request", "no change: error_rate"]
    ttft, cost = rows[1], rows[2]
    assert ttft[2:8] == ["2027-01-30", "run-015-1", "aaaaaaaaaa", "bbbbbbbbbb", "405 ms", "506 ms"]
    assert ttft[1].startswith("+25.0 % worse")
    assert cost[1].startswith("-20.0 % better")


def _values(trace: dict[str, Any]) -> list[float]:
    """Plotly writes numbers as base64."""
    return list(np.frombuffer(b64decode(trace["y"]["bdata"]), dtype=trace["y"]["dtype"]))


def test_a_chart_has_its_points_levels_and_an_edge(page: Page) -> None:
    figure = json.loads(page.only("script", id="group-0-0-data").text)
    level, points = figure["data"]
    assert _values(points)[14:16] == pytest.approx([400.0, 510.0])
    assert _values(level)[14:16] == pytest.approx([404.6, 506.0], abs=0.1)
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [14.5]
    assert [note["text"] for note in figure["layout"]["annotations"]] == ["+25.0 % bbbbbbbbbb"]
    assert "commit bbbbbbbbbb" in points["text"][15]
    rows = page.tables()[f"{TTFT} by night"]
    assert rows[16][:5] == ["2027-01-30", "bbbbbbbbbb", "run-015-1", "1", "510 ms"]


def test_without_an_alarm_the_page_says_so(tmp_path: Path) -> None:
    for night in range(8):
        write_past(tmp_path, past(night, {TTFT: 0.4}))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{}")
    page = parse(render_trend(trend_of(tmp_path)))
    assert page.only("p", class_="answer").text == "NO ALARM"
    assert page.tables()["Runs that stand in no series"][1][0] == "broken"


def _hostile(text: str) -> Trend:
    """Everything in it that comes from outside is `text`."""
    runs = [
        past(
            night,
            {TTFT: 0.4 if night < 5 else 0.5},
            commit=text,
            scenario=text,
            model=text,
            labels={"commit": text, "series": text},
        )
        for night in range(10)
    ]
    nights = tuple(Night((type(run)(text, run.manifest, run.facts),)) for run in runs)
    series = series_over(TTFT, nights)
    assert series is not None
    return Trend(text, (Group(text, nights, (series,)),), (f"{text}: {text}",))


def test_text_from_outside_stays_text() -> None:
    plain = parse(render_trend(_hostile("plain")))
    for number in range(0, len(PAYLOADS), 5):
        page = parse(render_trend(_hostile(" ".join(PAYLOADS[number : number + 5]))))
        assert [(e.tag, tuple(e.attributes)) for e in page.elements] == [
            (e.tag, tuple(e.attributes)) for e in plain.elements
        ]
        assert not set("<>&\u2028\u202e") & set(page.only("script", id="group-0-0-data").text)


@pytest.mark.realtime
def test_charts_are_drawn_and_no_attack_comes_alive(html: str, tmp_path: Path) -> None:
    hostile = render_trend(_hostile("".join(PAYLOADS[number] for number in (0, 1, 8, 11, 21, 31))))
    for name, text, num_charts in (("page", html, 3), ("hostile", hostile, 1)):
        path = tmp_path / f"{name}.html"
        path.write_text(text)
        document, console = rendered(path.as_uri(), tmp_path / "profile", waits_ms=5_000)
        assert console == []
        assert document.count('class="plot js-plotly-plot"') == num_charts
        assert "data-broken" not in document.partition("<script")[0]
