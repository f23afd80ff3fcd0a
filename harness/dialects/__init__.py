"""What the events of a protocol mean. A dialect never touches a clock or a socket; `harness.reading` stamps and folds."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from harness.ndjson import LineDecoder
from harness.sse import SseDecoder, SseEvent

__all__ = [
    "NDJSON",
    "NO_USAGE",
    "SSE",
    "Asked",
    "Call",
    "Dialect",
    "Ends",
    "Framing",
    "JobFlow",
    "JobResults",
    "Meaning",
    "Pause",
    "Result",
    "TokenUsage",
    "UnreadableEvent",
    "bearer",
]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request in no protocol's words. `messages` are (role, text) with the roles system, user and assistant.

    `exact_length` asks for exactly `max_tokens` tokens (`ignore_eos`, which vLLM and its kin know). `tools` are functions
    as OpenAI writes them: name, description, parameters (a JSON schema). `images` are data URLs that the last message shows.
    """

    model: str
    messages: tuple[tuple[str, str], ...]
    stream: bool = True
    max_tokens: int | None = None
    exact_length: bool = False
    temperature: float | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    images: tuple[str, ...] = ()


class TokenUsage(NamedTuple):
    """Tokens as the server counted them; None where it did not say.

    `num_prompt_tokens` are all of the prompt, also those that a cache had. A server that counts apart what no cache had
    to do with (Anthropic) says `num_uncached_tokens`, and the sum is made here.
    """

    num_prompt_tokens: int | None
    num_output_tokens: int | None
    num_cached_tokens: int | None = None
    num_reasoning_tokens: int | None = None
    num_cache_write_tokens: int | None = None
    num_uncached_tokens: int | None = None
    num_cache_write_1h_tokens: int | None = None

    def then(self, later: TokenUsage) -> TokenUsage:
        """What is known after a later count: it goes before, where it says anything. Less than no tokens says nothing."""
        merged = TokenUsage(*(old if new is None or new < 0 else new for old, new in zip(self, later, strict=True)))
        if merged.num_uncached_tokens is None:
            return merged
        cached = (merged.num_cached_tokens or 0) + (merged.num_cache_write_tokens or 0)
        return merged._replace(num_prompt_tokens=merged.num_uncached_tokens + cached)


NO_USAGE = TokenUsage(None, None)


class Meaning(NamedTuple):
    """What one event, or one whole answer, says. `content` is text, reasoning or tool-call arguments; "" is none.

    `wordless` is content without words: a call of a tool before its arguments, which may be none; a vector. `choice` is
    the one of several answers that this belongs to.
    """

    content: str = ""
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    error: str | None = None
    end: bool = False
    model: str | None = None
    wordless: bool = False
    choice: int = 0


class UnreadableEvent(ValueError):  # noqa: N818 - it is data about the server, not a fault of ours
    """An event that is not what the protocol says."""


def bearer(key: str | None) -> dict[str, str]:
    """The key as most servers want it."""
    return {"Authorization": f"Bearer {key}"} if key else {}


class Decoder(Protocol):
    """Bytes in, events out. `close` says that no more come, and returns what that completes; `pending`: an event has begun
    and is not complete."""

    def feed(self, piece: bytes) -> list[SseEvent]: ...
    def close(self) -> list[SseEvent]: ...
    @property
    def pending(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Framing:
    """How a stream is cut into events, and the media types under which such a stream may come."""

    media_types: tuple[str, ...]
    decoder: Callable[[], Decoder]


SSE = Framing(("text/event-stream",), SseDecoder)
# There is no registered name for lines of JSON; these are in use.
NDJSON = Framing(
    ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines", "application/json"),
    LineDecoder,
)


class Call(NamedTuple):
    """One step of a job: a request whose answer the job waits for."""

    method: Literal["GET", "POST"]
    path: str
    body: bytes = b""
    content_type: str = "application/json"


class Pause(NamedTuple):
    """The server is still at work: ask again after a while."""


class Result(NamedTuple):
    """What a job says of one of its requests. `status` and `body` are as of an answer by HTTP; status None: it was never
    answered, and `detail` says why."""

    status: int | None
    body: bytes = b""
    detail: str | None = None


class JobResults(NamedTuple):
    """What became of a job, as the server calls it, and of each of its requests in order."""

    job_id: str
    results: list[Result]


# A job is told the body of the answer to each call (b"" after a pause). It raises UnreadableEvent for what it cannot read.
JobFlow = Generator[Call | Pause, bytes, JobResults]


# What proves that a stream is complete: a finish reason or an event that says so, only an event, or that it was closed.
Ends = Literal["finish", "event", "close"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One protocol.

    `event` and `whole` raise UnreadableEvent for what they cannot read. `headers` are those that carry the key of the API,
    or go without one. `streams`: whether a stream can be asked for. `job` works through many bodies at once, where the
    protocol is one of batches.
    """

    name: str
    path: str
    body: Callable[[Asked], bytes]
    event: Callable[[SseEvent], Meaning]
    whole: Callable[[bytes], Meaning]
    error_text: Callable[[bytes], str]
    headers: Callable[[str | None], dict[str, str]] = bearer
    framing: Framing = SSE
    ends: Ends = "finish"
    streams: bool = True
    job: Callable[[Sequence[bytes]], JobFlow] | None = None
