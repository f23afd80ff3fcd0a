"""The runs of many nights as series, where those changed, and which changes deserve an alarm.

A run whose instrument is INVALID says nothing and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import RunError, UsageError
from harness.gate.facts import facts_of, fresh_facts
from harness.history.changes import FEWEST
from harness.history.levels import ENDLESS, ChangePoint, Series, endless_over, series_over
from harness.history.nights import Night, Past, group_runs, nights_of
from harness.history.series import runs_below, series_of
from harness.judgement.measuring import parse_measure
from harness.store import Manifest
from harness.summary import load_run

__all__ = ["MEASURES", "Group", "Trend", "trend_of"]

MEASURES = (
    "ttft_p50(ok)", "ttft_p99(ok)", "tpot_p50(ok)", "e2e_p50(ok)", "e2e_p99(ok)", "output_rate", "error_rate", "throttle_rate",
    "goodput", "cost_per_request", "cache_hit_rate", "cached_share", "gpu_utilization", "gpu_energy_per_token",
)  # fmt: skip

_FALSE_ALARMS = 0.05


@dataclass(frozen=True)
class Group:
    """Nights that can be compared, and their series."""

    title: str
    nights: tuple[Night, ...]
    series: tuple[Series, ...]

    @property
    def num_runs(self) -> int:
        return sum(len(night.runs) for night in self.nights)


@dataclass(frozen=True)
class Trend:
    """All groups of a folder, the longest first; `left_out` says which runs stand in none, and why."""

    folder: str
    groups: tuple[Group, ...]
    left_out: tuple[str, ...] = ()

    @property
    def num_series(self) -> int:
        return sum(len(group.series) for group in self.groups)

    def alarms(self, last_nights: int) -> list[tuple[Group, Series, ChangePoint]]:
        """Changes that deserve an alarm and whose new level began in the last nights of their group."""
        return [
            (group, series, change)
            for group in self.groups
            for series in group.series
            for change in series.changes
            if change.alarm and change.at >= len(group.nights) - last_nights
        ]


def trend_of(folder: Path, asked: Sequence[str] = ()) -> Trend:
    """Read every run of a folder. Raises RunError when there is none that can be read, UsageError for what is no measure, or is one that
    was asked for by name and that no run has."""
    measures = [parse_measure(name).name for name in asked] or MEASURES
    past: list[Past] = []
    left_out: list[str] = []
    for directory in runs_below(folder):
        try:
            manifest, facts = (
                directory.manifest(),
                fresh_facts(directory, measures) or facts_of(load_run(directory), measures),
            )
        except RunError as error:
            left_out.append(f"{directory.name}: {error}")
            continue
        if facts.state == "INVALID":
            left_out.append(f"{directory.name}: INVALID: {'; '.join(facts.reasons)}")
        else:
            past.append(Past(directory.name, manifest, facts))
    if not past:
        why = left_out[0] if left_out else "`harness keep RUN --into DIR` puts runs there"
        raise RunError(f"{folder} holds no run that a trend can be made of: {why}")
    groups = [_group(runs, measures) for runs in group_runs(past)]
    groups.sort(key=lambda group: (-len(group.nights), group.title))
    if asked:
        _require(measures, groups, folder)
    return Trend(str(folder), _with_alarms(groups), tuple(left_out))


def _require(measures: Sequence[str], groups: Sequence[Group], folder: Path) -> None:
    there = {series.name.removesuffix(ENDLESS) for group in groups for series in group.series}
    if missing := [name for name in measures if name not in there]:
        raise UsageError(
            f"no run in {folder} has {', '.join(missing)}; of runs that were kept without their records only what their facts.json lists "
            "can be asked"
        )


def _group(runs: list[Past], measures: Sequence[str]) -> Group:
    nights = tuple(nights_of(runs))
    found = (fold(name, nights) for name in measures for fold in (series_over, endless_over))
    return Group(_title(runs[0].manifest), nights, tuple(series for series in found if series is not None))


def _title(manifest: Manifest) -> str:
    """What the runs of a group have in common."""
    parts = (manifest.scenario, series_of(manifest), manifest.model)
    return " · ".join(dict.fromkeys(part for part in parts if part))


def _with_alarms(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Mark the changes to the worse that stand when all series are taken together.

    A series without a change is one test that found nothing, if it was long enough to be tested. Of the points that are left, at most 5 % are false (Benjamini and
    Hochberg, 1995, Controlling the false discovery rate).
    """
    found = sorted(change.p for group in groups for series in group.series for change in series.changes)
    num_tests = len(found) + sum(
        not series.changes and sum(value is not None for value in series.values) >= FEWEST
        for group in groups
        for series in group.series
    )
    limit = max((p for rank, p in enumerate(found, 1) if p <= _FALSE_ALARMS * rank / num_tests), default=-1.0)
    return tuple(
        replace(
            group,
            series=tuple(
                replace(
                    series,
                    changes=tuple(
                        replace(change, alarm=change.tone == "worse" and change.p <= limit) for change in series.changes
                    ),
                )
                for series in group.series
            ),
        )
        for group in groups
    )
