"""Request bodies of Anthropic's Messages dialect: a call that says what the body said, or a refusal in the API's words."""

from __future__ import annotations

import json
from base64 import b64encode
from math import ceil
from typing import Annotated, Any, Literal

import pydantic
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mockllm.call import Call, Segment, Thinking, Tool
from mockllm.wire.anthropic_messages import parse, parse_count
from mockllm.wire.errors import ApiError, anthropic_error_body

HI = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "It rains?", "input_schema": SCHEMA}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
EPHEMERAL, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bonn"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}
UNUSED_RESULT = {**RESULT, "tool_use_id": "toolu_2"}


def png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return b64encode(head + b"\x08\x02\x00\x00\x00").decode()


def body(**fields: object) -> bytes:
    """A good body with these fields put in; without those that are Ellipsis."""
    whole = {"model": "m", "max_tokens": 4096, "messages": [HI], **fields}
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def says(*blocks: object, role: str = "user") -> list[dict[str, Any]]:
    return [{"role": role, "content": list(blocks)}]


def text(words: str, **fields: object) -> dict[str, Any]:
    return {"type": "text", "text": words, **fields}


def image(**source: object) -> dict[str, Any]:
    return {"type": "image", "source": source}


def document(**source: object) -> dict[str, Any]:
    return {"type": "document", "source": source}


def agent(*results: object, uses: tuple[object, ...] = (USE,)) -> list[dict[str, Any]]:
    """A conversation in which tools were used."""
    return [HI, *says(*uses, role="assistant"), *says(*results)]


def good(data: bytes) -> Call:
    read = parse(data)
    assert isinstance(read, Call), read
    return read


def refused(data: bytes) -> str:
    """The message that a client sees."""
    read = parse(data)
    assert isinstance(read, ApiError), read
    return check_refusal(read)


def check_refusal(error: ApiError) -> str:
    assert error.status == 400
    shown = json.loads(anthropic_error_body(error, "req_1"))
    assert shown["type"] == "error"
    assert shown["error"]["type"] == "invalid_request_error"
    message: str = shown["error"]["message"]
    assert message == error.message
    assert 0 < len(message) < 2000, "an error must not send a large body back"
    return message


def test_a_call_says_what_the_body_said() -> None:
    data = body(
        system="Be brief.",
        stream=True,
        max_tokens=99,
        stop_sequences=["END", "STOP"],
        temperature=0.5,
        top_p=1,
        top_k=0,
        metadata={"user_id": "u"},
        service_tier="auto",
        min_tokens=3,
        ignore_eos=True,
        priority=2,
    )
    assert good(data) == Call(
        model="m",
        segments=(Segment("Be brief."), Segment("hi")),
        stream=True,
        max_tokens=99,
        min_tokens=3,
        ignore_eos=True,
        stop=("END", "STOP"),
        priority=2,
        service_tier="auto",
        user_marks_cache=True,
    )


@pytest.mark.parametrize(
    ("choice", "asked", "parallel"),
    [
        (None, "auto", True),
        ({"type": "auto"}, "auto", True),
        ({"type": "auto", "disable_parallel_tool_use": True}, "auto", False),
        ({"type": "any"}, "required", True),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        ({"type": "tool", "name": "weather"}, "tool:weather", True),
        ({"type": "tool", "name": "weather", "disable_parallel_tool_use": True}, "tool:weather", False),
        ({"type": "tool", "name": "web_search"}, "auto", True),
        ({"type": "none"}, "none", True),
    ],
)
def test_tools(choice: object, asked: str, parallel: bool) -> None:
    call = good(body(tools=[WEATHER, SEARCH], tool_choice=choice))
    assert call.tools == (Tool("weather", SCHEMA),), "what the service runs itself is never called"
    assert (call.tool_choice, call.parallel_tool_calls) == (asked, parallel)


@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "none"}])
def test_a_choice_that_forces_nothing_needs_no_tools(choice: object) -> None:
    assert good(body(tool_choice=choice)).tools == ()


