"""Whether the machine is free for a measurement."""

from __future__ import annotations

import psutil
import pytest

__all__ = ["require_idle_machine"]


def require_idle_machine(most: float = 0.5) -> None:
    """Skips a test that says nothing on a machine whose processors others use for more than `most` of their time."""
    busy = psutil.cpu_percent(1.0) / 100
    if busy > most:
        pytest.skip(f"NOT CHECKED: the machine is {busy:.0%} busy with something else")
