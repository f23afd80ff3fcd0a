"""Requests of OpenAI's Responses API: body to call. Pure: bytes in, a call or an error out.

Items of the input and tools are of some thirty kinds each. Those that a model reads as text are checked field by field;
the others (web searches, patches, shell calls, hosted tools) are taken as they come, counted as text and never acted on.
Fields that are not in the schema are ignored; what is in it and cannot be served (`prompt`) is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from mockllm.call import Call, Segment, Thinking, Tool
from mockllm.wire.bodies import read_body
from mockllm.wire.errors import ApiError, invalid
from mockllm.wire.images import UNKNOWN_SIZE, data_url, image_size, openai_image_tokens
from mockllm.wire.sampling import Sampling, contradiction, stop_words
from mockllm.wire.schemas import schema_error

__all__ = ["Details", "InputItem", "item_segments", "item_type", "parse", "parse_count", "unmatched_call"]

T = TypeVar("T")

# -- what an input is made of ----------------------------------------------------------------------------------------


class _InputText(msgspec.Struct, tag_field="type", tag="input_text"):
    text: str

    def segment(self) -> Segment:
        return Segment(self.text)


class _OutputText(msgspec.Struct, tag_field="type", tag="output_text"):
    text: str

    def segment(self) -> Segment:
        return Segment(self.text)


class _Refusal(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str

    def segment(self) -> Segment:
        return Segment(self.refusal)


class _InputImage(msgspec.Struct, tag_field="type", tag="input_image"):
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None

    def segment(self) -> Segment:
        return _image(self.image_url, self.file_id, low_detail=self.detail == "low")


class _InputFile(msgspec.Struct, tag_field="type", tag="input_file"):
    filename: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    file_data: str | None = None

    def segment(self) -> Segment:
        return Segment(self.filename or self.file_url or self.file_id or "")


_InputPart = _InputText | _InputImage | _InputFile


class _Message(msgspec.Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[_InputPart]

    def segments(self) -> list[Segment]:
        return _content(self.content)


class _AssistantMessage(msgspec.Struct):
    content: str | list[_OutputText | _Refusal]

    def segments(self) -> list[Segment]:
        return _content(self.content)


class _FunctionCall(msgspec.Struct):
    call_id: str
    name: str
    arguments: str

    def segments(self) -> list[Segment]:
        return [Segment(f"{self.name} {self.arguments}")]


class _CustomCall(msgspec.Struct):
    call_id: str
    name: str
    input: str

    def segments(self) -> list[Segment]:
        return [Segment(f"{self.name} {self.input}")]


class _CallOutput(msgspec.Struct):
    call_id: str
    output: str | list[_InputPart]

    def segments(self) -> list[Segment]:
        return _content(self.output)


class _Screenshot(msgspec.Struct):
    image_url: str | None = None
    file_id: str | None = None


class _ComputerOutput(msgspec.Struct):
    call_id: str
    output: _Screenshot

    def segments(self) -> list[Segment]:
        return [_image(self.output.image_url, self.output.file_id, low_detail=False)]


class _ReasoningText(msgspec.Struct):
    text: str


class _Reasoning(msgspec.Struct):
    summary: list[_ReasoningText]
    content: list[_ReasoningText] | None = None
    encrypted_content: str | None = None

    def segments(self) -> list[Segment]:
        return [Segment(part.text) for part in [*self.summary, *(self.content or [])]]


class _Reference(msgspec.Struct):
    id: str

    def segments(self) -> list[Segment]:
        return [Segment("", 0)]  # who keeps the conversations puts the item here


class _Typed(msgspec.Struct):
    type: str


InputItem = (
    _Message | _AssistantMessage | _FunctionCall | _CustomCall | _CallOutput | _ComputerOutput | _Reasoning | _Reference
)
_CHECKED: dict[str, type[InputItem]] = {
    "message": _Message,
    "function_call": _FunctionCall,
    "function_call_output": _CallOutput,
    "custom_tool_call": _CustomCall,
    "custom_tool_call_output": _CallOutput,
    "computer_call_output": _ComputerOutput,
    "reasoning": _Reasoning,
    "item_reference": _Reference,
}
_UNCHECKED = (
    "additional_tools", "apply_patch_call", "apply_patch_call_output", "code_interpreter_call", "compaction",
    "compaction_trigger", "computer_call", "configuration_update", "file_search_call", "image_generation_call",
    "local_shell_call", "local_shell_call_output", "mcp_approval_request", "mcp_approval_response", "mcp_call",
    "mcp_list_tools", "program", "program_output", "shell_call", "shell_call_output", "tool_search_call",
    "tool_search_output", "web_search_call",
)  # fmt: skip
_NOT_TEXT = {"type", "id", "status", "call_id", "encrypted_content", "result"}  # `result` is a picture in base64

# -- the rest of a body ----------------------------------------------------------------------------------------------


class _FunctionTool(msgspec.Struct):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class _InputFormat(msgspec.Struct):
    type: Literal["text", "grammar"]


class _CustomTool(msgspec.Struct):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    format: _InputFormat | None = None


# Tools that run at the provider, with the fields that their definition cannot do without.
_HOSTED_TOOLS: dict[str, tuple[str, ...]] = {
    "apply_patch": (),
    "code_interpreter": ("container",),
    "computer": (),
    "computer_use_preview": ("display_height", "display_width", "environment"),
    "file_search": ("vector_store_ids",),
    "image_generation": (),
    "local_shell": (),
    "mcp": ("server_label",),
    "namespace": ("description", "name", "tools"),
    "programmatic_tool_calling": (),
    "shell": (),
    "tool_search": (),
    "web_search": (),
    "web_search_2025_08_26": (),
    "web_search_preview": (),
    "web_search_preview_2025_03_11": (),
}
_SECRETS = {"authorization", "headers"}  # of an MCP server; they are never shown again


class _NamedTool(msgspec.Struct):
    name: str


class _AllowedTools(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


class _TextFormat(msgspec.Struct, tag_field="type", tag="text"):
    pass


class _JsonObject(msgspec.Struct, tag_field="type", tag="json_object"):
    pass


class _JsonSchema(msgspec.Struct, tag_field="type", tag="json_schema", omit_defaults=True):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class _Text(msgspec.Struct):
    format: _TextFormat | _JsonObject | _JsonSchema | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


_Summary = Literal["auto", "concise", "detailed"]


class _ReasoningConfig(msgspec.Struct):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: _Summary | None = None
    generate_summary: _Summary | None = None  # the older name of `summary`


class _StreamOptions(msgspec.Struct):
    include_obfuscation: bool | None = None


class _Conversation(msgspec.Struct):
    id: str


_Includable = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
]


class _Body(Sampling, kw_only=True):
    model: Annotated[str, Meta(min_length=1)]
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Meta(ge=0)] | None = None  # no minimum is documented
    text: _Text | None = None
    reasoning: _ReasoningConfig | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    include: list[_Includable] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: str | _Conversation | None = None
    prompt: dict[str, Any] | None = None
    background: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
            Meta(max_length=16),
        ]
        | None
    ) = None


class _CountBody(_Body, kw_only=True):
    model: str = ""


Body, CountBody = _Body, _CountBody  # what the endpoints take, for whoever documents them

_DECODER = msgspec.json.Decoder(_Body)
_COUNT_DECODER = msgspec.json.Decoder(_CountBody)


class Details(msgspec.Struct, frozen=True):
    """What the writer says again, and what whoever keeps the conversations has to know.

    `echo` are the members of the response object that repeat the request. The first `num_leading` segments are tools and
    instructions, which are not part of a conversation. `references` are (segment, item id) of the items that the client
    did not send again. `called` and `answered` are the call ids of the tool calls and of the results in the input.
    """

    echo: dict[str, object]
    items: tuple[dict[str, Any], ...]
    num_leading: int
    references: tuple[tuple[int, str], ...]
    called: frozenset[str]
    answered: tuple[str, ...]
    background: bool
    custom_tools: frozenset[str]
    summary: bool
    encrypted: bool
    num_top_logprobs: int | None  # None: no log probabilities
    include_obfuscation: bool | None
    store: bool
    previous_response_id: str | None
    conversation: str | None


# -- parsing ---------------------------------------------------------------------------------------------------------


def parse(body: bytes) -> Call | ApiError:
    """Read a request body of `POST /v1/responses`."""
    return _parsed(body, _DECODER)


def parse_count(body: bytes) -> Call | ApiError:
    """Read a request body of `POST /v1/responses/input_tokens`; the model may be missing, and is then empty."""
    return _parsed(body, _COUNT_DECODER)


def _parsed(body: bytes, decoder: msgspec.json.Decoder[Any]) -> Call | ApiError:
    read: _Body | ApiError = read_body(body, decoder)
    if isinstance(read, ApiError):
        return read
    error = contradiction(read, read.max_output_tokens) or _contradiction(read)
    if error is not None:
        return error
    try:
        return _call(read)
    except _RefusedError as refused:
        return refused.error
    except RecursionError:
        return invalid(
            "We could not parse the JSON body of your request. It is nested too deeply.", code="invalid_json"
        )


class _RefusedError(Exception):
    """Part of a body is not what it should be. Never leaves this module."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


