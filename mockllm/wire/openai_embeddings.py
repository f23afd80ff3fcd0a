"""OpenAI's embeddings: texts in, vectors out that are near for texts that mean the same.

Goes through the engine like everything else: the whole input is one prompt, and the answer is there with its first token.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from mockllm.call import Call, Segment, Usage
from mockllm.content.embeddings import MAX_DIMENSIONS, default_embedder, resize
from mockllm.content.reply import Reply, Slice
from mockllm.tokens import o200k
from mockllm.wire.bodies import read_body
from mockllm.wire.dialect import Context, End
from mockllm.wire.errors import ApiError, invalid

__all__ = ["Body", "EmbeddingWriter", "parse"]

DEFAULT_DIMENSIONS = 1536  # text-embedding-3-small's
MAX_INPUT_TOKENS = 8192
MAX_TOTAL_TOKENS = 300_000

TokenIds = Annotated[list[Annotated[int, Meta(ge=0, le=2**31)]], Meta(min_length=1, max_length=100_000)]


class Body(msgspec.Struct):
    model: Annotated[str, Meta(min_length=1)]
    input: str | Annotated[list[str | int | TokenIds], Meta(min_length=1, max_length=100_000)]
    dimensions: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


_DECODER = msgspec.json.Decoder(Body)


class _Details(msgspec.Struct, frozen=True):
    texts: list[str]
    dimensions: int
    base64: bool


def parse(body: bytes) -> Call | ApiError:
    """Read a request body."""
    read = read_body(body, _DECODER)
    if isinstance(read, ApiError):
        return read
    inputs = _inputs(read.input)
    if isinstance(inputs, ApiError):
        return inputs
    tokenizer = o200k()
    texts, total = [], 0
    for number, given in enumerate(inputs):
        if not given:
            return invalid(f"Invalid 'input[{number}]': input cannot be an empty string.", "input", "invalid_value")
        num_tokens = len(tokenizer.encode(given)) if isinstance(given, str) else len(given)
        if num_tokens > MAX_INPUT_TOKENS:
            message = f"This model's maximum context length is {MAX_INPUT_TOKENS} tokens, however input {number} has {num_tokens}."
            return invalid(message, "input", "context_length_exceeded")
        total += num_tokens
        texts.append(given if isinstance(given, str) else "".join(map(tokenizer.text, given)))
    if total > MAX_TOTAL_TOKENS:
        message = f"Invalid 'input': at most {MAX_TOTAL_TOKENS} tokens a request, got {total}."
        return invalid(message, "input", "max_tokens_per_request")
    dimensions = read.dimensions or DEFAULT_DIMENSIONS
    return Call(
        model=read.model,
        segments=tuple(Segment(text) for text in texts),
        max_tokens=1,
        details=_Details(texts, dimensions, read.encoding_format == "base64"),
    )


def _inputs(given: str | list[str | int | list[int]]) -> Sequence[str | list[int]] | ApiError:
    """The texts, each as a string or as token ids."""
    if isinstance(given, str):
        return [given]
    texts = [item for item in given if isinstance(item, str)]
    lists = [item for item in given if isinstance(item, list)]
    if len(texts) == len(given) or len(lists) == len(given):
        if len(given) > 2048:
            message = f"Invalid 'input': array too long. Expected at most 2048 items, but got {len(given)}."
            return invalid(message, "input", "array_above_max_length")
        return texts or lists
    ids = [item for item in given if isinstance(item, int)]
    if len(ids) != len(given):
        return invalid("Invalid 'input': all items must be of one kind.", "input", "invalid_type")
    if any(not 0 <= token < 2**31 for token in ids):
        return invalid("Invalid 'input': token ids must lie between 0 and 2^31.", "input", "invalid_value")
    return [ids]


class EmbeddingWriter:
    """Writes the vectors. There is no stream."""

    def __init__(self, call: Call, context: Context, replies: Sequence[Reply]) -> None:
        self._call = call
        self._details: _Details = call.details
        # Now, before the engine has the request: when the answer is due, nobody else's tokens shall wait for it.
        self._vectors = resize(default_embedder().embed(self._details.texts), self._details.dimensions)

    def opening(self, prompt: Usage) -> bytes:
        return b""

    def piece(self, choice: int, piece: Slice) -> bytes:
        return b""

    def end(self, choice: int, end: End) -> bytes:
        return b""

    def closing(self, usage: Usage) -> bytes:
        return b""

    def error(self, error: ApiError) -> bytes:
        return b""

    def whole(self, ends: Sequence[End], usage: Usage) -> bytes:
        """The vectors in the order of the inputs; the prompt is all that is billed."""
        data = [
            {"object": "embedding", "index": index, "embedding": self._encoded(vector)}
            for index, vector in enumerate(self._vectors)
        ]
        billed = {"prompt_tokens": usage.num_prompt_tokens, "total_tokens": usage.num_prompt_tokens}
        return msgspec.json.encode({"object": "list", "data": data, "model": self._call.model, "usage": billed})

    def _encoded(self, vector: np.ndarray) -> object:
        if self._details.base64:
            return b64encode(vector.astype("<f4").tobytes()).decode()
        return vector.tolist()
