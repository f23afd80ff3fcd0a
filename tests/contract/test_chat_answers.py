"""Answers of the chat dialect, held to the official SDK's types and the published order of a stream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import exp
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from mockllm.call import Call, Usage
from mockllm.content.reply import JsonTokens, Part, Reply
from mockllm.streams import Streams
from mockllm.wire.dialect import Context, End
from mockllm.wire.errors import ApiError
from mockllm.wire.openai_chat import ChatWriter, parse

from .sdk import error_of, event_data, strict

REASONS: tuple[Literal["stop", "length"], ...] = ("stop", "length")
USAGE = Usage(num_prompt_tokens=44, num_output_tokens=16, num_cached_tokens=32)
# What is not in the SDK's types: vLLM's and DeepSeek's field for reasoning.
BESIDE = ("reasoning_content",)
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
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("first", "second")
]


def call(*, include_usage: bool = False, stream: bool = True, model: str = "m", **fields: object) -> Call:
    body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    if include_usage:
        body["stream_options"] = {"include_usage": True}
    parsed = parse(json.dumps({**body, **fields}).encode())
    assert isinstance(parsed, Call), parsed
    return parsed


def context(*, hosted: bool = False) -> Context:
    return Context("chatcmpl-1", 1_795_246_162, hosted=hosted, key="k", streams=Streams(1))


def part(
    kind: Literal["reasoning", "text", "tool_call"], pieces: Sequence[str], name: str = "", number: int = 0
) -> Part:
    return Part(kind, JsonTokens(pieces), len(pieces), name, number)


def text(pieces: Sequence[str]) -> Reply:
    return Reply((part("text", pieces),))


def streamed(
    replies: Sequence[Reply], asked: Call, *, reason: str = "stop", hosted: bool = False, usage: Usage = USAGE
) -> bytes:
    """The whole stream, a token at a time, the choices in turn."""
    writer = ChatWriter(asked, context(hosted=hosted), replies)
    body = writer.opening(usage)
    for number in range(max(reply.num_tokens for reply in replies)):
        for choice, reply in enumerate(replies):
            if number < reply.num_tokens:
                body += b"".join(writer.piece(choice, piece) for piece in reply.slices(number, 1))
    for choice, reply in enumerate(replies):
        body += writer.end(choice, End(reason, reply.num_tokens))
    return body + writer.closing(usage)


def whole(replies: Sequence[Reply], asked: Call, *, reason: str = "stop", usage: Usage = USAGE) -> ChatCompletion:
    writer = ChatWriter(asked, context(), replies)
    body = writer.whole([End(reason, reply.num_tokens) for reply in replies], usage)
    return strict(ChatCompletion, body, beside=BESIDE)


def written(pieces: list[str], *, include_usage: bool, reason: str = "stop", model: str = "m") -> bytes:
    return streamed([text(pieces)], call(include_usage=include_usage, model=model), reason=reason)


def chunks_of(body: bytes) -> list[ChatCompletionChunk]:
    *events, last = event_data(body)
    assert last == b"[DONE]"
    return [strict(ChatCompletionChunk, data, beside=BESIDE) for data in events]


# -- text ------------------------------------------------------------------------------------------------------------


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
    usage = last["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (44, 16, 60)
    assert usage["prompt_tokens_details"]["cached_tokens"] == 32
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0


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


@pytest.mark.parametrize("hard", HARD_TEXTS, ids=lambda hard: repr(hard)[:20])
def test_any_text_survives_in_a_stream(hard: str) -> None:
    chunks = chunks_of(written([hard, "between", hard], include_usage=True, model=hard))
    contents = [choice.delta.content for chunk in chunks for choice in chunk.choices]
    assert contents == ["", hard, "between", hard, None]
    assert {chunk.model for chunk in chunks} == {hard}


@pytest.mark.parametrize("hard", HARD_TEXTS, ids=lambda hard: repr(hard)[:20])
def test_any_text_survives_in_a_whole_answer(hard: str) -> None:
    answer = whole([text([hard])], call(stream=False, model=hard))
    assert answer.choices[0].message.content == hard
    assert answer.model == hard


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=5))
def test_the_pieces_of_a_stream_add_up_to_its_text(pieces: list[str]) -> None:
    chunks = chunks_of(written(pieces, include_usage=False))
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == "".join(pieces)


@pytest.mark.parametrize("reason", REASONS)
def test_a_whole_answer_is_the_sdks_type(reason: Literal["stop", "length"]) -> None:
    answer = whole([text(["Hello", " there"])], call(stream=False), reason=reason)
    assert (answer.id, answer.object, answer.created) == ("chatcmpl-1", "chat.completion", 1_795_246_162)
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason) == (0, reason)
    assert (choice.message.role, choice.message.content) == ("assistant", "Hello there")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == answer.usage.total_tokens == 60
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 32


# -- choices, reasoning, tools ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [2, 5, 128])
def test_every_choice_is_told_under_its_own_index(num: int) -> None:
    replies = [text([f"{number}.{token} " for token in range(1 + number % 3)]) for number in range(num)]
    expected = ["".join(reply.parts[0].text()) for reply in replies]
    chunks = chunks_of(streamed(replies, call(n=num, include_usage=True)))
    said, reasons = [""] * num, [0] * num
    for chunk in chunks:
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
            reasons[choice.index] += choice.finish_reason is not None
    assert (said, reasons) == (expected, [1] * num)
    answer = whole(replies, call(n=num, stream=False))
    assert [choice.message.content for choice in answer.choices] == expected
    assert [choice.index for choice in answer.choices] == list(range(num))


def test_reasoning_comes_before_the_text_and_is_counted() -> None:
    reply = Reply((part("reasoning", ["Let", " me"]), part("text", ["Yes", "."])))
    usage = Usage(1, 4, num_reasoning_tokens=2)
    chunks = chunks_of(streamed([reply], call(include_usage=True), usage=usage))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    kinds = ["reasoning" if (delta.model_extra or {}).get("reasoning_content") else "text" for delta in deltas[1:-1]]
    assert kinds == ["reasoning", "reasoning", "text", "text"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens_details is not None
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens == 2
    message = whole([reply], call(stream=False), usage=usage).choices[0].message
    assert (message.model_extra, message.content) == ({"reasoning_content": "Let me"}, "Yes.")


def called(chunks: list[ChatCompletionChunk]) -> dict[int, dict[str, str]]:
    """Tool calls as a client puts them together: by index, arguments appended."""
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            for delta in choice.delta.tool_calls or []:
                known = calls.setdefault(delta.index, {"arguments": ""})
                if delta.id is not None:
                    assert delta.type == "function"
                    assert "id" not in known, "an id is told once"
                    known["id"] = delta.id
                assert delta.function is not None
                if delta.function.name is not None:
                    known["name"] = delta.function.name
                known["arguments"] += delta.function.arguments or ""
    return calls


@pytest.mark.parametrize("num", [1, 2])
def test_tool_calls_in_both_forms(num: int) -> None:
    parts = [
        part("tool_call", ['{"', "n", '":', f" {number}}}"], name, number)
        for number, name in enumerate(("first", "second")[:num])
    ]
    reply = Reply(tuple(parts))
    chunks = chunks_of(streamed([reply], call(tools=TOOLS)))
    calls = called(chunks)
    assert [calls[number]["name"] for number in range(num)] == ["first", "second"][:num]
    assert [json.loads(calls[number]["arguments"]) for number in range(num)] == [{"n": 0}, {"n": 1}][:num]
    assert len({known["id"] for known in calls.values()}) == num
    assert [choice.finish_reason for choice in chunks[-1].choices] == ["tool_calls"]
    assert all(not choice.delta.content for chunk in chunks for choice in chunk.choices)
    (choice,) = whole([reply], call(tools=TOOLS, stream=False)).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    told = [(each.id, each.function.name) for each in choice.message.tool_calls or [] if each.type == "function"]
    assert told == [(calls[number]["id"], calls[number]["name"]) for number in range(num)]


def test_a_tool_that_was_named_ends_with_stop() -> None:
    named = {"type": "function", "function": {"name": "first"}}
    reply = Reply((part("tool_call", ["{}"], "first"),))
    (choice,) = whole([reply], call(tools=TOOLS, tool_choice=named, stream=False)).choices
    assert choice.finish_reason == "stop"
    assert choice.message.tool_calls


def test_the_older_functions() -> None:
    reply = Reply((part("tool_call", ["{", "}"], "first"),))
    asked: dict[str, Any] = {"functions": [{"name": "first"}]}
    chunks = chunks_of(streamed([reply], call(**asked)))
    told = [choice.delta.function_call for chunk in chunks for choice in chunk.choices if choice.delta.function_call]
    assert [each.name for each in told] == ["first", None]
    assert "".join(each.arguments or "" for each in told) == "{}"
    assert chunks[-1].choices[0].finish_reason == "function_call"
    (choice,) = whole([reply], call(stream=False, **asked)).choices
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call is not None
    assert (choice.message.function_call.name, choice.message.function_call.arguments) == ("first", "{}")


# -- log probabilities, padding, tiers -------------------------------------------------------------------------------


@pytest.mark.parametrize("num_top", [0, 1, 5, 20])
def test_log_probabilities_are_a_distribution_in_the_sdks_shape(num_top: int) -> None:
    pieces = ["Zü", "rich", " the", " \U0001f389", "."]
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": num_top}
    answer = whole([text(pieces)], call(stream=False, **asked))
    told = answer.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert [entry.token for entry in told.content] == pieces
    for entry in told.content:
        assert entry.bytes == list(entry.token.encode())
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == num_top
        assert sum(exp(other.logprob) for other in entry.top_logprobs) <= 1
        assert len({other.token for other in entry.top_logprobs}) == num_top
        ranked = [other.logprob for other in entry.top_logprobs]
        assert ranked == sorted(ranked, reverse=True)
    chunks = chunks_of(streamed([text(pieces)], call(**asked)))
    streamed_entries = [
        entry
        for chunk in chunks
        for choice in chunk.choices
        if choice.logprobs is not None
        for entry in choice.logprobs.content or []
    ]
    assert streamed_entries == told.content


@pytest.mark.parametrize(
    ("asked", "hosted", "padded"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_padding_is_there_where_it_is_wanted(asked: bool | None, hosted: bool, padded: bool) -> None:
    options: dict[str, Any] = {} if asked is None else {"stream_options": {"include_obfuscation": asked}}
    body = streamed([text(["a", "bcd"])], call(**options), hosted=hosted)
    chunks_of(body)
    *events, _ = event_data(body)
    assert [("obfuscation" in json.loads(data)) for data in events] == [padded] * len(events)


@pytest.mark.parametrize(
    ("asked", "served"),
    [(None, "default"), ("auto", "default"), ("default", "default"), ("flex", "flex"), ("priority", "priority")],
)
def test_a_hosted_answer_names_its_tier(asked: str | None, served: str) -> None:
    fields: dict[str, Any] = {} if asked is None else {"service_tier": asked}
    chunks = chunks_of(streamed([text(["a"])], call(**fields), hosted=True))
    assert {chunk.service_tier for chunk in chunks} == {served}
    assert {chunk.service_tier for chunk in chunks_of(streamed([text(["a"])], call(**fields)))} == {None}


def test_an_error_in_a_stream_is_the_sdks_error() -> None:
    writer = ChatWriter(call(), context(), [text(["a"])])
    (data,) = event_data(writer.error(ApiError(500, "Sorry.", "server_error")))
    assert error_of(data).message == "Sorry."
