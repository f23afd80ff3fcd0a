"""What a page is made of: sections of charts and tables, in an order, each with what must be said about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import plotly.graph_objects as go

from reports.tables import TextTable

__all__ = ["Chart", "Section"]


@dataclass(frozen=True)
class Chart:
    """A figure, what it shows in words, and the table that says the same."""

    name: str
    title: str
    caption: str
    figure: go.Figure
    table: TextTable


@dataclass(frozen=True)
class Section:
    """A part of the page; `note` stands above its charts and tables. `wide`: its tables take the page's whole width. The `folded`
    ones a reader opens."""

    name: str
    title: str
    note: str = ""
    charts: Sequence[Chart] = ()
    tables: Sequence[TextTable] = field(default_factory=list)
    wide: bool = False
    folded: Sequence[TextTable] = ()
