"""Answers of Anthropic's Messages dialect: the order of a stream as a law, and the official SDK as an oracle."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from mockllm.call import Call, Usage
from mockllm.content.reply import JsonTokens, Part, Reply
from mockllm.streams import Streams
from mockllm.wire.anthropic_messages import MessagesWriter, count_body, parse
from mockllm.wire.dialect import Context, End
from mockllm.wire.errors import ApiError
from tests.contract.sdk import unknown_fields

USAGE = Usage(num_prompt_tokens=100, num_output_tokens=7)
DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
CONTEXT = Context("msg_abc", 1_795_246_162, hosted=True, key="k", streams=Streams(1))


def call(**fields: object) -> Call:
    body = {"model": "m", "max_tokens": 4096, "messages": [{"role": "user", "content": "hi"}], **fields}
    read = parse(json.dumps(body).encode())
    assert isinstance(read, Call), read
    return read


def part(kind: Literal["reasoning", "text", "tool_call"], tokens: Sequence[str], number: int = 0) -> Part:
    return Part(kind, JsonTokens(tokens), len(tokens), f"tool_{number}" if kind == "tool_call" else "", number)


def writer(reply: Reply, asked: Call | None = None, context: Context = CONTEXT) -> MessagesWriter:
    return MessagesWriter(asked or call(), context, [reply])


class Answered(NamedTuple):
    """One answer, in both forms."""

    stream: bytes
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body)
        return value


def answered(
    reply: Reply, sizes: Sequence[int], reason: str = "stop", usage: Usage = USAGE, asked: Call | None = None
) -> Answered:
    """The first `sum(sizes)` tokens of a reply, let out in steps of these sizes."""
    streaming, end = writer(reply, asked), End(reason, sum(sizes))
    stream, first = streaming.opening(usage), 0
    for size in sizes:
        for piece in reply.slices(first, size):
            stream += streaming.piece(0, piece)
        first += size
    stream += streaming.end(0, end) + streaming.closing(usage)
    return Answered(stream, writer(reply, asked).whole([end], usage))


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """Every event is one `event:` line and one `data:` line, and both name the same type."""
    assert stream.endswith(b"\n\n")
    events = []
    for text in stream.removesuffix(b"\n\n").split(b"\n\n"):
        named, data = text.split(b"\n")
        assert b"\r" not in text
        assert named.startswith(b"event: ")
        assert data.startswith(b"data: ")
        event = json.loads(data.removeprefix(b"data: "))
        assert named == b"event: " + event["type"].encode()
        events.append(event)
    return events


class Replay:
    """A client's state machine: it accepts only what the documentation of the stream allows, and keeps the blocks."""

    def __init__(self, events: Sequence[dict[str, Any]]) -> None:
        kinds = [event["type"] for event in events]
        assert kinds[0] == "message_start"
        assert kinds[-2:] == ["message_delta", "message_stop"]
        assert kinds.count("message_start") == kinds.count("message_delta") == kinds.count("message_stop") == 1
        assert kinds.count("ping") == ("content_block_start" in kinds)
        if "ping" in kinds:
            assert kinds[:3] == ["message_start", "content_block_start", "ping"]
        self.start: dict[str, Any] = events[0]["message"]
        self.delta = events[-2]
        self.blocks: list[dict[str, Any]] = []
        self.json: dict[int, str] = {}
        self._open = self._signed = False
        for event in events[1:-2]:
            if event["type"] != "ping":
                getattr(self, "_" + event["type"].removeprefix("content_block_"))(event)
        assert not self._open

    def _start(self, event: dict[str, Any]) -> None:
        assert not self._open, "a block starts inside another"
        assert event["index"] == len(self.blocks)
        self._open, self._signed = True, False
        self.blocks.append(event["content_block"])

    def _delta(self, event: dict[str, Any]) -> None:
        assert self._open
        assert event["index"] == len(self.blocks) - 1
        assert not self._signed, "the signature is the last delta of a thinking block"
        block, delta = self.blocks[-1], event["delta"]
        if delta["type"] == "signature_delta":
            assert block["type"] == "thinking"
            block["signature"] = delta["signature"]
            self._signed = True
        elif delta["type"] == "input_json_delta":
            assert block["type"] == "tool_use"
            assert event["index"] in self.json or delta["partial_json"] == "", "the first fragment is empty"
            self.json[event["index"]] = self.json.get(event["index"], "") + delta["partial_json"]
        else:
            kind, field = DELTAS[block["type"]]
            assert delta["type"] == kind
            block[field] += delta[field]

    def _stop(self, event: dict[str, Any]) -> None:
        assert self._open
        assert event["index"] == len(self.blocks) - 1
        assert self._signed == (self.blocks[-1]["type"] == "thinking")
        self._open = False


