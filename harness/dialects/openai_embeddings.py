"""OpenAI's embeddings: a text in, a vector out. Never streamed; the answer has content when a vector came."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from harness.dialects import Asked, Dialect, Meaning, TokenUsage, UnreadableEvent
from harness.dialects.json_bodies import decoded, error_text
from harness.dialects.openai_chunks import Usage
from harness.dialects.texts import one_text
from harness.sse import SseEvent

__all__ = ["OPENAI_EMBEDDINGS"]


def _body(asked: Asked) -> bytes:
    return orjson.dumps({"model": asked.model, "input": one_text(asked, "openai-embeddings")})


class _Item(msgspec.Struct):
    embedding: list[float] | str  # a string: base64


class _Answer(msgspec.Struct):
    data: list[_Item] | None = None
    usage: Usage | None = None
    error: Any = None
    model: str | None = None


_DECODER = msgspec.json.Decoder(_Answer)


def _whole(body: bytes) -> Meaning:
    answer = decoded(_DECODER, body)
    if answer.error:
        return Meaning(error=error_text(body))
    prompt = None if answer.usage is None else answer.usage.prompt_tokens
    return Meaning(
        usage=TokenUsage(prompt, 0),  # an embedding has no tokens, whoever counts
        end=answer.data is not None,
        model=answer.model,
        wordless=bool(answer.data) and all(item.embedding for item in answer.data or ()),
    )


def _event(event: SseEvent) -> Meaning:
    raise UnreadableEvent("embeddings have no stream")


OPENAI_EMBEDDINGS = Dialect("openai-embeddings", "/v1/embeddings", _body, _event, _whole, error_text, streams=False)
