"""The values that pass between the engine and everything around it.

A `Request` goes in; `Emission`s come out: `Began` (of a watched request) and `Tokens`, then exactly one of `Finished`, `Refused` or `Cut`
(none of them after a cancellation). Times are seconds on the clock of whoever drives the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from mockllm.passage import NOBODY, Excess, Passage, Query, Tenant, Urgency

__all__ = [
    "Began",
    "CachePoint",
    "CacheUse",
    "Chunk",
    "Cut",
    "Emission",
    "Finished",
    "Forced",
    "Refused",
    "Request",
    "Span",
    "Tokens",
    "chunks_of",
]


class CachePoint(NamedTuple):
    """A prefix of the prompt that a provider's prompt cache may know: its length and a digest of its content.

    `ttl_s` is how long it is to be kept; 0 asks only whether it is there.
    """

    num_tokens: int
    digest: int
    ttl_s: float


class CacheUse(NamedTuple):
    """Prompt tokens read from a cache, and written to one for 5 minutes and for an hour."""

    num_read: int = 0
    num_written_5m: int = 0
    num_written_1h: int = 0


@dataclass(frozen=True, slots=True)
class Forced:
    """What one request demands of the mock, whatever the model says. Seconds; None leaves it to the model.

    `status` refuses the request with this HTTP status; `cut_after` breaks the answer off after so many tokens;
    `error_after` ends the stream there with an error of the provider's own.
    """

    ttft_s: float | None = None
    itl_s: float | None = None
    status: int | None = None
    retry_after_s: float | None = None
    cut_after: int | None = None
    error_after: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the engine sees it: how much work, not which words.

    `key` is its identity for random draws; two requests with one key meet the same luck.
    `watched` says that somebody wants every token at its instant (a stream); an unwatched request
    gives its tokens as one span when it ends. `num_answer_tokens` is the length of an answer whose content is known
    (a tool call); None: drawn. `num_reasoning_tokens` of them come before the answer's words; `answer_share` of the words
    remain when a policy asks for fewer. `block_hashes` name the full KV blocks of the prompt, each hash over its block and
    all before it; they may go on into the answer. `priority`: smaller goes first, where the scheduler asks.
    `cache_points`: the prefixes that the client asked the provider to cache; None leaves it to the provider.
    The rest is for the stack in front of the models. `query` None: no cache and no router may look at it. `batch`: asked
    for at a batch's price. `choice`: its number among the answers that one client's request wants. `payload` is what will
    be said; a cache keeps it and gives it back. `tell_first`: somebody waits for the first token, also in
    virtual time, and also where nobody wants the others: then it may begin again, if a policy tries again.
    """

    request_id: str
    key: str
    model: str
    num_prompt_tokens: int
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    watched: bool = True
    priority: int = 0
    num_answer_tokens: int | None = None
    num_reasoning_tokens: int = 0
    answer_share: float = 1.0
    block_hashes: tuple[int, ...] = ()
    cache_points: tuple[CachePoint, ...] | None = None
    forced: Forced | None = None
    tenant: Tenant = NOBODY
    query: Query | None = None
    urgency: Urgency = "P1"
    batch: bool = False
    choice: int = 0
    payload: object | None = field(default=None, compare=False, repr=False)
    tell_first: bool = False

    @property
    def shared_key(self) -> str:
        """The key of luck that the choices of one client's request share: each is named `key NUL choice` after it."""
        return self.key.partition("\x00")[0]


class Chunk(NamedTuple):
    """`num` output tokens, the first of them number `first` (from 0), let out together at `at`."""

    at: float
    first: int
    num: int


class Span(Protocol):
    """The instants of a run of tokens, worked out only when somebody asks."""

    def chunks(self) -> Iterator[Chunk]: ...


class Began(NamedTuple):
    """The first token of a watched request is about to come: what its prompt found in a cache is known."""

    request_id: str
    at: float
    cache: CacheUse
    replica: str | None = None
    passage: Passage | None = None


class Tokens(NamedTuple):
    """Output tokens `first … first + num - 1` of one request.

    With `span` None they leave together at `at`. Otherwise they left one after the other at the span's
    instants, the last of them at `at`, or before it where the answer broke off: the engine did not stop at each.
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
    cache: CacheUse = CacheUse()
    queue_s: float | None = None
    replica: str | None = None
    passage: Passage | None = None


class Refused(NamedTuple):
    """No answer: the engine did not take the request. `status` is the HTTP status a provider would send; 0: the
    connection is reset without an answer. `excess`: the limit that said no.
    """

    request_id: str
    at: float
    status: int
    kind: str
    message: str
    retry_after_s: float | None = None
    passage: Passage | None = None
    excess: Excess | None = None


class Cut(NamedTuple):
    """The server breaks the answer off after `num_output_tokens` tokens.

    The connection ends; with `in_band` an error is sent; with `silent` the body ends in order, but the answer does not.
    """

    request_id: str
    at: float
    num_output_tokens: int
    in_band: bool = False
    silent: bool = False
    replica: str | None = None
    passage: Passage | None = None


Emission = Began | Tokens | Finished | Refused | Cut


def chunks_of(tokens: Tokens) -> Iterator[Chunk]:
    """The chunks of an emission, each with its instant."""
    if tokens.span is None:
        yield Chunk(tokens.at, tokens.first, tokens.num)
    else:
        yield from tokens.span.chunks()