text_tokens = st.lists(st.text(st.characters(codec="utf-8"), max_size=4), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def replies(draw: st.DrawFn) -> tuple[Reply, dict[int, dict[str, Any]]]:
    """A reply of any parts, and the arguments of its tool calls by number of the part."""
    kinds = draw(st.lists(st.sampled_from(["reasoning", "text", "tool_call"]), min_size=1, max_size=4))
    parts: list[Part] = []
    inputs: dict[int, dict[str, Any]] = {}
    for number, kind in enumerate(kinds):
        if kind == "tool_call":
            inputs[number] = draw(st.dictionaries(st.text(max_size=5), json_values, max_size=3))
            text = json.dumps(inputs[number], ensure_ascii=draw(st.booleans()))
            size = draw(st.integers(1, 9))
            parts.append(part("tool_call", [text[at : at + size] for at in range(0, len(text), size)], number))
        else:
            parts.append(part("reasoning" if kind == "reasoning" else "text", draw(text_tokens), number))
    stop = draw(st.none() | st.just("END"))
    return Reply(tuple(parts), stop), inputs


def sizes_of(draw: Any, total: int) -> list[int]:
    """Any way to let out any number of tokens."""
    left, sizes = draw(st.integers(0, total)), []
    while left:
        sizes.append(draw(st.integers(1, left)))
        left -= sizes[-1]
    return sizes


def expected_blocks(reply: Reply, num_tokens: int) -> list[tuple[Part, str, bool]]:
    """Part, text and completeness of each block, from the tokens themselves."""
    tokens = [(index, token) for index, one in enumerate(reply.parts) for token in one.words.tokens]  # type: ignore[attr-defined]
    shown = groupby(tokens[:num_tokens], key=lambda pair: pair[0])
    found = []
    for index, pairs in shown:
        words = [token for _, token in pairs]
        found.append((reply.parts[index], "".join(words), len(words) == reply.parts[index].num_tokens))
    return found


@settings(deadline=None, max_examples=300)
@given(replies(), st.data())
def test_any_reply_cut_anywhere_is_a_lawful_stream_and_the_same_message(
    made: tuple[Reply, dict[int, dict[str, Any]]], data: st.DataObject
) -> None:
    reply, inputs = made
    sizes = sizes_of(data.draw, reply.num_tokens)
    cut = sum(sizes) < reply.num_tokens
    answer = answered(reply, sizes, "length" if cut else "stop")
    replay = Replay(events_of(answer.stream))
    expected = expected_blocks(reply, sum(sizes))
    assert len(replay.blocks) == len(expected)
    for index, (one, text, complete) in enumerate(expected):
        block, in_body = replay.blocks[index], answer.message["content"][index]
        if one.kind == "tool_call":
            assert (block["type"], block["name"], replay.json[index]) == ("tool_use", one.name, text)
            assert block["input"] == {}
            assert {**block, "input": in_body["input"]} == in_body
            if complete:
                assert in_body["input"] == inputs[one.number] == json.loads(text)
            else:
                assert set(in_body["input"]) <= set(inputs[one.number])
        else:
            assert block == in_body
            assert block["text" if one.kind == "text" else "thinking"] == text
    assert replay.delta["delta"]["stop_reason"] == answer.message["stop_reason"]
    assert {**answer.message, "content": [], "stop_reason": None, "stop_sequence": None, "usage": 0} == {
        **replay.start,
        "usage": 0,
    }


def test_the_bytes_of_a_stream() -> None:
    """As published in the documentation of the stream, and recorded in the fixtures of the SDK."""
    reply = Reply((part("text", ["Hel", 'lo "']), part("tool_call", ['{"a"', ": 1}"])))
    data = events_of(answered(reply, [1, 2, 1]).stream)
    assert data[1:] == [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 'lo "'}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {
                "type": "tool_use",
                "id": data[6]["content_block"]["id"],
                "name": "tool_0",
                "input": {},
                "caller": {"type": "direct"},
            },
        },
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ": 1}"}},
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {
                "input_tokens": 100,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 7,
            },
        },
        {"type": "message_stop"},
    ]


