"""What `harness compare`, `keep` and `trend` do: arguments in, exit code out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import UsageError
from harness.history.changes import LEAST
from harness.history.compare import MEASURES, compared
from harness.history.compare_text import comparison_text
from harness.history.keep import keep
from harness.history.trend import trend_of
from harness.history.trend_text import change_line, trend_text
from harness.say import say
from harness.verdict import EXIT_CODES

__all__ = ["run_compare", "run_keep", "run_trend"]


def run_compare(
    paths: Sequence[Path],
    out: Path,
    *,
    anyway: bool = False,
    measures: Sequence[str] = (),
    tell: Callable[[str], None] = say,
) -> int:
    """Write the comparative page and print its table. The exit code is 0: a comparison judges nothing, `harness gate` does."""
    from reports.compare_page import render_comparison  # slow to import: plotly

    comparison = compared(paths, anyway=anyway, measures=measures or MEASURES)
    _write(render_comparison(comparison), out)
    tell(comparison_text(comparison))
    tell(f"\n  page        {out}")
    return EXIT_CODES["PASS"]


def run_keep(paths: Sequence[Path], into: Path, *, with_page: bool = False, tell: Callable[[str], None] = say) -> int:
    """Put runs into a history and print where they are."""
    for path in keep(paths, into, with_page=with_page):
        tell(f"  kept        {path}")
    return EXIT_CODES["PASS"]


def run_trend(
    folder: Path,
    *,
    out: Path | None = None,
    fail_on_change: int | None = None,
    measures: Sequence[str] = (),
    tell: Callable[[str], None] = say,
) -> int:
    """Print the trend of a folder of runs, and write its page where `out` is given.

    The exit code is 0; with `fail_on_change` 1 where a change to the worse that deserves an alarm began in so many last nights.
    """
    if fail_on_change is not None and fail_on_change < LEAST:
        raise UsageError(
            f"--fail-on-change {fail_on_change}: must be a number of nights, {LEAST} or more; one night alone is an outlier yet, no change"
        )
    trend = trend_of(folder, measures)
    tell(trend_text(trend))
    if out is not None:
        from reports.trend_page import render_trend  # slow to import: plotly

        tell(f"\n  page        {_write(render_trend(trend), out)}")
    if fail_on_change is None:
        return EXIT_CODES["PASS"]
    recent = trend.alarms(fail_on_change)
    if recent:
        tell(f"\nFAIL: worse since one of the last {fail_on_change} nights:")
        for group, series, change in recent:
            tell(f"  {group.title}: {change_line(series, change).strip('! ')}")
    return EXIT_CODES["FAIL" if recent else "PASS"]


def _write(page: str, out: Path) -> Path:
    if out.is_dir():
        raise UsageError(f"-o {out}: is a directory; name a file, like {out / 'page.html'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from None
    return out
