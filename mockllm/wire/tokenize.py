"""vLLM's `/tokenize` and `/detokenize`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mockllm.tokens import Tokenizer
from mockllm.wire.bodies import read_body
from mockllm.wire.errors import ApiError
from mockllm.wire.openai_chat import parse as parse_chat

__all__ = ["DetokenizeBody", "TokenizeBody", "detokenize", "tokenize"]


class TokenizeBody(msgspec.Struct):
    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(msgspec.Struct):
    tokens: Annotated[list[Annotated[int, Meta(ge=0, le=2**31)]], Meta(max_length=1_000_000)]
    model: str | None = None


_TOKENIZE = msgspec.json.Decoder(TokenizeBody)
_DETOKENIZE = msgspec.json.Decoder(DetokenizeBody)


def tokenize(body: bytes, tokenizer: Tokenizer, max_model_len: int) -> bytes | ApiError:
    """The tokens of a prompt, or of a conversation as the chat endpoint would count it."""
    read = read_body(body, _TOKENIZE)
    if isinstance(read, ApiError):
        return read
    if read.prompt is not None:
        texts = [read.prompt]
    else:
        asked = {"model": read.model or "any", "messages": read.messages}
        call = parse_chat(msgspec.json.encode(asked))
        if isinstance(call, ApiError):
            return call
        texts = [segment.text for segment in call.segments if segment.num_tokens is None]
    ids = [token for text in texts for token in tokenizer.encode(text)]
    strings = [tokenizer.text(token) for token in ids] if read.return_token_strs else None
    return msgspec.json.encode(
        {"count": len(ids), "max_model_len": max_model_len, "tokens": ids, "token_strs": strings}
    )


def detokenize(body: bytes, tokenizer: Tokenizer) -> bytes | ApiError:
    """The text of token ids; ids that do not exist stand for nothing."""
    read = read_body(body, _DETOKENIZE)
    if isinstance(read, ApiError):
        return read
    return msgspec.json.encode({"prompt": "".join(map(tokenizer.text, read.tokens))})
