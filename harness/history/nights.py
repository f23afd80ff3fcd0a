"""Runs in order: which belong to one series, and which of them make one point of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.gate.facts import RunFacts
from harness.history.series import apart
from harness.store import Manifest

__all__ = ["Night", "Past", "group_runs", "nights_of"]

_NIGHT_S = 6 * 3600.0


@dataclass(frozen=True)
class Past:
    """A run that is over: what was asked, and what came of it."""

    name: str
    manifest: Manifest
    facts: RunFacts

    @property
    def commit(self) -> str | None:
        return self.manifest.labels.get("commit")


@dataclass(frozen=True)
class Night:
    """Runs of one series that make one point: of one commit, each seed once, no pause of 6 hours or more between two starts."""

    runs: tuple[Past, ...]

    @property
    def started_wall(self) -> float:
        return self.runs[0].manifest.started_wall

    @property
    def commit(self) -> str | None:
        return self.runs[0].commit


def group_runs(past: Iterable[Past]) -> list[list[Past]]:
    """The runs of each series in order of time."""
    groups: list[list[Past]] = []
    for run in sorted(past, key=lambda each: (each.manifest.started_wall, each.name)):
        group = next((group for group in groups if not apart(group[0].manifest, run.manifest)), None)
        if group is None:
            groups.append([run])
        else:
            group.append(run)
    return groups


def nights_of(runs: Sequence[Past]) -> list[Night]:
    """Runs in order of time, folded into nights: another commit, a seed that was there already, or a pause begin the next one."""
    nights: list[list[Past]] = []
    for run in runs:
        if nights and _is_same_night(nights[-1], run):
            nights[-1].append(run)
        else:
            nights.append([run])
    return [Night(tuple(night)) for night in nights]


def _is_same_night(night: list[Past], run: Past) -> bool:
    return (
        night[0].commit == run.commit
        and run.manifest.seed not in {each.manifest.seed for each in night}
        and run.manifest.started_wall - night[-1].manifest.started_wall < _NIGHT_S
    )