def _call(body: _Body) -> Call:
    tools = _tools(body.tools or [])
    choice = _tool_choice(body, tools)
    allowed = choice.allowed
    items: list[dict[str, Any]] = body.input if isinstance(body.input, list) else []
    if isinstance(body.input, str):
        items = [{"type": "message", "role": "user", "content": body.input}]
    segments = [Segment(msgspec.json.encode(tool).decode()) for tool in _own_tools(body.tools or [])]
    segments += [Segment(body.instructions)] if body.instructions else []
    num_leading = len(segments)
    references: list[tuple[int, str]] = []
    for index, item in enumerate(items):
        if item_type(item) == "item_reference":
            references.append((len(segments), str(item.get("id"))))
        segments += item_segments(item, f"input[{index}]")
    details = _details(body, items, num_leading, references)
    stateless = not (references or details.previous_response_id or details.conversation)
    if stateless and (error := unmatched_call(details, frozenset())):
        raise _RefusedError(error)
    return Call(
        model=body.model,
        segments=tuple(segments),
        stream=bool(body.stream),
        max_tokens=body.max_output_tokens,
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        stop=stop_words(body.stop),
        tools=tuple(tool for tool in tools if allowed is None or tool.name in allowed),
        tool_choice=choice.word,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        answered=bool(items) and str(item_type(items[-1])).endswith("_output"),
        schema=_schema(body.text),
        thinking=_thinking(body.reasoning),
        priority=body.priority or 0,
        service_tier=body.service_tier,
        details=details,
    )


