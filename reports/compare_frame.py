"""The frame of pages about several runs: the answer first, then sections, in one file that fetches nothing (`reports.page`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.page import BUNDLE, _figure_json, _own, _policy
from reports.section import Section

__all__ = ["Banner", "framed"]

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Banner:
    """What stands first: `text` in the colour of `answer` (PASS, FAIL, INVALID or anything else), and why."""

    answer: str
    text: str
    reasons: Sequence[str]
    note: str = ""


def framed(*, title: str, kind: str, heading: str, banner: Banner, sections: Sequence[Section]) -> str:
    """The page. All of its text is escaped; charts are JSON that cannot end its element."""
    bundle, draw = BUNDLE.read_text(encoding="utf-8"), (_HERE / "draw.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure_json"] = _figure_json
    return environment.get_template("compare_frame.html").render(
        title=title,
        kind=kind,
        heading=heading,
        banner=banner,
        sections=sections,
        policy=_policy([bundle, draw]),
        style=_own(_HERE.joinpath("style.css").read_text(encoding="utf-8")),
        bundle=_own(bundle),
        draw=_own(draw),
    )
