"""Answers of the chat dialect, held to the official SDK's types and the published order of a stream."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from mockllm.wire.openai_chat import ChatCall, ChatWriter, Usage

from .sdk import event_data, strict

REASONS: tuple[Literal["stop", "length"], ...] = ("stop", "length")
USAGE = Usage(num_prompt_tokens=44, num_output_tokens=16, num_cached_tokens=32)
HARD_TEXTS = [
    "quotes \" and ' and `",
    "back\\slash \\n \\u0041",
    "line\nfeed\r\nand\rreturn\n\n",
    "data: [DONE]\n\ndata: {}\n\n",
    "separators \u2028 and \u2029 and \u0085",
    "nul \x00 and escape \x1b and delete \x7f",
    "Zürich 日本語 العربية \U0001f389 \U0001f469\u200d\U0001f680",
    "non-characters \ufffe \uffff \U0010ffff and a mark \ufeff",
    "<script>&amp;</script>",
    " ",
]


def call(*, include_usage: bool, stream: bool = True, model: str = "m") -> ChatCall:
    return ChatCall(
        model=model,
        texts=["hi"],
        stream=stream,
        include_usage=include_usage,
        max_tokens=None,
        min_tokens=0,
        ignore_eos=False,
    )


def written(pieces: list[str], *, include_usage: bool, reason: str = "stop", model: str = "m") -> bytes:
    writer = ChatWriter(call(include_usage=include_usage, model=model), "chatcmpl-1", 1_795_246_162)
    return writer.opening() + b"".join(map(writer.piece, pieces)) + writer.closing(reason, USAGE)


def chunks_of(body: bytes) -> list[ChatCompletionChunk]:
    *events, last = event_data(body)
    assert last == b"[DONE]"
    return [strict(ChatCompletionChunk, data) for data in events]


@pytest.mark.parametrize("include_usage", [True, False])
@pytest.mark.parametrize("num", [0, 1, 2, 50])
def test_every_chunk_is_the_sdks_type(num: int, include_usage: bool) -> None:
    chunks = chunks_of(written(["a"] * num, include_usage=include_usage))
    assert len(chunks) == 1 + num + 1 + include_usage
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}


def test_all_chunks_share_identity() -> None:
    chunks = chunks_of(written(["a", "b"], include_usage=True))
    assert {chunk.id for chunk in chunks} == {"chatcmpl-1"}
    assert {chunk.created for chunk in chunks} == {1_795_246_162}
    assert {chunk.model for chunk in chunks} == {"m"}
    assert len({chunk.system_fingerprint for chunk in chunks}) == 1


def test_first_chunk_carries_the_role_and_no_content() -> None:
    first, *others = chunks_of(written(["a", "b"], include_usage=True))
    assert first.choices[0].delta.role == "assistant"
    assert not first.choices[0].delta.content
    assert all(choice.delta.role is None for chunk in others for choice in chunk.choices)


def test_asked_for_usage_is_null_on_every_chunk_but_the_last() -> None:
    *events, _ = event_data(written(["a", "b"], include_usage=True))
    *before, last = [json.loads(data) for data in events]
    assert all("usage" in chunk and chunk["usage"] is None for chunk in before)
    assert all(len(chunk["choices"]) == 1 for chunk in before)
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 44,
        "completion_tokens": 16,
        "total_tokens": 60,
        "prompt_tokens_details": {"cached_tokens": 32},
    }


def test_without_asking_there_is_no_usage_at_all() -> None:
    *events, _ = event_data(written(["a", "b"], include_usage=False))
    chunks = [json.loads(data) for data in events]
    assert all("usage" not in chunk for chunk in chunks)
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("include_usage", [True, False])
def test_exactly_one_finish_reason_after_all_content(include_usage: bool, reason: Literal["stop", "length"]) -> None:
    chunks = chunks_of(written(["a", "b"], include_usage=include_usage, reason=reason))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert [choice.finish_reason for choice in choices] == [None] * (len(choices) - 1) + [reason]
    assert choices[-1].delta.content is None


@pytest.mark.parametrize("include_usage", [True, False])
def test_done_is_the_last_event_and_the_only_one(include_usage: bool) -> None:
    events = event_data(written(["a"], include_usage=include_usage))
    assert [number for number, data in enumerate(events) if data == b"[DONE]"] == [len(events) - 1]


@pytest.mark.parametrize("text", HARD_TEXTS, ids=lambda text: repr(text)[:20])
def test_any_text_survives_in_a_stream(text: str) -> None:
    chunks = chunks_of(written([text, "between", text], include_usage=True, model=text))
    contents = [choice.delta.content for chunk in chunks for choice in chunk.choices]
    assert contents == ["", text, "between", text, None]
    assert {chunk.model for chunk in chunks} == {text}


@pytest.mark.parametrize("text", HARD_TEXTS, ids=lambda text: repr(text)[:20])
def test_any_text_survives_in_a_whole_answer(text: str) -> None:
    writer = ChatWriter(call(include_usage=False, stream=False, model=text), "chatcmpl-1", 1)
    answer = strict(ChatCompletion, writer.whole(text, "stop", USAGE))
    assert answer.choices[0].message.content == text
    assert answer.model == text


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=5))
def test_the_pieces_of_a_stream_add_up_to_its_text(pieces: list[str]) -> None:
    chunks = chunks_of(written(pieces, include_usage=False))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "".join(pieces)


@pytest.mark.parametrize("reason", REASONS)
def test_a_whole_answer_is_the_sdks_type(reason: Literal["stop", "length"]) -> None:
    writer = ChatWriter(call(include_usage=False, stream=False), "chatcmpl-1", 1_795_246_162)
    answer = strict(ChatCompletion, writer.whole("Hello there", reason, USAGE))
    assert (answer.id, answer.object, answer.created) == ("chatcmpl-1", "chat.completion", 1_795_246_162)
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason) == (0, reason)
    assert (choice.message.role, choice.message.content) == ("assistant", "Hello there")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == answer.usage.total_tokens == 60
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 32
