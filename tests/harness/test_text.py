"""The summary as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.judgement.slo import slo_of
from harness.quantiles import distribution
from harness.summary import load_run, metrics, summarize
from harness.table import tabulate
from harness.text import METRIC_NAMES, milliseconds, percentile_cell, summary_text
from reports import write_report
from tests.harness.builders import record, write_run


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.0, "0.00"),
        (0.00123, "1.23"),
        (0.01234, "12.3"),
        (0.1234, "123"),
        (0.009999, "10.0"),
        (0.09996, "100"),
        (0.0999, "99.9"),
        (1.234, "1,234"),
        (75.0, "75,000"),
        (-0.0123, "-12.3"),
        (-0.00042, "-0.42"),
    ],
)
def test_milliseconds(seconds: float | None, text: str) -> None:
    assert milliseconds(seconds) == text


@pytest.mark.parametrize(
    ("num", "percent", "text"),
    [
        (0, 50.0, "–"),
        (5, 50.0, "n<6"),
        (6, 50.0, "2,000"),
        (71, 95.0, "n<72"),
        (367, 99.0, "n<368"),
        (100, 99.9, "n<3688"),
    ],
)
def test_a_percentile_without_support_says_what_it_needs(num: int, percent: float, text: str) -> None:
    assert percentile_cell(distribution(np.arange(num, dtype=np.float64)), percent) == text


def test_every_metric_has_a_name() -> None:
    assert set(METRIC_NAMES) == set(metrics(tabulate([])))


def test_the_verdict_comes_first_and_the_figures_follow(tmp_path: Path) -> None:
    records = [record(number, last_token_at=number * 0.5 + 0.208, done_at=number * 0.5 + 0.25) for number in range(9)]
    records.append(record(9, outcome="failed", error_kind="http_500", error_text="boom", num_output_tokens=None))
    summary = summarize(load_run(write_run(tmp_path / "run", [records])))
    lines = [line for line in summary_text(summary).splitlines() if line]
    assert lines[0] == "FAIL: 1 of 10 requests failed"
    assert "asked 1.00/s, delivered 1.00/s over 10 s" in lines[1]
    assert "CV of gaps 0.00, delivered 0.00" in lines[2]
    assert "10 of 10 sent: 9 ok, 1 failed" in lines[3]
    assert "900 in, 90 out" in lines[4]
    assert "VALID" in lines[5]
    rows = {line.split()[0]: line.split()[1:] for line in lines[6:]}
    assert rows["TTFT"] == ["9", "100", "n<36", "n<72", "n<368", "100"]
    assert rows["ITL"] == ["81", "10.0", "10.0", "10.0", "n<368", "10.0"]
    assert rows["TPOT"] == ["9", "12.0", "n<36", "n<72", "n<368", "12.0"]
    assert rows["E2E"] == ["9", "250", "n<36", "n<72", "n<368", "250"]
    assert lines[-1].split() == ["1", "x", "failed/http_500:", "boom"]


def test_a_scenarios_own_answer_stands_after_the_verdict_and_is_kept_for_the_next_fold(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", [[record(number) for number in range(9)]])
    assert summarize(load_run(directory)).conclusion == []
    directory.write_conclusion(["capacity 8/s", "  probe <1>"])
    summary = summarize(load_run(directory))
    assert summary_text(summary).splitlines()[1:5] == [
        summary_text(summary).splitlines()[1],
        "",
        "  capacity 8/s",
        "    probe <1>",
    ]
    page = write_report(load_run(directory), summary).read_text()
    assert "capacity 8/s\n  probe &lt;1&gt;</pre>" in page


def test_of_more_reasons_than_are_listed_the_headline_keeps_no_rest(tmp_path: Path) -> None:
    bounds = [f"{name}_p{percent} < 9 s" for name in ("ttft", "e2e") for percent in (91, 92, 93, 94, 95, 99)]
    slo = slo_of({"objectives": bounds}).plain()
    summary = summarize(load_run(write_run(tmp_path / "run", [[record(number) for number in range(9)]], slo=slo)))
    assert "and 4 more" in summary.verdict.reasons
    headline = next(filter(None, summary_text(summary).splitlines()))
    assert headline == "INCONCLUSIVE: 12 of 12 objectives and budgets can neither be called met nor broken yet"


def test_first_tokens_by_cache_are_counted_by_those_that_have_one(tmp_path: Path) -> None:
    whole = {"stream": False, "first_token_at": None, "last_token_at": None, "token_gaps_s": None, "chunk_tokens": None}
    records = [record(n, cache_outcome="hit" if n < 40 else "miss") for n in range(80)]
    records += [record(80 + n, cache_outcome="miss", **whole) for n in range(7)]
    text = summary_text(summarize(load_run(write_run(tmp_path / "run", [records]))))
    (line,) = [each for each in text.splitlines() if "by cache" in each]
    assert "ms (40)" in line
    assert "(47)" not in line


def test_sentences_fit_the_terminal_and_lose_no_word(tmp_path: Path) -> None:
    records = [record(number, sent_at=number * 0.5 + 0.03) for number in range(400)]
    summary = summarize(load_run(write_run(tmp_path / "run", [records])))
    wide, narrow = summary_text(summary), summary_text(summary, 60)
    assert max(map(len, wide.splitlines())) > 80
    assert all(len(line) <= 60 for line in narrow.splitlines() if line.startswith(" " * 14))
    assert narrow.split() == wide.split()


def test_an_error_without_words_ends_without_a_colon(tmp_path: Path) -> None:
    records = [record(0), record(1, outcome="left", error_kind="client_left", error_text=None)]
    summary = summarize(load_run(write_run(tmp_path / "run", [records])))
    assert summary_text(summary).splitlines()[-1].strip() == "1 x left/client_left"


@pytest.mark.parametrize(("warmup_s", "words"), [(0.0, None), (0.5, "1 request of"), (1.5, "3 requests of")])
def test_a_warm_up_is_told_beside_the_number_of_requests(tmp_path: Path, warmup_s: float, words: str | None) -> None:
    """Also in a run whose rate is not constant, of which no steady part is looked for."""
    run = write_run(tmp_path / "run", [[record(number) for number in range(9)]], warmup_s=warmup_s)
    lines = summary_text(summarize(load_run(run))).splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("  requests")]
    if words is None:
        assert "warm-up" not in "\n".join(lines)
    else:
        assert lines[at + 1].split("  ")[-1].startswith(words)


@pytest.mark.parametrize(
    "attack", ["\x1b[31m red", "\n::error::y", "\r\n##[error]y", "\u202egpj", "\x9b31m", "a\u2028b"]
)
def test_what_a_server_says_commands_neither_terminal_nor_build_server(tmp_path: Path, attack: str) -> None:
    broken = [record(n, outcome="failed", error_kind=attack, error_text=attack, model_served=attack) for n in range(9)]
    directory = write_run(tmp_path / "run", [broken])
    directory.write_conclusion([attack.strip("\r\n")])
    text = summary_text(summarize(load_run(directory)))
    assert not [line for line in text.split("\n") if line.lstrip().startswith("::") or "##[" in line]
    assert all(character.isprintable() for character in text.replace("\n", ""))
