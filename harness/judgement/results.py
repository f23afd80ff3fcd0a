"""What became of the objectives, latency budgets and alerts of a run."""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.judgement.measures import Measured

__all__ = ["Alert", "Answer", "NotWatched", "ObjectiveResult", "StageResult"]

Answer = Literal["PASS", "FAIL", "INCONCLUSIVE"]


class ObjectiveResult(msgspec.Struct, kw_only=True):
    """One objective, as it stands in the file, and whether it is met: with confidence, not with confidence, or nobody can tell."""

    text: str
    class_name: str | None
    answer: Answer
    measured: Measured
    bound: float
    why: str


class StageResult(msgspec.Struct, kw_only=True):
    """One stage of a latency budget: `actual_s` of `budget_s` at the percentile that the budget is for. `of`: ttft or e2e."""

    stage: str
    percent: float
    budget_s: float
    actual_s: float | None
    answer: Answer
    why: str
    of: str = "ttft"


class Alert(msgspec.Struct, kw_only=True):
    """An alert that fired between `from_s` and `to_s`: `kind` is latency_degradation, cost_spike, capacity or error_rate.

    `worst` (None: +∞, requests that were not answered) and `limit`: seconds, USD a request, a share, a share. `fail`: whether it fails the run.
    """

    kind: str
    from_s: float
    to_s: float
    worst: float | None
    limit: float
    text: str
    fail: bool = False


class NotWatched(msgspec.Struct, kw_only=True):
    """An alert that could neither fire nor be ruled out. `fail`: it would have failed the run, which is now inconclusive."""

    kind: str
    why: str
    fail: bool = False
