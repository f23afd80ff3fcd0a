"""What a gate answers, as it stands in its JSON file."""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.judgement.measures import Better, Unit

__all__ = ["Answer", "GateResult", "GatedMeasure", "GatedObjective", "GatedRun"]

Answer = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]


class GatedRun(msgspec.Struct, kw_only=True):
    """A run that took part. `state` is its instrument's."""

    name: str
    side: Literal["candidate", "baseline"]
    seed: int
    started_wall: float
    state: str
    num_requests: int


class GatedMeasure(msgspec.Struct, kw_only=True):
    """One measure, compared. `candidates` and `baselines` are its values by run, in the order of `runs`; where pairs were compared,
    those of a pair stand at the same place.

    `change` is candidate / baseline - 1, of shares the difference; `low` and `high` its 95 % interval. `allowed` is how much
    worse it may be, as a change. `p_worse`: of "not worse than allowed"; `p_worse_adjusted`: against all measures together;
    `p_not_worse`: of "worse than allowed". `effect_size` is the mean change over its standard deviation between runs or pairs.
    `detectable`: the smallest change that would have been proven worse than allowed in nine of ten gates like this one.
    `num_needed`: about how many runs a side would prove the change that was seen, or that there is none; None: nobody can tell.
    """

    name: str
    unit: Unit
    better: Better
    answer: Answer
    why: str
    allowed: float
    candidates: list[float | None] = []
    baselines: list[float | None] = []
    num_infinite: int = 0
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p_worse: float | None = None
    p_worse_adjusted: float | None = None
    p_not_worse: float | None = None
    effect_size: float | None = None
    detectable: float | None = None
    num_needed: int | None = None


class GatedObjective(msgspec.Struct, kw_only=True):
    """One objective of `slo.yaml` over all runs of the candidate, each of which was judged by itself."""

    text: str
    class_name: str | None
    answer: Answer
    why: str
    answers: list[str]
    values: list[float | None]


class GateResult(msgspec.Struct, kw_only=True):
    """The answer of a gate. `reasons` are those of the answer; `notes` what to know besides, like versions that differ.

    `order` of the runs in time, A the baseline, where it matters. `left_out`: default measures that no run has, and why.
    """

    schema_version: int = 1
    answer: Answer
    exit_code: int
    reasons: list[str]
    notes: list[str]
    arrangement: str
    order: str
    paired: bool
    num_relabellings: int
    runs: list[GatedRun]
    measures: list[GatedMeasure]
    objectives: list[GatedObjective]
    left_out: dict[str, str]