def test_a_block_ends_with_its_last_token_and_not_later() -> None:
    reply = Reply((part("reasoning", ["x", "y"]), part("text", ["a", "b"])))
    streaming = writer(reply)
    streaming.opening(USAGE)
    stops = [
        b"".join(streaming.piece(0, piece) for piece in reply.slices(at, 1)).count(b"event: content_block_stop")
        for at in range(4)
    ]
    assert stops == [0, 1, 0, 1]
    assert streaming.end(0, End("stop", 4)) == b""


TEXT, TOOL = part("text", ["a", "b"]), part("tool_call", ["{", "}"])


@pytest.mark.parametrize(
    ("reply", "end", "reason", "sequence"),
    [
        (Reply((TEXT,)), End("stop", 2), "end_turn", None),
        (Reply((TEXT,)), End("length", 1), "max_tokens", None),
        (Reply((TEXT,), "END"), End("stop", 2), "stop_sequence", "END"),
        (Reply((TEXT,), "END"), End("length", 1), "max_tokens", None),
        (Reply((TEXT, TOOL)), End("stop", 4), "tool_use", None),
        (Reply((TEXT, TOOL)), End("length", 3), "max_tokens", None),
        (Reply((TEXT,)), End("length", 0), "max_tokens", None),
    ],
)
def test_why_it_stopped(reply: Reply, end: End, reason: str, sequence: str | None) -> None:
    answer = answered(reply, [1] * end.num_tokens, end.reason)
    assert (answer.message["stop_reason"], answer.message["stop_sequence"]) == (reason, sequence)
    assert Replay(events_of(answer.stream)).delta["delta"] == {"stop_reason": reason, "stop_sequence": sequence}


tokens = st.integers(0, 10**9)


