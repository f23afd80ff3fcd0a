"""Request bodies of the Responses dialect: whatever a client sends, the answer is a call or a clear refusal."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mockllm.call import Call, Segment, Thinking, Tool
from mockllm.wire.errors import ApiError, openai_error_body
from mockllm.wire.openai_responses import parse, parse_count

from .sdk import error_of

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 600, 500) + b"\x08\x02\x00\x00\x00"
PNG_URL = "data:image/png;base64," + b64encode(PNG).decode()
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "weather", "parameters": CITY}
CALLED = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Oslo"}'}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
USER = {"role": "user", "content": "hi"}


def body(**fields: object) -> bytes:
    """A good body with these fields put in."""
    return json.dumps({"model": "m", "input": "hi", **fields}).encode()


def parsed(**fields: object) -> Call:
    call = parse(body(**fields))
    assert isinstance(call, Call), call
    return call


def refused(**fields: object) -> ApiError:
    error = parse(body(**fields))
    assert isinstance(error, ApiError), error
    return error


def texts(call: Call) -> list[str]:
    return [segment.text for segment in call.segments]


def message(*parts: object, role: str = "user") -> list[object]:
    return [{"type": "message", "role": role, "content": list(parts)}]


# -- what is taken ---------------------------------------------------------------------------------------------------


def test_a_plain_body() -> None:
    assert parsed() == Call(model="m", segments=(Segment("hi"),))


def test_everything_that_a_server_needs_to_know() -> None:
    call = parsed(
        instructions="be brief",
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        max_output_tokens=50,
        min_tokens=5,
        ignore_eos=True,
        stop=["x", ""],
        priority=3,
        service_tier="flex",
        reasoning={"effort": "high", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "place", "schema": CITY, "strict": True}},
        stream=True,
    )
    tool, *others = call.segments
    assert json.loads(tool.text) == WEATHER
    assert call == Call(
        model="m",
        segments=(tool, Segment("be brief"), Segment("hi")),
        stream=True,
        max_tokens=50,
        min_tokens=5,
        ignore_eos=True,
        stop=("x",),
        tools=(Tool("weather", CITY),),
        tool_choice="tool:weather",
        parallel_tool_calls=False,
        schema=CITY,
        thinking=Thinking("high"),
        priority=3,
        service_tier="flex",
    )
    assert others == [Segment("be brief"), Segment("hi")]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (USER, ["hi"]),
        ({"role": "assistant", "content": "yes"}, ["yes"]),
        ({"role": "developer", "content": [{"type": "input_text", "text": "a"}]}, ["a"]),
        ({"type": "message", "role": "system", "content": [], "status": "completed"}, []),
        (
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [
                    {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
                    {"type": "refusal", "refusal": "b"},
                ],
            },
            ["a", "b"],
        ),
        (
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "a"}],
                "content": [{"type": "reasoning_text", "text": "b"}],
                "encrypted_content": "x" * 1000,
            },
            ["a", "b"],
        ),
        ({"type": "item_reference", "id": "msg_1"}, [""]),
        ({"id": "msg_1"}, [""]),
    ],
)
def test_the_words_of_an_item(item: dict[str, Any], expected: list[str]) -> None:
    assert texts(parsed(input=[item])) == expected


def test_calls_and_results_are_words_too() -> None:
    shot = {"type": "computer_screenshot", "image_url": PNG_URL}
    call = parsed(
        input=[
            USER,
            CALLED,
            RESULT,
            {"type": "custom_tool_call", "call_id": "call_2", "name": "shell", "input": "ls"},
            {
                "type": "custom_tool_call_output",
                "call_id": "call_2",
                "output": [{"type": "input_text", "text": "a.py"}],
            },
            {"type": "computer_call_output", "call_id": "call_3", "output": shot},
        ]
    )
    assert texts(call) == ["hi", 'weather {"city":"Oslo"}', "rain", "shell ls", "a.py", PNG_URL]
    # 600 x 500 fits one tile over and under: 2 tiles, by OpenAI's vision guide 85 + 170 * 2.
    assert call.segments[-1].num_tokens == 85 + 170 * 2


def test_an_item_that_nobody_acts_on_is_counted_by_its_words() -> None:
    item = {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "rain"},
    }
    (segment,) = parsed(input=[item]).segments
    assert json.loads(segment.text) == {"action": {"type": "search", "query": "rain"}}
    (picture,) = parsed(input=[{"type": "image_generation_call", "id": "ig_1", "result": "A" * 10_000}]).segments
    assert len(picture.text) < 10


@pytest.mark.parametrize(
    ("part", "segment"),
    [
        ({"type": "input_image", "image_url": PNG_URL, "detail": "low"}, Segment(PNG_URL, 85)),
        ({"type": "input_image", "image_url": PNG_URL}, Segment(PNG_URL, 85 + 170 * 2)),
        # A picture that is not fetched counts as 1024 x 1024: scaled to 768, 2 x 2 tiles.
        ({"type": "input_image", "image_url": "https://x/y.png"}, Segment("https://x/y.png", 85 + 170 * 4)),
        ({"type": "input_image", "file_id": "file-1", "detail": "high"}, Segment("file-1", 85 + 170 * 4)),
        ({"type": "input_file", "filename": "a.pdf", "file_data": "data:,x"}, Segment("a.pdf")),
        ({"type": "input_file", "file_id": "file-1"}, Segment("file-1")),
    ],
)
def test_the_words_and_tokens_of_a_part(part: dict[str, Any], segment: Segment) -> None:
    assert parsed(input=message(part)).segments == (segment,)


@pytest.mark.parametrize(
    ("items", "answered"),
    [
        ([USER], False),
        ([USER, CALLED, RESULT], True),
        ([USER, CALLED, RESULT, USER], False),
        ([USER, {"type": "shell_call_output", "call_id": "c", "output": []}], True),
        ([USER, {"type": "tool_search_output", "call_id": "c", "tools": []}], True),
        ([USER, {"type": "web_search_call", "id": "ws_1", "status": "completed"}], False),
    ],
)
def test_answered_is_an_input_that_ends_with_a_result(items: list[object], answered: bool) -> None:
    assert parsed(input=items).answered is answered


@pytest.mark.parametrize(
    ("asked", "thinking"),
    [
        (None, None),
        ({}, None),
        ({"effort": "none", "summary": "auto"}, None),
        ({"effort": "xhigh"}, Thinking("xhigh")),
        ({"summary": "detailed"}, Thinking("medium")),
        ({"effort": None, "summary": None}, None),
    ],
)
def test_when_the_model_is_to_reason(asked: object, thinking: Thinking | None) -> None:
    assert parsed(reasoning=asked).thinking == thinking


HOSTED = [
    {"type": "web_search"},
    {"type": "file_search", "vector_store_ids": ["vs_1"]},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "mcp", "server_label": "x", "server_url": "https://x", "authorization": "secret"},
    {"type": "image_generation"},
]
SHELL = {"type": "custom", "name": "shell"}
GRAMMAR = {"type": "custom", "name": "lark", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}}
OTHER = {"type": "function", "name": "other", "parameters": None, "strict": None}


@pytest.mark.parametrize(
    ("tools", "choice", "names", "word"),
    [
        ([WEATHER, *HOSTED], None, ["weather"], "auto"),
        (HOSTED, "auto", [], "auto"),
        (HOSTED, "required", [], "auto"),
        (HOSTED, {"type": "file_search"}, [], "none"),
        ([WEATHER, SHELL, GRAMMAR], "required", ["weather", "shell"], "required"),
        ([WEATHER, SHELL], {"type": "custom", "name": "shell"}, ["weather", "shell"], "tool:shell"),
        (
            [WEATHER, OTHER],
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "other"}]},
            ["other"],
            "required",
        ),
        (None, "none", [], "none"),
        ([], None, [], "auto"),
    ],
)
def test_which_tools_may_be_called(tools: object, choice: object, names: list[str], word: str) -> None:
    call = parsed(tools=tools, tool_choice=choice)
    assert [tool.name for tool in call.tools] == names
    assert call.tool_choice == word


OPTIONAL = [
    "instructions", "tools", "tool_choice", "parallel_tool_calls", "max_tool_calls", "text", "reasoning",
    "max_output_tokens", "top_logprobs", "include", "store", "previous_response_id", "conversation", "prompt",
    "background", "truncation", "service_tier", "safety_identifier", "prompt_cache_key", "stream",
    "stream_options", "metadata", "temperature", "top_p", "user",
]  # fmt: skip
ACCEPTED: dict[str, dict[str, object]] = {
    "all-optional-null": dict.fromkeys(OPTIONAL),
    "unknown-fields": {"no_such_field": [1], "context_management": [{"type": "compaction"}]},
    "bounds": {"temperature": 2, "top_p": 0, "top_logprobs": 20, "max_output_tokens": 1, "max_tool_calls": 1},
    "metadata": {"metadata": {"k" * 64: "v" * 512}},
    "empty-text": {"input": ""},
    "foreground": {"background": False},
    "background": {"background": True},
    "only-a-previous-response": {"input": None, "previous_response_id": "resp_1"},
    "conversation-as-object": {"conversation": {"id": "conv_1"}},
    "result-of-an-earlier-call": {"input": [RESULT], "previous_response_id": "resp_1"},
    "parallel-calls": {"input": [CALLED, {**CALLED, "call_id": "call_2"}, {**RESULT, "call_id": "call_2"}, RESULT]},
    "verbosity": {"text": {"verbosity": "low", "format": {"type": "text"}}},
    "no-obfuscation": {"stream": True, "stream_options": {"include_obfuscation": False}},
    "include": {"include": ["reasoning.encrypted_content", "message.output_text.logprobs"], "store": False},
}


@pytest.mark.parametrize("fields", ACCEPTED.values(), ids=ACCEPTED)
def test_a_good_body_is_taken(fields: dict[str, object]) -> None:
    parsed(**fields)


def test_tokens_can_be_counted_without_a_model() -> None:
    call = parse_count(b'{"input":"hi","instructions":"be brief"}')
    assert isinstance(call, Call)
    assert texts(call) == ["be brief", "hi"]
    assert isinstance(parse(b'{"input":"hi"}'), ApiError)


# -- what is refused -------------------------------------------------------------------------------------------------


class Refusal(NamedTuple):
    name: str
    fields: dict[str, object]
    param: str | None
    code: str | None = None
    status: int = 400


def _image(url: str) -> list[object]:
    return [USER, *message({"type": "input_image", "image_url": url})]


MISSING, TYPE, VALUE = "missing_required_parameter", "invalid_type", "invalid_value"
REFUSED = [
    Refusal("model-empty", {"model": ""}, "model", VALUE),
    Refusal("model-number", {"model": 5}, "model", TYPE),
    Refusal("input-null", {"input": None}, "input", MISSING),
    Refusal("input-empty", {"input": []}, "input", MISSING),
    Refusal("input-number", {"input": 5}, "input", TYPE),
    Refusal("input-object", {"input": USER}, "input", TYPE),
    Refusal("item-string", {"input": [USER, "hi"]}, "input[1]", TYPE),
    Refusal("item-empty", {"input": [{}]}, "input[0].role", MISSING),
    Refusal("item-type-unknown", {"input": [{"type": "x" * 5000}]}, "input[0].type", VALUE),
    Refusal("item-type-number", {"input": [USER, {"type": 5}]}, "input[1].type", TYPE),
    Refusal("role-unknown", {"input": [{"role": "tool", "content": "x"}]}, "input[0].role", VALUE),
    Refusal("role-number", {"input": [{"role": 5, "content": "x"}]}, "input[0].role", TYPE),
    Refusal("content-missing", {"input": [{"role": "user"}]}, "input[0].content", MISSING),
    Refusal("content-null", {"input": [{"role": "user", "content": None}]}, "input[0].content", TYPE),
    Refusal("part-string", {"input": message("hi")}, "input[0].content[0]", TYPE),
    Refusal("part-without-type", {"input": message({"text": "x"})}, "input[0].content[0].type", MISSING),
    Refusal("part-without-text", {"input": message({"type": "input_text"})}, "input[0].content[0].text", MISSING),
    Refusal("part-of-chat", {"input": message({"type": "text", "text": "x"})}, "input[0].content[0].type", VALUE),
    Refusal(
        "part-of-the-model-from-the-user",
        {"input": [USER, *message({"type": "output_text", "text": "x"})]},
        "input[1].content[0].type",
        VALUE,
    ),
    Refusal(
        "part-of-the-user-from-the-model",
        {"input": message({"type": "input_text", "text": "x"}, role="assistant")},
        "input[0].content[0].type",
        VALUE,
    ),
    Refusal(
        "image-detail",
        {"input": message({"type": "input_image", "image_url": PNG_URL, "detail": "best"})},
        "input[0].content[0].detail",
        VALUE,
    ),
    Refusal("image-without-source", {"input": message({"type": "input_image"})}, "input[0]", "invalid_image"),
    Refusal("image-not-base64", {"input": _image("data:image/png;base64,!!!!")}, "input[1]", "invalid_image"),
    Refusal("image-is-text", {"input": _image("data:image/png;base64,aGVsbG8=")}, "input[1]", "invalid_image"),
    Refusal("call-without-arguments", {"input": [{**CALLED, "arguments": None}]}, "input[0].arguments", TYPE),
    Refusal("result-without-output", {"input": [CALLED, {**RESULT, "output": 5}]}, "input[1].output", TYPE),
    Refusal("result-without-a-call", {"input": [USER, RESULT]}, "input"),
    Refusal("call-without-a-result", {"input": [USER, CALLED]}, "input"),
    Refusal("reasoning-without-summary", {"input": [{"type": "reasoning", "id": "x"}]}, "input[0].summary", MISSING),
    Refusal("instructions-array", {"instructions": ["x"]}, "instructions", TYPE),
    Refusal("tools-object", {"tools": {}}, "tools", TYPE),
    Refusal("tool-string", {"tools": ["weather"]}, "tools[0]", TYPE),
    Refusal("tool-without-type", {"tools": [{"name": "x"}]}, "tools[0].type", MISSING),
    Refusal("tool-type-unknown", {"tools": [WEATHER, {"type": "x" * 5000}]}, "tools[1].type", VALUE),
    Refusal("tool-of-chat", {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools[0].name", MISSING),
    Refusal("tool-name", {"tools": [{**WEATHER, "name": "a b"}]}, "tools[0].name", VALUE),
    Refusal("tool-parameters", {"tools": [{**WEATHER, "parameters": []}]}, "tools[0].parameters", TYPE),
    Refusal(
        "tool-schema",
        {"tools": [{**WEATHER, "parameters": {"type": "no-such-type"}}]},
        "tools[0].parameters",
        "invalid_json_schema",
    ),
    Refusal("hosted-tool-incomplete", {"tools": [{"type": "file_search"}]}, "tools[0].vector_store_ids", MISSING),
    Refusal("too-many-tools", {"tools": [WEATHER] * 129}, "tools", VALUE),
    Refusal("choice-word", {"tool_choice": "always"}, "tool_choice", VALUE),
    Refusal("choice-without-tools", {"tool_choice": "required"}, "tool_choice", VALUE),
    Refusal("choice-without-type", {"tools": [WEATHER], "tool_choice": {}}, "tool_choice.type", MISSING),
    Refusal("choice-type", {"tools": [WEATHER], "tool_choice": {"type": "x"}}, "tool_choice.type", VALUE),
    Refusal("choice-nameless", {"tools": [WEATHER], "tool_choice": {"type": "function"}}, "tool_choice.name", MISSING),
    Refusal(
        "choice-of-another", {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice", VALUE
    ),
    Refusal(
        "choice-of-another-type",
        {"tools": [WEATHER], "tool_choice": {"type": "custom", "name": "weather"}},
        "tool_choice",
        VALUE,
    ),
    Refusal(
        "choice-of-a-grammar",
        {"tools": [GRAMMAR], "tool_choice": {"type": "custom", "name": "lark"}},
        "tool_choice",
        "unsupported_value",
    ),
    Refusal("format-of-chat", {"text": {"format": {"type": "json_schema", "json_schema": {}}}}, "text.format.name", MISSING),
    Refusal("format-type", {"text": {"format": {"type": "xml"}}}, "text.format.type", VALUE),
    Refusal(
        "format-schema",
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "no-such-type"}}}},
        "text.format.schema",
        "invalid_json_schema",
    ),
    Refusal("verbosity", {"text": {"verbosity": "loud"}}, "text.verbosity", VALUE),
    Refusal("effort", {"reasoning": {"effort": "huge"}}, "reasoning.effort", VALUE),
    Refusal("summary", {"reasoning": {"summary": True}}, "reasoning.summary", TYPE),
    Refusal("limit-zero", {"max_output_tokens": 0}, "max_output_tokens", VALUE),
    Refusal("limit-string", {"max_output_tokens": "5"}, "max_output_tokens", TYPE),
    Refusal("min-above-limit", {"min_tokens": 6, "max_output_tokens": 5}, "min_tokens", VALUE),
    Refusal("temperature", {"temperature": 2.1}, "temperature", VALUE),
    Refusal("top-p", {"top_p": "1"}, "top_p", TYPE),
    Refusal("top-logprobs", {"top_logprobs": 21}, "top_logprobs", VALUE),
    Refusal("include", {"include": ["everything"]}, "include[0]", VALUE),
    Refusal("metadata-number", {"metadata": {"a": 1}}, "metadata[...]", TYPE),
    Refusal("metadata-long", {"metadata": {"a": "v" * 513}}, "metadata[...]", VALUE),
    Refusal("metadata-many", {"metadata": {str(i): "" for i in range(17)}}, "metadata", VALUE),
    Refusal("truncation", {"truncation": "always"}, "truncation", VALUE),
    Refusal("stream-string", {"stream": "true"}, "stream", TYPE),
    Refusal("stream-options-alone", {"stream_options": {}}, "stream_options"),
    Refusal("obfuscation", {"stream": True, "stream_options": {"include_obfuscation": 1}}, "stream_options.include_obfuscation", TYPE),
    Refusal("prompt", {"prompt": {"id": "pmpt_1"}}, "prompt", None, 404),
    Refusal(
        "two-pasts",
        {"previous_response_id": "resp_1", "conversation": "conv_1"},
        "previous_response_id",
        "mutually_exclusive_parameters",
    ),
]  # fmt: skip


def check_refusal(answer: ApiError) -> None:
    assert 400 <= answer.status < 500
    shown = error_of(openai_error_body(answer))
    assert (shown.message, shown.type) == (answer.message, "invalid_request_error")
    assert (shown.param, shown.code) == (answer.param, answer.code)
    assert len(answer.message) < 2000, "an error must not send a large body back"


@pytest.mark.parametrize("row", REFUSED, ids=[row.name for row in REFUSED])
def test_a_bad_body_is_refused_by_name(row: Refusal) -> None:
    error = refused(**row.fields)
    check_refusal(error)
    assert (error.status, error.param, error.code) == (row.status, row.param, row.code)
    assert "[0]'" not in error.message.replace(row.param or "", ""), "a place that the client did not write"


def test_a_call_and_its_result_must_meet() -> None:
    missing = refused(input=[USER, CALLED])
    assert missing.message == "No tool output found for function call call_1."
    lone = refused(input=[USER, RESULT])
    assert lone.message == "No tool call found for function call output with call_id call_1."


def test_a_wrong_type_is_worded_with_its_whole_path() -> None:
    error = refused(input=[USER, {"role": "user", "content": [{"type": "input_text", "text": 5}]}])
    assert error.message.startswith("Invalid type for 'input[1].content[0].text': expected str, but got int")


# -- whatever comes --------------------------------------------------------------------------------------------------


def check_any(data: bytes) -> None:
    answer = parse(data)
    if isinstance(answer, ApiError):
        check_refusal(answer)
    else:
        assert isinstance(answer, Call)


NESTED = [
    pytest.param(text, id=f"{name}-{depth}")
    for depth in (100, 300, 900, 1_000, 100_000)
    for name, text in (
        ("tool", b'{"model":"m","input":"hi","tools":[{"type":"web_search","x":' + b"[" * depth + b"]" * depth + b"}]}"),
        ("item", b'{"model":"m","input":[{"type":"program","x":' + b"[" * depth + b"]" * depth + b"}]}"),
        ("bad-item", b'{"model":"m","input":[{"type":"message","x":' + b"[" * depth + b"]" * depth + b"}]}"),
        (
            "schema",
            b'{"model":"m","input":"hi","tools":[{"type":"function","name":"f","parameters":'
            + b'{"not":' * depth + b"{}" + b"}" * depth + b"}]}",
        ),
    )
]  # fmt: skip


@pytest.mark.parametrize("data", NESTED)
def test_depth_breaks_nothing(data: bytes) -> None:
    check_any(data)


RAW: list[tuple[str, bytes, str | None]] = [
    ("empty", b"", None),
    ("null", b"null", None),
    ("array", b"[]", None),
    ("half", body()[:-5], None),
    ("two", body() * 2, None),
    ("utf-8", b'{"model":"m","input":"\xff"}', None),
    ("surrogate", b'{"model":"m","input":"\\ud800"}', None),
    ("nan", b'{"model":"m","input":"hi","temperature":NaN}', "temperature"),
    ("nan-in-item", b'{"model":"m","input":[{"type":"program","x":NaN}]}', "input[0].x"),
]


@pytest.mark.parametrize(("data", "param"), [row[1:] for row in RAW], ids=[row[0] for row in RAW])
def test_what_is_no_json_is_refused(data: bytes, param: str | None) -> None:
    answer = parse(data)
    assert isinstance(answer, ApiError)
    check_refusal(answer)
    assert answer.param == param


WORDS = sorted(
    {"model", "input", "role", "content", "type", "text", "call_id", "name", "arguments", "output", "summary", "id"}
    | set(json.loads(body(**ACCEPTED["all-optional-null"])))
)
KINDS = ["message", "function_call", "function_call_output", "reasoning", "item_reference", "input_text", "output_text",
         "input_image", "function", "custom", "web_search", "allowed_tools", "json_schema", "user", "assistant"]  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(KINDS)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=15,
)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300))
@example(b'{"model":"\xf0\x9f')
def test_any_bytes(data: bytes) -> None:
    check_any(data)


@settings(deadline=None, max_examples=500)
@given(st.dictionaries(st.sampled_from(WORDS), values, max_size=3))
def test_any_value_in_any_field(fields: dict[str, object]) -> None:
    check_any(body(**fields))


objects = st.dictionaries(st.sampled_from(WORDS), values, max_size=4)


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(KINDS), objects, st.sampled_from(["input", "tools"]))
def test_any_object_among_items_and_tools(kind: str, fields: dict[str, object], place: str) -> None:
    check_any(body(**{place: [{"type": kind, "role": "user", **fields}]}))
