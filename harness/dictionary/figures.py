"""What another tool would have said of the same records."""

from __future__ import annotations

import msgspec

__all__ = ["Figure", "ToolFigures"]


class Figure(msgspec.Struct, kw_only=True):
    """One number of a tool, in its own unit. `ours`: our number of the same thing, if there is one; `why`: what makes them differ,
    in one sentence; `formula`: how it is computed, as in the tool's source."""

    name: str
    value: float | None
    unit: str
    ours: float | None
    formula: str
    why: str


class ToolFigures(msgspec.Struct, kw_only=True):
    """A tool at the version whose source was read."""

    tool: str
    version: str
    figures: list[Figure]
