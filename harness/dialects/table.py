"""The protocols that the load side speaks, by name."""

from __future__ import annotations

from harness.dialects import Dialect
from harness.dialects.openai_chat import OPENAI_CHAT
from harness.errors import UsageError

__all__ = ["DIALECTS", "dialect_of"]

DIALECTS = {dialect.name: dialect for dialect in (OPENAI_CHAT,)}


def dialect_of(name: str) -> Dialect:
    """Raises UsageError for a name that stands for none."""
    if name not in DIALECTS:
        raise UsageError(f"--protocol {name!r}: there are {', '.join(DIALECTS)}")
    return DIALECTS[name]
