"""Counting the tokens of a prompt, without a download: the vocabulary is inside the wheel."""

from __future__ import annotations

from functools import cache
from typing import Protocol

__all__ = ["TokenCounter", "o200k_counter"]


class TokenCounter(Protocol):
    """The number of tokens in a text."""

    def __call__(self, text: str) -> int: ...


@cache
def o200k_counter() -> TokenCounter:
    """OpenAI's o200k vocabulary, exact (splintr)."""
    from splintr import Tokenizer  # 60 MB of vocabulary: only when somebody counts

    tokenizer = Tokenizer.from_pretrained("o200k_base")

    def count(text: str) -> int:
        return len(tokenizer.encode_ordinary(text))

    return count
