"""OpenAI chat completions: request bodies to calls, replies to chunks. Pure: bytes in, bytes out.

Shapes follow OpenAI's published schema and vLLM's server: a role-only chunk first, `usage: null` on every
chunk when usage was asked for, one chunk with empty `choices` that carries it, then `[DONE]`. Fields that are not in
the schema at all are ignored, as vLLM does; what is in it and cannot be served (audio) is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mockllm.call import Call, Segment, Thinking, Tool, Usage
from mockllm.content.reply import Part, Reply, Slice
from mockllm.wire.bodies import read_body
from mockllm.wire.dialect import Context, End
from mockllm.wire.errors import ApiError, invalid, openai_error_body
from mockllm.wire.images import UNKNOWN_SIZE, data_url, image_size, openai_image_tokens
from mockllm.wire.logprobs import logprobs
from mockllm.wire.sampling import Sampling, contradiction, stop_words
from mockllm.wire.schemas import schema_error

__all__ = ["Body", "ChatWriter", "call_id", "finish_reason", "openai_usage", "parse"]


class _TextPart(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class _RefusalPart(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class _ImageUrl(msgspec.Struct):
    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class _ImagePart(msgspec.Struct, tag_field="type", tag="image_url"):
    image_url: _ImageUrl


class _AudioPart(msgspec.Struct, tag_field="type", tag="input_audio"):
    input_audio: dict[str, Any]


class _FilePart(msgspec.Struct, tag_field="type", tag="file"):
    file: dict[str, Any]


_ContentPart = _TextPart | _RefusalPart | _ImagePart | _AudioPart | _FilePart


class _CalledFunction(msgspec.Struct):
    name: str
    arguments: str


class _ToolCall(msgspec.Struct):
    id: str
    function: _CalledFunction | None = None
    type: Literal["function", "custom"] = "function"
    custom: dict[str, Any] | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[_ContentPart], Meta(min_length=1)] | None = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: _CalledFunction | None = None
    refusal: str | None = None
    reasoning_content: str | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class _Function(msgspec.Struct):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(msgspec.Struct):
    type: Literal["function", "custom"]
    function: _Function | None = None
    custom: dict[str, Any] | None = None


class _NamedFunction(msgspec.Struct):
    name: str


class _NamedTool(msgspec.Struct):
    type: Literal["function", "custom", "allowed_tools"]
    function: _NamedFunction | None = None
    custom: _NamedFunction | None = None


class _JsonSchema(msgspec.Struct):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class _ResponseFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


class Body(Sampling):
    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    tools: Annotated[list[_Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | _NamedTool | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[_Function], Meta(max_length=128)] | None = None
    function_call: Literal["none", "auto"] | _NamedFunction | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: _ResponseFormat | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    modalities: list[Literal["text", "audio"]] | None = None


_DECODER = msgspec.json.Decoder(Body)


class _Details(msgspec.Struct, frozen=True):
    include_usage: bool
    include_obfuscation: bool | None
    num_top_logprobs: int | None  # None: no log probabilities
    functions: bool  # the older form of tools


def parse(body: bytes) -> Call | ApiError:
    """Read a request body."""
    read = read_body(body, _DECODER)
    if isinstance(read, ApiError):
        return read
    limit = read.max_completion_tokens or read.max_tokens
    error = contradiction(read, limit) or _contradiction(read) or _broken_messages(read.messages) or _bad_schemas(read)
    if error is not None:
        return error
    try:
        return _call(read, limit)
    except ValueError as problem:
        return invalid(f"Invalid image in 'messages': {problem}.", "messages", "invalid_image")


def _call(body: Body, limit: int | None) -> Call:
    functions = body.functions or []
    declared = [tool.function for tool in body.tools or [] if tool.function is not None] or functions
    asked = body.response_format
    schema: dict[str, Any] | bool | None = None
    if asked is not None and asked.type != "text":
        schema = (asked.json_schema.schema if asked.json_schema else None) or True
    options = body.stream_options or _StreamOptions()
    details = _Details(
        options.include_usage,
        options.include_obfuscation,
        (body.top_logprobs or 0) if body.logprobs else None,
        bool(functions) and not body.tools,
    )
    return Call(
        model=body.model,
        segments=_segments(body, declared),
        stream=bool(body.stream),
        num_choices=body.n or 1,
        max_tokens=limit,
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        stop=stop_words(body.stop),
        tools=tuple(Tool(function.name, function.parameters or {"type": "object"}) for function in declared),
        tool_choice=_tool_choice(body),
        parallel_tool_calls=body.parallel_tool_calls is not False and not details.functions,
        answered=body.messages[-1].role in ("tool", "function"),
        schema=schema,
        thinking=Thinking(body.reasoning_effort) if body.reasoning_effort not in (None, "none") else None,
        priority=body.priority or 0,
        repeatable=body.seed is not None or body.temperature == 0,
        service_tier=body.service_tier,
        details=details,
    )


def _tool_choice(body: Body) -> str:
    choice: object = body.tool_choice if body.tools else body.function_call
    if isinstance(choice, _NamedTool):
        named = choice.function or choice.custom
        return f"tool:{named.name}" if named else "auto"
    if isinstance(choice, _NamedFunction):
        return f"tool:{choice.name}"
    return str(choice or "auto")


def _segments(body: Body, declared: Sequence[_Function]) -> tuple[Segment, ...]:
    """The prompt as the model reads it: tools first, then the messages. Roles and templates are not counted."""
    segments = [Segment(msgspec.json.encode(function).decode()) for function in declared]
    for message in body.messages:
        if isinstance(message.content, str):
            segments.append(Segment(message.content))
        else:
            segments += [_part_segment(part) for part in message.content or []]
        if message.reasoning_content:
            segments.append(Segment(message.reasoning_content))
        for call in message.tool_calls or []:
            if call.function is not None:
                segments.append(Segment(f"{call.function.name} {call.function.arguments}"))
        if message.function_call is not None:
            segments.append(Segment(f"{message.function_call.name} {message.function_call.arguments}"))
    return tuple(segments)


def _part_segment(part: _ContentPart) -> Segment:
    match part:
        case _TextPart():
            return Segment(part.text)
        case _RefusalPart():
            return Segment(part.refusal)
        case _ImagePart():
            data = data_url(part.image_url.url)
            size = UNKNOWN_SIZE if data is None else image_size(data)
            tokens = openai_image_tokens(size, low_detail=part.image_url.detail == "low")
            return Segment(part.image_url.url, tokens)
        case _AudioPart():
            return Segment("", 0)
        case _FilePart():
            return Segment(str(part.file.get("filename", "")))


def _contradiction(body: Body) -> ApiError | None:
    """What is well-formed field by field, and makes no sense together."""
    if body.stream_options is not None and not body.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        return invalid(message, "stream_options")
    if body.top_logprobs is not None and not body.logprobs:
        message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."
        return invalid(message, "top_logprobs", "invalid_value")
    if body.modalities is not None and "audio" in body.modalities:
        return invalid("Unsupported value: 'modalities': this mock does not speak.", "modalities", "unsupported_value")
    asked = body.response_format
    if asked is not None and asked.type == "json_schema" and asked.json_schema is None:
        param = "response_format.json_schema"
        return invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    return _unknown_tool(body)


def _unknown_tool(body: Body) -> ApiError | None:
    if not body.tools and body.tool_choice not in (None, "none", "auto"):
        return invalid("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    for index, tool in enumerate(body.tools or []):
        if tool.type == "function" and tool.function is None:
            param = f"tools[{index}].function"
            return invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    names = {tool.function.name for tool in body.tools or [] if tool.function is not None}
    names |= {str((tool.custom or {}).get("name", "")) for tool in body.tools or []}
    names |= {function.name for function in body.functions or []}
    choice = _tool_choice(body)
    if choice.startswith("tool:") and choice[5:] not in names:
        param, where = ("tool_choice", "tools") if body.tools else ("function_call", "functions")
        message = f"Invalid value for '{param}': '{choice[5:205]}' not found in '{where}' parameter."
        return invalid(message, param, "invalid_value")
    return None


def _broken_messages(messages: Sequence[_Message]) -> ApiError | None:
    """A conversation that could not have happened."""
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        param = f"messages[{index}]"
        if message.role == "assistant":
            open_calls = {call.id for call in message.tool_calls or []}
        elif message.role == "tool":
            if message.tool_call_id is None:
                name = f"{param}.tool_call_id"
                return invalid(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
            if message.tool_call_id not in open_calls:
                text = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
                return invalid(f"Invalid parameter '{param}.role': {text}.", f"{param}.role")
        spoken = message.tool_calls or message.function_call or message.refusal or message.reasoning_content
        if message.content is None and not (message.role == "assistant" and spoken):
            text = f"Invalid value for '{param}.content': expected a string or a list of parts, got null."
            return invalid(text, f"{param}.content", "invalid_type")
    return None


def _bad_schemas(body: Body) -> ApiError | None:
    given: list[tuple[dict[str, Any] | None, str, str]] = []
    if body.response_format is not None and body.response_format.json_schema is not None:
        asked = body.response_format.json_schema
        given.append((asked.schema, f"response_format '{asked.name}'", "response_format"))
    for index, tool in enumerate(body.tools or []):
        if tool.function is not None:
            where = f"function '{tool.function.name}'"
            given.append((tool.function.parameters, where, f"tools[{index}].function.parameters"))
    for index, function in enumerate(body.functions or []):
        given.append((function.parameters, f"function '{function.name}'", f"functions[{index}].parameters"))
    return next((error for schema, *where in given if schema and (error := schema_error(schema, *where))), None)


def openai_usage(usage: Usage) -> dict[str, object]:
    """OpenAI's usage block; `prompt_tokens` includes the cached ones."""
    return {
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_output_tokens,
        "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.num_cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.num_reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def finish_reason(call: Call, reply: Reply, end: End) -> str:
    """OpenAI's word for the end; a tool that the client named ends with `stop`, as it does at OpenAI."""
    if end.reason == "length" or not reply.calls_tools:
        return end.reason
    return "stop" if call.tool_choice.startswith("tool:") else "tool_calls"


def call_id(context: Context, choice: int, part: Part) -> str:
    """The id of a tool call: 24 characters, the same for the same request."""
    key = f"{context.key}\x00{choice}\x00{part.number}"
    return "call_" + "".join(f"{context.streams.integer(half, key):016x}" for half in ("call id", "call id 2"))[:24]


class ChatWriter:
    """Writes one answer. Id and second of creation are the same in every chunk."""

    def __init__(self, call: Call, context: Context, replies: Sequence[Reply]) -> None:
        self._call, self._context, self._replies = call, context, replies
        self._details: _Details = call.details
        wanted = self._details.include_obfuscation
        self._obfuscated = context.hosted if wanted is None else wanted
        # A chunk is the same but for its delta: everything around it is written once for each kind of text.
        self._frames: dict[tuple[int, str], tuple[bytes, bytes]] = {}
        self._opened: set[tuple[int, int]] = set()  # (choice, tool call) whose name was sent

    def opening(self, prompt: Usage) -> bytes:
        """The role-only chunks; they are not tokens."""
        chunks = b""
        for choice, reply in enumerate(self._replies):
            content = None if reply.parts[0].kind == "tool_call" else ""
            chunks += self._chunk(choice, {"role": "assistant", "content": content, "refusal": None})
        return chunks

    def piece(self, choice: int, piece: Slice) -> bytes:
        """A chunk of answer text, reasoning or tool arguments."""
        if piece.part.kind == "tool_call":
            return self._tool_piece(choice, piece)
        if self._details.num_top_logprobs is not None and piece.part.kind == "text":
            return self._chunk(choice, {"content": piece.text}, logprobs=self._logprobs(piece.tokens(), piece.first))
        name = "content" if piece.part.kind == "text" else "reasoning_content"
        frame = self._frames.get((choice, name)) or self._frame(choice, name)
        text = piece.text
        if self._obfuscated:
            return b"%b%b%b%b\n\n" % (frame[0], msgspec.json.encode(text), frame[1], _PADS[len(text) % 16])
        return b"%b%b%b\n\n" % (frame[0], msgspec.json.encode(text), frame[1])

    def end(self, choice: int, end: End) -> bytes:
        """The chunk with the finish reason."""
        reason = finish_reason(self._call, self._replies[choice], end)
        if self._details.functions and reason == "tool_calls":
            reason = "function_call"
        return self._chunk(choice, {}, finish=reason)

    def closing(self, usage: Usage) -> bytes:
        """Usage when it was asked for, and `[DONE]`."""
        end = b"data: [DONE]\n\n"
        if self._details.include_usage:
            chunk = {**self._head("chat.completion.chunk"), "choices": [], "usage": openai_usage(usage)}
            return b"data: " + msgspec.json.encode(chunk) + b"\n\n" + end
        return end

    def error(self, error: ApiError) -> bytes:
        """An error in the stream: the clients look for the `error` key."""
        return b"data: " + openai_error_body(error) + b"\n\n"

    def whole(self, ends: Sequence[End], usage: Usage) -> bytes:
        """The answer as one JSON body."""
        choices = [self._choice(number, end) for number, end in enumerate(ends)]
        body = {**self._head("chat.completion"), "choices": choices, "usage": openai_usage(usage)}
        return msgspec.json.encode(body)

    def _choice(self, number: int, end: End) -> dict[str, object]:
        reply = self._replies[number]
        message: dict[str, object] = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
        calls: list[dict[str, object]] = []
        chosen: list[object] | None = None
        for piece in reply.slices(0, end.num_tokens):
            if piece.part.kind == "tool_call":
                calls.append(self._called(number, piece.part, piece.text))
            elif piece.part.kind == "reasoning":
                message["reasoning_content"] = piece.text
            else:
                message["content"] = piece.text
                if self._details.num_top_logprobs is not None:
                    chosen = self._logprobs(piece.tokens(), 0)
        if calls and self._details.functions:
            message["function_call"] = calls[0]["function"]
        elif calls:
            message["tool_calls"] = calls
        elif message["content"] is None:
            message["content"] = ""
        reason = finish_reason(self._call, reply, end)
        if self._details.functions and reason == "tool_calls":
            reason = "function_call"
        return {
            "index": number,
            "message": message,
            "logprobs": None if chosen is None else {"content": chosen, "refusal": None},
            "finish_reason": reason,
        }

    def _called(self, choice: int, part: Part, arguments: str) -> dict[str, object]:
        function = {"name": part.name, "arguments": arguments}
        return {"id": call_id(self._context, choice, part), "type": "function", "function": function}

    def _tool_piece(self, choice: int, piece: Slice) -> bytes:
        if self._details.functions:
            first = piece.first == 0
            function = {"name": piece.part.name, "arguments": piece.text} if first else {"arguments": piece.text}
            return self._chunk(choice, {"function_call": function})
        index, opening = piece.part.number, b""
        if (choice, index) not in self._opened:
            self._opened.add((choice, index))
            opening = self._chunk(choice, {"tool_calls": [{"index": index, **self._called(choice, piece.part, "")}]})
        delta = {"tool_calls": [{"index": index, "function": {"arguments": piece.text}}]}
        return opening + self._chunk(choice, delta)

    def _logprobs(self, tokens: Sequence[str], first: int) -> list[object]:
        num_top = self._details.num_top_logprobs or 0
        return [
            {**_logprob(token, value), "top_logprobs": [_logprob(*other) for other in top]}
            for token, value, top in logprobs(tokens, first, num_top, self._context)
        ]

    def _frame(self, choice: int, name: str) -> tuple[bytes, bytes]:
        before, after = self._json(choice, {name: "\x00"}).split(b'"\\u0000"', 1)
        frame = b"data: " + before, after[:-1] if self._obfuscated else after
        self._frames[choice, name] = frame
        return frame

    def _chunk(
        self,
        choice: int,
        delta: Mapping[str, object],
        *,
        finish: str | None = None,
        logprobs: list[object] | None = None,
    ) -> bytes:
        chunk = self._json(choice, delta, finish, logprobs)
        if self._obfuscated:
            chunk = chunk[:-1] + _PADS[len(chunk) % 16]
        return b"data: " + chunk + b"\n\n"

    def _json(
        self, choice: int, delta: Mapping[str, object], finish: str | None = None, logprobs: list[object] | None = None
    ) -> bytes:
        shown = None if logprobs is None else {"content": logprobs, "refusal": None}
        entry = {"index": choice, "delta": delta, "logprobs": shown, "finish_reason": finish}
        chunk = {**self._head("chat.completion.chunk"), "choices": [entry]}
        if self._details.include_usage:
            chunk["usage"] = None
        return msgspec.json.encode(chunk)

    def _head(self, kind: str) -> dict[str, object]:
        head: dict[str, object] = {
            "id": self._context.tag,
            "object": kind,
            "created": self._context.created,
            "model": self._call.model,
            "system_fingerprint": "fp_mockllm",
        }
        if self._context.hosted:
            head["service_tier"] = served_tier(self._call.service_tier)
        return head


def served_tier(asked: str | None) -> str:
    """The tier that a request was served in: what it asked for, `default` unless it asked for another."""
    return asked if asked in ("flex", "scale", "priority", "fast") else "default"


def _logprob(token: str, value: float) -> dict[str, object]:
    return {"token": token, "logprob": value, "bytes": list(token.encode())}


# Padding of different lengths, so that the size of a chunk does not tell its text; as OpenAI's `obfuscation`.
_PADS = [
    f',"obfuscation":"{("kQ7vRz2mXb9LwTf4" * 2)[shift : shift + 16 - shift % 16]}"}}'.encode() for shift in range(16)
]
