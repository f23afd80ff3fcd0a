"""What one answer says, as parts made of tokens: reasoning, text, tool calls.

A `Reply` knows all of its words before the first is let out; the engine decides when each token leaves, and
`slices` says which words those are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

__all__ = ["JsonTokens", "Part", "Reply", "Slice", "Words"]


class Words(Protocol):
    """The words of one part, by token."""

    def piece(self, first: int, num: int) -> str:
        """Tokens `first … first + num - 1` as text."""
        ...


@dataclass(frozen=True, slots=True)
class JsonTokens:
    """Words that are known one by one: JSON, or text that was cut."""

    tokens: Sequence[str]

    def piece(self, first: int, num: int) -> str:
        return "".join(self.tokens[first : first + num])


@dataclass(frozen=True, slots=True)
class Part:
    """A run of tokens of one kind. A tool call has the tool's `name` and a `number` that makes its id unique."""

    kind: Literal["reasoning", "text", "tool_call"]
    words: Words
    num_tokens: int
    name: str = ""
    number: int = 0

    def text(self, num_tokens: int | None = None) -> str:
        """The first `num_tokens` tokens as text; all of them by default."""
        return self.words.piece(0, self.num_tokens if num_tokens is None else min(num_tokens, self.num_tokens))


class Slice(NamedTuple):
    """Tokens `first … first + num - 1` of part number `index`; `ends` with the part's last token."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    part: Part
    first: int
    num: int
    ends: bool

    @property
    def text(self) -> str:
        return self.part.words.piece(self.first, self.num)

    def tokens(self) -> list[str]:
        """One by one."""
        return [self.part.words.piece(self.first + offset, 1) for offset in range(self.num)]


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `stop_sequence` is the client's stop word that ended it."""

    parts: tuple[Part, ...]
    stop_sequence: str | None = None

    @property
    def num_tokens(self) -> int:
        return sum(part.num_tokens for part in self.parts)

    @property
    def calls_tools(self) -> bool:
        return any(part.kind == "tool_call" for part in self.parts)

    def num_reasoning_tokens(self, num_tokens: int) -> int:
        """How many of the first `num_tokens` tokens are reasoning."""
        total = 0
        for piece in self.slices(0, num_tokens):
            total += piece.num if piece.part.kind == "reasoning" else 0
        return total

    def slices(self, first: int, num: int) -> Iterator[Slice]:
        """Which words tokens `first … first + num - 1` of the answer are."""
        if len(self.parts) == 1:
            part = self.parts[0]
            num = min(num, part.num_tokens - first)
            if num > 0:
                yield Slice(0, part, first, num, first + num == part.num_tokens)
            return
        start = 0
        for index, part in enumerate(self.parts):
            begin, end = max(first, start), min(first + num, start + part.num_tokens)
            if begin < end:
                yield Slice(index, part, begin - start, end - begin, end == start + part.num_tokens)
            start += part.num_tokens
