"""Streams written out by hand from the published format, in every framing that the SSE standard allows."""

from __future__ import annotations

import json
from typing import Any

__all__ = [
    "DONE",
    "ERROR_BODY",
    "FINISH",
    "GOOD",
    "ROLE",
    "TEXT",
    "USAGE",
    "WORDS",
    "chunk",
    "delta",
    "good_text",
    "sse",
    "whole",
]

WORDS = ["Grüße", " aus 日本", " \U0001f389"]
TEXT = "".join(WORDS)


def chunk(**fields: Any) -> bytes:
    """One chunk of a chat completion. UTF-8 stands as it is, not escaped: the split has to hurt."""
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "served"}
    return json.dumps(head | fields, ensure_ascii=False, separators=(",", ":")).encode()


def delta(content: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    said = more if content is None else {"content": content, **more}
    return chunk(choices=[{"index": 0, "delta": said, "finish_reason": finish}], usage=None)


ROLE = delta(role="assistant", content="")
FINISH = delta(finish="stop")
USAGE = chunk(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8})
DONE = b"[DONE]"
GOOD = [ROLE, *map(delta, WORDS), FINISH, USAGE, DONE]
ERROR_BODY = b'{"error":{"message":"out of luck","type":"server_error","param":null,"code":null}}'


def sse(data: list[bytes], newline: bytes = b"\n", field: bytes = b"data: ") -> bytes:
    """Events of one data line each."""
    return b"".join(field + line + newline + newline for line in data)


def good_text() -> bytes:
    """The good stream in its commonest framing."""
    return sse(GOOD)


def whole(content: str | None = TEXT, finish: str | None = "stop") -> bytes:
    """An answer in one body."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    answer = {"id": "c1", "object": "chat.completion", "created": 1, "model": "served", "choices": [choice]}
    return json.dumps(answer | {"usage": usage}, ensure_ascii=False).encode()
