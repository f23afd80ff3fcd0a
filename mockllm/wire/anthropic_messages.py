"""Anthropic's Messages API: request bodies to calls, replies to events. Pure: bytes in, bytes out.

Shapes follow anthropic-sdk-python 2.12 and published recordings of the service: `message_start` with the prompt's usage,
a `ping` after the first `content_block_start`, blocks one after the other, `message_delta` with the cumulative usage,
`message_stop`. Unknown fields are refused as the service does, but for `min_tokens`, `ignore_eos` and `priority`, with which
the length and order of answers is set here as at the other endpoints.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from pydantic_core import from_json, to_json

from mockllm.call import Call, Thinking, Usage
from mockllm.content.reply import Part, Reply, Slice
from mockllm.content.schema import SchemaError, check_schema
from mockllm.wire.anthropic_blocks import (
    BrokenBlockError,
    CacheControl,
    Message,
    PromptSegments,
    Strict,
    TextBlock,
    marks_error,
)
from mockllm.wire.anthropic_bodies import broken, read_body, shortened
from mockllm.wire.anthropic_tools import ToolDefinition, broken_tools, callable_tools
from mockllm.wire.anthropic_turns import answers_a_tool, broken_turns
from mockllm.wire.dialect import Context, End
from mockllm.wire.errors import ApiError, anthropic_error_body, invalid

__all__ = ["MessagesWriter", "count_body", "message_usage", "parse", "parse_count", "stop_reason", "tool_use_id"]

_MAX_MESSAGES = 100_000
_THINKING_DOCS = "https://platform.claude.com/docs/en/build-with-claude/extended-thinking"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_NUM_SIGNATURE_BYTES = 264  # 352 characters of base64, about what short thoughts are signed with
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_DELTAS = {"text": ("text_delta", "text"), "reasoning": ("thinking_delta", "thinking")}


class _ThinkingEnabled(Strict, tag_field="type", tag="enabled"):
    budget_tokens: Annotated[int, Meta(ge=1024)]
    display: Literal["summarized", "omitted"] | None = None


class _ThinkingAdaptive(Strict, tag_field="type", tag="adaptive"):
    display: Literal["summarized", "omitted"] | None = None


class _ThinkingBetweenTools(Strict, tag_field="type", tag="between_tools"):
    pass


class _ThinkingDisabled(Strict, tag_field="type", tag="disabled"):
    pass


class _Auto(Strict, tag_field="type", tag="auto"):
    disable_parallel_tool_use: bool | None = None


class _Any(Strict, tag_field="type", tag="any"):
    disable_parallel_tool_use: bool | None = None


class _Named(Strict, tag_field="type", tag="tool"):
    name: str
    disable_parallel_tool_use: bool | None = None


class _None(Strict, tag_field="type", tag="none"):
    pass


class _Format(Strict):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class _OutputConfig(Strict):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: _Format | None = None
    task_budget: dict[str, Any] | None = None


class _Metadata(Strict):
    user_id: Annotated[str, Meta(max_length=256)] | None = None


class _Prompt(Strict):
    """What is counted. The service's features that change nothing here are taken and not looked at."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    messages: Annotated[list[Message], Meta(max_length=_MAX_MESSAGES)]
    system: str | list[TextBlock] | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: _Auto | _Any | _Named | _None | None = None
    thinking: _ThinkingEnabled | _ThinkingAdaptive | _ThinkingBetweenTools | _ThinkingDisabled | None = None
    cache_control: CacheControl | None = None
    output_config: _OutputConfig | None = None
    output_format: _Format | None = None  # where the schema was before output_config
    speed: Literal["standard", "fast"] | None = None
    context_management: Any = None
    mcp_servers: Any = None
    user_profile_id: str | None = None
    workspace_id: str | None = None


class _Body(_Prompt, kw_only=True):
    max_tokens: Annotated[int, Meta(ge=1)]
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    metadata: _Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    inference_geo: str | None = None
    container: Any = None
    diagnostics: Any = None
    billing_policy: Any = None
    compaction: Any = None
    fallbacks: Any = None
    fallback_credit_token: Any = None
    thread: Any = None
    min_tokens: Annotated[int, Meta(ge=0)] | None = None
    ignore_eos: bool | None = None
    priority: int | None = None


Body, CountBody = _Body, _Prompt  # what the endpoints take, for whoever documents them

_BODY = msgspec.json.Decoder(_Body)
_COUNT = msgspec.json.Decoder(_Prompt)


class _Details(msgspec.Struct, frozen=True):
    shows_thinking: bool = True
    geo: str = "global"
    speed: str | None = None


