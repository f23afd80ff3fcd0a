"""Looking a figure up by tool and name."""

from __future__ import annotations

from collections.abc import Iterable

from harness.dictionary.figures import Figure
from harness.dictionary.tools import dictionary
from harness.records import RequestRecord
from harness.table import tabulate
from tests.harness.builders import manifest

Figures = dict[tuple[str, str], Figure]


def figures(records: Iterable[RequestRecord]) -> Figures:
    """All figures of the dictionary by (tool, name)."""
    found = {
        (tool.tool, figure.name): figure
        for tool in dictionary(tabulate(records), manifest())
        for figure in tool.figures
    }
    assert len({tool for tool, _ in found}) in (0, 5)
    return found
