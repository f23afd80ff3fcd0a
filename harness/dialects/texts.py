"""Questions for protocols that take one text and know no roles."""

from __future__ import annotations

from harness.dialects import Asked
from harness.errors import UsageError

__all__ = ["one_text"]


def one_text(asked: Asked, protocol: str) -> str:
    """The messages as one text, a blank line between them. Raises UsageError for what is no text."""
    if asked.tools or asked.images:
        what = "tools" if asked.tools else "images"
        raise UsageError(f"{protocol} takes text only, and this question has {what}; choose another --protocol")
    return "\n\n".join(text for _, text in asked.messages)