def parse(body: bytes) -> Call | ApiError:
    """Read the body of `POST /v1/messages`."""
    read = read_body(body, _BODY)
    if isinstance(read, ApiError):
        return read
    prompt = _checked(read)
    if isinstance(prompt, ApiError):
        return prompt
    if error := _no_thread(read) or _contradiction(read) or _bad_stop(read.stop_sequences or []):
        return error
    asked, choice = _schema(read), read.tool_choice
    omitted = isinstance(read.thinking, _ThinkingEnabled | _ThinkingAdaptive) and read.thinking.display == "omitted"
    return Call(
        model=read.model,
        segments=tuple(prompt.segments),
        stream=bool(read.stream),
        max_tokens=read.max_tokens,
        min_tokens=read.min_tokens or 0,
        ignore_eos=bool(read.ignore_eos),
        stop=tuple(read.stop_sequences or ()),
        tools=callable_tools(read.tools or []),
        tool_choice=_tool_choice(read),
        parallel_tool_calls=isinstance(choice, _None) or choice is None or not choice.disable_parallel_tool_use,
        answered=answers_a_tool(read.messages),
        schema=asked.schema if asked else None,
        thinking=_thinking(read),
        priority=read.priority or 0,
        repeatable=read.temperature == 0,
        service_tier=read.service_tier,
        user_marks_cache=True,
        details=_Details(not omitted, read.inference_geo or "global", read.speed),
    )


def parse_count(body: bytes) -> Call | ApiError:
    """Read the body of `POST /v1/messages/count_tokens`; only the prompt of the call means anything."""
    read = read_body(body, _COUNT)
    if isinstance(read, ApiError):
        return read
    prompt = _checked(read)
    if isinstance(prompt, ApiError):
        return prompt
    return Call(model=read.model, segments=tuple(prompt.segments), user_marks_cache=True, details=_Details())


def count_body(num_tokens: int) -> bytes:
    """The answer of `POST /v1/messages/count_tokens`."""
    return msgspec.json.encode({"input_tokens": num_tokens})


def _checked(body: _Prompt) -> PromptSegments | ApiError:
    """The prompt, or what is wrong with it."""
    if error := broken_turns(body.messages) or _bad_system(body.system) or _bad_tools(body) or _bad_schema(body):
        return error
    prompt = PromptSegments()
    try:
        _read_prompt(body, prompt)
    except BrokenBlockError as problem:
        return problem.error
    return prompt.mark_automatically(body.cache_control) or marks_error(prompt.marks) or prompt


def _read_prompt(body: _Prompt, prompt: PromptSegments) -> None:
    for index, tool in enumerate(body.tools or []):
        prompt.add_text(tool.text)
        prompt.mark(tool.cache_control, f"tools.{index}")
    if isinstance(body.system, str):
        prompt.add_text(body.system)
    else:
        for index, block in enumerate(body.system or []):
            prompt.add(block, f"system.{index}")
    for index, message in enumerate(body.messages):
        if isinstance(message.content, str):
            prompt.add_text(message.content)
        else:
            for number, part in enumerate(message.content):
                prompt.add(part, f"messages.{index}.content.{number}")


def _bad_system(system: str | list[TextBlock] | None) -> ApiError | None:
    if isinstance(system, list) and not all(block.text for block in system):
        return invalid("system: text content blocks must be non-empty", "system")
    return None


def _bad_tools(body: _Prompt) -> ApiError | None:
    tools, choice = body.tools or [], body.tool_choice
    if error := broken_tools(tools):
        return error
    if isinstance(choice, _Any) and not tools:
        return invalid("tool_choice.any may only be specified while providing tools")
    if isinstance(choice, _Named) and choice.name not in {tool.name for tool in tools}:
        return invalid(f"Tool '{shortened(choice.name)}' not found in provided tools")
    if isinstance(choice, _Any | _Named) and isinstance(body.thinking, _ThinkingEnabled | _ThinkingAdaptive):
        return invalid("Thinking may not be enabled when tool_choice forces tool use.")
    return None


def _schema(body: _Prompt) -> _Format | None:
    return (body.output_config.format if body.output_config else None) or body.output_format


def _bad_schema(body: _Prompt) -> ApiError | None:
    asked = _schema(body)
    if asked is None:
        return None
    try:
        check_schema(asked.schema)
    except SchemaError as error:
        path = "output_format" if asked is body.output_format else "output_config.format"
        return broken(f"{path}.schema", str(error))
    return None


def _no_thread(body: _Body) -> ApiError | None:
    """Threads (beta) are not served; the SDK's tool runner goes on without when it is told so in these words."""
    if body.thread is None:
        return None
    details: dict[str, object] = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    return ApiError(400, "thread: this server does not keep message threads", details=details)


