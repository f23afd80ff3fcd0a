"""A gate's answer for a terminal: verdict first."""

from __future__ import annotations

from collections.abc import Sequence

from harness.gate.figures import headline, measure_cells, plain
from harness.gate.result import GateResult

__all__ = ["gate_text"]

_COLUMNS = ("measure", "answer", "baseline", "candidate", "change", "95 % interval", "allowed", "p worse", "detectable")
_MOST_REASONS = 12


def gate_text(result: GateResult) -> str:
    """The answer, why, and a line for each measure and objective. Text from outside is made plain."""
    lines = ["", headline(result), ""]
    if result.measures or result.answer == "INVALID":  # else they are said of each objective below
        lines += _reasons(result.reasons)
    if result.measures:
        lines += ["", *_table([_COLUMNS, *map(measure_cells, result.measures)])]
        lines += ["", "  detectable: the smallest change that nine in ten gates like this one would have called worse"]
    for objective in result.objectives:
        of_class = f" ({objective.class_name})" if objective.class_name else ""
        lines.append(f"  {objective.answer:<13}{objective.text}{of_class}: {objective.why}")
    lines += [f"  left out: {name}: {why}" for name, why in result.left_out.items()]
    lines += [f"  note: {note}" for note in result.notes]
    return "\n".join(_no_command(plain(line)) for line in lines)


def _no_command(line: str) -> str:
    """A build server takes lines that begin with `::`, or have `##[` in them, for commands."""
    return line.replace("::", ": :").replace("##[", "## [")


def _reasons(reasons: Sequence[str]) -> list[str]:
    more = [f"  and {len(reasons) - _MOST_REASONS} more"] if len(reasons) > _MOST_REASONS else []
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
