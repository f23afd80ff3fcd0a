"""A gate's answer on GitHub: a summary of the step in Markdown, and annotations as workflow commands.

Names, errors and labels come from outside. In Markdown every character that could be markup is escaped; in commands
those that end a value, as the runner's own toolkit does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.gate.figures import headline, measure_cells, plain
from harness.gate.result import GateResult

__all__ = ["annotations_of", "step_summary"]

_MOST_BYTES = 1_000_000  # GitHub drops a summary of more than 1 MiB whole
_MOST_ANNOTATIONS = 10  # of a kind that GitHub shows for a step
_LONGEST = 500
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~<>&@:.\-=$^])")
_KINDS: dict[str, str] = {"FAIL": "error", "INVALID": "error", "INCONCLUSIVE": "warning"}
_CUT = "\n\nThe rest did not fit.\n"


def step_summary(result: GateResult) -> str:
    """Markdown, at most a million bytes."""
    parts = [f"## {_markdown(headline(result))}\n"]
    parts += [f"- {_markdown(reason)}\n" for reason in result.reasons]
    if result.measures:
        parts += [
            "\n| measure | answer | baseline | candidate | change | 95 % interval | allowed | p worse | detectable |\n",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|\n",
            *(_cells(*measure_cells(measure)) for measure in result.measures),
        ]
    if result.objectives:
        parts += ["\n| objective | class | answer | why |\n", "|---|---|---|---|\n"]
        parts += [_cells(each.text, each.class_name or "all", each.answer, each.why) for each in result.objectives]
    parts += ["\n", *(f"- left out: {_markdown(name)}: {_markdown(why)}\n" for name, why in result.left_out.items())]
    parts += [f"- {_markdown(note)}\n" for note in result.notes]
    return _capped(parts)


def _cells(*cells: str) -> str:
    return f"| {' | '.join(map(_markdown, cells))} |\n"


def _markdown(text: str) -> str:
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return _MARKUP.sub(r"\\\1", plain(short)).replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def _capped(parts: Sequence[str]) -> str:
    """Whole lines, as many as fit."""
    kept: list[str] = []
    size = len(_CUT.encode())
    for part in parts:
        size += len(part.encode())
        if size > _MOST_BYTES:
            return "".join(kept) + _CUT
        kept.append(part)
    return "".join(kept)


def annotations_of(result: GateResult) -> list[str]:
    """Workflow commands for standard output: an error for each measure and objective that failed, a warning where nobody can
    tell. At most ten; the last says how many are missing."""
    if result.answer == "PASS":
        return []
    named = [(each.name, each.answer, each.why) for each in result.measures]
    named += [(each.text, each.answer, each.why) for each in result.objectives]
    if result.answer == "INVALID":
        named = [("run", "INVALID", reason) for reason in result.reasons]
    found: list[tuple[str, str, str]] = [(_KINDS[result.answer], result.answer, headline(result))]
    found += [(_KINDS[answer], f"{answer} {name}", why) for name, answer, why in named if answer in _KINDS]
    found.sort(key=lambda each: each[0])  # errors first; the order is kept otherwise
    if len(found) > _MOST_ANNOTATIONS:
        rest = len(found) - _MOST_ANNOTATIONS + 1
        found = [
            *found[: _MOST_ANNOTATIONS - 1],
            (found[0][0], "more", f"and {rest} more; see the summary of the step"),
        ]
    return [f"::{kind} title={_property(f'harness gate: {title}')}::{_data(text)}" for kind, title, text in found]


def _data(text: str) -> str:
    """The runner's escapes of a command's message (actions/toolkit, core/command.ts)."""
    return plain(text.replace("\r", " ").replace("\n", " "))[:_LONGEST].replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
