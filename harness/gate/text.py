"""A gate's answer for a terminal: verdict first."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import TextWrapper

from harness.gate.figures import headline, measure_cells, plain
from harness.gate.result import GateResult

__all__ = ["gate_text"]

_COLUMNS = ("measure", "answer", "baseline", "candidate", "change", "95 % interval", "allowed", "p worse", "detectable")
_MOST_REASONS = 12


def gate_text(result: GateResult, width: int | None = None) -> str:
    """The answer, why, and a line for each measure and objective; sentences are broken at `width` columns, if given. Text from
    outside is made plain."""
    lines = ["", *_broken([headline(result)], width), ""]
    if result.measures or result.answer == "INVALID":  # else they are said of each objective below
        lines += _broken(_reasons(result), width)
    said = []
    if result.measures:
        table = _table([_COLUMNS, *map(measure_cells, result.measures)])
        lines += ["", *(_no_command(plain(row)) for row in table), ""]
        said.append("  detectable: the smallest change that nine in ten gates like this one would have called worse")
    for objective in result.objectives:
        of_class = f" ({objective.class_name})" if objective.class_name else ""
        said.append(f"  {objective.answer:<13}{objective.text}{of_class}: {objective.why}")
    said += [f"  left out: {name}: {why}" for name, why in result.left_out.items()]
    said += [f"  note: {note}" for note in result.notes]
    return "\n".join([*lines, *_broken(said, width)])


def _broken(sentences: Sequence[str], width: int | None) -> list[str]:
    """Made plain first: that makes them longer."""
    clean = [_no_command(plain(each)) for each in sentences]
    if width is None:
        return clean
    wrapped = TextWrapper(max(40, width), subsequent_indent=" " * 6, break_long_words=False, break_on_hyphens=False)
    return [part for each in clean for part in wrapped.wrap(each)]


def _no_command(line: str) -> str:
    """A build server takes lines that begin with `::`, or have `##[` in them, for commands."""
    return line.replace("::", ": :").replace("##[", "## [")


def _reasons(result: GateResult) -> list[str]:
    """Those of the objectives are only counted: each stands below with its own."""
    named = [each for each in result.objectives if each.answer == result.answer]
    texts: dict[str, list[str]] = {}
    for each in named:
        texts.setdefault(each.why, []).append(each.text)
    below = {f"{', '.join(names)}: {why}" for why, names in texts.items()}
    reasons = [reason for reason in result.reasons if reason not in below]
    more = [f"  and {len(reasons) - _MOST_REASONS} more"] if len(reasons) > _MOST_REASONS else []
    if len(reasons) < len(result.reasons):
        more.append(f"  {len(named)} of {len(result.objectives)} objectives: {result.answer}, below the table")
    return [f"  {reason}" for reason in reasons[:_MOST_REASONS]] + more


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = 2  # columns of words; the others are figures
    return [
        "  " + "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]  # fmt: skip
