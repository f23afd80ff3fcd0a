"""The page in a real browser, read and clicked: the charts are drawn, nothing of an attacker's runs, keys and paper work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reports.page import render
from tests.reports import runs
from tests.reports.chromium import Chromium
from tests.reports.test_injection import attacks
from tests.reports.whole import whole

pytestmark = pytest.mark.realtime

_COLOUR = "getComputedStyle(document.querySelector({!r})).{}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("browser") / "profile") as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    return _written(folder / "report.html", render(*whole(folder / "run", str)))


@pytest.fixture(scope="module")
def reader(browser: Chromium, page: Path) -> Chromium:
    """A browser that has the page open; the tests that take it go on where the last one stopped."""
    browser.open(page.as_uri())
    return browser


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _assert_drawn(browser: Chromium, page: Path) -> None:
    num_charts = page.read_text(encoding="utf-8").count('<figure id="')
    assert num_charts >= 7
    assert browser.ask("document.querySelectorAll('.plot.js-plotly-plot .main-svg').length") >= num_charts
    assert browser.ask("document.querySelectorAll('.plot.js-plotly-plot').length") == num_charts
    assert "could not be drawn" not in browser.ask("document.querySelector('main').innerText")
    assert browser.heard == []


def test_every_chart_is_drawn_with_its_marks(reader: Chromium, page: Path) -> None:
    _assert_drawn(reader, page)
    shown = reader.ask("[...document.querySelectorAll('svg text')].map(e => e.textContent)")
    for words in ("fault: fault", "warm-up, in no metric", "error rate: alert", "saved: saving", "p95"):
        assert words in shown, words


def test_mouse_and_keys(reader: Chromium) -> None:
    reader.press("Tab")
    reader.press("Enter")
    assert reader.ask("location.hash") == "#verdict"
    table = "document.querySelector('#load-chart details').open"
    assert not reader.ask(table)
    reader.click("#load-chart summary")
    assert reader.ask(table)
    reader.click("#load-chart summary")
    assert not reader.ask(table)
    reader.click("nav a[href='#cost']")
    assert reader.ask("location.hash") == "#cost"
    reader.click("#distribution-chart .legendtoggle")  # hides a curve
    reader.ask("new Promise(done => setTimeout(done, 600))")  # plotly waits for a second click
    assert reader.ask("document.querySelector('#distribution-chart .plot').data[0].visible") == "legendonly"
    assert reader.heard == []


def test_dark_and_light_differ_and_paper_is_light(reader: Chromium) -> None:
    colours, table = {}, "document.querySelector('#load-chart table').checkVisibility()"
    for name, dark, media in (("light", False, ""), ("dark", True, ""), ("paper", True, "print")):
        reader.look(dark=dark, media=media)
        reader.settle()
        ink = reader.ask(_COLOUR.format("#load-chart .xtick text", "fill"))
        colours[name] = reader.ask(_COLOUR.format("body", "backgroundColor")), ink
        assert reader.ask(table) == (name == "paper")  # what a screen folds away
    assert len({paper for paper, _ in colours.values()}) == 3
    assert len({ink for _, ink in colours.values()}) == 3
    assert colours["paper"] == ("rgb(255, 255, 255)", "rgb(0, 0, 0)")
    assert reader.ask(_COLOUR.format("nav", "display")) == "none"
    reader.look()
    assert reader.heard == []


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_but_a_table_scrolls_sideways(width: int, reader: Chromium, page: Path) -> None:
    reader.look(width=width)
    reader.settle()
    _assert_drawn(reader, page)
    assert reader.ask("document.documentElement.scrollWidth <= innerWidth")
    assert reader.ask("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('nav'))")
    wide = (
        "[...document.querySelectorAll('.plot svg')].filter(e => e.getBoundingClientRect().right > innerWidth).length"
    )
    assert reader.ask(wide) == 0


def test_an_empty_run_is_drawn(browser: Chromium, tmp_path: Path) -> None:
    page = runs.page_of(runs.empty(tmp_path / "run"))
    browser.open(page.as_uri())
    _assert_drawn(browser, page)


def test_no_text_of_an_attacker_comes_alive(browser: Chromium, page: Path, tmp_path: Path) -> None:
    hostile = _written(tmp_path / "report.html", render(*whole(tmp_path / "run", attacks(0))))
    names = "[...new Set([...document.querySelectorAll('*')].map(e => e.localName))].sort()"
    events = (
        "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => /^on/i.test(a.name)).length"
    )
    links = "[...document.querySelectorAll('[href], [src]')].map(e => e.getAttribute('href') || e.getAttribute('src'))"
    browser.open(page.as_uri())
    known = set(browser.ask(names))
    browser.open(hostile.as_uri())
    _assert_drawn(browser, hostile)  # nor was anything written to the console: no script that was kept from running
    assert browser.ask("document.documentElement.dataset.broken") is None
    assert set(browser.ask(names)) <= known
    assert browser.ask(events) == 0
    assert not [link for link in browser.ask(links) if not link.startswith("#")]
    assert browser.ask("location.href") == hostile.as_uri()
