"""OpenAI's older text completions, which vLLM and its kin serve: one prompt of text, no roles, no tools."""

from __future__ import annotations

import msgspec
import orjson

from harness.dialects import Asked, Dialect, Meaning
from harness.dialects.json_bodies import decoded, error_text
from harness.dialects.openai_chunks import Chunk, common_fields, event_reader, token_usage
from harness.dialects.texts import one_text

__all__ = ["OPENAI_COMPLETIONS"]


def _body(asked: Asked) -> bytes:
    return orjson.dumps({**common_fields(asked), "prompt": one_text(asked, "openai-completions")})


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    finish_reason: str | None = None


_DECODER = msgspec.json.Decoder(Chunk[_Choice])


def _meaning(data: bytes) -> Meaning:
    chunk = decoded(_DECODER, data)
    if chunk.error:
        return Meaning(error=error_text(data))
    content, reason, number = "", None, 0
    for choice in chunk.choices or ():
        number, reason = choice.index, choice.finish_reason or reason
        content += choice.text or ""
    return Meaning(content, reason, token_usage(chunk.usage), model=chunk.model, choice=number)


OPENAI_COMPLETIONS = Dialect(
    "openai-completions", "/v1/completions", _body, event_reader(_meaning), _meaning, error_text
)
