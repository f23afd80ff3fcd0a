"""The values that pass between the engine and everything around it.

A `Request` goes in; `Emission`s come out: `Tokens`, then exactly one of `Finished`, `Refused` or `Cut`
(none of them after a cancellation). Times are seconds on the clock of whoever drives the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = ["Chunk", "Cut", "Emission", "Finished", "Refused", "Request", "Span", "Tokens", "chunks_of"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the engine sees it: how much work, not which words.

    `key` is its identity for random draws; two requests with one key meet the same luck.
    `watched` says that somebody wants every token at its instant (a stream); an unwatched request
    gives its tokens as one span when it ends.
    """

    request_id: str
    key: str
    model: str
    num_prompt_tokens: int
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    watched: bool = True


class Chunk(NamedTuple):
    """`num` output tokens, the first of them number `first` (from 0), let out together at `at`."""

    at: float
    first: int
    num: int


class Span(Protocol):
    """The instants of a run of tokens, worked out only when somebody asks."""

    def chunks(self) -> Iterator[Chunk]: ...


class Tokens(NamedTuple):
    """Output tokens `first … first + num - 1` of one request.

    With `span` None they leave together at `at`. Otherwise they left one after the other at the span's
    instants, the last of them at `at`: the engine did not stop at each.
    """

    request_id: str
    at: float
    first: int
    num: int
    span: Span | None = None


class Finished(NamedTuple):
    """The answer is complete. `reason` is `stop` (it ended by itself) or `length` (a token limit cut it)."""

    request_id: str
    at: float
    reason: str
    num_output_tokens: int
    num_cached_tokens: int = 0
    queue_s: float | None = None


class Refused(NamedTuple):
    """No answer: the engine did not take the request. `status` is the HTTP status a provider would send."""

    request_id: str
    at: float
    status: int
    kind: str
    message: str
    retry_after_s: float | None = None


class Cut(NamedTuple):
    """The server breaks the answer off after `num_output_tokens` tokens."""

    request_id: str
    at: float
    num_output_tokens: int


Emission = Tokens | Finished | Refused | Cut


def chunks_of(tokens: Tokens) -> Iterator[Chunk]:
    """The chunks of an emission, each with its instant."""
    if tokens.span is None:
        yield Chunk(tokens.at, tokens.first, tokens.num)
    else:
        yield from tokens.span.chunks()