def _details(
    body: _Body, items: Sequence[dict[str, Any]], num_leading: int, references: Sequence[tuple[int, str]]
) -> Details:
    include = body.include or []
    reasoning = body.reasoning or _ReasoningConfig()
    options = body.stream_options or _StreamOptions()
    conversation = body.conversation.id if isinstance(body.conversation, _Conversation) else body.conversation
    calls = {"function_call", "custom_tool_call"}
    results = {"function_call_output", "custom_tool_call_output"}
    return Details(
        echo=_echo(body, conversation),
        items=tuple(items),
        num_leading=num_leading,
        references=tuple(references),
        called=frozenset(item["call_id"] for item in items if item_type(item) in calls),
        answered=tuple(item["call_id"] for item in items if item_type(item) in results),
        background=bool(body.background),
        custom_tools=frozenset(tool["name"] for tool in body.tools or [] if tool.get("type") == "custom"),
        summary=(reasoning.summary or reasoning.generate_summary) is not None,
        encrypted="reasoning.encrypted_content" in include,
        num_top_logprobs=(body.top_logprobs or 0) if "message.output_text.logprobs" in include else None,
        include_obfuscation=options.include_obfuscation,
        store=body.store is not False,
        previous_response_id=body.previous_response_id,
        conversation=conversation,
    )


def _echo(body: _Body, conversation: str | None) -> dict[str, object]:
    """The members of the response object that repeat the request, with the defaults that OpenAI documents."""
    text = body.text or _Text()
    reasoning = body.reasoning or _ReasoningConfig()
    echo: dict[str, object] = {
        "background": bool(body.background),
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "prompt_cache_retention": body.prompt_cache_retention,
        "reasoning": {"effort": reasoning.effort, "summary": reasoning.summary or reasoning.generate_summary},
        "safety_identifier": body.safety_identifier,
        "store": body.store is not False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {
            "format": msgspec.to_builtins(text.format or _TextFormat()),
            "verbosity": text.verbosity or "medium",
        },
        "tool_choice": body.tool_choice or "auto",
        "tools": [_shown_tool(tool) for tool in body.tools or []],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": body.truncation or "disabled",
        "user": body.user,
        "metadata": body.metadata or {},
    }
    if conversation is not None:
        echo["conversation"] = {"id": conversation}
    return echo


