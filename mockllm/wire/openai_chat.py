"""OpenAI chat completions: request bodies to calls, output tokens to chunks. Pure: bytes in, bytes out.

Shapes follow OpenAI's published schema and vLLM's server: a role-only chunk first, `usage: null` on every
chunk when usage was asked for, one chunk with empty `choices` that carries it, then `[DONE]`.
What would change the answer and is not served yet (tools, several choices, stop words …) is refused; fields
that are not in the schema at all are ignored, as vLLM does.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mockllm.wire.bodies import read_body
from mockllm.wire.errors import ApiError, invalid

__all__ = ["ChatCall", "ChatWriter", "Usage", "parse"]


class _TextPart(msgspec.Struct):
    type: Literal["text"]
    text: str


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[_TextPart], Meta(min_length=1)]
    name: str | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _ResponseFormat(msgspec.Struct):
    type: str


class _Body(msgspec.Struct):
    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    min_tokens: Annotated[int, Meta(ge=0)] | None = None  # vLLM's extension
    ignore_eos: bool | None = None  # vLLM's extension: the answer is exactly max_tokens long
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: int | None = None
    user: str | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    # Parameters that would change the answer and are not served yet; see _NOT_SERVED.
    stop: object = None
    tools: object = None
    tool_choice: object = None
    functions: object = None
    function_call: object = None
    logprobs: object = None
    top_logprobs: object = None
    logit_bias: object = None
    response_format: _ResponseFormat | None = None
    modalities: object = None
    audio: object = None


_DECODER = msgspec.json.Decoder(_Body)

# Beside null, the one value of each that asks for nothing.
_NOT_SERVED: dict[str, object] = {
    "n": 1,
    "stop": [],
    "tools": [],
    "tool_choice": "none",
    "functions": [],
    "function_call": "none",
    "logprobs": False,
    "top_logprobs": None,
    "logit_bias": {},
    "response_format": _ResponseFormat("text"),
    "modalities": ["text"],
    "audio": None,
}


class ChatCall(msgspec.Struct, frozen=True):
    """A valid request, reduced to what the server needs."""

    model: str
    texts: list[str]
    stream: bool
    include_usage: bool
    max_tokens: int | None
    min_tokens: int
    ignore_eos: bool


class Usage(msgspec.Struct, frozen=True):
    """Tokens as they are billed; `num_prompt_tokens` includes the cached ones."""

    num_prompt_tokens: int
    num_output_tokens: int
    num_cached_tokens: int = 0

    def as_openai(self) -> dict[str, object]:
        return {
            "prompt_tokens": self.num_prompt_tokens,
            "completion_tokens": self.num_output_tokens,
            "total_tokens": self.num_prompt_tokens + self.num_output_tokens,
            "prompt_tokens_details": {"cached_tokens": self.num_cached_tokens},
        }


def parse(body: bytes) -> ChatCall | ApiError:
    """Read a request body."""
    read = read_body(body, _DECODER)
    if isinstance(read, ApiError):
        return read
    return _not_served_yet(read) or _contradiction(read) or _call(read)


def _call(body: _Body) -> ChatCall:
    texts: list[str] = []
    for message in body.messages:
        texts += [message.content] if isinstance(message.content, str) else [part.text for part in message.content]
    return ChatCall(
        model=body.model,
        texts=texts,
        stream=bool(body.stream),
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
    )


def _not_served_yet(body: _Body) -> ApiError | None:
    for name, inert in _NOT_SERVED.items():
        value = getattr(body, name)
        # By type too: in Python 0 equals False, on the wire it does not.
        if value is not None and not (type(value) is type(inert) and value == inert):
            return invalid(
                f"Unsupported parameter: '{name}' is not served by this mock yet.",
                name,
                "unsupported_parameter",
            )
    return None


def _contradiction(body: _Body) -> ApiError | None:
    if body.stream_options is not None and not body.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        return invalid(message, "stream_options")
    limit = body.max_completion_tokens or body.max_tokens
    if body.min_tokens and limit and body.min_tokens > limit:
        message = f"Invalid value for 'min_tokens': {body.min_tokens} is more than the limit of {limit} output tokens."
        return invalid(message, "min_tokens", "invalid_value")
    if body.ignore_eos and limit is None:
        message = "Invalid value for 'ignore_eos': without 'max_tokens' the answer would never end."
        return invalid(message, "ignore_eos", "invalid_value")
    return None


class ChatWriter:
    """Writes one answer: either `opening`, `piece`…, `closing` as server-sent events, or `whole` as JSON.

    `tag` is the answer's id, `created` its second of the epoch: the same in every chunk.
    """

    def __init__(self, call: ChatCall, tag: str, created: int) -> None:
        self._call = call
        self._tag, self._created = tag, created
        # A chunk is the same but for its delta: everything around it is written once.
        frame = self._chunk({"index": 0, "delta": {"content": "\x00"}, "logprobs": None, "finish_reason": None})
        self._before, self._after = frame.rsplit(b'"\\u0000"', 1)

    def opening(self) -> bytes:
        """The role-only chunk; it is not a token."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return self._chunk({"index": 0, "delta": delta, "logprobs": None, "finish_reason": None})

    def piece(self, text: str) -> bytes:
        """A chunk of answer text."""
        return self._before + msgspec.json.encode(text) + self._after

    def closing(self, reason: str, usage: Usage) -> bytes:
        """The end of the stream: finish reason, usage when it was asked for, `[DONE]`."""
        end = self._chunk({"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason})
        if self._call.include_usage:
            end += _event({**self._head("chat.completion.chunk"), "choices": [], "usage": usage.as_openai()})
        return end + b"data: [DONE]\n\n"

    def whole(self, text: str, reason: str, usage: Usage) -> bytes:
        """The answer as one JSON body."""
        message: dict[str, object] = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return msgspec.json.encode({**self._head("chat.completion"), "choices": [choice], "usage": usage.as_openai()})

    def _chunk(self, choice: dict[str, object]) -> bytes:
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        if self._call.include_usage:
            chunk["usage"] = None
        return _event(chunk)

    def _head(self, kind: str) -> dict[str, object]:
        return {
            "id": self._tag,
            "object": kind,
            "created": self._created,
            "model": self._call.model,
            "system_fingerprint": "fp_mockllm",
        }


def _event(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"
