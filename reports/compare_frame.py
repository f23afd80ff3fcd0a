"""The frame of pages about several runs: the answer first, then sections, in one file that fetches nothing (`reports.page`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.rendering import rendered_page
from reports.section import Section

__all__ = ["Banner", "framed"]


@dataclass(frozen=True)
class Banner:
    """What stands first: `text` in the colour of `answer` (PASS, FAIL, INVALID or anything else), and why."""

    answer: str
    text: str
    reasons: Sequence[str]
    note: str = ""


def framed(*, title: str, kind: str, heading: str, banner: Banner, sections: Sequence[Section]) -> str:
    """The page. All of its text is escaped; charts are JSON that cannot end its element."""
    return rendered_page(
        "compare_frame.html", title=title, kind=kind, heading=heading, banner=banner, sections=sections
    )