@pytest.mark.parametrize(
    ("asked", "effort", "thinking"),
    [
        (None, None, None),
        (None, "high", None),
        ({"type": "disabled"}, None, Thinking("none")),
        ({"type": "enabled", "budget_tokens": 1024}, None, Thinking("medium", 1024)),
        ({"type": "enabled", "budget_tokens": 4095}, "low", Thinking("low", 4095)),
        ({"type": "adaptive"}, None, Thinking("medium")),
        ({"type": "adaptive", "display": "omitted"}, "max", Thinking("max")),
        ({"type": "between_tools"}, None, Thinking("none")),
    ],
)
def test_thinking(asked: object, effort: object, thinking: Thinking | None) -> None:
    assert good(body(thinking=asked, output_config={"effort": effort})).thinking == thinking


def test_thinking_between_tools_begins_with_the_first_result() -> None:
    call = good(body(thinking={"type": "between_tools"}, messages=agent(RESULT), output_config={"effort": "low"}))
    assert call.thinking == Thinking("low")


def test_an_answer_that_fits_a_schema() -> None:
    wanted = {"type": "json_schema", "schema": SCHEMA}
    assert good(body(output_config={"format": wanted})).schema == SCHEMA
    assert good(body(output_format=wanted)).schema == SCHEMA
    assert good(body()).schema is None


def test_the_prompt_in_the_order_in_which_it_is_cached() -> None:
    call = good(
        body(
            tools=[WEATHER, {**SEARCH, "cache_control": HOUR}],
            system=[text("one"), text("two", cache_control=HOUR)],
            messages=[
                {"role": "user", "content": "three"},
                *says({"type": "thinking", "thinking": "hm", "signature": "s"}, text("four"), USE, role="assistant"),
                *says({**RESULT, "content": [text("five"), text("six")], "cache_control": EPHEMERAL}, text("seven")),
            ],
        )
    )
    tool, search, *others = call.segments
    assert json.loads(tool.text) == WEATHER
    assert "web_search" in search.text
    assert [segment.text for segment in others[:4]] == ["one", "two", "three", "hm"]
    assert others[4].text == "four"
    assert json.loads(others[5].text.removeprefix("weather ")) == {"city": "Bonn"}
    assert [segment.text for segment in others[6:]] == ["five", "six", "seven"]
    assert [segment.cache_ttl_s for segment in call.segments] == [None, 3600, None, 3600, *[None] * 5, 300, None]
    assert call.user_marks_cache


def test_the_requests_own_mark_stands_at_the_last_block() -> None:
    messages = says(text("a"), text("b"))
    assert [one.cache_ttl_s for one in good(body(messages=messages, cache_control=HOUR)).segments] == [None, 3600]
    marked = says(text("a"), text("b", cache_control=EPHEMERAL))
    assert [one.cache_ttl_s for one in good(body(messages=marked, cache_control=EPHEMERAL)).segments] == [None, 300]


PDF = b64encode(b"%PDF-1.7" + b"x" * 119_992).decode()  # 120,000 bytes: three pages of 50,000


@pytest.mark.parametrize(
    ("block", "segments"),
    [
        (image(type="base64", media_type="image/png", data=png(1000, 750)), [(png(1000, 750), 1000)]),
        (image(type="url", url="https://a/b.png"), [("https://a/b.png", ceil(1024 * 1024 / 750))]),
        (image(type="file", file_id="file_1"), [("file_1", ceil(1024 * 1024 / 750))]),
        (document(type="text", media_type="text/plain", data="words"), [("words", None)]),
        ({**document(type="content", content="words"), "title": "T", "context": "C"}, [("T C", None), ("words", None)]),
        (document(type="content", content=[text("a"), text("b")]), [("a", None), ("b", None)]),
        (document(type="base64", media_type="application/pdf", data=PDF), [(PDF, 6000)]),
        (document(type="url", url="https://a/b.pdf"), [("https://a/b.pdf", 2000)]),
        (document(type="file", file_id="file_1"), [("file_1", 2000)]),
        (
            {"type": "search_result", "source": "https://a", "title": "T", "content": [text("found")]},
            [("T https://a", None), ("found", None)],
        ),
        ({"type": "container_upload", "file_id": "file_1"}, [("", None)]),
    ],
)
def test_what_a_user_can_show(block: object, segments: list[tuple[str, int | None]]) -> None:
    call = good(body(messages=says(block, text("?"))))
    assert [(one.text, one.num_tokens) for one in call.segments] == [*segments, ("?", None)]
    shown = good(body(messages=agent({**RESULT, "content": [block]}))) if "container" not in str(block) else None
    assert shown is None or [(one.text, one.num_tokens) for one in shown.segments[2:]] == segments


