"""The page of one run."""

from __future__ import annotations

from harness.summary import RunData, Summary
from reports.about_tables import reproduce
from reports.headline import headline
from reports.judgement_section import judged
from reports.rendering import rendered_page
from reports.sections import sections
from reports.view import Readings, view_of
from reports.words import DEFINITIONS

__all__ = ["render"]

NO_READINGS = Readings()


def render(run: RunData, summary: Summary, readings: Readings = NO_READINGS) -> str:
    """The page of a run. `readings`: what GPUs and servers said of themselves meanwhile."""
    view = view_of(run, summary, readings)
    return rendered_page(
        "template.html",
        run=run,
        summary=summary,
        doubts=[reason for reason in summary.instrument.reasons if reason not in summary.verdict.reasons],
        judged=judged(summary),
        cards=headline(summary, view.measured),
        sections=sections(view),
        command=reproduce(run.manifest),
        definitions=DEFINITIONS,
    )
