"""What the replicas of a simulated deployment cost by the hour. It stands in no request's cost: nobody can say whose an idle hour is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from harness.run_files import readable

__all__ = ["replica_usd", "replica_usd_of"]


def replica_usd(state: Mapping[str, Any]) -> float:
    """By the state of a stack, as it stands in `stack.json`; 0 where no replica has a price."""
    return float(sum((model.get("pool") or {}).get("cost_usd") or 0.0 for model in state["models"]))


def replica_usd_of(stack: Path) -> float:
    """The same by a run's `stack.json`; 0 where there is none, or none that a simulation wrote. Raises RunError for what is no JSON."""
    if not stack.is_file():
        return 0.0
    with readable(stack):
        document = msgspec.json.decode(stack.read_bytes())
    try:
        return replica_usd(document["state"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return 0.0
