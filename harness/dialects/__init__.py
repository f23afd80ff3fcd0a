"""What the events of a protocol mean. A dialect never touches a clock or a socket; `harness.reading` stamps and folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.sse import SseEvent

__all__ = ["Asked", "Dialect", "Meaning", "TokenUsage", "UnreadableEvent", "bearer"]


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


def bearer(key: str | None) -> dict[str, str]:
    """The key as most servers want it."""
    return {"Authorization": f"Bearer {key}"} if key else {}


@dataclass(frozen=True, slots=True)
class Dialect:
    """One protocol. `event` and `whole` raise UnreadableEvent for what they cannot read; `headers` are those that carry
    the key of the API, or go without one."""

    name: str
    path: str
    body: Callable[[Asked], bytes]
    event: Callable[[SseEvent], Meaning]
    whole: Callable[[bytes], Meaning]
    error_text: Callable[[bytes], str]
    headers: Callable[[str | None], dict[str, str]] = bearer
