"""The section that says what other tools would have said of the same records, and why."""

from __future__ import annotations

import re

from harness.dictionary.figures import Figure, ToolFigures
from harness.summary import Summary
from reports.numbers import MISSING
from reports.section import Section
from reports.tables import Cell, TextTable

__all__ = ["dictionary_section"]

_MOST = 40

# The same thing under the names that tools give it. Of several figures of a tool that fit, its first is its headline.
_LATENCIES = {"TTFT": "TTFT", "ITL": "ITL", "TPOT": "TPOT", "E2E": "(?:E2EL|E2E latency|Request latency)"}
_SIDE_BY_SIDE = {
    **{
        f"{name} {part}, ms": f"{words} {part}"
        for name, words in _LATENCIES.items()
        for part in ("mean", "median", "p99")
    },
    "requests a second": "Request throughput|Requests per second",
    "output tokens a second": "Output token throughput|Output tokens per second.*|Output throughput",
    "all tokens a second": "Total token throughput.*|Tokens per second|Total throughput",
}


def dictionary_section(summary: Summary) -> list[Section]:
    """Nothing where no tool was asked."""
    tools = [each for each in summary.dictionary if each.figures]
    if not tools:
        return []
    note = (
        "The same records in the definitions of other tools, side by side; below, for each tool, what it computes and why it differs from "
        "ours. A dash: the tool has no such figure, or the records cannot tell."
    )
    side_by_side = [_side_by_side(tools)] if len(tools) > 1 else []
    folded = [_table(each) for each in tools]
    return [Section("dictionary", "Other tools' numbers", note, tables=side_by_side, wide=True, folded=folded)]


def _side_by_side(tools: list[ToolFigures]) -> TextTable:
    rows: list[list[str | Cell]] = []
    for name, words in _SIDE_BY_SIDE.items():
        found = [next((each for each in tool.figures if re.fullmatch(words, each.name)), None) for tool in tools]
        ours = next((_in_ms(each, each.ours) for each in found if each is not None and each.ours is not None), None)
        if any(each is not None for each in found):
            rows.append([name, _number(ours), *(_beside(each, ours) for each in found)])
    head = ["", "ours", *(each.tool for each in tools)]
    return TextTable("Side by side", head, rows)


def _beside(figure: Figure | None, ours: float | None) -> Cell:
    if figure is None:
        return Cell(MISSING)
    value = _in_ms(figure, figure.value)
    return Cell(_number(value), note=_difference(value, ours))


def _in_ms(figure: Figure, value: float | None) -> float | None:
    return value * 1e3 if value is not None and figure.unit == "s" else value


def _difference(value: float | None, ours: float | None) -> str:
    if value is None or not ours:
        return ""
    change = value / ours - 1
    return "equal" if abs(change) < 5e-4 else f"{change:+.1%}".replace("-", "−").replace("%", " %")


def _table(found: ToolFigures) -> TextTable:
    rows = [
        [
            f"{each.name}{f', {each.unit}' if each.unit else ''}",
            each.formula or MISSING,
            each.why or MISSING,
            _number(each.value),
            _number(each.ours),
            _difference(each.value, each.ours) or MISSING,
        ]
        for each in found.figures
    ]
    head = ["figure", "its definition", "why it differs", "it says", "we say", "difference"]
    return TextTable(f"{found.tool} {found.version}".strip(), head, rows, num_text=3).at_most(_MOST)


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
