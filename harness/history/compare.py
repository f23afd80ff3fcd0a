"""Two to eight runs side by side: the first is the reference, the others are told by how they differ from it.

The intervals are of the requests within the runs (`harness.history.resampling`). They say whether two runs differ by more than
chance among requests; whether a build got worse, only several runs of each can say: `harness gate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from harness.errors import RunError, UsageError
from harness.gate.comparable import differences
from harness.history.differing import Field, differing_fields
from harness.history.resampling import resampled
from harness.history.wording import is_relative, tone
from harness.judgement.measures import Better, Measured, Unit
from harness.judgement.measuring import Measure, Subject, parse_measure
from harness.store import open_run
from harness.streams import stream
from harness.summary import RunData, Summary, load_run, summarize
from harness.table import Floats

__all__ = ["LETTERS", "MEASURES", "Comparison", "Delta", "Row", "Side", "compared"]

LETTERS = "ABCDEFGH"
MEASURES = (
    "ttft_p50(ok)", "ttft_p90(ok)", "ttft_p99(ok)", "tpot_p50(ok)", "tpot_p99(ok)", "itl_p50", "e2e_p50(ok)", "e2e_p90(ok)",
    "e2e_p99(ok)", "queue_p50(ok)", "request_rate", "output_rate", "error_rate", "throttle_rate", "goodput", "cost_per_request",
    "cost_per_mtok", "cost_per_good", "cache_hit_rate", "cached_share", "gpu_utilization", "gpu_energy_per_token",
)  # fmt: skip
_MOST_SAID = 6


@dataclass(frozen=True)
class Side:
    """One of the runs: its letter, and what it holds."""

    letter: str
    run: RunData
    summary: Summary

    @property
    def name(self) -> str:
        return self.summary.run_id

    @cached_property
    def subject(self) -> Subject:
        return self.run.subject()


@dataclass(frozen=True)
class Delta:
    """The change from the reference: a part of its value, of a share the difference. `low` and `high`: its 95 % interval, where
    resampling says one. `tone` is worse or better where the interval says so, unclear where it holds no change, same where there is none,
    and empty where there is no interval."""

    value: float
    low: float | None
    high: float | None
    tone: str


@dataclass(frozen=True)
class Row:
    """One measure of every run; a change of each but the first, None where there is none."""

    name: str
    unit: Unit
    better: Better
    measured: tuple[Measured, ...]
    deltas: tuple[Delta | None, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side. `forbidden`: what would have to be the same, and is not."""

    sides: tuple[Side, ...]
    rows: tuple[Row, ...]
    fields: tuple[Field, ...]
    forbidden: tuple[str, ...] = ()


def compared(paths: Sequence[Path], *, anyway: bool = False, measures: Sequence[str] = MEASURES) -> Comparison:
    """Read the runs and compare the first with each of the others."""
    if not 2 <= len(paths) <= len(LETTERS):
        raise UsageError(f"{len(paths)} runs: a comparison takes 2 to {len(LETTERS)}")
    asked = [parse_measure(name) for name in measures]
    directories = [open_run(path) for path in paths]
    for directory in directories:
        if not any(directory.path.glob("records-*.jsonl")):
            raise RunError(
                f"{directory.path} has no records to compare; what was kept without them is for gate and trend"
            )
    manifests = [directory.manifest() for directory in directories]
    forbidden = tuple(
        f"{letter} against A: {text}"
        for letter, other in zip(LETTERS[1:], manifests[1:], strict=False)
        for text in differences(manifests[0], other)
    )
    if forbidden and not anyway:
        more = f"; and {len(forbidden) - _MOST_SAID} more" if len(forbidden) > _MOST_SAID else ""
        said = f"{'; '.join(forbidden[:_MOST_SAID])}{more}"
        raise UsageError(f"these runs cannot be compared: {said}. --anyway makes the page all the same")
    runs = [load_run(each) for each in directories]
    sides = tuple(Side(letter, run, summarize(run)) for letter, run in zip(LETTERS, runs, strict=False))
    found = (_row(measure, sides) for measure in asked)
    return Comparison(sides, tuple(row for row in found if row), tuple(differing_fields(manifests)), forbidden)


def _row(measure: Measure, sides: Sequence[Side]) -> Row | None:
    """None where no run has a value."""
    measured = tuple(measure.of(side.subject) for side in sides)
    if not any(each.value is not None or each.infinite for each in measured):
        return None
    tries = [
        _resampled(measure, side) if each.value is not None else None
        for side, each in zip(sides, measured, strict=True)
    ]
    deltas = (_delta(measured[0], other, tries[0], again) for other, again in zip(measured[1:], tries[1:], strict=True))
    return Row(measure.name, measure.unit, measure.better, measured, (None, *deltas))


def _resampled(measure: Measure, side: Side) -> Floats | None:
    """Each side and measure draws of its own, the same in every report."""
    seed = side.run.manifest.seed
    return resampled(measure, side.subject, stream(seed, f"compare\x00{side.letter}\x00{measure.name}"))


def _delta(reference: Measured, other: Measured, tries: Floats | None, again: Floats | None) -> Delta | None:
    if reference.value is None or other.value is None or (is_relative(reference.unit) and reference.value == 0):
        return None
    value = float(_change(np.array(reference.value), np.array(other.value), reference.unit))
    low, high = (None, None) if tries is None or again is None else _interval(_change(tries, again, reference.unit))
    said = tone(value, reference.better)
    if said != "same" and not _apart(reference, other):
        said = "" if low is None or high is None else "unclear" if low <= 0 <= high else said
    return Delta(value, low, high, said)


def _apart(reference: Measured, other: Measured) -> bool:
    """Of shares: that their own intervals are. None of 600 against all of 600 has no spread that resampling could show."""
    if reference.low is None or reference.high is None or other.low is None or other.high is None:
        return False
    return reference.unit == "share" and (other.low > reference.high or other.high < reference.low)


def _change(reference: Floats, other: Floats, unit: Unit) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(other / reference - 1 if is_relative(unit) else other - reference)


def _interval(changes: Floats) -> tuple[float | None, float | None]:
    """The percentiles of the resampled changes; nothing where some of them are no number, or all are the same: none of 166 resampled
    is none again, and that is no certainty."""
    if not np.isfinite(changes).all():
        return None, None
    low, high = np.percentile(changes, (2.5, 97.5))
    return (float(low), float(high)) if low < high else (None, None)