@pytest.mark.parametrize(
    "block",
    [
        {"type": "redacted_thinking", "data": "c2VjcmV0"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "secret"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"title": "secret", "url": "u"}]},
        {"type": "web_fetch_tool_result", "tool_use_id": "srvtoolu_1", "content": {"url": "secret"}},
        {"type": "code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": {"stdout": "secret"}},
        {"type": "mcp_tool_use", "id": "mcp_1", "name": "f", "server_name": "s", "input": {"secret": 1}},
        {"type": "mcp_tool_result", "tool_use_id": "mcp_1", "is_error": False, "content": "secret"},
    ],
)
def test_what_the_service_left_in_a_conversation_is_counted_as_text(block: dict[str, Any]) -> None:
    call = good(body(messages=[HI, *says(block, text("so"), role="assistant"), HI]))
    assert len(call.segments) == 4
    assert ("c2VjcmV0" if block["type"] == "redacted_thinking" else "secret") in call.segments[1].text


@pytest.mark.parametrize(
    ("messages", "answered"),
    [
        ([HI], False),
        (agent(RESULT), True),
        (agent(RESULT, text("and?")), True),
        ([*agent(RESULT), *says(text("It rains"), role="assistant")], True),
        ([*agent(RESULT), *says(text("It rains"), role="assistant"), HI], False),
    ],
)
def test_the_prompt_ends_with_a_tools_result(messages: list[object], answered: bool) -> None:
    assert good(body(messages=messages)).answered is answered


