"""Answers of the Responses dialect, held to the official SDK's types, its own client and the published order of events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai import OpenAI
from openai.types.responses import InputTokenCountResponse, Response, ResponseStreamEvent
from pydantic import BaseModel

from mockllm.call import Call, Usage
from mockllm.content.reply import JsonTokens, Part, Reply
from mockllm.streams import Streams
from mockllm.wire.dialect import Context, End
from mockllm.wire.errors import ApiError
from mockllm.wire.openai_responses import ResponsesWriter, input_tokens_body, parse

from . import sdk

TAG, CREATED = "resp_00112233", 1_795_246_162
USAGE = Usage(44, 16, num_cached_tokens=32, num_written_5m=8, num_written_1h=4, num_reasoning_tokens=7)
TOOLS: list[dict[str, object]] = [
    {"type": "function", "name": "weather", "parameters": {"type": "object"}, "description": "of a city"},
    {"type": "custom", "name": "shell", "description": "run it"},
    {"type": "web_search", "search_context_size": "low"},
    {"type": "mcp", "server_label": "x", "server_url": "https://x", "authorization": "secret", "headers": {"k": "v"}},
]
# How each kind of item is streamed, from the SDK's event types: text event, its text, group event, where.
STREAMED = {
    "message": ("response.output_text", "text", "response.content_part", "content_index"),
    "reasoning": ("response.reasoning_text", "text", "response.content_part", "content_index"),
    "summary": ("response.reasoning_summary_text", "text", "response.reasoning_summary_part", "summary_index"),
    "function_call": ("response.function_call_arguments", "arguments", None, None),
    "custom_tool_call": ("response.custom_tool_call_input", "input", None, None),
}
EVENT_TYPES: dict[str, type[BaseModel]] = {
    str(get_args(kind.model_fields["type"].annotation)[0]): kind for kind in get_args(get_args(ResponseStreamEvent)[0])
}
# The members that OpenAI's schema requires of a response; the SDK gives those that may be null a default.
REQUIRED = {"id", "object", "created_at", "error", "incomplete_details", "instructions", "metadata", "model", "output",
            "parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p"}  # fmt: skip


def strict(kind: type[BaseModel], value: dict[str, Any]) -> Any:
    """`value` as the SDK's type. A response object's `store` is sent by OpenAI, and the SDK does not know it."""
    shown = {key: inner for key, inner in value.items() if key != "store"}
    if "response" in shown:
        shown["response"] = {key: inner for key, inner in shown["response"].items() if key != "store"}
    return cast("Any", sdk.strict)(kind, json.dumps(shown).encode())


@dataclass(frozen=True)
class Event:
    """One event: its JSON without the padding, and the padding."""

    data: dict[str, Any]
    padding: str | None
    size: int

    @property
    def type(self) -> str:
        return str(self.data["type"])


def events_of(body: bytes) -> list[Event]:
    """The events of a stream: two lines each, and each strictly of the SDK's type for its name."""
    assert body.endswith(b"\n\n"), body[-40:]
    events = []
    for lines in body.removesuffix(b"\n\n").split(b"\n\n"):
        name, data = lines.split(b"\n")
        value = json.loads(data.removeprefix(b"data: "))
        assert name == f"event: {value['type']}".encode()
        padding = value.pop("obfuscation", None)
        strict(EVENT_TYPES[value["type"]], value)
        events.append(Event(value, padding, len(lines)))
    return events


def call_of(**fields: object) -> Call:
    call = parse(json.dumps({"model": "m", "input": "hi", "tools": TOOLS, "stream": True, **fields}).encode())
    assert isinstance(call, Call), call
    return call


def context(*, hosted: bool = False) -> Context:
    return Context(TAG, CREATED, hosted, "key", Streams(1))


def writer_of(reply: Reply, *, hosted: bool = False, **fields: Any) -> ResponsesWriter:
    return ResponsesWriter(call_of(**fields), context(hosted=hosted), [reply])


def part(kind: Any, *tokens: str, name: str = "", number: int = 0) -> Part:
    return Part(kind, JsonTokens(tokens), len(tokens), name, number)


FULL = Reply(
    (
        part("reasoning", "Let", " me", " think"),
        part("text", "It", " rains", "."),
        part("tool_call", "{", '"city":', '"Oslo"', "}", name="weather", number=0),
        part("tool_call", "ls", " -l", name="shell", number=1),
    )
)


