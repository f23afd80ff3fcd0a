"""The page: what must be on it, what must not, and that no text from outside becomes part of its build."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from harness.doctor.certificate import Attached
from harness.store import RunDirectory, Sample
from reports.tables import OUTCOME_WORDS
from tests.harness.builders import record, write_run
from tests.reports import runs
from tests.reports.pages import Page, read

# Of every run; a run whose requests were answered also has the others.
_ALWAYS = {
    "load-chart", "latency-chart", "distribution-chart", "spectrum-chart", "tokens-chart", "outcome-chart", "instrument-chart",
}  # fmt: skip
_CHARTS = _ALWAYS | {"levels-chart", "stages-chart", "by-phase-chart"}
_SECTIONS = [
    "verdict", "load", "latency", "distribution", "levels", "stages", "breakdowns", "tokens", "outcomes", "equality", "instrument",
    "dictionary", "environment", "definitions",
]  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.page_of(runs.mixed(tmp_path_factory.mktemp("mixed") / "run"))


@pytest.fixture(scope="module")
def page(path: Path) -> Page:
    return read(path)


def test_the_verdict_stands_first_with_its_reasons_and_the_state_of_the_instrument(page: Page) -> None:
    banner = page.only("section", id="verdict")
    assert banner.attributes["data-answer"] == "FAIL"
    assert page.only("p", class_="answer").text == "FAIL"
    assert page.only("strong", class_="state").text == "DEGRADED"
    assert banner.text.count("1 requests were held back by the harness itself") == 1
    assert [e.attributes.get("id") for e in page.find("section")] == _SECTIONS


def test_a_reason_of_both_verdict_and_instrument_stands_once(tmp_path: Path) -> None:
    page = read(runs.page_of(write_run(tmp_path / "run", [[record(0)]], num_planned=5)))
    assert page.only("p", class_="answer").text == "INVALID"
    assert page.only("section", id="verdict").text.count("4 of 5 planned requests left no record") == 1


def test_the_doubts_of_the_instrument_stand_beside_a_verdict(tmp_path: Path) -> None:
    busy = Sample(at=0.5, cpu=0.97, loop_lag_s=0.001, num_in_flight=1)
    page = read(runs.page_of(write_run(tmp_path / "run", [[record(0)]], samples=[busy])))
    assert page.only("p", class_="answer").text == "PASS"
    assert page.only("strong", class_="state").text == "DEGRADED"
    assert "a load process used 97% of a core" in page.only("section", id="verdict").text


def test_every_link_leads_to_a_section(page: Page) -> None:
    ids = {e.attributes["id"] for e in page.elements if "id" in e.attributes}
    links = [e.attributes["href"] or "" for e in page.find("a")]
    assert len(links) == len(_SECTIONS) + 1
    assert all(link.startswith("#") and link[1:] in ids for link in links)


def test_the_page_refers_to_nothing_outside(page: Page) -> None:
    assert not {e.tag for e in page.elements} & {
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "img",
        "form",
        "svg",
    }
    for element in page.elements:
        assert not element.attributes.keys() & {
            "src",
            "srcset",
            "action",
            "formaction",
            "data",
            "poster",
            "style",
        }
        assert not [name for name in element.attributes if name.startswith("on")]
        assert element.tag == "a" or "href" not in element.attributes
        assert element.attributes.get("http-equiv") in (None, "Content-Security-Policy")
    (style,) = page.find("style")
    assert "@import" not in style.text
    assert "url(" not in style.text


def test_only_the_scripts_of_the_page_may_run(page: Page) -> None:
    policy = _policy(page)
    scripts = [e for e in page.find("script") if e.attributes.get("type") is None]
    assert len(scripts) == 2
    hashes = {f"'sha256-{b64encode(hashlib.sha256(e.text.encode()).digest()).decode()}'" for e in scripts}
    assert set(policy["script-src"]) == hashes
    assert policy["default-src"] == ["'none'"]
    assert policy["img-src"] == ["data:"]
    assert policy.keys() <= {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    data = [e for e in page.find("script") if e not in scripts]
    assert {e.attributes["type"] for e in data} == {"application/json"}


def _policy(page: Page) -> dict[str, list[str]]:
    (meta,) = [e for e in page.find("meta") if "http-equiv" in e.attributes]
    rules = [rule.split() for rule in (meta.attributes["content"] or "").split(";")]
    return {name: values for name, *values in rules}


def test_every_chart_has_its_table_of_bounded_length(page: Page) -> None:
    figures = page.find("figure")
    assert {e.attributes["id"] for e in figures} == _CHARTS
    for name in _CHARTS:
        data = json.loads(page.only("script", id=f"{name}-data").text)
        assert data["data"], name
    tables = [e for e in page.find("table") if "figure" in e.path]
    assert len(tables) == len(_CHARTS)
    rows = [e for e in page.find("tr") if "figure" in e.path]
    assert len(_CHARTS) * 2 <= len(rows) <= len(_CHARTS) * 62


def test_a_percentile_without_enough_samples_is_text(page: Page) -> None:
    table = "Latency metrics of ok requests, in milliseconds"
    assert page.row(table, "TTFT")["p99.9"] == "n<3688"
    assert re.fullmatch(r"[\d.,]+", page.row(table, "TTFT")["p99"])
    few = [row for row in page.tables()["TTFT over time, ms"][1:] if int(row[2]) < 36]
    assert few
    assert all(row[4] in ("n<36", "–") for row in few)


def test_every_outcome_and_every_error_class_is_listed(page: Page) -> None:
    outcomes = {row[0]: row[2] for row in page.tables()["Outcomes"][1:]}
    assert outcomes == {
        "ok": "390",
        "left": "0",
        "throttled": "4",
        "failed": "3",
        "cut": "1",
        "incomplete": "1",
        "refused": "1",
    }
    assert outcomes.keys() == OUTCOME_WORDS.keys()
    errors = page.tables()["Errors by class"]
    assert errors[1] == ["throttled", "http_429", "slow down", "4"]
    assert ["failed", "in_band_error", "out of memory", "1"] in errors
    assert ["refused", "cap_in_flight", "–", "1"] in errors


def test_the_records_are_set_against_the_ledger(page: Page) -> None:
    table = "Records against the mock's ledger, ms"
    assert page.row(table, "TTFT error of the instrument")["p50"] == "1.00"
    assert page.row(table, "lateness of the mock's writes")["p99"] == "0.10"
    counts = dict(page.tables()["Requests in records and ledger"])
    assert counts["requests in both"] == "389"
    assert counts["only in the records"] == "10"


def test_the_command_can_be_given_to_a_shell(page: Page) -> None:
    assert page.only("pre", id="command").text == "harness run 'a b.py'"


def test_the_page_is_one_file_of_less_than_two_megabytes(path: Path) -> None:
    assert path.stat().st_size < 2_000_000
    assert path.read_text(encoding="utf-8").count("plotly.js (basic - minified)") == 1


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, path: Path) -> None:
    assert runs.page_of(runs.mixed(tmp_path / "run")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("make", "answer", "ok"),
    [(runs.empty, "FAIL", "0 of 0"), (runs.all_failed, "FAIL", "0 of 40"), (runs.one, "PASS", "1 of 1")],
)
def test_a_run_without_much_in_it_has_a_page(
    make: Callable[[Path], RunDirectory], answer: str, ok: str, tmp_path: Path
) -> None:
    page = read(runs.page_of(make(tmp_path / "run")))
    assert page.only("p", class_="answer").text == answer
    assert page.cards()["ok requests"] == ok
    assert _ALWAYS <= {e.attributes["id"] for e in page.find("figure")} <= _CHARTS
    cells = [cell for rows in page.tables().values() for row in rows for cell in row]
    assert not [cell for cell in cells if cell.lower() in ("nan", "nan ms", "none", "inf")]


def test_what_was_not_measured_is_not_a_zero(tmp_path: Path) -> None:
    page = read(runs.page_of(runs.all_failed(tmp_path / "run")))
    cards = page.cards()
    assert {cards[name] for name in ("TTFT p50", "TTFT p99", "ITL p50", "E2E p50", "Output tokens")} == {"not measured"}
    ttft = page.row("Latency metrics of ok requests, in milliseconds", "TTFT")
    assert ttft["samples"] == "not measured"
    assert ttft["p50"] == "–"
    state = dict(page.tables()["State of the instrument"])
    assert state["CPU of the load processes, most"] == "not measured"
    assert page.row("Lags of the instrument, ms", "loop lag")["samples"] == "not measured"
    assert "Truth against the mock's ledger: not measured" in page.only("section", id="instrument").text


def test_the_name_of_a_phase_is_no_markup_in_a_figure(tmp_path: Path) -> None:
    page = read(runs.page_of(runs.texts(tmp_path / "run", "<a href='http://example.org'>burst</a>")))
    data = page.only("script", id="load-chart-data").text
    assert not set("<>&") & set(data)
    figure = json.loads(data)
    (shape,) = figure["layout"]["shapes"]
    assert shape["label"]["text"].startswith("&lt;a href=&#x27;http://")


def test_asked_stands_beside_delivered(page: Page) -> None:
    rows = {row[0]: row[1:] for row in page.tables()["Asked against delivered"][1:]}
    assert rows["requests"][0] == "400"
    assert int(rows["requests"][1]) < 400  # one was held back
    assert rows["index of dispersion, 60 s"] == ["–", "–"]  # the run has not ten minutes
    sends = dict(page.tables()["Sends"])
    assert sends["held back by the harness"] == "1"


def test_a_certificate_is_shown_and_a_stale_one_says_so(tmp_path: Path) -> None:
    found = Attached(
        made_wall=1.7e9,
        state="OK",
        added_p50_s=0.0002,
        added_tail_s=0.0012,
        tail_percent=99,
        itl_error_p99_s=0.0009,
        max_streams=160,
        max_chunks_per_s=6800.0,
        resolution_s=6e-8,
        receive_stamps=True,
        stale=[],
    )
    for stale, state in (([], "OK"), (["cpu"], "stale: cpu")):
        certificate = msgspec.structs.replace(found, stale=stale)
        shown = read(runs.page_of(write_run(tmp_path / state[:5], [[record()]], certificate=certificate)))
        facts = dict(shown.tables()["Calibration certificate of this machine"])
        assert facts["state"] == state
        assert facts["chunks per second within it"] == "6,800"
        assert facts["kernel receive stamps"] == "yes"
