"""OpenAI's older text completions, as vLLM serves them: one prompt or several, echo, n, log probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from mockllm.call import Call, Segment, Usage
from mockllm.content.reply import Reply, Slice
from mockllm.wire.bodies import read_body
from mockllm.wire.dialect import Context, End
from mockllm.wire.errors import ApiError, invalid, openai_error_body
from mockllm.wire.logprobs import logprobs
from mockllm.wire.openai_chat import openai_usage
from mockllm.wire.sampling import Sampling, contradiction, stop_words

__all__ = ["Body", "CompletionWriter", "parse"]

_DEFAULT_MAX_TOKENS = 16  # OpenAI's and vLLM's


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class Body(Sampling):
    model: Annotated[str, Meta(min_length=1)]
    prompt: (
        str
        | Annotated[
            list[str | int | Annotated[list[int], Meta(min_length=1)]], Meta(min_length=1, max_length=2_000_000)
        ]
        | None
    ) = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    best_of: Annotated[int, Meta(ge=0, le=20)] | None = None  # from 0 in OpenAI's schema; 0 is as if it were not there
    echo: bool | None = None
    suffix: str | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


_DECODER = msgspec.json.Decoder(Body)


class _Details(msgspec.Struct, frozen=True):
    include_usage: bool
    echo: str
    num_logprobs: int | None


def parse(body: bytes) -> Call | ApiError:
    """Read a request body."""
    read = read_body(body, _DECODER)
    if isinstance(read, ApiError):
        return read
    limit = read.max_tokens if read.max_tokens is not None else _DEFAULT_MAX_TOKENS
    error = contradiction(read, limit) or _contradiction(read)
    if error is not None:
        return error
    segments = _segments(read.prompt)
    if isinstance(segments, ApiError):
        return segments
    options = read.stream_options or _StreamOptions()
    echo = segments[0].text if read.echo else ""
    return Call(
        model=read.model,
        segments=tuple(segments),
        stream=bool(read.stream),
        num_choices=read.n or 1,
        max_tokens=max(1, limit),
        min_tokens=read.min_tokens or 0,
        ignore_eos=bool(read.ignore_eos),
        stop=stop_words(read.stop),
        priority=read.priority or 0,
        repeatable=read.seed is not None or read.temperature == 0,
        details=_Details(options.include_usage, echo, read.logprobs),
    )


def _contradiction(body: Body) -> ApiError | None:
    if body.stream_options is not None and not body.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        return invalid(message, "stream_options")
    if body.best_of and body.best_of < (body.n or 1):
        return invalid("'best_of' must be at least 'n'.", "best_of", "invalid_value")
    return None


def _segments(prompt: str | list[str | int | list[int]] | None) -> list[Segment] | ApiError:
    """The prompt; token ids stand for themselves. Several prompts in one request are not served."""
    if prompt is None or isinstance(prompt, str):
        return [Segment(prompt or "")]
    ids = tuple(token for token in prompt if isinstance(token, int))
    if len(ids) == len(prompt):
        return [Segment("", ids=ids)]
    if len(prompt) > 1:
        message = "This mock answers one prompt a request; send several requests or one prompt."
        return invalid(message, "prompt", "unsupported_value")
    only = prompt[0]
    if isinstance(only, list):
        return [Segment("", ids=tuple(only))]
    return [Segment(str(only))]


class CompletionWriter:
    """Writes one text completion."""

    def __init__(self, call: Call, context: Context, replies: Sequence[Reply]) -> None:
        self._call, self._context, self._replies = call, context, replies
        self._details: _Details = call.details
        self._offsets: dict[int, int] = {}  # where the next token of a choice begins
        frame = self._chunk({"text": "\x00", "index": 0, "logprobs": None, "finish_reason": None})
        self._before, self._after = frame.split(b'"\\u0000"', 1)

    def opening(self, prompt: Usage) -> bytes:
        """The prompt itself, when the client wants its echo."""
        if not self._details.echo:
            return b""
        return b"".join(self._text(choice, self._details.echo) for choice in range(len(self._replies)))

    def piece(self, choice: int, piece: Slice) -> bytes:
        """A chunk of text."""
        if choice == 0 and self._details.num_logprobs is None:
            return self._before + msgspec.json.encode(piece.text) + self._after
        return self._text(choice, piece.text, self._logprobs(choice, piece.tokens(), piece.first))

    def end(self, choice: int, end: End) -> bytes:
        """The chunk with the finish reason."""
        return self._text(choice, "", None, end.reason)

    def closing(self, usage: Usage) -> bytes:
        """Usage when it was asked for, and `[DONE]`."""
        end = b"data: [DONE]\n\n"
        if self._details.include_usage:
            end = self._event({**self._head(), "choices": [], "usage": openai_usage(usage)}) + end
        return end

    def error(self, error: ApiError) -> bytes:
        return b"data: " + openai_error_body(error) + b"\n\n"

    def whole(self, ends: Sequence[End], usage: Usage) -> bytes:
        """The answer as one JSON body."""
        choices = []
        for number, (reply, end) in enumerate(zip(self._replies, ends, strict=True)):
            pieces = list(reply.slices(0, end.num_tokens))
            text = self._details.echo + "".join(piece.text for piece in pieces)
            tokens = [token for piece in pieces for token in piece.tokens()] if self._wants_logprobs else []
            shown = self._logprobs(number, tokens, 0)
            choices.append({"text": text, "index": number, "logprobs": shown, "finish_reason": end.reason})
        return msgspec.json.encode({**self._head(), "choices": choices, "usage": openai_usage(usage)})

    @property
    def _wants_logprobs(self) -> bool:
        return self._details.num_logprobs is not None

    def _text(
        self, choice: int, text: str, logprobs: dict[str, object] | None = None, finish: str | None = None
    ) -> bytes:
        return self._chunk({"text": text, "index": choice, "logprobs": logprobs, "finish_reason": finish})

    def _logprobs(self, choice: int, tokens: Sequence[str], first: int) -> dict[str, object] | None:
        if not self._wants_logprobs:
            return None
        found = logprobs(tokens, first, self._details.num_logprobs or 0, self._context)
        offsets, at = [], self._offsets.get(choice, len(self._details.echo))
        for token in tokens:
            offsets.append(at)
            at += len(token)
        self._offsets[choice] = at
        return {
            "tokens": list(tokens),
            "token_logprobs": [value for _, value, _ in found],
            "top_logprobs": [dict(top) for _, _, top in found],
            "text_offset": offsets,
        }

    def _chunk(self, choice: dict[str, object]) -> bytes:
        chunk = {**self._head(), "choices": [choice]}
        if self._details.include_usage:
            chunk["usage"] = None
        return self._event(chunk)

    def _event(self, chunk: dict[str, object]) -> bytes:
        return b"data: " + msgspec.json.encode(chunk) + b"\n\n"

    def _head(self) -> dict[str, object]:
        return {
            "id": self._context.tag,
            "object": "text_completion",
            "created": self._context.created,
            "model": self._call.model,
            "system_fingerprint": "fp_mockllm",
        }
