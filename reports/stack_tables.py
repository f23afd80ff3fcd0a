"""The tables about the policies of a simulated stack: from `stack.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reports.numbers import MISSING, count, usd
from reports.tables import TextTable

__all__ = ["stack_tables"]

_MOST = 40
_MOST_COUNTS = 10


def stack_tables(stack: Mapping[str, Any]) -> list[TextTable]:
    """What each policy is, what it did, how long it held requests up and what it saved; and how pools changed their size."""
    state, clients = stack.get("state") or {}, stack.get("clients") or {}
    rows = [_stage(stage, clients) for stage in state.get("stages") or []]
    tables = []
    if rows:
        head = ["policy", "does", "did", "held up", "for, s on average", "saved"]
        tables.append(TextTable("Policies of the stack", head, rows, num_text=3).at_most(_MOST))
    changes = [row for model in state.get("models") or [] for row in _changes(model)]
    if changes:
        head = ["pool", "why", "at, s", "replicas wanted"]
        tables.append(TextTable("Changes of the pools, the last ones", head, changes, num_text=2).at_most(_MOST))
    return tables


def _stage(stage: Mapping[str, Any], clients: Mapping[str, Any]) -> list[str]:
    name = str(stage.get("name", ""))
    num = (clients.get("num_waited") or {}).get(name)
    waited = (clients.get("waited_s") or {}).get(name)
    mean = f"{waited / num:,.3f}" if num and waited is not None else MISSING
    saved = (clients.get("saved_usd") or {}).get(name)
    did = ", ".join(_counts(stage.get("state") or {})) or MISSING
    return [name, str(stage.get("does") or MISSING), did, count(num) if num else MISSING, mean, usd(saved)]


def _counts(state: Mapping[str, Any]) -> Iterator[str]:
    """What it counted, without the things that never came up."""
    counted = {**(state.get("counts") or {})}
    there = [(name, num) for name, num in counted.items() if isinstance(num, int | float) and num]
    for name, num in there[:_MOST_COUNTS]:
        yield f"{str(name).replace('_', ' ')} {num:,}"
    if len(there) > _MOST_COUNTS:
        yield f"and {len(there) - _MOST_COUNTS} more"


def _changes(model: Mapping[str, Any]) -> Iterator[list[str]]:
    for change in (model.get("pool") or {}).get("changes") or []:
        at, wanted = change.get("at"), change.get("to")
        moved = MISSING if wanted is None else f"{wanted:,}"
        where = MISSING if at is None else f"{at:,.0f}"
        yield [str(model.get("name")), str(change.get("why") or MISSING), where, moved]
