"""Text, JUnit, Markdown and workflow commands: what they say, and that nothing from outside gets out of its place."""

from __future__ import annotations

import re
from io import BytesIO
from xml.etree import ElementTree

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from harness.gate.decide import gate
from harness.gate.figures import change_text, plain, value_text
from harness.gate.github import annotations_of, step_summary
from harness.gate.junit import junit_xml
from harness.gate.result import Answer, GatedObjective, GateResult
from harness.gate.rule import Rule
from harness.gate.text import gate_text
from tests.gate.builders import by_seed, objective
from tests.reports.runs import HOSTILE

_VALUES = [1.0, 1.03, 0.98, 1.01, 0.97, 1.02, 0.99, 1.0]
_ATTACKS = (
    *HOSTILE,
    "x\n::error::pwned",
    "::set-output name=x::y",
    "a%0A::error::b",
    "##[error]pwned",
    "a | b | c\n| --- |",
    "\r\n::stop-commands::x",
    "[link](javascript:alert(1)) ![image](http://evil/x.png)",
    "<!-- --> </details> `code` ***bold***",
    "https://evil.example/ www.evil.example",
    "\x1b[31mred\x1b[0m \x00 \x08 \u202e gnirts \ud800 \ufffe",
    "]]></failure><testcase name='x'/>",
)


def _result(**columns: float) -> GateResult:
    """A gate in which each measure is so many times its baseline; 1.05 is INCONCLUSIVE."""
    candidates = by_seed("b", {name: [factor * each for each in _VALUES] for name, factor in columns.items()})
    return gate(candidates, by_seed("a", dict.fromkeys(columns, _VALUES[::-1])), Rule(tuple(columns)))


def _attacked(text: str) -> GateResult:
    """Every text of a result that comes from a run, a plan or a file is this text."""
    result = _result(e2e_p50=2.0, ttft_p50=1.0)
    result.reasons, result.notes, result.left_out = [text, text], [text], {text: text}
    result.arrangement = result.order = text
    for run in result.runs:
        run.name = text
    for measure in result.measures:
        measure.name, measure.why = text, text
    result.objectives = [
        GatedObjective(text=text, class_name=text, answer=answer, why=text, answers=[], values=[])
        for answer in ("FAIL", "PASS", "INCONCLUSIVE")
    ]
    return result


# -- what they say -----------------------------------------------------------------------------------


def test_the_verdict_comes_first() -> None:
    text = gate_text(_result(e2e_p50=2.0, tpot_p50=1.0, ttft_p50=1.05))
    lines = [line for line in text.splitlines() if line]
    assert lines[0] == "FAIL: 8 candidate runs against 8 baseline runs, 8 pairs of the same seed, in virtual time"
    assert lines[1].startswith("  e2e_p50: +100.0% (")
    row = next(line for line in lines if line.startswith("  e2e_p50 "))
    assert row.split()[:7] == ["e2e_p50", "FAIL", "1,000", "ms", "2,000", "ms", "+100.0%"]
    assert [line.split()[1] for line in lines if re.match("  (tpot|ttft)_p50 ", line)] == ["PASS", "INCONCLUSIVE"]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.04928, "s", "49.28 ms"),
        (12.5, "s", "12.5 s"),
        (0.0312, "share", "3.12%"),
        (0.00123, "usd", "$0.00123"),
        (1287.4, "per_s", "1,287/s"),
        (0.5, "joule", "0.5 J"),
        (None, "s", "–"),
    ],
)
def test_values_have_units(value: float | None, unit: str, text: str) -> None:
    assert value_text(value, unit) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "unit", "text"),
    [
        (0.002, "s", "+0.20%"),
        (-0.5, "usd", "-50.0%"),
        (0.01, "share", "+1.00 pp"),
        (0.0, "s", "+0.00%"),
        (None, "s", "–"),
    ],
)
def test_changes_have_signs(change: float | None, unit: str, text: str) -> None:
    assert change_text(change, unit) == text  # type: ignore[arg-type]


def test_a_test_case_for_every_answer() -> None:
    result = _result(e2e_p50=2.0, tpot_p50=1.0, ttft_p50=1.05)
    result.objectives = []
    suite = next(iter(JUnitXml.fromstring(junit_xml(result))))
    cases = {case.name: [type(each) for each in case.result] for case in suite}
    assert cases == {"answer": [Failure], "e2e_p50": [Failure], "tpot_p50": [], "ttft_p50": [Skipped]}
    assert (suite.tests, suite.failures, suite.skipped, suite.errors) == (4, 2, 1, 0)
    assert "+100.0%" in next(case for case in suite if case.name == "e2e_p50").result[0].message


def test_an_invalid_gate_is_an_error_also_where_it_has_no_measure() -> None:
    result = _result(e2e_p50=1.0)
    result.answer, result.measures = "INVALID", []
    suite = next(iter(JUnitXml.fromstring(junit_xml(result))))
    assert [type(each) for case in suite for each in case.result] == [Error]