def streamed(writer: ResponsesWriter, reply: Reply, chunks: Sequence[int], end: End, usage: Usage = USAGE) -> bytes:
    """The whole stream, with so many tokens in each write."""
    body, first = writer.opening(usage), 0
    for num in chunks:
        for piece in reply.slices(first, num):
            body += writer.piece(0, piece)
        first += num
    return body + writer.end(0, end) + writer.closing(usage)


def spoken(item: dict[str, Any]) -> str:
    """What an item of the output says."""
    match item["type"]:
        case "message":
            (content,) = item["content"]
        case "reasoning":
            (content,) = item["summary"] or item["content"]
        case "function_call":
            return str(item["arguments"])
        case _:
            return str(item["input"])
    return str(content["text"])


# -- the order of events, as an automaton ------------------------------------------------------------------------------


def check_item(events: list[Event], index: int) -> dict[str, Any]:
    """Takes the events of item number `index` from the front; gives the item as it is done."""
    added = events.pop(0)
    assert added.type == "response.output_item.added"
    assert added.data["output_index"] == index
    item = added.data["item"]
    assert item.get("status", "in_progress") == "in_progress"
    head = events[0].type.rpartition(".")[0]
    kind = "summary" if item["type"] == "reasoning" and "reasoning_summary" in head else item["type"]
    stream, field, group, place = STREAMED[kind]
    where: dict[str, object] = {"item_id": item["id"], "output_index": index} | ({place: 0} if place else {})

    def take(name: str) -> dict[str, Any]:
        event = events.pop(0)
        assert event.type == name
        assert {key: event.data[key] for key in where} == where
        return event.data

    if group:
        assert take(f"{group}.added")["part"]["text"] == ""
    deltas = []
    while events[0].type == f"{stream}.delta":
        deltas.append(take(f"{stream}.delta"))
    assert deltas, "an item without a word"
    text = "".join(delta["delta"] for delta in deltas)
    done = take(f"{stream}.done")
    assert done[field] == text
    shown = take(f"{group}.done")["part"] if group else None
    finished = events.pop(0)
    assert finished.type == "response.output_item.done"
    assert finished.data["output_index"] == index
    last: dict[str, Any] = finished.data["item"]
    assert (last["id"], last["type"]) == (item["id"], item["type"])
    assert spoken(last) == text
    if kind == "message":
        assert shown is not None
        assert last["content"] == [shown]
        assert [entry for delta in deltas for entry in delta["logprobs"]] == done["logprobs"]
        assert [(entry["token"], entry["logprob"]) for entry in done["logprobs"]] == [
            (entry["token"], entry["logprob"]) for entry in shown["logprobs"]
        ]
    elif kind in ("reasoning", "summary"):
        assert (last["summary"] if kind == "summary" else last["content"]) == [shown]
    return last


def check_stream(body: bytes) -> dict[str, Any]:
    """Every rule of a stream that ends; gives its response."""
    events = events_of(body)
    assert [event.data["sequence_number"] for event in events] == list(range(len(events)))
    created, running, *inner, last = events
    assert (created.type, running.type) == ("response.created", "response.in_progress")
    assert created.data["response"] == running.data["response"]
    assert created.data["response"]["status"] == "in_progress"
    assert created.data["response"]["output"] == []
    assert created.data["response"]["usage"] is None
    items: list[dict[str, Any]] = []
    while inner:
        items.append(check_item(inner, len(items)))
    response: dict[str, Any] = last.data["response"]
    assert last.type == f"response.{response['status']}"
    assert response["output"] == items
    assert len({item["id"] for item in items}) == len(items)
    changed = {"status", "output", "usage", "service_tier", "incomplete_details"}
    assert {key: response[key] for key in response.keys() - changed} == {
        key: value for key, value in created.data["response"].items() if key not in changed
    }
    for shown in (created.data["response"], response):
        assert shown.keys() >= REQUIRED
    return response


# -- laws --------------------------------------------------------------------------------------------------------------

tokens = st.lists(st.text(st.characters(codec="utf-8"), max_size=6), min_size=1, max_size=8)


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    kinds = draw(st.lists(st.sampled_from(["reasoning", "text", "weather", "shell"]), min_size=1, max_size=5))
    parts = []
    for number, kind in enumerate(kinds):
        name = kind if kind in ("weather", "shell") else ""
        parts.append(part("tool_call" if name else kind, *draw(tokens), name=name, number=number))
    return Reply(tuple(parts))


