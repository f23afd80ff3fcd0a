"""Request bodies of the chat dialect: whatever a client sends, the answer is a call or a clear refusal."""

from __future__ import annotations

import json
import struct
from base64 import b64encode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mockllm.call import Call, Segment, Thinking, Tool
from mockllm.wire.errors import ApiError, model_not_found, openai_error_body
from mockllm.wire.openai_chat import parse

from .hostile import ACCEPTED, HOSTILE, Hostile
from .sdk import error_of

FIELDS = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "min_tokens",
    "ignore_eos",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "user",
    "n",
    "stop",
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "parallel_tool_calls",
    "logprobs",
    "top_logprobs",
    "response_format",
    "reasoning_effort",
    "service_tier",
    "modalities",
    "logit_bias",
    "metadata",
    "priority",
    "other",
]


ROWS = [pytest.param(hostile, id=hostile.name) for hostile in HOSTILE]


def check_refusal(answer: ApiError) -> None:
    assert 400 <= answer.status < 500
    shown = error_of(openai_error_body(answer))
    assert (shown.message, shown.type) == (answer.message, answer.type)
    assert (shown.param, shown.code) == (answer.param, answer.code)
    assert len(answer.message) < 2000, "an error must not send a large body back"


@pytest.mark.parametrize("hostile", ROWS)
def test_a_hostile_body_is_refused_by_name(hostile: Hostile) -> None:
    answer = parse(hostile.body)
    assert isinstance(answer, ApiError)
    check_refusal(answer)
    assert answer.type == "invalid_request_error"
    assert answer.param == hostile.param
    if hostile.param is not None:
        assert hostile.param in answer.message


def test_the_table_has_no_two_rows_of_one_name() -> None:
    names = [hostile.name for hostile in HOSTILE]
    assert len(names) == len(set(names)) >= 60


@pytest.mark.parametrize("body", list(ACCEPTED.values()), ids=list(ACCEPTED))
def test_a_good_body_is_taken(body: bytes) -> None:
    assert isinstance(parse(body), Call)


def test_a_call_says_what_the_body_said() -> None:
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "one"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "two"}, {"type": "text", "text": "\u2028"}],
            },
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 7,
        "min_tokens": 3,
        "ignore_eos": True,
        "n": 2,
        "stop": ["x", "", "y"],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "reasoning_effort": "high",
        "priority": -3,
        "service_tier": "flex",
    }
    parsed = parse(json.dumps(body).encode())
    assert isinstance(parsed, Call)
    tool, *said = parsed.segments
    assert json.loads(tool.text)["name"] == "f"
    assert said == [Segment("one"), Segment("two"), Segment("\u2028")]
    assert parsed == Call(
        model="m",
        segments=parsed.segments,
        stream=True,
        num_choices=2,
        max_tokens=7,
        min_tokens=3,
        ignore_eos=True,
        stop=("x", "y"),
        tools=(Tool("f", {"type": "object", "properties": {}}),),
        tool_choice="tool:f",
        parallel_tool_calls=False,
        thinking=Thinking("high"),
        priority=-3,
        service_tier="flex",
    )
    assert parsed.details.include_usage is True


@pytest.mark.parametrize(
    ("last", "answered"),
    [
        ({"role": "tool", "tool_call_id": "a", "content": "rain"}, True),
        ({"role": "user", "content": "and now?"}, False),
    ],
)
def test_a_call_knows_whether_a_tool_has_answered(last: dict[str, object], answered: bool) -> None:
    called = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"city": "Oslo"}'}}
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [called]}, last]
    parsed = parse(json.dumps({"model": "m", "messages": messages}).encode())
    assert isinstance(parsed, Call)
    assert parsed.answered is answered
    assert [segment.text for segment in parsed.segments] == ["hi", 'f {"city": "Oslo"}', last["content"]]


def _png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\x00\x00\x00"
    return "data:image/png;base64," + b64encode(head).decode()


@pytest.mark.parametrize(
    ("url", "detail", "num_tokens"),
    [
        # OpenAI's vision guide: "A 1024 x 1024 square image in detail: high mode costs 765 tokens", "a 2048 x 4096 image in
        # high mode costs 1105", "a 4096 x 8192 image in detail: low mode costs 85".
        (_png(1024, 1024), "high", 765),
        (_png(2048, 4096), "high", 1105),
        (_png(4096, 8192), "low", 85),
        (_png(1024, 1024), None, 765),
        (_png(512, 512), "auto", 255),
        ("https://example.com/unknown.png", "high", 765),
        ("https://example.com/unknown.png", "low", 85),
    ],
)
def test_a_picture_costs_what_the_vision_guide_says(url: str, detail: str | None, num_tokens: int) -> None:
    part = {"type": "image_url", "image_url": {"url": url, "detail": detail}}
    body = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}]}
    parsed = parse(json.dumps(body).encode())
    assert isinstance(parsed, Call)
    assert [segment.num_tokens for segment in parsed.segments] == [None, num_tokens]


@pytest.mark.parametrize("digits", [18, 19, 20, 30])
def test_a_huge_limit_never_breaks_anything(digits: int) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":' + b"9" * digits + b"}"
    answer = parse(body)
    if isinstance(answer, ApiError):
        check_refusal(answer)
        assert answer.param == "max_tokens"
    else:
        assert answer.max_tokens == int("9" * digits)


def test_an_unknown_model_is_a_404_that_names_it() -> None:
    answer = model_not_found("no-such")
    check_refusal(answer)
    assert (answer.status, answer.type, answer.code) == (404, "invalid_request_error", "model_not_found")
    assert "`no-such`" in answer.message


@pytest.mark.parametrize("model", ["x" * 1_000_000, "\x00\n\u2028", '"}],', "`"])
def test_an_unknown_models_name_cannot_break_the_error(model: str) -> None:
    check_refusal(model_not_found(model))


def check_any(body: bytes) -> None:
    answer = parse(body)
    if isinstance(answer, ApiError):
        check_refusal(answer)
    else:
        assert isinstance(answer, Call)


@settings(deadline=None, max_examples=400)
@given(st.binary(max_size=400))
@example(b"\xef\xbb\xbf{}")
@example(b'{"model":"\xf0\x9f')
def test_any_bytes(body: bytes) -> None:
    check_any(body)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["user", "assistant", "text", "m", 10**30, -1, 0, 1, 5, 1e308])
)
names = st.sampled_from([*FIELDS, "role", "content", "name", "type", "text", "include_usage"]) | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=400)
@given(values)
def test_any_json(value: object) -> None:
    # Python writes NaN and Infinity, and escapes lone surrogates: both are hostile on purpose.
    check_any(json.dumps(value).encode())


@settings(deadline=None, max_examples=400)
@given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=4))
def test_any_value_in_any_field_of_a_good_body(fields: dict[str, object]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    check_any(json.dumps(body).encode())


@settings(deadline=None, max_examples=200)
@given(st.integers(min_value=0), st.binary(min_size=1, max_size=3))
def test_a_good_body_with_bytes_replaced(position: int, patch: bytes) -> None:
    body = ACCEPTED["stream-with-usage"]
    position %= len(body)
    check_any(body[:position] + patch + body[position + len(patch) :])
