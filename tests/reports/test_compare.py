"""The comparative page: its numbers are those of the records, and no text from outside becomes part of its build."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.history.compare import Comparison, compared
from reports.compare_page import render_comparison
from tests.browser import rendered
from tests.harness.builders import write_run
from tests.reports import runs
from tests.reports.pages import Page, parse
from tests.reports.payloads import PAYLOADS

_SECTIONS = ["verdict", "runs", "changes", "distributions", "time", "load", "outcomes", "cost", "fields"]
_CHARTS = [
    "ttft-chart", "tpot-chart", "e2e-chart", "ttft-spectrum", "e2e-spectrum", "time-chart", "levels-chart", "outcomes-chart",
    "cost-chart",
]  # fmt: skip


def make(path: Path, shift: float = 0.0, **fields: Any) -> Path:
    """400 requests in two phases, each with a cost; TTFT is `shift` seconds later."""
    records = [runs.answered(number, cost_usd=0.001) for number in range(400)]
    for each in records:
        for name in ("first_token_at", "last_token_at", "done_at"):
            setattr(each, name, getattr(each, name) + shift)
    said: dict[str, Any] = {"run_id": path.name, "duration_s": 20.0} | fields
    return write_run(path, [records], **said).path


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("compare")
    return compared(
        [make(folder / "old", options={"rate": 20}), make(folder / "new", 0.05, options={"out": "x", "rate": 20})]
    )


@pytest.fixture(scope="module")
def html(comparison: Comparison) -> str:
    return render_comparison(comparison)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return parse(html)


def ttft(shift: float = 0.0) -> np.ndarray[Any, Any]:
    """As the records have it, worked out once more."""
    numbers = np.arange(400)
    return np.asarray(np.sort(0.102 + (numbers * 7919 % 101) / 500 + shift))


def test_sections_and_charts_are_there_and_every_chart_has_its_table(page: Page) -> None:
    assert [e.attributes.get("id") for e in page.find("section")] == _SECTIONS
    assert [e.attributes["id"] for e in page.find("figure")] == _CHARTS
    for name in _CHARTS:
        assert json.loads(page.only("script", id=f"{name}-data").text)["data"], name
    assert len([e for e in page.find("table") if "details" in e.path]) == len(_CHARTS)


def test_the_change_of_a_measure_is_that_of_the_records(page: Page) -> None:
    row = page.row("Change from the reference, with 95 % intervals", "ttft_p99(ok)")
    old, new = ttft()[395], ttft(0.05)[395]
    assert row["A"].startswith(f"{old * 1e3:.0f} ms")
    assert row["B"].startswith(f"{new * 1e3:.0f} ms")
    assert row["B against A"].startswith(f"{(new / old - 1) * 100:+.1f} % worse")


def test_points_of_a_curve_are_those_of_the_records(page: Page) -> None:
    row = page.row("TTFT that this share of requests does not exceed, ms", "90 %")
    assert (row["A"], row["B"]) == tuple(f"{ttft(shift)[359] * 1e3:.0f}" for shift in (0, 0.05))
    figure = json.loads(page.only("script", id="ttft-chart-data").text)
    assert [trace["name"] for trace in figure["data"]] == ["A old", "B new"]


def test_phases_are_levels_of_load(page: Page) -> None:
    rows = page.tables()["Latency by level of load"][1:]
    assert [row[:2] for row in rows] == [["A", "quiet"], ["A", "burst"], ["B", "quiet"], ["B", "burst"]]
    assert {row[3] for row in rows} == {"200"}


def test_what_differs_is_listed(page: Page) -> None:
    rows = page.tables()["What differs in plan, options, versions and machine"]
    assert rows == [["field", "A", "B"], ["options.out", "–", "x"]]


def test_the_answer_says_what_the_intervals_are_of(page: Page) -> None:
    banner = page.only("section", id="verdict")
    assert "B against A: worse in ttft_p50(ok)" in banner.text
    assert "within-run uncertainty; whether a build got worse needs several runs: harness gate" in banner.text


def test_what_is_not_comparable_says_so_first(tmp_path: Path) -> None:
    paths = [make(tmp_path / "a"), make(tmp_path / "b", model="large")]
    page = parse(render_comparison(compared(paths, anyway=True)))
    assert page.only("p", class_="answer").text == "NOT COMPARABLE"
    assert "B against A: model: mock and large" in page.only("section", id="verdict").text


def test_runs_without_anything_in_them_have_a_page(tmp_path: Path) -> None:
    paths = [runs.empty(tmp_path / "a").path, runs.all_failed(tmp_path / "b").path]
    page = parse(render_comparison(compared(paths, anyway=True)))
    cells = [cell for rows in page.tables().values() for row in rows for cell in row]
    assert not [cell for cell in cells if cell.lower().split()[:1] in (["nan"], ["none"], ["inf"])]
    assert "cost" not in [e.attributes.get("id") for e in page.find("section")]


def test_nothing_is_fetched_and_only_its_scripts_run(page: Page) -> None:
    (meta,) = [e for e in page.find("meta") if "http-equiv" in e.attributes]
    policy = meta.attributes["content"] or ""
    scripts = [e.text for e in page.find("script") if e.attributes.get("type") is None]
    hashes = {f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts}
    assert policy.startswith("default-src 'none'; script-src ")
    assert set(policy.partition("script-src ")[2].partition(";")[0].split()) == hashes
    for element in page.elements:
        assert element.tag not in ("link", "img", "iframe", "object", "form")
        assert not {"src", "style", "action"} & element.attributes.keys()
        assert element.tag != "a" or (element.attributes["href"] or "").startswith("#")


def test_eight_runs_are_one_file_of_less_than_two_megabytes(comparison: Comparison) -> None:
    sides = tuple(replace(comparison.sides[number % 2], letter=letter) for number, letter in enumerate("ABCDEFGH"))
    rows = tuple(
        replace(
            row, measured=tuple(row.measured[number % 2] for number in range(8)), deltas=(None, *[row.deltas[1]] * 7)
        )
        for row in comparison.rows
    )
    html = render_comparison(replace(comparison, sides=sides, rows=rows))
    assert len(html.encode()) < 2_000_000
    figure = json.loads(parse(html).only("script", id="ttft-chart-data").text)
    looks = {(trace["line"]["color"], trace["line"]["dash"]) for trace in figure["data"]}
    assert len({colour for colour, _ in looks}) == len({dash for _, dash in looks}) == 8


def _hostile(path: Path, text: str) -> Path:
    records = [runs.answered(number, phase=text if number % 2 else "plain", model=text) for number in range(80)]
    return write_run(
        path,
        [records],
        run_id=text,
        scenario=text,
        target=text,
        model=text,
        options={text: path.name},
        plan={"arrivals": text + path.name},
        versions={"python": text},
        machine={"host": text + path.name},
        labels={"commit": text, "series": text},
    ).path


def _built(page: Page) -> list[tuple[str, tuple[str, ...]]]:
    return [(e.tag, tuple(sorted(e.attributes))) for e in page.elements]


def test_text_from_outside_stays_text(tmp_path: Path) -> None:
    plain = parse(render_comparison(compared([_hostile(tmp_path / name, "plain") for name in "ab"], anyway=True)))
    for number in range(0, len(PAYLOADS), 8):
        text = " ".join(PAYLOADS[number : number + 8])
        folder = tmp_path / str(number)
        html = render_comparison(compared([_hostile(folder / name, text) for name in "ab"], anyway=True))
        page = parse(html)
        assert _built(page) == _built(plain)
        for data in [e.text for e in page.find("script") if e.attributes.get("type") == "application/json"]:
            assert not set("<>&\u2028\u202e") & set(data)


@pytest.mark.realtime
def test_every_chart_is_drawn(html: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(html)
    document, console = rendered((tmp_path / "page.html").as_uri(), tmp_path / "profile", waits_ms=10_000)
    assert console == []
    assert document.count('class="plot js-plotly-plot"') == len(_CHARTS)


@pytest.mark.realtime
def test_no_attack_comes_alive(tmp_path: Path) -> None:
    text = "".join(PAYLOADS[number] for number in (0, 1, 8, 11, 21, 31))
    html = render_comparison(compared([_hostile(tmp_path / name, text) for name in "ab"], anyway=True))
    (tmp_path / "page.html").write_text(html)
    document, console = rendered((tmp_path / "page.html").as_uri(), tmp_path / "profile", waits_ms=5_000)
    assert console == []
    assert "data-broken" not in document.partition("<script")[0]