@st.composite
def cuts(draw: st.DrawFn) -> tuple[Reply, list[int], bool]:
    """A reply, how many tokens leave in each write, and whether the limit of tokens is what ended it."""
    reply = draw(replies())
    left = draw(st.integers(1, reply.num_tokens))
    limited = left < reply.num_tokens or draw(st.booleans())
    chunks = []
    while left:
        chunks.append(draw(st.integers(1, left)))
        left -= chunks[-1]
    return reply, chunks, limited


def expected_texts(reply: Reply, num: int) -> list[str]:
    """What each item is to say, from the tokens alone."""
    texts = []
    for one in reply.parts:
        assert isinstance(one.words, JsonTokens)
        if num > 0:
            texts.append("".join(one.words.tokens[:num]))
        num -= len(one.words.tokens)
    return texts


@settings(deadline=None, max_examples=400)
@given(cuts(), st.booleans(), st.booleans(), st.booleans())
@example((FULL, [1] * 12, False), False, False, False)
@example((FULL, [12], False), True, True, True)
def test_a_stream_and_a_whole_answer_say_the_same_by_the_rules(
    cut: tuple[Reply, list[int], bool], summary: bool, sure: bool, hosted: bool
) -> None:
    reply, chunks, limited = cut
    num = sum(chunks)
    fields: dict[str, Any] = {"reasoning": {"effort": "low", "summary": "auto" if summary else None}}
    fields["include"] = ["message.output_text.logprobs"] * sure + ["reasoning.encrypted_content"]
    fields["top_logprobs"] = 2
    end = End("length" if limited else "stop", num)
    streaming = writer_of(reply, hosted=hosted, **fields)
    response = check_stream(streamed(streaming, reply, chunks, end))
    assert [spoken(item) for item in response["output"]] == expected_texts(reply, num)
    whole = writer_of(reply, hosted=hosted, **fields)
    body = whole.whole([end], USAGE)
    assert json.loads(body) == response
    assert whole.finished == streaming.finished
    assert whole.finished is not None
    assert (whole.finished.tag, whole.finished.body) == (TAG, body)
    answer: Response = strict(Response, response)
    message = "".join(spoken(item) for item in response["output"] if item["type"] == "message")
    assert answer.output_text == message
    assert (answer.status, answer.incomplete_details is None) == (
        ("incomplete", False) if limited else ("completed", True)
    )
    statuses = [item["status"] for item in response["output"] if "status" in item]
    assert set(statuses[:-1]) <= {"completed"}
    done = len(response["output"]) == len(reply.parts) and num == reply.num_tokens
    last = response["output"][-1].get("status", "completed")
    assert last == "completed" or (limited and not done)


def test_an_item_that_the_limit_cuts_is_incomplete() -> None:
    reply = Reply((part("text", "a", "b", "c"),))
    response = check_stream(streamed(writer_of(reply), reply, [2], End("length", 2)))
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"
    assert response["output"][0]["content"][0]["text"] == "ab"


def test_a_summary_that_the_limit_cuts_says_so() -> None:
    reply = Reply((part("reasoning", "a", "b"),))
    fields: dict[str, Any] = {"reasoning": {"summary": "concise"}}
    body = streamed(writer_of(reply, **fields), reply, [1], End("length", 1))
    (done,) = [event for event in events_of(body) if event.type == "response.reasoning_summary_part.done"]
    assert done.data["status"] == "incomplete"
    whole = streamed(writer_of(reply, **fields), reply, [2], End("stop", 2))
    (done,) = [event for event in events_of(whole) if event.type == "response.reasoning_summary_part.done"]
    assert "status" not in done.data


