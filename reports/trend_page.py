"""The page of a trend: alarms first, then every group of nights with its change points and a chart for each measure."""

from __future__ import annotations

from collections.abc import Sequence

from harness.clock import day_of
from harness.history.changes import FEWEST, LEVEL
from harness.history.commit import short_commit
from harness.history.levels import ChangePoint, Series
from harness.history.trend import Group, Trend
from harness.history.wording import amount, change_text
from reports.compare_frame import Banner, framed
from reports.section import Chart, Section
from reports.tables import Cell, TextTable
from reports.trend_figures import series_figure

__all__ = ["render_trend"]

_MOST_GROUPS = 12  # with charts; every group has its tables
_MOST_LEFT_OUT = 100
_MOST_REASONS = 12
_MOST_NIGHTS = 400
_TONES = {"worse": "FAIL", "better": "PASS"}
_LONGEST = 200


def render_trend(trend: Trend) -> str:
    """The page, as HTML."""
    num_nights = max(len(group.nights) for group in trend.groups)
    sections = [_section(number, group) for number, group in enumerate(trend.groups)]
    if trend.left_out:
        rows = [[*text[:_LONGEST].partition(": ")[::2]] for text in trend.left_out]
        table = TextTable("Runs that stand in no series", ["run", "why"], rows, num_text=2).at_most(_MOST_LEFT_OUT)
        sections.append(Section("left-out", "Left out", tables=[table], wide=True))
    return framed(
        title=f"Trend of {trend.folder}",
        kind=f"Trend over {num_nights} nights",
        heading=trend.folder,
        banner=_banner(trend, num_nights),
        sections=sections,
    )


def _banner(trend: Trend, num_nights: int) -> Banner:
    alarms = trend.alarms(num_nights)
    note = (
        f"A series that never changes shows a change point in {LEVEL:.0%} of cases. An alarm is a change to the worse that stands when "
        "all series of this page are taken together: at most 5% of such points are false (Benjamini and Hochberg)."
    )
    if not alarms:
        return Banner("PASS", "NO ALARM", [f"no change to the worse in {trend.num_series} series"], note)
    reasons = [f"{group.title}: {_told(series, change)}" for group, series, change in alarms[:_MOST_REASONS]]
    if len(alarms) > _MOST_REASONS:
        reasons.append(f"and {len(alarms) - _MOST_REASONS} more")
    return Banner("FAIL", f"{len(alarms)} ALARM{'S' if len(alarms) > 1 else ''}", reasons, note)


def _told(series: Series, change: ChangePoint) -> str:
    return (
        f"{series.name} {change_text(change.change, series.unit)} since {day_of(change.started_wall)}, commits "
        f"{short_commit(change.commit_before)} to {short_commit(change.commit)}"
    )


def _section(number: int, group: Group) -> Section:
    first, last = day_of(group.nights[0].started_wall), day_of(group.nights[-1].started_wall)
    note = f"{len(group.nights)} nights, {group.num_runs} runs, {first} to {last}."
    if len(group.nights) < FEWEST:
        note += f" Change points need {FEWEST} nights."
    charts: Sequence[Chart] = ()
    if number < _MOST_GROUPS:
        ordered = sorted(group.series, key=lambda series: not series.changes)
        charts = [_chart(f"group-{number}-{position}", group, series) for position, series in enumerate(ordered)]
    return Section(f"group-{number}", group.title[:_LONGEST], note, charts, [_change_rows(group)], wide=True)


def _change_rows(group: Group) -> TextTable:
    head = ["measure", "change", "since", "first run", "commit before", "commit", "before", "after", "p"]
    rows: list[list[str | Cell]] = []
    for series in group.series:
        for change in series.changes:
            text = f"{change_text(change.change, series.unit)} {change.tone}"
            rows.append(
                [
                    series.name,
                    Cell(text, note="alarm" if change.alarm else "", answer=_TONES.get(change.tone, "")),
                    day_of(change.started_wall),
                    change.first_run,
                    short_commit(change.commit_before),
                    short_commit(change.commit),
                    amount(change.before, series.unit),
                    amount(change.after, series.unit),
                    f"{change.p:.2g}",
                ]
            )
    steady = [series.name for series in group.series if not series.changes and not series.num_infinite]
    if steady:
        rows.append([f"no change: {', '.join(steady)}", *[""] * (len(head) - 1)])
    return TextTable("Change points", head, rows, num_text=6)


def _chart(name: str, group: Group, series: Series) -> Chart:
    caption = f"{series.name}, {series.better} is better: a point a night, the mean of its runs; dashed: the level. "
    caption += (
        "A line with a commit marks where a new level begins, in red where it is an alarm." if series.changes else ""
    )
    return Chart(name, series.name, caption.strip(), series_figure(group, series), _night_rows(group, series))


def _night_rows(group: Group, series: Series) -> TextTable:
    rows = [
        [
            day_of(night.started_wall),
            short_commit(night.commit),
            night.runs[0].name,
            f"{len(night.runs):,}",
            amount(value, series.unit),
            amount(level, series.unit),
        ]
        for night, value, level in zip(group.nights, series.values, series.levels, strict=True)
    ]
    head = ["night", "commit", "first run", "runs", series.name, "level"]
    return TextTable(f"{series.name} by night", head, rows[-_MOST_NIGHTS:], num_text=3)