def _shown_tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool["type"] == "function":
        return {"description": None, "parameters": None, "strict": True, **tool}
    return {name: value for name, value in tool.items() if name not in _SECRETS}


def _schema(text: _Text | None) -> dict[str, Any] | bool | None:
    match text.format if text else None:
        case _JsonObject():
            return True
        case _JsonSchema(name=name, schema=schema):
            if error := schema_error(schema, f"response_format '{name}'", "text.format.schema"):
                raise _RefusedError(error)
            return schema
        case _:
            return None


def _thinking(reasoning: _ReasoningConfig | None) -> Thinking | None:
    """To ask for a summary without an effort is to ask for reasoning too."""
    if reasoning is None or reasoning.effort == "none":
        return None
    if reasoning.effort is not None:
        return Thinking(reasoning.effort)
    return Thinking() if reasoning.summary or reasoning.generate_summary else None


def _contradiction(body: _Body) -> ApiError | None:
    """What is well-formed field by field, and makes no sense together or here."""
    if body.prompt is not None:
        name = str(body.prompt.get("id"))[:200]
        return ApiError(404, f"Prompt with id '{name}' not found.", param="prompt")
    if body.stream_options is not None and not body.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        return invalid(message, "stream_options")
    if body.previous_response_id is not None and body.conversation is not None:
        names = "'previous_response_id' or 'conversation'"
        message = f"Mutually exclusive parameters: Ensure you are only providing one of: {names}."
        return invalid(message, "previous_response_id", "mutually_exclusive_parameters")
    if not body.input and body.input != "" and body.previous_response_id is None and body.conversation is None:
        return _missing("input")
    return None


# -- items -----------------------------------------------------------------------------------------------------------


def item_type(item: dict[str, Any]) -> object:
    """The type of an input item; it may be left out of a message and of a reference."""
    declared = item.get("type")
    if declared is not None:
        return declared
    return "item_reference" if "id" in item and "role" not in item else "message"


def item_segments(item: dict[str, Any], at: str = "input") -> list[Segment]:
    """What the model reads of an item; `at` is its place in the request. An item that is broken raises, see `parse`."""
    name = item_type(item)
    if name in _UNCHECKED:
        shown = {key: value for key, value in item.items() if key not in _NOT_TEXT}
        return [Segment(msgspec.json.encode(shown).decode())]
    if not isinstance(name, str):
        _checked(item, _Typed, at)
    kind = _CHECKED.get(str(name))
    if kind is None:
        raise _RefusedError(_unsupported(str(name), [*_CHECKED, *_UNCHECKED], f"{at}.type"))
    if kind is _Message and item.get("role") == "assistant":
        kind = _AssistantMessage
    try:
        segments: list[Segment] = _checked(item, kind, at).segments()
    except ValueError as problem:
        raise _RefusedError(invalid(f"Invalid image in '{at}': {problem}.", at, "invalid_image")) from problem
    return segments


def unmatched_call(details: Details, earlier: frozenset[str]) -> ApiError | None:
    """A tool call without its result, or a result without its call. `earlier`: calls that are still open."""
    called = details.called | earlier
    for call_id in details.answered:
        if call_id not in called:
            shown = call_id[:200]
            return invalid(f"No tool call found for function call output with call_id {shown}.", "input")
    for call_id in sorted(called.difference(details.answered)):
        return invalid(f"No tool output found for function call {call_id[:200]}.", "input")
    return None


def _content(content: str | Sequence[_InputPart] | Sequence[_OutputText | _Refusal]) -> list[Segment]:
    return [Segment(content)] if isinstance(content, str) else [part.segment() for part in content]


def _image(url: str | None, file_id: str | None, *, low_detail: bool) -> Segment:
    """Tokens of a picture, known by its URL or the id of its file. Raises ValueError for what is no picture."""
    if url is None and file_id is None:
        raise ValueError("one of 'image_url' and 'file_id' is required")
    data = data_url(url or "")
    size = UNKNOWN_SIZE if data is None else image_size(data)
    return Segment(url or file_id or "", openai_image_tokens(size, low_detail=low_detail))


# -- tools -----------------------------------------------------------------------------------------------------------


