"""What a dialect is: how to read a request, and who writes its answer. Pure: bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from mockllm.call import Call, Usage
from mockllm.content.reply import Reply, Slice
from mockllm.streams import Streams
from mockllm.wire.errors import ApiError

__all__ = ["Context", "Dialect", "End", "Writer"]


@dataclass(frozen=True, slots=True)
class Context:
    """What an answer carries beside its words.

    `tag` is unique in this server, `created` the second of the epoch. `hosted` says that a provider's API is imitated,
    not an inference server. `key` and `streams` give what looks random (log probabilities, signatures).
    """

    tag: str
    created: int
    hosted: bool
    key: str
    streams: Streams


class End(NamedTuple):
    """How a choice ended: `reason` is the engine's, stop or length; the answer has `num_tokens` tokens."""

    reason: str
    num_tokens: int


class Writer(Protocol):
    """Writes one answer: `opening`, then `piece` and `end` of each choice, then `closing`; or everything as `whole`.

    It is made with the replies of all choices. Prompt tokens and what they found in a cache are known at the opening.
    """

    def opening(self, prompt: Usage) -> bytes:
        """What comes before the first token."""
        ...

    def piece(self, choice: int, piece: Slice) -> bytes:
        """Tokens of one choice."""
        ...

    def end(self, choice: int, end: End) -> bytes:
        """One choice is complete, or cut at the limit of tokens."""
        ...

    def closing(self, usage: Usage) -> bytes:
        """All choices are complete."""
        ...

    def error(self, error: ApiError) -> bytes:
        """The stream breaks off with an error of the provider's."""
        ...

    def whole(self, ends: Sequence[End], usage: Usage) -> bytes:
        """The answer as one JSON body; one end a choice."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """One protocol. `provider` decides the shape of errors and the names of headers; `body` is what `parse` reads."""

    name: str
    provider: str  # openai | anthropic
    tag_prefix: str
    body: type[msgspec.Struct]
    parse: Callable[[bytes], Call | ApiError]
    writer: Callable[[Call, Context, Sequence[Reply]], Writer]
