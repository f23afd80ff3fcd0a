"""Tokens of a text, without a download: the vocabulary is inside the wheel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

__all__ = ["Tokenizer", "block_hashes", "o200k"]


class Tokenizer(Protocol):
    """A vocabulary."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens."""
        ...

    def pieces(self, text: str) -> list[str]:
        """A text cut into its tokens; what is less than a character stays together with its neighbours."""
        ...

    def text(self, token: int) -> str:
        """One token as text, with replacement characters where it is less than a character; unknown ids say nothing."""
        ...


class _O200k:
    def __init__(self) -> None:
        from splintr import Tokenizer as Splintr  # 60 MB of vocabulary: only when somebody counts

        self._splintr = Splintr.from_pretrained("o200k_base")

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._splintr.encode_ordinary(text)
        return ids

    def pieces(self, text: str) -> list[str]:
        if text.isascii():
            return [self._splintr.decode([token]) for token in self.encode(text)]
        pieces: list[str] = []
        held = b""
        for token in self.encode(text):
            held += self._splintr.decode_bytes([token])
            try:
                pieces.append(held.decode())
            except UnicodeDecodeError:
                pieces.append("")  # the first byte of a character: it leaves with the last one
                continue
            held = b""
        return pieces

    def text(self, token: int) -> str:
        try:
            return bytes(self._splintr.decode_bytes([token])).decode(errors="replace")
        except ValueError:  # not in the vocabulary
            return ""


@cache
def o200k() -> Tokenizer:
    """OpenAI's o200k vocabulary, exact (splintr)."""
    return _O200k()


def block_hashes(ids: Sequence[int], block_size: int) -> tuple[int, ...]:
    """A name for each full block of tokens, over the block and everything before it; stable across processes."""
    names: list[int] = []
    name = 0
    for end in range(block_size, len(ids) + 1, block_size):
        name = hash((name, *ids[end - block_size : end]))
        names.append(name)
    return tuple(names)