ACCEPTED = {
    "all-optional-null": body(
        **dict.fromkeys(
            ("system", "stream", "stop_sequences", "temperature", "top_p", "top_k", "metadata", "tools", "tool_choice")
        ),
        thinking=None,
        cache_control=None,
        output_config=None,
        service_tier=None,
        container=None,
    ),
    "bounds": body(temperature=1, top_p=0, top_k=0, max_tokens=1),
    "surrounding-blanks": b" \r\n" + body() + b"\n\t ",
    "features-of-the-service": body(
        container={"skills": []}, mcp_servers=[{"type": "url", "url": "u", "name": "n"}], context_management={}
    ),
    "prefill": body(messages=[HI, {"role": "assistant", "content": "The answer is ("}]),
    "empty-prefill": body(messages=[HI, {"role": "assistant", "content": ""}]),
    "consecutive-turns": body(
        messages=[HI, HI, *says(text("a"), role="assistant"), *says(text("b"), role="assistant")]
    ),
    "instruction-in-the-middle": body(messages=[HI, {"role": "system", "content": "Be brief."}, HI]),
    "two-tools": body(messages=agent(UNUSED_RESULT, RESULT, uses=(USE, {**USE, "id": "toolu_2"}))),
    "results-one-by-one": body(
        messages=[*agent(RESULT, uses=(USE, {**USE, "id": "toolu_2"})), *says(UNUSED_RESULT, text("?"))]
    ),
    "words-after-a-tool-use": body(messages=[HI, *says(USE, role="assistant"), *agent(RESULT, uses=(text("so"),))[1:]]),
    "result-without-content": body(messages=agent({"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True})),
    "huge-number-in-an-input": body(messages=agent(RESULT, uses=({**USE, "input": {"n": 10**40}},))),
    "four-marks": body(
        tools=[{**WEATHER, "cache_control": EPHEMERAL}],
        system=[text("a", cache_control=EPHEMERAL)],
        messages=says(text("b", cache_control=EPHEMERAL), text("c", cache_control=EPHEMERAL)),
    ),
    "escaped-pair": body(messages=[{"role": "user", "content": "\U0001f389"}]),
    "duplicate-key": b'{"max_tokens":5,"max_tokens":1,"model":"m","messages":[{"role":"user","content":"x"}]}',
    "many-messages": body(messages=[HI] * 20_000),
}


@pytest.mark.parametrize("data", list(ACCEPTED.values()), ids=list(ACCEPTED))
def test_a_good_body_is_taken(data: bytes) -> None:
    good(data)


NAMED = {"type": "tool", "name": "nothing"}
# Body fields and what the API says, as clients of it have published.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": ...}, "model: Field required"),
    ({"messages": ...}, "messages: Field required"),
    ({"max_tokens": ...}, "max_tokens: Field required"),
    ({"messages": []}, "messages: at least one message is required"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role: Input should be 'user' or 'assistant'"),
    ({"messages": says(text("x"), role="assistant")}, 'messages: first message must use the "user" role'),
    ({"messages": [{"role": "user", "content": None}]}, "messages.0.content: Input should be a valid list"),
    ({"system": 5}, "system: Input should be a valid list"),
    ({"response_format": {"type": "text"}}, "response_format: Extra inputs are not permitted"),
    ({"messages": [{**HI, "name": "x"}]}, "messages.0.name: Extra inputs are not permitted"),
    ({"messages": says({**text("x"), "id": 1})}, "messages.0.content.0.text.id: Extra inputs are not permitted"),
    (
        {"messages": says({"type": "thinking", "thinking": "x"}, role="assistant")},
        "messages.0.content.0.thinking.signature: Field required",
    ),
    (
        {"messages": [HI, {"role": "user", "content": ""}]},
        "messages.1: all messages must have non-empty content except for the optional final assistant message",
    ),
    ({"messages": says(text(""))}, "messages: text content blocks must be non-empty"),
    ({"messages": says(text("\n "))}, "messages: text content blocks must contain non-whitespace text"),
    ({"system": [text("")]}, "system: text content blocks must be non-empty"),
    (
        {"messages": [HI, *says(text("So "), role="assistant")]},
        "messages: final assistant content cannot end with trailing whitespace",
    ),
    (
        {"messages": says(image(type="base64", media_type="image/bmp", data="x"))},
        (
            "messages.0.content.0.image.source.base64.media_type: "
            "Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
        ),
    ),
    (
        {"messages": agent({**RESULT, "content": [image(type="base64", media_type="image/png", data="[lost]")]})},
        "messages.2.content.0.tool_result.content.0.image.source.base64: invalid base64 data",
    ),
    (
        {"messages": says(image(type="base64", media_type="image/jpeg", data=png(1, 1)))},
        "messages.0.content.0.image.source.base64.data: Image does not match the provided media type image/jpeg",
    ),
    (
        {"messages": says(image(type="base64", media_type="image/png", data=""))},
        "messages.0.content.0.image.source.base64: image cannot be empty",
    ),
    (
        {"messages": says(document(type="base64", media_type="application/pdf", data="AAAA"))},
        "messages.0.content.0.document.source.base64.data: The PDF specified was not valid.",
    ),
    (
        {"messages": agent(UNUSED_RESULT)},
        (
            "messages.2.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_2. Each `tool_result` "
            "block must have a corresponding `tool_use` block in the previous message."
        ),
    ),
    (
        {"messages": says(RESULT)},
        (
            "messages.0.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_1. Each `tool_result` "
            "block must have a corresponding `tool_use` block in the previous message."
        ),
    ),
    (
        {"messages": agent(text("never mind"), uses=(USE, {**USE, "id": "toolu_2"}))},
        (
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1, toolu_2. Each "
            "`tool_use` block must have a corresponding `tool_result` block in the next message."
        ),
    ),
    (
        {"messages": [HI, *says(USE, role="assistant")]},
        (
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1. Each "
            "`tool_use` block must have a corresponding `tool_result` block in the next message."
        ),
    ),
    (
        {"messages": [*agent(text("wait")), *says(text("yes?"), role="assistant"), *says(RESULT)]},
        (
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1. Each "
            "`tool_use` block must have a corresponding `tool_result` block in the next message."
        ),
    ),
    (
        {"messages": agent(RESULT, RESULT)},
        (
            "messages.2.content.1: each tool_use must have a single result. Found multiple `tool_result` blocks with id: "
            "toolu_1"
        ),
    ),
    ({"messages": agent(RESULT, uses=(USE, USE))}, "messages.1.content.1: `tool_use` ids must be unique"),
    (
        {"messages": [HI, *says(RESULT, role="assistant")]},
        "messages.1.content.0: `tool_result` blocks can only be in `user` messages",
    ),
    ({"messages": says(USE)}, "messages.0.content.0: `tool_use` blocks can only be in `assistant` messages"),
    ({"tools": [WEATHER, WEATHER]}, "tools: Tool names must be unique."),
    ({"tools": [{"input_schema": SCHEMA}]}, "tools.0.custom.name: Field required"),
    (
        {"tools": [{**WEATHER, "name": "a b"}]},
        "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'",
    ),
    ({"tools": [{"name": "f"}]}, "tools.0.custom.input_schema: Field required"),
    ({"tools": [{"name": "f", "input_schema": {}}]}, "tools.0.custom.input_schema.type: Field required"),
    (
        {"tools": [{"name": "f", "input_schema": {"type": "array"}}]},
        "tools.0.custom.input_schema.type: Input should be 'object'",
    ),
    ({"tool_choice": {"type": "any"}}, "tool_choice.any may only be specified while providing tools"),
    ({"tool_choice": NAMED}, "Tool 'nothing' not found in provided tools"),
    ({"tool_choice": NAMED, "tools": [WEATHER]}, "Tool 'nothing' not found in provided tools"),
    (
        {"tool_choice": {"type": "any"}, "tools": [WEATHER], "thinking": {"type": "adaptive"}},
        "Thinking may not be enabled when tool_choice forces tool use.",
    ),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 1023}},
        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
    ),
    ({"stop_sequences": ["x", ""]}, "stop_sequences: each stop sequence must be non-empty"),
    ({"stop_sequences": ["\n"]}, "stop_sequences: each stop sequence must contain non-whitespace"),
    (
        {"system": [text(str(number), cache_control=EPHEMERAL) for number in range(5)]},
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    (
        {
            "tools": [{**WEATHER, "cache_control": EPHEMERAL}],
            "system": [text(str(number), cache_control=EPHEMERAL) for number in range(4)],
            "messages": says(text("x", cache_control=EPHEMERAL)),
        },
        "A maximum of 4 blocks with cache_control may be provided. Found 6.",
    ),
    (
        {"tools": [{**WEATHER, "cache_control": EPHEMERAL}], "system": [text("a"), text("b", cache_control=HOUR)]},
        (
            "system.1.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' cache_control "
            "block. Note that blocks are processed in the following order: `tools`, `system`, `messages`."
        ),
    ),
    (
        {"cache_control": EPHEMERAL, "messages": says(text("x", cache_control=HOUR))},
        "Top-level cache_control has ttl='5m' but the target block already has cache_control with ttl='1h'",
    ),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=[message[:60] for _, message in REFUSED])
def test_a_bad_body_is_refused_in_the_apis_words(fields: dict[str, Any], message: str) -> None:
    assert refused(body(**fields)) == message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": says({"type": "image_url"})}, "messages.0.content.0: Input tag 'image_url' found using 'type' "),
        ({"tools": [{"type": "function"}]}, "tools.0: Input tag 'function' found using 'type' does not match any "),
        (
            {"tools": [{"name": "f", "input_schema": {"type": "object", "properties": 5}}]},
            "tools.0.custom.input_schema",
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": 5}}}},
            "output_config.format.schema: ",
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 4096}},
            "`max_tokens` must be greater than `thinking.budget",
        ),
        (
            {"thinking": {"type": "adaptive"}, "temperature": 0.7},
            "`temperature` may only be set to 1 when thinking is ",
        ),
        ({"min_tokens": 4097}, "min_tokens: "),
        ({"messages": [HI] * 100_001}, "messages: List should have at most 100000 items after validation, not 100001"),
        ({"messages": says(*[{**text("x"), "k" * 50_000: 1}])}, "messages.0.content.0.text.kkk"),
        ({"messages": says({"type": "t" * 50_000})}, "messages.0.content.0: Input tag 'ttt"),
        (
            {"messages": agent({**RESULT, "tool_use_id": "i" * 50_000})},
            "messages.2.content.0: unexpected `tool_use_id`",
        ),
        ({"tool_choice": {"type": "tool", "name": "n" * 50_000}}, "Tool 'nnn"),
        (
            {"messages": agent(text("x"), uses=tuple({**USE, "id": f"u{n}"} for n in range(999)))},
            "messages.1: `tool_use`",
        ),
    ],
)
def test_a_bad_body_is_refused_with_the_fields_name(fields: dict[str, Any], words: str) -> None:
    assert refused(body(**fields)).startswith(words)


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")


