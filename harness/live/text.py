"""The state of a run in one line that fits the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harness.live.report import LiveReport
from harness.quantiles import Distribution
from harness.text import milliseconds

__all__ = ["progress_line", "remaining"]

Tone = Literal["plain", "dim", "good", "warn", "bad"]

_CODES: dict[Tone, str] = {"plain": "", "dim": "2", "good": "32", "warn": "33", "bad": "31"}
_GAP = "  "
_EIGHTHS = " ▏▎▍▌▋▊▉"
_OUTCOMES: tuple[tuple[str, Tone], ...] = (
    ("failed", "bad"), ("cut", "bad"), ("throttled", "warn"), ("refused", "warn"), ("incomplete", "warn"), ("left", "plain"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of the line. Where it is narrow, those of the lowest rank come first."""

    rank: int
    text: str
    tone: Tone = "plain"


def progress_line(report: LiveReport, width: int, *, colour: bool = False) -> str:
    """The run in at most `width` columns; what matters least is left out where it is narrow."""
    parts = list(_parts(report, max(6, min(24, (width - 60) // 5))))
    kept: set[int] = set()
    for number, part in sorted(enumerate(parts), key=lambda each: each[1].rank):
        if sum(len(parts[other].text) + len(_GAP) for other in kept) + len(part.text) <= width:
            kept.add(number)
    shown = [part for number, part in enumerate(parts) if number in kept]
    return _GAP.join(_painted(part) if colour else part.text for part in shown)


def remaining(seconds: float) -> str:
    """A time to go: 48 s, 2:05 min, 1:12 h."""
    whole = int(seconds + 0.5)
    if whole < 100:
        return f"{whole} s"
    if whole < 6000:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def _parts(report: LiveReport, bar: int) -> Iterable[_Part]:
    course = report.course
    yield _Part(0, f"{_bar(course.done_share(report.now_s), bar)} {_when(report)}")
    if report.state == "running":
        yield _Part(8, f"{remaining(report.left_s)} left", "dim")
    yield _Part(2, f"{report.num_ended:,} done" if course.reactive else f"{report.num_ended:,}/{course.num_planned:,}")
    for name, tone in _OUTCOMES:
        if num := report.outcomes.get(name):
            yield _Part(3, f"{num:,} {name}", tone)
    yield _Part(6, f"{report.num_in_flight:,} in flight")
    yield from _answers(report)
    state = report.instrument.state
    if state is not None:
        yield _Part(10, state, "good") if state == "VALID" else _Part(3, state, "warn")
    if report.lost_workers:
        yield _Part(3, f"{len(report.lost_workers)} of {course.num_workers} workers lost", "bad")


def _answers(report: LiveReport) -> Iterable[_Part]:
    """What came back; what nobody knows is left out."""
    ttft, itl, e2e = (report.latencies[name] for name in ("ttft", "itl", "e2e"))
    if ttft.num:
        yield _Part(4, f"TTFT {_tail(ttft)} ms")
    elif e2e.num:
        yield _Part(4, f"E2E {_tail(e2e)} ms")
    if (middle := itl.at(50)) is not None:
        yield _Part(9, f"ITL {milliseconds(middle)} ms")
    if report.recent is not None and report.recent.output_rate is not None:
        yield _Part(7, f"{report.recent.output_rate:,.0f} tok/s")
    if report.good_share is not None:
        yield _Part(5, f"good {report.good_share:.0%}", "good" if report.good_share >= 0.95 else "warn")
    if report.cost_usd is not None:
        yield _Part(8, f"${report.cost_usd:,.4f}")


def _when(report: LiveReport) -> str:
    if report.state == "waiting":
        return "starting"
    if report.state == "draining":
        return f"draining ≤ {remaining(report.left_s)}"
    now = min(max(0.0, report.now_s), report.course.duration_s)
    return f"{now:.0f}/{report.course.duration_s:.0f} s"


def _tail(metric: Distribution) -> str:
    """The median, and the highest percentile up to p99 that the samples support."""
    high = next((percent for percent in (99, 95, 90) if metric.at(percent) is not None), None)
    middle = metric.at(50)
    if middle is None:
        return f"≤ {milliseconds(metric.maximum)}"
    return milliseconds(middle) + (f" p{high} {milliseconds(metric.at(high))}" if high else "")


def _bar(share: float, width: int) -> str:
    """A bar of so many columns, to an eighth of one."""
    eighths = round(share * width * 8)
    full, part = divmod(eighths, 8)
    drawn = "█" * full + (_EIGHTHS[part] if part else "")
    return "▕" + drawn.ljust(width) + "▏"


def _painted(part: _Part) -> str:
    code = _CODES[part.tone]
    return f"\x1b[{code}m{part.text}\x1b[0m" if code else part.text