@pytest.mark.parametrize(("summary", "shown"), [("detailed", "summary"), (None, "content")])
def test_reasoning_is_a_summary_only_where_one_was_asked_for(summary: str | None, shown: str) -> None:
    writer = writer_of(FULL, reasoning={"effort": "high", "summary": summary})
    output = json.loads(writer.whole([End("stop", 12)], USAGE))["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "custom_tool_call"]
    assert output[0][shown][0]["text"] == "Let me think"
    assert not output[0].get("content" if shown == "summary" else "summary")


def test_a_whole_answer_repeats_the_request() -> None:
    asked: dict[str, Any] = {
        "instructions": "be brief",
        "max_output_tokens": 77,
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "previous_response_id": "resp_before",
        "prompt_cache_key": "key",
        "reasoning": {"effort": "low", "summary": "auto"},
        "safety_identifier": "somebody",
        "store": False,
        "temperature": 0.5,
        "text": {
            "format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True},
            "verbosity": "high",
        },
        "tool_choice": {"type": "function", "name": "weather"},
        "top_logprobs": 2,
        "top_p": 0.25,
        "truncation": "auto",
        "user": "u",
    }
    body = json.loads(writer_of(FULL, **asked, service_tier="flex").whole([End("stop", 12)], USAGE))
    strict(Response, body)
    assert {key: body[key] for key in asked} == asked
    assert (body["id"], body["object"], body["created_at"], body["model"]) == (TAG, "response", CREATED, "m")
    assert (body["service_tier"], body["background"], body["error"]) == ("flex", False, None)
    function, custom, search, mcp = body["tools"]
    assert function == TOOLS[0] | {"strict": True}
    assert (custom, search) == (TOOLS[1], TOOLS[2])
    assert mcp == {"type": "mcp", "server_label": "x", "server_url": "https://x"}, "secrets are never shown again"


def test_what_was_not_asked_for_has_the_published_defaults() -> None:
    body = json.loads(writer_of(FULL, tools=None).whole([End("stop", 12)], USAGE))
    defaults = {"temperature": 1.0, "top_p": 1.0, "tool_choice": "auto", "tools": [], "parallel_tool_calls": True,
                "truncation": "disabled", "store": True, "metadata": {}, "previous_response_id": None,
                "text": {"format": {"type": "text"}, "verbosity": "medium"}}  # fmt: skip
    assert {key: body[key] for key in defaults} == defaults


def test_usage() -> None:
    body = json.loads(writer_of(FULL).whole([End("stop", 12)], USAGE))
    assert body["usage"] == {
        "input_tokens": 44,
        "input_tokens_details": {"cached_tokens": 32, "cache_write_tokens": 12},
        "output_tokens": 16,
        "output_tokens_details": {"reasoning_tokens": 7},
        "total_tokens": 60,
    }


def test_counted_input_tokens() -> None:
    counted: InputTokenCountResponse = strict(InputTokenCountResponse, json.loads(input_tokens_body(123)))
    assert counted.input_tokens == 123


def test_log_probabilities_only_where_they_were_asked_for() -> None:
    reply = Reply((part("text", "It", " rains"),))
    plain = json.loads(writer_of(reply, top_logprobs=3).whole([End("stop", 2)], USAGE))
    assert plain["output"][0]["content"][0]["logprobs"] == []
    fields: dict[str, Any] = {"include": ["message.output_text.logprobs"], "top_logprobs": 3}
    sure = json.loads(writer_of(reply, **fields).whole([End("stop", 2)], USAGE))
    entries = sure["output"][0]["content"][0]["logprobs"]
    assert [entry["token"] for entry in entries] == ["It", " rains"]
    assert all(len(entry["top_logprobs"]) == 3 for entry in entries)
    assert all(entry["logprob"] <= 0 for entry in entries)
    assert bytes(entries[1]["bytes"]) == b" rains"


def test_encrypted_reasoning_only_where_it_was_asked_for() -> None:
    def first_item(**fields: Any) -> dict[str, Any]:
        item: dict[str, Any] = json.loads(writer_of(FULL, **fields).whole([End("stop", 12)], USAGE))["output"][0]
        return item

    assert "encrypted_content" not in first_item()
    assert len(first_item(include=["reasoning.encrypted_content"])["encrypted_content"]) > 80


@pytest.mark.parametrize(
    ("hosted", "asked", "padded"),
    [(True, None, True), (False, None, False), (True, False, False), (False, True, True)],
)
def test_padding_is_on_deltas_alone(hosted: bool, asked: bool | None, padded: bool) -> None:
    fields: dict[str, Any] = {} if asked is None else {"stream_options": {"include_obfuscation": asked}}
    for include in ([], ["message.output_text.logprobs"]):
        writer = writer_of(FULL, hosted=hosted, include=include, **fields)
        events = events_of(streamed(writer, FULL, [12], End("stop", 12)))
        assert len([event for event in events if event.type.endswith(".delta")]) == 4
        for event in events:
            assert (event.padding is not None) is (padded and event.type.endswith(".delta"))


def test_padding_hides_the_length_of_short_tokens() -> None:
    reply = Reply((part("text", *("x" * length for length in range(1, 9))),))
    events = events_of(streamed(writer_of(reply, hosted=True), reply, [1] * 8, End("stop", 8)))
    sizes = {event.size - len(str(event.data["sequence_number"])) for event in events if event.type.endswith("delta")}
    assert len(sizes) == 1


def test_the_same_call_has_the_same_ids_in_stream_and_body() -> None:
    response = check_stream(streamed(writer_of(FULL), FULL, [3, 9], End("stop", 12)))
    first, second = response["output"][2]["call_id"], response["output"][3]["call_id"]
    assert first != second
    assert first.startswith("call_")
    prefixes = [item["id"].partition("_")[0] for item in response["output"]]
    assert prefixes == ["rs", "msg", "fc", "ctc"]


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code"), [(500, "server_error"), (429, "rate_limit_exceeded"), (503, "server_error")]
)
def test_an_error_ends_the_stream_as_failed(status: int, code: str) -> None:
    writer = writer_of(FULL)
    body = writer.opening(USAGE)
    for piece in FULL.slices(0, 4):
        body += writer.piece(0, piece)
    body += writer.error(ApiError(status, "It broke.", "server_error", code="broken", param="p"))
    events = events_of(body)
    assert [event.data["sequence_number"] for event in events] == list(range(len(events)))
    error, failed = events[-2:]
    assert error.data == {
        "type": "error", "sequence_number": len(events) - 2, "code": "broken", "message": "It broke.", "param": "p"
    }  # fmt: skip
    response = failed.data["response"]
    assert (failed.type, response["status"]) == ("response.failed", "failed")
    assert response["error"] == {"code": code, "message": "It broke."}
    assert [spoken(item) for item in response["output"]] == ["Let me think", "It"]
    assert response["output"][-1]["status"] == "incomplete"
    assert writer.finished is None