class Enabled(Model):
    type: Literal["enabled"]
    budget_tokens: int = pydantic.Field(ge=1024)
    display: Literal["summarized", "omitted"] | None = None


class Disabled(Model):
    type: Literal["disabled"]


class Adaptive(Model):
    type: Literal["adaptive"]
    display: Literal["summarized", "omitted"] | None = None


class BetweenTools(Model):
    type: Literal["between_tools"]


class Metadata(Model):
    user_id: str | None = pydantic.Field(default=None, max_length=256)


class Request(Model):
    """Some of the body's fields, as the service's own framework knows them."""

    model: str = pydantic.Field(min_length=1, max_length=256)
    messages: list[Any]
    max_tokens: int = pydantic.Field(ge=1)
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = pydantic.Field(default=None, ge=0, le=1)
    top_p: float | None = pydantic.Field(default=None, ge=0, le=1)
    top_k: int | None = pydantic.Field(default=None, ge=0)
    metadata: Metadata | None = None
    thinking: Annotated[
        Enabled | Disabled | Adaptive | BetweenTools | None, pydantic.Field(discriminator="type", default=None)
    ]
    service_tier: Literal["auto", "standard_only"] | None = None


@pytest.mark.parametrize(
    "fields",
    [
        {"model": ...},
        {"model": ""},
        {"model": 5},
        {"model": None},
        {"model": "x" * 300},
        {"messages": ...},
        {"messages": "hi"},
        {"messages": {}},
        {"max_tokens": ...},
        {"max_tokens": 0},
        {"max_tokens": "5"},
        {"max_tokens": True},
        {"max_tokens": None},
        {"stream": "true"},
        {"stream": 1},
        {"stop_sequences": "x"},
        {"stop_sequences": [5]},
        {"temperature": 1.5},
        {"temperature": -0.1},
        {"temperature": "1"},
        {"temperature": True},
        {"top_p": 2},
        {"top_k": -1},
        {"top_k": "x"},
        {"metadata": {"user_id": 5}},
        {"metadata": {"user_id": "x" * 257}},
        {"metadata": {"name": "x"}},
        {"thinking": {"type": "enabled"}},
        {"thinking": {"type": "enabled", "budget_tokens": 5}},
        {"thinking": {"type": "enabled", "budget_tokens": "5"}},
        {"thinking": {"type": "adaptive", "display": "shown"}},
        {"thinking": {"type": "disabled", "budget_tokens": 5}},
        {"thinking": {"budget_tokens": 5}},
        {"service_tier": "flex"},
        {"service_tier": 5},
        {"n": 2},
        {"functions": []},
    ],
    ids=str,
)
def test_the_words_are_pydantics(fields: dict[str, Any]) -> None:
    """The service validates with pydantic; so does this oracle."""
    data = body(**fields)
    with pytest.raises(pydantic.ValidationError) as caught:
        Request.model_validate(json.loads(data))
    first = caught.value.errors()[0]
    assert refused(data) == f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


