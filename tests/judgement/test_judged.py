"""The answer of a run with objectives, and how it is told."""

from __future__ import annotations

import pytest

from harness.judgement.judged import bounds_errors, overall
from harness.judgement.measures import Measured
from harness.judgement.results import Alert, Answer, NotWatched, ObjectiveResult, StageResult
from harness.judgement.text import judgement_lines, measured_text


def _objective(
    answer: Answer, name: str = "ttft_p99", class_name: str | None = None, text: str = ""
) -> ObjectiveResult:
    measured = Measured(name=name, unit="s", better="lower", value=0.612, low=0.588, high=0.701, num=4000)
    return ObjectiveResult(
        text=text or f"{name} < 800 ms",
        class_name=class_name,
        answer=answer,
        measured=measured,
        bound=0.8,
        why="because",
    )


def _stage(answer: Answer) -> StageResult:
    return StageResult(stage="connect", percent=95, budget_s=0.02, actual_s=0.031, answer=answer, why="slow")


def _alert(*, fail: bool) -> Alert:
    return Alert(kind="error_rate", from_s=60, to_s=90, worst=0.1, limit=0.02, text="10 % failed", fail=fail)


@pytest.mark.parametrize(
    ("run", "answers", "answer"),
    [
        ("PASS", [], "PASS"),
        ("PASS", ["PASS", "PASS"], "PASS"),
        ("PASS", ["PASS", "INCONCLUSIVE"], "INCONCLUSIVE"),
        ("PASS", ["INCONCLUSIVE", "FAIL"], "FAIL"),
        ("FAIL", ["PASS"], "FAIL"),
        ("FAIL", ["INCONCLUSIVE"], "FAIL"),
        ("INCONCLUSIVE", ["PASS"], "INCONCLUSIVE"),
        ("INVALID", ["PASS"], "INVALID"),
        ("INVALID", ["FAIL"], "INVALID"),
    ],
)
def test_the_worst_answer_is_the_run_s(run: str, answers: list[Answer], answer: str) -> None:
    assert overall(run, [_objective(each) for each in answers])[0] == answer
    assert overall(run, [_stage(each) for each in answers])[0] == answer


def test_reasons_are_those_of_the_answer() -> None:
    results: list[ObjectiveResult | StageResult] = [
        _objective("FAIL", class_name="chat"),
        _objective("INCONCLUSIVE"),
        _stage("FAIL"),
        _objective("PASS"),
    ]
    assert overall("PASS", results)[1] == ["chat: ttft_p99 < 800 ms: because", "budget ttft p95 connect: slow"]
    assert overall("PASS", results[1:2])[1] == ["ttft_p99 < 800 ms: because"]
    assert overall("PASS", results[3:]) == ("PASS", ["1 objective is met"])
    assert overall("PASS", results[3:] * 2) == ("PASS", ["2 objectives are met"])
    assert overall("INVALID", results) == ("INVALID", [])
    many = overall("PASS", [_objective("FAIL")] * 11)[1]
    assert (len(many), many[-1]) == (9, "and 3 more")


def test_an_alert_fails_a_run_only_where_the_file_says_so() -> None:
    assert overall("PASS", [], [_alert(fail=False)]) == ("PASS", [])
    assert overall("PASS", [], [_alert(fail=True)]) == ("FAIL", ["alert error_rate: 10 % failed"])
    blind = [NotWatched(kind="cost_spike", why="the cost is not known", fail=fail) for fail in (False, True)]
    assert overall("PASS", [], [], blind[:1])[0] == "PASS"
    assert overall("PASS", [], [], blind) == (
        "INCONCLUSIVE",
        ["alert cost_spike was not watched: the cost is not known"],
    )


def test_who_says_how_many_requests_may_fail() -> None:
    assert bounds_errors([_objective("PASS"), _objective("PASS", "error_rate")])
    assert bounds_errors([_objective("FAIL", "goodput(ttft<1s)")])
    assert not bounds_errors([_objective("PASS"), _objective("PASS", "goodput_rate"), _stage("PASS")])
    assert not bounds_errors([_objective("PASS", "error_rate", class_name="chat")])


def test_lines_for_a_terminal() -> None:
    results = [_objective("PASS"), _objective("INCONCLUSIVE", class_name="chat")]
    lines = judgement_lines(
        results, [_stage("FAIL")], [_alert(fail=False)], [NotWatched(kind="capacity", why="no cap")]
    )
    assert lines == [
        "PASS          ttft_p99 < 800 ms           612 ms (588 ms to 701 ms)  n 4,000",
        "INCONCLUSIVE  chat: ttft_p99 < 800 ms     612 ms (588 ms to 701 ms)  n 4,000",
        "              because",
        "FAIL          ttft p95: connect <= 20 ms  31 ms",
        "              slow",
        "ALERT  60 to 90 s  10 % failed",
        "not watched: capacity: no cap",
    ]
    assert judgement_lines([]) == []


def test_a_thousand_alerts_do_not_fill_the_terminal() -> None:
    lines = judgement_lines([], [], [_alert(fail=False)] * 1000)
    assert (len(lines), lines[-1]) == (11, "ALERT  990 more")


def test_what_comes_from_outside_moves_no_cursor() -> None:
    lines = judgement_lines([_objective("FAIL", text="x\x1b[2J\r\nPASS\u202e < 1")])
    assert lines[0].isprintable()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"value": None}, "–"),
        ({"value": None, "infinite": True}, "+∞"),
        ({"value": None, "infinite": True, "low": 0.5}, "+∞ (500 ms to +∞)"),
        ({"value": 0.5}, "500 ms"),
        ({"value": 0.5, "low": 0.4}, "500 ms (400 ms to +∞)"),
    ],
)
def test_a_measured_value(fields: dict[str, float], text: str) -> None:
    assert measured_text(Measured(name="ttft_p99", unit="s", better="lower", **fields)) == text  # type: ignore[arg-type]