def test_an_error_before_anything_was_said_stands_alone() -> None:
    (event,) = events_of(writer_of(FULL).error(ApiError(500, "It broke.")))
    assert (event.type, event.data["sequence_number"]) == ("error", 0)


# -- the official client -----------------------------------------------------------------------------------------------


def client(body: bytes, kind: str) -> OpenAI:
    """The official client, with these bytes as its server; nothing leaves the process."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": kind}, content=body)

    return OpenAI(
        api_key="k", base_url="http://mock/v1", http_client=httpx2.Client(transport=httpx2.MockTransport(answer))
    )


@pytest.mark.parametrize("hosted", [True, False])
@pytest.mark.parametrize("summary", ["auto", None])
def test_the_official_client_puts_a_stream_together(summary: str | None, hosted: bool) -> None:
    writer = writer_of(FULL, hosted=hosted, reasoning={"effort": "low", "summary": summary})
    body = streamed(writer, FULL, [1] * 12, End("stop", 12))
    assert writer.finished is not None
    with client(body, "text/event-stream").responses.stream(model="m", input="hi") as stream:
        types = [event.type for event in stream]
        final = stream.get_final_response()
    assert len(types) == len(events_of(body))
    assert final.output_text == "It rains."
    assert final.to_dict() == json.loads(writer.finished.body) | {"output": final.to_dict()["output"]}
    assert [spoken(item) for item in json.loads(final.to_json())["output"]] == [
        "Let me think", "It rains.", '{"city":"Oslo"}', "ls -l"
    ]  # fmt: skip


def test_the_official_client_reads_a_whole_answer() -> None:
    body = writer_of(FULL, stream=False).whole([End("length", 5)], USAGE)
    answer = client(body, "application/json").responses.create(model="m", input="hi")
    assert (answer.output_text, answer.status) == ("It rains", "incomplete")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 60


def test_the_official_client_sees_a_failure() -> None:
    writer = writer_of(FULL)
    body = writer.opening(USAGE) + writer.error(ApiError(500, "It broke."))
    events = list(client(body, "text/event-stream").responses.create(model="m", input="hi", stream=True))
    assert [event.type for event in events][-2:] == ["error", "response.failed"]
