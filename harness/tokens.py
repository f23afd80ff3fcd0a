"""How many tokens a text has."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from harness.errors import UsageError

__all__ = ["token_counter"]


@cache
def token_counter() -> Callable[[str], int]:
    """Counts in OpenAI's o200k vocabulary, exactly. Raises UsageError when the tokenizer is not installed."""
    try:
        from splintr import Tokenizer  # 60 MB of vocabulary: only when somebody counts
    except ImportError:
        raise UsageError("splintr is not installed; pip install 'llm-load-harness[load]'") from None
    tokenizer = Tokenizer.from_pretrained("o200k_base")
    return lambda text: len(tokenizer.encode_ordinary(text))