def _contradiction(body: _Body) -> ApiError | None:
    """What is well-formed field by field, and makes no sense together."""
    if isinstance(body.thinking, _ThinkingEnabled) and body.thinking.budget_tokens >= body.max_tokens:
        message = f"`max_tokens` must be greater than `thinking.budget_tokens`. Please consult our documentation at {_THINKING_DOCS}"
        return invalid(f"{message}#max-tokens-and-context-window-size", "max_tokens")
    if isinstance(body.thinking, _ThinkingEnabled | _ThinkingAdaptive) and body.temperature not in (None, 1):
        message = "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode."
        return invalid(f"{message} Please consult our documentation at {_THINKING_DOCS}", "temperature")
    if (body.min_tokens or 0) > body.max_tokens:
        return broken("min_tokens", f"Input should be less than or equal to max_tokens, {body.max_tokens}")
    return None


def _bad_stop(stop: list[str]) -> ApiError | None:
    for sequence in stop:
        if not sequence:
            return broken("stop_sequences", "each stop sequence must be non-empty")
        if sequence.isspace():
            return broken("stop_sequences", "each stop sequence must contain non-whitespace")
    return None


def _tool_choice(body: _Prompt) -> str:
    """Only tools that the client runs can be forced: what the service runs is never called here."""
    ours = {tool.name for tool in callable_tools(body.tools or [])}
    match body.tool_choice:
        case _Any() if ours:
            return "required"
        case _Named() if body.tool_choice.name in ours:
            return f"tool:{body.tool_choice.name}"
        case _None():
            return "none"
        case _:
            return "auto"


def _thinking(body: _Prompt) -> Thinking | None:
    effort = (body.output_config.effort if body.output_config else None) or "medium"
    match body.thinking:
        case _ThinkingEnabled():
            return Thinking(effort, body.thinking.budget_tokens)
        case _ThinkingAdaptive():
            return Thinking(effort)
        case _ThinkingBetweenTools():
            return Thinking(effort if answers_a_tool(body.messages) else "none")
        case _ThinkingDisabled():
            return Thinking("none")
        case None:
            return None


def message_usage(usage: Usage) -> dict[str, object]:
    """Tokens as Anthropic bills them: `input_tokens` is neither what was read from the cache nor what was written to it."""
    written = usage.num_written_5m + usage.num_written_1h
    shown: dict[str, object] = {
        "input_tokens": usage.num_prompt_tokens - usage.num_cached_tokens - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.num_cached_tokens,
        "output_tokens": usage.num_output_tokens,
    }
    if usage.num_reasoning_tokens:
        shown["output_tokens_details"] = {"thinking_tokens": usage.num_reasoning_tokens}
    return shown


def stop_reason(reply: Reply, end: End) -> str:
    """Anthropic's word for the end."""
    if end.reason == "length":
        return "max_tokens"
    if reply.stop_sequence is not None:
        return "stop_sequence"
    return "tool_use" if reply.calls_tools else "end_turn"


def tool_use_id(context: Context, part: Part) -> str:
    """`toolu_01` and 22 characters, the same for the same request."""
    key = f"{context.key}\x00{part.number}"
    number = context.streams.integer("tool use id", key) << 64 | context.streams.integer("tool use id 2", key)
    digits = ""
    for _ in range(22):
        number, digit = divmod(number, 62)
        digits += _BASE62[digit]
    return f"toolu_01{digits}"


