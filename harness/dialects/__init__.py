"""What the events of a protocol mean. A dialect never touches a clock or a socket; `harness.reading` stamps and folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from harness.sse import SseEvent

__all__ = ["Dialect", "Meaning", "TokenUsage", "UnreadableEvent"]


class TokenUsage(NamedTuple):
    """Tokens as the server counted them; None where it did not say."""

    num_prompt_tokens: int | None
    num_output_tokens: int | None
    num_cached_tokens: int | None = None
    num_reasoning_tokens: int | None = None


class Meaning(NamedTuple):
    """What one event, or one whole answer, says. `content` is text, reasoning or tool-call arguments; "" is none."""

    content: str = ""
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    error: str | None = None
    end: bool = False
    model: str | None = None


class UnreadableEvent(ValueError):  # noqa: N818 - it is data about the server, not a fault of ours
    """An event that is not what the protocol says."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One protocol. `event` and `whole` raise UnreadableEvent for what they cannot read."""

    name: str
    path: str
    event: Callable[[SseEvent], Meaning]
    whole: Callable[[bytes], Meaning]
    error_text: Callable[[bytes], str]