def test_a_pass_needs_no_annotation_and_others_say_what_failed() -> None:
    assert annotations_of(_result(e2e_p50=1.0)) == []
    lines = annotations_of(_result(ttft_p50=1.05, e2e_p50=2.0))
    assert [line.partition("::")[2].partition("::")[0] for line in lines] == [
        "error title=harness gate%3A FAIL",
        "error title=harness gate%3A FAIL e2e_p50",
        "warning title=harness gate%3A INCONCLUSIVE ttft_p50",
    ]


def test_no_more_annotations_than_github_shows() -> None:
    result = _result(e2e_p50=2.0)
    result.measures = result.measures * 40
    lines = annotations_of(result)
    assert len(lines) == 10
    assert lines[-1].endswith("and 32 more; see the summary of the step")


# -- nothing gets out of its place -------------------------------------------------------------------


@pytest.mark.parametrize("attack", _ATTACKS)
def test_text_holds_no_command_and_no_control(attack: str) -> None:
    text = gate_text(_attacked(attack))
    assert not any(line.lstrip().startswith("::") or "##[" in line for line in text.splitlines())
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", text)
    text.encode()


@pytest.mark.parametrize("attack", _ATTACKS)
def test_junit_is_xml_with_as_many_cases_as_there_are(attack: str) -> None:
    result = _attacked(attack)
    tree = ElementTree.parse(BytesIO(junit_xml(result)))
    cases = tree.findall(".//testcase")
    assert len(cases) == 1 + len(result.measures) + len(result.objectives)
    assert cases[1].get("name") == plain(attack)
    assert {child.tag for case in cases for child in case} <= {"failure", "skipped", "error", "system-out"}


@pytest.mark.parametrize("attack", _ATTACKS)
def test_markdown_is_words(attack: str) -> None:
    page = step_summary(_attacked(attack))
    assert "<" not in page
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {10, 5}  # measures and objectives
    assert re.search(r"(?<!\\)(\\\\)*(\[|\]|`|!)", page) is None
    assert "https:" not in page
    page.encode()


@pytest.mark.parametrize("attack", _ATTACKS)
def test_commands_are_one_line_each_with_what_they_began(attack: str) -> None:
    lines = annotations_of(_attacked(attack))
    assert lines
    for line in lines:
        assert "\n" not in line
        assert "\r" not in line
        found = re.fullmatch(r"::(error|warning) title=([^:,]*)::(.*)", line)
        assert found, line
        assert not re.search(r"%(?!25|3A|2C)", line)
        line.encode()


def test_a_summary_that_github_would_drop_is_cut() -> None:
    result = _attacked("ö" * 3000)
    result.notes = ["é" * 400] * 3000
    page = step_summary(result)
    assert 900_000 < len(page.encode()) <= 1_000_000
    assert page.endswith("The rest did not fit.\n")


@pytest.mark.parametrize("answer", ["PASS", "FAIL", "INCONCLUSIVE"])
def test_objectives_are_in_every_output(answer: Answer) -> None:
    assert answer != "INVALID"
    runs = by_seed("b", {"e2e_p50": _VALUES})
    results = [[objective("ttft_p99 < 800 ms", answer, class_name="chat")] for _ in runs]
    result = gate(runs, by_seed("a", {"e2e_p50": _VALUES}), Rule(("e2e_p50",)), results)
    assert f"  {answer:<13}ttft_p99 < 800 ms (chat): 8 {answer} of 8 runs" in gate_text(result)
    assert "chat: ttft_p99 &lt; 800 ms" in junit_xml(result).decode()
    assert f"| ttft\\_p99 &lt; 800 ms | chat | {answer} |" in step_summary(result)


@pytest.mark.parametrize("width", [None, 80, 100])
def test_the_text_says_an_objective_once_and_fits_a_terminal(width: int | None) -> None:
    runs = by_seed("b", {"e2e_p50": _VALUES})
    results = [[objective(name, "INCONCLUSIVE") for name in ("ttft_p99 < 800 ms", "error_rate < 1 %")] for _ in runs]
    result = gate(runs, by_seed("a", {"e2e_p50": _VALUES}), Rule(("e2e_p50",)), results)
    result.notes = ["a machine that was busy " * 20, "x\n::error::pwned " * 9]
    text = gate_text(result, width)
    assert text.count("ttft_p99 < 800 ms") == 1
    assert "  2 of 2 objectives: INCONCLUSIVE, below the table" in text
    assert "::" not in text
    if width is not None:
        wide = [line for line in text.splitlines() if len(line) > width]
        assert all(line.startswith(("  measure ", "  e2e_p50 ")) for line in wide), (
            "only the table is as wide as it must be"
        )