class MessagesWriter:
    """Writes one answer. A block is opened with its first token and closed with its last, or where the answer is cut."""

    def __init__(self, call: Call, context: Context, replies: Sequence[Reply]) -> None:
        self._call, self._context, self._reply = call, context, replies[0]
        self._details: _Details = call.details
        self._num_blocks = 0
        self._part: Part | None = None  # whose block is open
        self._index = -1  # of that part
        self._before = b""  # every delta of a block is the same but for its text
        self._reason = "end_turn"

    def opening(self, prompt: Usage) -> bytes:
        """`message_start`: the prompt's usage is known before the first token."""
        usage = self._usage(prompt)
        usage["output_tokens"] = max(1, prompt.num_output_tokens)
        return _event("message_start", message={**self._message([], None), "usage": usage})

    def piece(self, choice: int, piece: Slice) -> bytes:
        """A delta, with the start of its block before the first and the end after the last."""
        part = piece.part
        opening = b"" if piece.index == self._index else self._open(piece)
        if part.kind == "reasoning" and not self._details.shows_thinking:
            delta = b""
        else:
            delta = b"%b%b}}\n\n" % (self._before, msgspec.json.encode(piece.text))
        if opening or piece.ends:
            return opening + delta + (self._close() if piece.ends else b"")
        return delta

    def end(self, choice: int, end: End) -> bytes:
        """The end of a block that was cut; the reason comes with the usage."""
        self._reason = stop_reason(self._reply, end)
        return self._close()

    def closing(self, usage: Usage) -> bytes:
        """`message_delta` with the cumulative usage, `message_stop`."""
        delta = {"stop_reason": self._reason, "stop_sequence": self._stop_sequence(self._reason)}
        return _event("message_delta", delta=delta, usage=message_usage(usage)) + _event("message_stop")

    def error(self, error: ApiError) -> bytes:
        """An `error` event; nothing follows it."""
        request_id = "req_" + self._context.tag.removeprefix("msg_").removeprefix("req_")
        return b"event: error\ndata: %b\n\n" % anthropic_error_body(error, request_id)

    def whole(self, ends: Sequence[End], usage: Usage) -> bytes:
        """The answer as one JSON body."""
        content: list[dict[str, object]] = []
        for piece in self._reply.slices(0, ends[0].num_tokens):
            if piece.num:
                content.append(self._block(piece, len(content)))
        message = self._message(content, stop_reason(self._reply, ends[0]))
        return msgspec.json.encode({**message, "usage": self._usage(usage)})

    def _message(self, content: list[dict[str, object]], reason: str | None) -> dict[str, object]:
        return {
            "id": self._context.tag,
            "type": "message",
            "role": "assistant",
            "model": self._call.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": self._stop_sequence(reason),
            "stop_details": None,
            "container": None,
        }

    def _stop_sequence(self, reason: str | None) -> str | None:
        return self._reply.stop_sequence if reason == "stop_sequence" else None

    def _usage(self, usage: Usage) -> dict[str, object]:
        shown = message_usage(usage)
        shown["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.num_written_5m,
            "ephemeral_1h_input_tokens": usage.num_written_1h,
        }
        shown |= {"service_tier": "standard", "inference_geo": self._details.geo}
        if self._details.speed is not None:
            shown["speed"] = self._details.speed
        return shown

    def _open(self, piece: Slice) -> bytes:
        closed = self._close()
        part = self._part = piece.part
        index, self._index = self._num_blocks, piece.index
        self._num_blocks += 1
        kind, field = _DELTAS.get(part.kind, ("input_json_delta", "partial_json"))
        frame = _event("content_block_delta", index=index, delta={"type": kind, field: "\x00"})
        self._before = frame.split(b'"\\u0000"', 1)[0]
        if part.kind == "text":
            block: dict[str, object] = {"type": "text", "text": ""}
        elif part.kind == "reasoning":
            block = {"type": "thinking", "thinking": "", "signature": ""}
        else:
            block = self._tool_use(part, {})
        opened = closed + _event("content_block_start", index=index, content_block=block)
        if index == 0:
            opened += _PING
        return opened if part.kind != "tool_call" else opened + self._before + b'""}}\n\n'

    def _close(self) -> bytes:
        part, index = self._part, self._num_blocks - 1
        self._part, self._index = None, -1
        if part is None:
            return b""
        stop = _event("content_block_stop", index=index)
        if part.kind != "reasoning":
            return stop
        delta = {"type": "signature_delta", "signature": self._signature(index)}
        return _event("content_block_delta", index=index, delta=delta) + stop

    def _block(self, piece: Slice, index: int) -> dict[str, object]:
        if piece.part.kind == "text":
            return {"type": "text", "text": piece.text}
        if piece.part.kind == "reasoning":
            thinking = piece.text if self._details.shows_thinking else ""
            return {"type": "thinking", "thinking": thinking, "signature": self._signature(index)}
        return self._tool_use(piece.part, _arguments(piece))

    def _tool_use(self, part: Part, arguments: object) -> dict[str, object]:
        return {
            "type": "tool_use",
            "id": tool_use_id(self._context, part),
            "name": part.name,
            "input": arguments,
            "caller": {"type": "direct"},
        }

    def _signature(self, index: int) -> str:
        draws = self._context.streams.generator("thinking signature", f"{self._context.key}\x00{index}")
        return b64encode(draws.bytes(_NUM_SIGNATURE_BYTES)).decode()


def _arguments(piece: Slice) -> object:
    """A tool's arguments as an object; of cut ones what is complete, as the SDKs read it."""
    if piece.ends:
        return msgspec.Raw(piece.text.encode())
    value = from_json(piece.text, allow_partial=True) if piece.text.strip() else {}
    return msgspec.Raw(to_json(value)) if isinstance(value, dict) else {}


def _event(kind: str, **fields: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"type": kind, **fields}))
