"""PASS, FAIL, INCONCLUSIVE or INVALID, and the exit code that says so to a shell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from harness.instrument import Instrument
from harness.judgement.judged import bounds_errors, overall
from harness.judgement.results import Alert, NotWatched, ObjectiveResult, StageResult

__all__ = ["EXIT_CODES", "RunVerdict", "judge_run", "worst_exit_code"]

EXIT_CODES = {"PASS": 0, "FAIL": 1, "INVALID": 2, "INCONCLUSIVE": 3}


class RunVerdict(msgspec.Struct, frozen=True):
    """The answer of a run, why, and its exit code."""

    answer: str
    reasons: list[str]
    exit_code: int


def judge_run(
    instrument: Instrument,
    outcomes: Mapping[str, int],
    results: Sequence[ObjectiveResult | StageResult] = (),
    alerts: Sequence[Alert] = (),
    not_watched: Sequence[NotWatched] = (),
    *,
    after_warmup: bool = False,
) -> RunVerdict:
    """Judge a run: it must be trustworthy, no request may fail, and what was asked of it must be met.

    A throttled request is an answer within the provider's contract and fails no run by itself. Where an objective bounds how
    many may fail, that bound holds, and one failed request does not yet fail the run. `after_warmup`: `outcomes` are of the
    requests after a warm-up alone.
    """
    if instrument.state == "INVALID":
        return _verdict("INVALID", list(instrument.reasons))
    when = " after the warm-up" if after_warmup else ""
    if after_warmup and not any(outcomes.values()):
        return _verdict("INCONCLUSIVE", [f"no request was sent{when}"])
    reasons = [f"{each}{when}" for each in _without_objectives(outcomes, may_fail=bounds_errors(results))]
    answer, why = overall("FAIL" if reasons else "PASS", results, alerts, not_watched)
    if answer == "PASS" and not why:
        why = [f"every request that was sent{when} was answered or throttled"]
    return _verdict(answer, [*reasons, *why])


def _without_objectives(outcomes: Mapping[str, int], *, may_fail: bool) -> list[str]:
    """Why a run fails whatever was asked of it; nothing: it does not."""
    if not outcomes["ok"]:
        return ["no request was answered"] if not any(outcomes[name] for name in _WORDS) else _failed(outcomes)
    return [] if may_fail else _failed(outcomes)


def _failed(outcomes: Mapping[str, int]) -> list[str]:
    total = sum(outcomes.values())
    return [f"{outcomes[name]} of {total} requests {words}" for name, words in _WORDS.items() if outcomes[name]]


def worst_exit_code(*codes: int) -> int:
    """The code that says most: INVALID before FAIL before INCONCLUSIVE before PASS."""
    return next((code for code in (2, 1, 3) if code in codes), 0)


_WORDS = {
    "failed": "failed",
    "cut": "were cut by the server",
    "incomplete": "were still open when the run ended",
}


def _verdict(answer: str, reasons: list[str]) -> RunVerdict:
    return RunVerdict(answer, reasons, EXIT_CODES[answer])