NOT_JSON = [
    (b"", "unexpected end of data: line 1 column 1 (char 0)"),
    (b"{", "unexpected end of data: line 1 column 2 (char 1)"),
    (b'{"model":\n NaN}', "invalid character: line 2 column 2 (char 11)"),
    (b'{"model":"\xc3\xa9",x}', "line 1 column 14 (char 13)"),
    (b'{"model":"\\ud83d"}', "no low surrogate in string: line 1 column 11 (char 10)"),
    (b'{"model":"\xff"}', "line 1 column 11 (char 10)"),
    (b'{"model":' * 100_000, ""),
    (b'{"tools":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    (b'{"other":' + b"[" * 100_000, ""),
    (body() + b"x", ""),
    (body().decode().encode("utf-16"), ""),
    (b"model=m", ""),
]


@pytest.mark.parametrize(("data", "where"), NOT_JSON, ids=range(len(NOT_JSON)))
def test_malformed_json_is_refused_with_its_place(data: bytes, where: str) -> None:
    message = refused(data)
    assert message.endswith(where)
    if where:
        assert message.startswith("The request body is not valid JSON: ")


@pytest.mark.parametrize("data", [b"null", b"5", b'"x"', b"[]", b"[" + body() + b"]"])
def test_what_is_not_an_object_is_refused(data: bytes) -> None:
    assert refused(data) == "Input should be a valid dictionary"


def test_a_count_is_of_the_prompt_alone() -> None:
    prompt = {"system": "Be brief.", "tools": [WEATHER], "messages": agent(RESULT)}
    counted = parse_count(body(max_tokens=..., **prompt))
    assert isinstance(counted, Call)
    assert counted.segments == good(body(**prompt)).segments
    assert counted.model == "m"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "max_tokens: Extra inputs are not permitted"),
        ({"max_tokens": ..., "messages": []}, "messages: at least one message is required"),
        ({"max_tokens": ..., "model": ...}, "model: Field required"),
        (
            {"max_tokens": ..., "tool_choice": {"type": "any"}},
            "tool_choice.any may only be specified while providing tools",
        ),
    ],
)
def test_a_bad_count_is_refused(fields: dict[str, Any], message: str) -> None:
    read = parse_count(body(**fields))
    assert isinstance(read, ApiError)
    assert check_refusal(read) == message


