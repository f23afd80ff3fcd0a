"""Dialects as pure functions: request bytes to calls, answers to bytes. No HTTP framework, no engine.

A new dialect is one file with `parse` and a writer, and one line in DIALECTS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mockllm.wire import openai_chat
from mockllm.wire.errors import ApiError
from mockllm.wire.openai_chat import ChatCall, ChatWriter

__all__ = ["DIALECTS", "Dialect"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One protocol: how to read a request, and who writes its answer."""

    name: str
    tag_prefix: str
    parse: Callable[[bytes], ChatCall | ApiError]
    writer: Callable[[ChatCall, str, int], ChatWriter]


DIALECTS: dict[str, Dialect] = {
    "/v1/chat/completions": Dialect("openai-chat", "chatcmpl-", openai_chat.parse, ChatWriter),
}
