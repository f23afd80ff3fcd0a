"""A trend as text for a terminal."""

from __future__ import annotations

from harness.clock import day_of
from harness.history.changes import FEWEST, LEVEL
from harness.history.commit import short_commit
from harness.history.levels import ChangePoint, Series
from harness.history.trend import Group, Trend
from harness.history.wording import amount, change_text
from harness.plain import plain_lines

__all__ = ["change_line", "trend_text"]

_MOST_LEFT_OUT = 10


def trend_text(trend: Trend) -> str:
    """Alarms first, then every group with its change points."""
    num_changes = sum(len(series.changes) for group in trend.groups for series in group.series)
    alarms = trend.alarms(max(len(group.nights) for group in trend.groups))
    lines = ["", f"TREND: {_plural(len(alarms), 'change')} to the worse of {_plural(num_changes, 'change point')}"]
    for group in trend.groups:
        lines += ["", *_group_lines(group)]
    lines += [
        "",
        f"  A series that never changes shows a change point in {LEVEL:.0%} of cases; of those marked ! at most 5% are false.",
    ]
    if trend.left_out:
        lines += ["", f"  left out: {_plural(len(trend.left_out), 'run')}"]
        lines += [f"    {text[:200]}" for text in trend.left_out[:_MOST_LEFT_OUT]]
    return plain_lines(lines)


def _group_lines(group: Group) -> list[str]:
    first, last = day_of(group.nights[0].started_wall), day_of(group.nights[-1].started_wall)
    head = (
        f"  {group.title}: {_plural(len(group.nights), 'night')}, {_plural(group.num_runs, 'run')}, {first} to {last}"
    )
    if len(group.nights) < FEWEST:
        return [head, f"    change points need {FEWEST} nights"]
    lines = [f"    {change_line(series, change)}" for series in group.series for change in series.changes]
    endless = [series for series in group.series if series.num_infinite]
    lines += [
        f"    {series.name} is +∞ in {_plural(series.num_infinite, 'night')}: those nights are in none of its levels"
        for series in endless
    ]
    steady = [series.name for series in group.series if not series.changes and not series.num_infinite]
    if steady:
        lines.append(f"    no change in {', '.join(steady)}")
    return [head, *lines]


def change_line(series: Series, change: ChangePoint) -> str:
    """One change point in a line."""
    levels = f"{amount(change.before, series.unit)} -> {amount(change.after, series.unit)}"
    commits = ""
    if change.commit_before or change.commit:
        commits = f", commits {short_commit(change.commit_before)}..{short_commit(change.commit)}"
    mark = "! " if change.alarm else "  "
    return (
        f"{mark}{series.name:<22}{levels:<28}{change_text(change.change, series.unit):>14} {change.tone:<7}"
        f"from {day_of(change.started_wall)}, {change.first_run}{commits}, p {change.p:.2g}"
    )


def _plural(num: int, noun: str) -> str:
    return f"{num:,} {noun}" if num == 1 else f"{num:,} {noun}s"