def check_any(data: bytes) -> None:
    for read in (parse(data), parse_count(data)):
        if isinstance(read, ApiError):
            check_refusal(read)
        else:
            assert read.segments


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=400))
@example(b"\xef\xbb\xbf{}")
def test_any_bytes(data: bytes) -> None:
    check_any(data)


FIELDS = [
    *("model", "messages", "max_tokens", "system", "tools", "tool_choice", "thinking", "cache_control", "stream"),
    *("stop_sequences", "temperature", "top_k", "metadata", "output_config", "container", "min_tokens", "other"),
]
INNER = [
    *("role", "content", "type", "text", "source", "data", "media_type", "tool_use_id", "id", "name", "input", "ttl"),
    *("input_schema", "budget_tokens", "signature", "format", "schema", "x` - at `$.messages[0]"),
]
TAGS = [
    *(
        "text",
        "image",
        "document",
        "tool_use",
        "tool_result",
        "thinking",
        "base64",
        "url",
        "content",
        "enabled",
        "tool",
    ),
    *("ephemeral", "user", "assistant", "system", "object", "web_search_20250305", "search_result", "json_schema"),
]
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from([10**30, *TAGS])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(INNER), inner, max_size=5),
    max_leaves=14,
)


@settings(deadline=None, max_examples=400)
@given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=4))
def test_any_value_in_any_field_of_a_good_body(fields: dict[str, object]) -> None:
    # Python writes NaN and Infinity, and escapes lone surrogates: both are hostile on purpose.
    check_any(body(**fields))


tagged = st.sampled_from(TAGS).flatmap(
    lambda tag: st.dictionaries(st.sampled_from(INNER), values, max_size=4).map(lambda other: {**other, "type": tag})
)


@settings(deadline=None, max_examples=200)
@given(st.lists(tagged, max_size=3), st.sampled_from(["user", "assistant"]), st.booleans())
def test_any_blocks(blocks: list[dict[str, Any]], role: str, nested: bool) -> None:
    shown = [{**RESULT, "content": blocks}] if nested else blocks
    check_any(body(messages=[HI, *says(USE, role="assistant"), *says(*shown, role=role)]))


@settings(deadline=None, max_examples=300)
@given(st.integers(min_value=0), st.binary(min_size=1, max_size=3))
def test_a_good_body_with_bytes_replaced(position: int, patch: bytes) -> None:
    data = body(tools=[WEATHER], system=[text("a", cache_control=HOUR)], messages=agent(RESULT))
    position %= len(data)
    check_any(data[:position] + patch + data[position + len(patch) :])
