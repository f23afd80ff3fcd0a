"""PASS, FAIL or INVALID, and the exit code that says so to a shell."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from harness.instrument import Instrument

__all__ = ["EXIT_CODES", "RunVerdict", "judge_run"]

EXIT_CODES = {"PASS": 0, "FAIL": 1, "INVALID": 2, "INCONCLUSIVE": 3}


class RunVerdict(msgspec.Struct, frozen=True):
    """The answer of a run, why, and its exit code."""

    answer: str
    reasons: list[str]
    exit_code: int


def judge_run(instrument: Instrument, outcomes: Mapping[str, int]) -> RunVerdict:
    """Judge a run that was given no objectives: it must be trustworthy, and no request may fail.

    A throttled request is an answer within the provider's contract and fails no run by itself.
    """
    if instrument.state == "INVALID":
        return _verdict("INVALID", list(instrument.reasons))
    num_bad = {name: outcomes[name] for name in ("failed", "cut", "incomplete") if outcomes[name]}
    if num_bad:
        total = sum(outcomes.values())
        return _verdict("FAIL", [f"{num} of {total} requests {_WORDS[name]}" for name, num in num_bad.items()])
    if not outcomes["ok"]:
        return _verdict("FAIL", ["no request was answered"])
    return _verdict("PASS", ["every request that was sent was answered or throttled"])


_WORDS = {
    "failed": "failed",
    "cut": "were cut by the server",
    "incomplete": "were still open when the run ended",
}


def _verdict(answer: str, reasons: list[str]) -> RunVerdict:
    return RunVerdict(answer, reasons, EXIT_CODES[answer])
