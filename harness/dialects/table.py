"""The protocols that the load side speaks, by name."""

from __future__ import annotations

from harness.dialects import Dialect
from harness.dialects.anthropic_batch import ANTHROPIC_BATCH
from harness.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from harness.dialects.openai_batch import OPENAI_BATCH
from harness.dialects.openai_chat import OPENAI_CHAT
from harness.dialects.openai_completions import OPENAI_COMPLETIONS
from harness.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from harness.dialects.openai_responses import OPENAI_RESPONSES
from harness.errors import UsageError

__all__ = ["DIALECTS", "dialect_of"]

_ALL = (
    OPENAI_CHAT,
    OPENAI_COMPLETIONS,
    OPENAI_RESPONSES,
    OPENAI_EMBEDDINGS,
    OPENAI_BATCH,
    ANTHROPIC_MESSAGES,
    ANTHROPIC_BATCH,
)
DIALECTS = {dialect.name: dialect for dialect in _ALL}


def dialect_of(name: str) -> Dialect:
    """Raises UsageError for a name that stands for none."""
    if name not in DIALECTS:
        raise UsageError(f"--protocol {name!r}: there are {', '.join(DIALECTS)}")
    return DIALECTS[name]