@given(tokens, tokens, tokens, tokens, tokens)
def test_the_prompt_is_billed_once(plain: int, read: int, short: int, long: int, output: int) -> None:
    usage = Usage(plain + read + short + long, output, read, short, long, num_reasoning_tokens=output // 2)
    answer = answered(Reply((TEXT,)), [2], usage=usage)
    start, delta = Replay(events_of(answer.stream)).start["usage"], Replay(events_of(answer.stream)).delta["usage"]
    for shown in (start, delta, answer.message["usage"]):
        assert shown["input_tokens"] == plain
        assert shown["cache_read_input_tokens"] == read
        assert shown["cache_creation_input_tokens"] == short + long
    for shown in (start, answer.message["usage"]):
        assert shown["cache_creation"] == {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}
        assert shown["service_tier"] == "standard"
    assert start["output_tokens"] >= 1
    assert delta["output_tokens"] == answer.message["usage"]["output_tokens"] == output
    if output >= 2:
        assert delta["output_tokens_details"] == {"thinking_tokens": output // 2}


def test_omitted_thinking_is_signed_and_not_shown() -> None:
    reply = Reply((part("reasoning", ["secret ", "plan"]), TEXT))
    asked = call(thinking={"type": "adaptive", "display": "omitted"})
    answer = answered(reply, [1, 1, 1, 1], asked=asked)
    replay = Replay(events_of(answer.stream))
    assert b"secret" not in answer.stream + answer.body
    assert replay.blocks == answer.message["content"]
    assert replay.blocks[0]["thinking"] == ""
    assert len(b64decode(replay.blocks[0]["signature"], validate=True)) > 100


def test_ids_and_signatures_are_the_requests_own() -> None:
    reply = Reply((part("reasoning", ["x"]), part("tool_call", ["{}"], 0), part("tool_call", ["{}"], 1)))

    def said(key: str, seed: int) -> tuple[str, ...]:
        context = Context("msg_1", 0, hosted=True, key=key, streams=Streams(seed))
        thought, *uses = json.loads(writer(reply, context=context).whole([End("stop", 3)], USAGE))["content"]
        return (thought["signature"], *(use["id"] for use in uses))

    same, other_key, other_seed = said("a", 1), said("b", 1), said("a", 2)
    assert same == said("a", 1)
    assert len({*same, *other_key, *other_seed}) == 9
    for id_ in (*same[1:], *other_key[1:], *other_seed[1:]):
        assert len(id_) == 30
        assert id_.startswith("toolu_01")
        assert id_.removeprefix("toolu_01").isalnum()


def test_a_tool_use_can_be_sent_back() -> None:
    message = answered(Reply((TEXT, TOOL)), [4]).message
    (use,) = [block for block in message["content"] if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": use["id"], "content": "42"}]
    history = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": results},
    ]
    assert call(messages=history).answered


def test_what_the_request_asked_for_is_said_in_the_usage() -> None:
    asked = call(inference_geo="us", speed="fast")
    usage = answered(Reply((TEXT,)), [2], asked=asked).message["usage"]
    assert (usage["inference_geo"], usage["speed"]) == ("us", "fast")


def test_an_error_in_the_stream() -> None:
    error = ApiError(529, "Overloaded", "overloaded_error")
    (event,) = events_of(writer(Reply((TEXT,))).error(error))
    assert event == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded"},
        "request_id": "req_abc",
    }


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def strict(kind: Any, data: bytes) -> Any:
    """`data` as the SDK's type: no coercion, and no field that the type does not know, at any depth."""
    value = adapter(kind).validate_json(data, strict=True)
    unknown = list(unknown_fields(value, "$"))
    assert not unknown, f"fields that the SDK does not know: {unknown}"
    return value


@settings(deadline=None, max_examples=100)
@given(replies(), st.data())
def test_the_official_sdk_reads_stream_and_body_alike(
    made: tuple[Reply, dict[int, dict[str, Any]]], data: st.DataObject
) -> None:
    types = pytest.importorskip("anthropic.types", reason="NOT CHECKED against the official SDK: no anthropic here")
    from anthropic.lib.streaming._messages import accumulate_event

    reply, _ = made
    sizes = sizes_of(data.draw, reply.num_tokens)
    usage = Usage(100, sum(sizes), 20, 30, 40, reply.num_reasoning_tokens(sum(sizes)))
    answer = answered(reply, sizes, "length" if sum(sizes) < reply.num_tokens else "stop", usage)
    message = strict(types.Message, answer.body)
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events_of(answer.stream):
        if event["type"] != "ping":
            read = strict(types.RawMessageStreamEvent, json.dumps(event).encode())
            snapshot = accumulate_event(event=read, current_snapshot=snapshot, json_bufs=buffers)
    assert snapshot.to_dict() == message.to_dict()


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 500, 504, 529])
def test_the_official_sdk_knows_the_error(status: int) -> None:
    shared = pytest.importorskip("anthropic.types.shared", reason="NOT CHECKED against the official SDK")
    data = writer(Reply((TEXT,))).error(ApiError(status, "no")).split(b"data: ", 1)[1]
    assert strict(shared.ErrorResponse, data).type == "error"


def test_the_official_sdk_reads_a_count() -> None:
    types = pytest.importorskip("anthropic.types", reason="NOT CHECKED against the official SDK: no anthropic here")
    assert strict(types.MessageTokensCount, count_body(14)).input_tokens == 14