def _own_tools(tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tools that run at the client."""
    return [tool for tool in tools if tool["type"] in ("function", "custom")]


def _tools(declared: Sequence[dict[str, Any]]) -> list[Tool]:
    """The tools that the model may call. A custom tool with a grammar is not among them: nothing here writes in one."""
    tools: list[Tool] = []
    for index, tool in enumerate(declared):
        at = f"tools[{index}]"
        name = _checked(tool, _Typed, at).type
        if name == "function":
            function = _checked(tool, _FunctionTool, at)
            schema = function.parameters or {"type": "object"}
            if error := schema_error(schema, f"function '{function.name}'", f"{at}.parameters"):
                raise _RefusedError(error)
            tools.append(Tool(function.name, schema))
        elif name == "custom":
            custom = _checked(tool, _CustomTool, at)
            if custom.format is None or custom.format.type == "text":
                tools.append(Tool(custom.name, {"type": "string"}))
        else:
            _check_hosted(tool, name, at)
    return tools


def _check_hosted(tool: dict[str, Any], name: str, at: str) -> None:
    if name not in _HOSTED_TOOLS:
        raise _RefusedError(_unsupported(name, ["function", "custom", *_HOSTED_TOOLS], f"{at}.type"))
    for field in _HOSTED_TOOLS[name]:
        if tool.get(field) is None:
            raise _RefusedError(_missing(f"{at}.{field}"))


class _Choice(msgspec.Struct):
    """What `Call.tool_choice` is to be, and which tools are left to choose from; None: all."""

    word: str
    allowed: frozenset[str] | None = None


def _tool_choice(body: _Body, tools: Sequence[Tool]) -> _Choice:
    asked: str | dict[str, Any] = "auto" if body.tool_choice is None else body.tool_choice
    if not body.tools and asked not in ("none", "auto"):
        shown = asked if isinstance(asked, str) else str(asked.get("type"))[:200]
        message = f"Tool choice '{shown}' must be specified with 'tools' parameter."
        raise _RefusedError(invalid(message, "tool_choice", "invalid_value"))
    if isinstance(asked, str):
        return _Choice("auto" if asked == "required" and not tools else asked)
    name = _checked(asked, _Typed, "tool_choice").type
    if name in ("function", "custom"):
        return _Choice(f"tool:{_chosen(asked, body.tools or [], tools)}")
    if name == "allowed_tools":
        choice = _checked(asked, _AllowedTools, "tool_choice")
        allowed = frozenset(str(tool.get("name")) for tool in choice.tools)
        return _Choice(choice.mode if any(tool.name in allowed for tool in tools) else "auto", allowed)
    if name not in _HOSTED_TOOLS:
        known = ["function", "custom", "allowed_tools", *_HOSTED_TOOLS]
        raise _RefusedError(_unsupported(name, known, "tool_choice.type"))
    return _Choice("none")  # the hosted tool would run at the provider, and words follow


def _chosen(asked: dict[str, Any], declared: Sequence[dict[str, Any]], tools: Sequence[Tool]) -> str:
    name = _checked(asked, _NamedTool, "tool_choice").name
    if not any(tool.get("name") == name and tool["type"] == asked["type"] for tool in declared):
        message = f"Tool choice '{name[:200]}' not found in 'tools' parameter."
        raise _RefusedError(invalid(message, "tool_choice", "invalid_value"))
    if not any(tool.name == name for tool in tools):
        message = "Unsupported value: 'tool_choice' names a tool with a grammar, and this mock does not write in one."
        raise _RefusedError(invalid(message, "tool_choice", "unsupported_value"))
    return name


# -- errors ----------------------------------------------------------------------------------------------------------


def _checked(value: dict[str, Any], kind: type[T], at: str) -> T:
    """An object of the body as `kind`; `at` is its place. Raises _RefusedError with the error that names the field."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        decoder = msgspec.json.Decoder[Any](list[kind])  # type: ignore[valid-type]
        error = read_body(msgspec.json.encode([value]), decoder)
        assert isinstance(error, ApiError), value
        param = at + (error.param or "").removeprefix("[0]")
        message = error.message.replace("'[0]", f"'{at}", 1)
        raise _RefusedError(invalid(message, param, error.code)) from None


def _missing(param: str) -> ApiError:
    return invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def _unsupported(value: str, known: Sequence[str], param: str) -> ApiError:
    shown = value if len(value) <= 200 else value[:200] + "…"
    names = ", ".join(f"'{name}'" for name in known)
    return invalid(f"Invalid value for '{param}': '{shown}'. Supported values are: {names}.", param, "invalid_value")
