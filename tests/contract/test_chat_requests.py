"""Request bodies of the chat dialect: whatever a client sends, the answer is a call or a clear refusal."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mockllm.wire.errors import ApiError, model_not_found, openai_error_body
from mockllm.wire.openai_chat import ChatCall, parse

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
    "logprobs",
    "response_format",
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
    assert isinstance(parse(body), ChatCall)


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
    }
    assert parse(json.dumps(body).encode()) == ChatCall(
        model="m",
        texts=["one", "two", "\u2028"],
        stream=True,
        include_usage=True,
        max_tokens=7,
        min_tokens=3,
        ignore_eos=True,
    )


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
        assert isinstance(answer, ChatCall)


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
