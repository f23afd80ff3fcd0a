"""PASS, FAIL or INVALID, and its exit code."""

from __future__ import annotations

import numpy as np
import pytest

from harness.instrument import Instrument
from harness.quantiles import distribution
from harness.verdict import EXIT_CODES, judge_run, worst_exit_code

_NOTHING = distribution(np.array([]))


def _instrument(state: str, reasons: list[str]) -> Instrument:
    return Instrument(
        state=state,
        reasons=reasons,
        send_lag=_NOTHING,
        loop_lag=_NOTHING,
        stalled_share=None,
        cpu_mean=None,
        cpu_max=None,
        merged_share=None,
        num_torn_lines=0,
        max_in_flight=None,
    )


def _outcomes(**counts: int) -> dict[str, int]:
    return dict.fromkeys(("ok", "throttled", "failed", "cut", "incomplete", "refused"), 0) | counts


@pytest.mark.parametrize(
    ("codes", "worst"),
    [((), 0), ((0,), 0), ((0, 3), 3), ((3, 1), 1), ((1, 2, 3, 0), 2), ((3, 2), 2)],
)
def test_the_worst_exit_code_is_the_one_that_says_most(codes: tuple[int, ...], worst: int) -> None:
    """INVALID before FAIL before INCONCLUSIVE before PASS: not the largest number."""
    assert worst_exit_code(*codes) == worst


def test_exit_codes_are_those_of_the_command_line() -> None:
    assert EXIT_CODES == {"PASS": 0, "FAIL": 1, "INVALID": 2, "INCONCLUSIVE": 3}


@pytest.mark.parametrize(
    ("state", "outcomes", "answer", "code", "words"),
    [
        ("VALID", _outcomes(ok=10), "PASS", 0, ["every request that was sent was answered or throttled"]),
        ("DEGRADED", _outcomes(ok=10), "PASS", 0, ["every request that was sent was answered or throttled"]),
        (
            "VALID",
            _outcomes(ok=1, throttled=9),
            "PASS",
            0,
            ["every request that was sent was answered or throttled"],
        ),
        ("VALID", _outcomes(ok=9, failed=1), "FAIL", 1, ["1 of 10 requests failed"]),
        ("DEGRADED", _outcomes(ok=9, failed=1), "FAIL", 1, ["1 of 10 requests failed"]),
        ("VALID", _outcomes(ok=8, cut=2), "FAIL", 1, ["2 of 10 requests were cut by the server"]),
        (
            "VALID",
            _outcomes(ok=7, incomplete=3),
            "FAIL",
            1,
            ["3 of 10 requests were still open when the run ended"],
        ),
        (
            "VALID",
            _outcomes(ok=4, failed=3, cut=2, incomplete=1),
            "FAIL",
            1,
            [
                "3 of 10 requests failed",
                "2 of 10 requests were cut by the server",
                "1 of 10 requests were still open when the run ended",
            ],
        ),
        ("VALID", _outcomes(throttled=10), "FAIL", 1, ["no request was answered"]),
        ("VALID", _outcomes(), "FAIL", 1, ["no request was answered"]),
        ("INVALID", _outcomes(ok=10), "INVALID", 2, ["why", "and why"]),
        ("INVALID", _outcomes(ok=1, failed=9), "INVALID", 2, ["why", "and why"]),
        ("INVALID", _outcomes(), "INVALID", 2, ["why", "and why"]),
    ],
)
def test_verdict(state: str, outcomes: dict[str, int], answer: str, code: int, words: list[str]) -> None:
    verdict = judge_run(_instrument(state, ["why", "and why"]), outcomes)
    assert (verdict.answer, verdict.exit_code, verdict.reasons) == (answer, code, words)


def test_a_verdict_after_a_warm_up_speaks_of_what_came_after_it() -> None:
    instrument = _instrument("VALID", [])
    assert judge_run(instrument, _outcomes(ok=5), after_warmup=True).reasons == [
        "every request that was sent after the warm-up was answered or throttled"
    ]
    assert judge_run(instrument, _outcomes(ok=5, failed=1), after_warmup=True).reasons == [
        "1 of 6 requests failed after the warm-up"
    ]
    nothing = judge_run(instrument, _outcomes(), after_warmup=True)
    assert (nothing.answer, nothing.exit_code) == ("INCONCLUSIVE", 3)
    assert nothing.reasons == ["no request was sent after the warm-up"]
