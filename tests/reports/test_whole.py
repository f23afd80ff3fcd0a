"""The page of a run of which everything is known: its sections, its cards, what it says of failures, caches and money."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from harness.gpu.file import SourceNote
from harness.summary import RunData, Summary, load_run, summarize
from harness.table import Labels, Table
from reports.page import render
from tests.gpu.builders import write_readings
from tests.harness.builders import record, write_run
from tests.reports.pages import Page, parse
from tests.reports.runs import answered
from tests.reports.whole import whole

_SECTIONS = [
    "verdict", "conclusion", "objectives", "load", "latency", "distribution", "levels", "steady", "stages", "breakdowns",
    "caches", "tokens", "outcomes", "cost", "replicas", "gpu", "equality", "instrument", "dictionary", "environment",
    "definitions",
]  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return parse(render(*whole(tmp_path_factory.mktemp("whole") / "run", str)))


def test_every_section_is_there_once_and_in_order(page: Page) -> None:
    assert [e.attributes.get("id") for e in page.find("section")] == _SECTIONS
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))


def test_every_chart_has_a_table_in_words(page: Page) -> None:
    charts = {e.attributes["id"] for e in page.find("figure")}
    assert {
        "stages-chart", "spectrum-chart", "levels-chart", "reply-cache-chart", "prompt-cache-chart", "cost-chart", "queue-chart",
        "replica-chart", "gpu-busy-chart", "gpu-memory-chart", "gpu-power-chart", "server-0-chart", "by-tenant-chart",
    } <= charts  # fmt: skip
    for name in charts:
        data = json.loads(page.only("script", id=f"{name}-data").text)
        assert data["data"], name
    assert len([e for e in page.find("table") if "figure" in e.path]) == len(charts)


def test_no_cell_is_a_number_that_is_none(page: Page) -> None:
    cells = {cell.lower() for rows in page.tables().values() for row in rows for cell in row}
    assert not cells & {"nan", "inf", "none", "-inf", "nan ms", "$nan", "true", "false"}


def test_objectives_with_their_answers(page: Page) -> None:
    head, *rows = page.tables()["Objectives"]
    assert head == ["answer", "objective", "class", "measured", "95 % interval", "n", "why"]
    assert [(row[0], row[3], row[4]) for row in rows] == [
        ("PASS", "700 ms", "600 ms to +∞"),
        ("FAIL", "3.0 %", "1.5 % to 5.0 %"),
        ("INCONCLUSIVE", "not measured", "–"),
        ("FAIL", "+∞", "1,000 ms to +∞"),
    ]
    assert {e.attributes["data-answer"] for e in page.find("strong", class_="verdict")} == {
        "PASS",
        "FAIL",
        "INCONCLUSIVE",
    }
    banner = page.only("section", id="verdict").text
    assert "Objectives: 1 met, 2 broken, 1 inconclusive" in banner
    assert "Alerts that fired: 4" in banner
    assert page.row("Latency budget by stage", "INCONCLUSIVE")["took"] == "not measured"


def test_a_percentile_over_hits_and_misses_says_so(page: Page) -> None:
    names = [e.text for e in page.find("dt") if e.path[-2:] == ("dl", "div")]
    notes = dict(zip(names, [e.text for e in page.find("dd", class_="note")], strict=True))
    for card in ("TTFT p50", "TTFT p99", "E2E p50"):
        assert notes[card].startswith("hits and misses together; p50 of hits ")
        assert " of misses " in notes[card]
    assert "95 %: " in notes["TTFT p50"]


def test_a_run_without_hits_does_not_speak_of_them(tmp_path: Path) -> None:
    records = [answered(n, cache_outcome="miss") for n in range(100)]
    page = parse(_page(write_run(tmp_path / "run", [records], duration_s=5.0)))
    assert "hits and misses" not in "".join(e.text for e in page.find("dl"))
    assert not page.find("figure", id="reply-cache-chart")


def test_the_waterfall_adds_up(page: Page) -> None:
    figure = json.loads(page.only("script", id="cost-chart-data").text)
    bars = [(bar["base"][0], bar["y"][0]) for bar in figure["data"]]
    assert bars == [(0.0, 0.25), (0.25, 0.75), (0.0, 1.0), (1.0, 0.2), (1.0, -0.05)]
    rows = page.tables()["The bill by kind of token"][1:]
    assert [row[1] for row in rows] == ["$0.2500", "$0.7500", "$1.0000", "$0.2000", "−$0.0500"]


def test_a_long_breakdown_says_how_many_groups_are_left_out(page: Page) -> None:
    rows = page.tables()["By tenant; latencies in ms"]
    assert rows[-1][0] == "and 7 more"
    assert rows[2][0] == "(none)"


def test_other_tools_stand_beside_ours(page: Page) -> None:
    head, row = page.tables()["Side by side"]
    assert head == ["", "ours", "tool", "tool"]
    assert row == ["TTFT mean, ms", "400", "380", "380"]
    assert page.notes("Side by side", "TTFT mean, ms")["tool"] == "−5.0 %"


def test_a_gpu_that_was_not_measured_is_not_a_zero(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", [[record(n) for n in range(10)]])
    write_readings(
        directory.path, [], notes=[SourceNote(at=1.0, source="nvml", why_not="no NVIDIA driver on this machine")]
    )
    page = parse(_page(directory))
    assert "GPUs: not measured: nvml: no NVIDIA driver on this machine." in page.only("section", id="gpu").text
    assert not [e for e in page.find("figure") if (e.attributes["id"] or "").startswith("gpu")]


def test_a_gauge_that_nobody_read_is_a_gap(page: Page) -> None:
    head, *rows = page.tables()["Power of the GPUs, W"]
    assert len(head) == 2
    assert [row[1] for row in rows[:2]] == ["300.0", "301.0"]
    assert rows[-1][1] == "–"  # the sampler stopped a second before the run did


def test_a_bare_run_has_only_what_applies(tmp_path: Path) -> None:
    page = parse(_page(write_run(tmp_path / "run", [[record(n) for n in range(10)]])))
    there = {e.attributes.get("id") for e in page.find("section")}
    assert not there & {"objectives", "cost", "gpu", "replicas", "caches", "breakdowns", "levels"}


def test_the_nearer_metric_of_a_run_without_streams_is_drawn(tmp_path: Path) -> None:
    whole_answers = [
        record(n, stream=False, first_token_at=None, last_token_at=None, token_gaps_s=None) for n in range(60)
    ]
    page = parse(_page(write_run(tmp_path / "run", [whole_answers], duration_s=30.0)))
    assert "E2E over time, ms" in page.tables()
    assert "TTFT over time, ms" not in page.tables()


def _page(directory: object) -> str:
    run = load_run(directory)  # type: ignore[arg-type]
    return render(run, summarize(run))


def test_a_hundred_thousand_requests_with_gaps_are_one_file_of_less_than_two_megabytes(tmp_path: Path) -> None:
    run, summary = whole(tmp_path / "run", str)
    large = _repeated(run, 256)
    assert len(large.table) > 100_000
    assert len(large.table.gaps) > 800_000
    assert len(render(large, _again(large, summary)).encode()) < 2_000_000


def _repeated(run: RunData, times: int) -> RunData:
    """The same run many times after each other."""
    table, rows = run.table, len(run.table)
    shift = np.repeat(np.arange(times) * 20.1, rows)
    columns = {
        name: np.tile(column, times) + (shift if name.endswith("_at") else 0.0)
        for name, column in table.columns.items()
    }
    num_gaps = np.tile(np.diff(table.gap_start), times)
    large = Table(
        columns=columns,
        labels={name: Labels(np.tile(each.codes, times), each.names) for name, each in table.labels.items()},
        outcome=np.tile(table.outcome, times),
        stream=np.tile(table.stream, times),
        counted_by_server=np.tile(table.counted_by_server, times),
        gaps=np.tile(table.gaps, times),
        gap_tokens=np.tile(table.gap_tokens, times),
        gap_start=np.concatenate([[0], np.cumsum(num_gaps)]),
        errors=table.errors,
        error_examples=table.error_examples,
        token_sources=table.token_sources,
        request_ids=[f"r-{n}" for n in range(rows * times)],
    )
    manifest = msgspec.structs.replace(run.manifest, duration_s=20.1 * times)
    return RunData(run.directory, manifest, large, run.files, run.samples, run.truth, run.readings)


def _again(run: RunData, summary: Summary) -> Summary:
    found = summarize(run)
    for name in ("objectives", "budgets", "alerts", "breakdowns", "bill", "gpu", "dictionary"):
        setattr(found, name, getattr(summary, name))
    return found
