"""The page of one run."""

from __future__ import annotations

from harness.summary import RunData, Summary
from reports.about_tables import reproduce
from reports.headline import headline
from reports.judgement_section import judged
from reports.rendering import rendered_page
from reports.sections import sections
from reports.view import view_of
from reports.words import DEFINITIONS

__all__ = ["render"]


def render(run: RunData, summary: Summary) -> str:
    """The page of a run."""
    view = view_of(run, summary)
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
