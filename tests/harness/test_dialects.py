"""What each protocol asks, and what it makes of an answer. Oracles: the official SDKs over the same bytes, and the mock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from harness.dialects import NO_USAGE, Asked, Dialect, TokenUsage
from harness.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from harness.dialects.openai_chat import OPENAI_CHAT
from harness.dialects.openai_completions import OPENAI_COMPLETIONS
from harness.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from harness.dialects.openai_responses import OPENAI_RESPONSES
from harness.dialects.table import DIALECTS, dialect_of
from harness.errors import UsageError
from harness.outcome import classify
from harness.plan import Arrival
from harness.reading import StreamFacts, read_stream, read_whole
from harness.workloads.prompts import PromptBook
from tests.contract.inside import Inside, instant_app

STREAMING = [OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_RESPONSES, ANTHROPIC_MESSAGES]
EACH = pytest.mark.parametrize("dialect", STREAMING, ids=lambda dialect: dialect.name)
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
NOW: dict[str, Any] = {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture(scope="module")
def mock() -> Iterator[Inside]:
    with instant_app() as inside:
        yield inside


def question(num_tokens: int = 40, **more: Any) -> Asked:
    text = PromptBook(1).text(Arrival(0, 0.0, num_tokens))
    return Asked("instant", (("user", text),), **more)


def answered(mock: Inside, dialect: Dialect, asked: Asked) -> bytes:
    headers = {
        "x-client-request-id": f"{dialect.name} {asked.max_tokens}"
    }  # the same luck for a stream and a whole answer
    answer = mock.post(dialect.path, dialect.body(asked), headers | dialect.headers("sk-test"))
    assert answer.status == 200, answer.body
    return answer.body


def facts_of(body: bytes, dialect: Dialect, *, stream: bool = True) -> StreamFacts:
    facts = read_stream([(0.0, body)], dialect) if stream else read_whole(body, 0.0, dialect)
    verdict = classify(
        ending="complete",
        detail=None,
        status=200,
        headers={"content-type": "text/event-stream"},
        error_body=None,
        stream=stream,
        facts=facts,
    )
    assert (verdict.outcome, verdict.error_text) == ("ok", None)
    return facts


# -- against the mock --------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_planned_tokens_are_counted_tokens(mock: Inside, dialect: Dialect, stream: bool) -> None:
    asked = question(40, stream=stream, max_tokens=17, exact_length=True)
    facts = facts_of(answered(mock, dialect, asked), dialect, stream=stream)
    assert facts.usage is not None
    assert (facts.usage.num_prompt_tokens, facts.usage.num_output_tokens) == (40, 17)
    assert len(facts.pieces) == (17 if stream else 1)
    assert facts.model == "instant"
    assert facts.finish_reasons == [
        {"anthropic-messages": "max_tokens", "openai-responses": "max_output_tokens"}.get(dialect.name, "length")
    ]


@EACH
def test_a_stream_and_a_whole_answer_say_the_same(mock: Inside, dialect: Dialect) -> None:
    asked = question(30, max_tokens=50)
    streamed = facts_of(answered(mock, dialect, asked), dialect)
    whole = facts_of(answered(mock, dialect, replace(asked, stream=False)), dialect, stream=False)
    assert "".join(streamed.pieces) == "".join(whole.pieces) != ""
    assert streamed.usage == whole.usage
    assert streamed.finish_reasons == whole.finish_reasons


@pytest.mark.parametrize("dialect", [OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC_MESSAGES], ids=lambda d: d.name)
def test_roles_tools_and_images_are_understood(mock: Inside, dialect: Dialect) -> None:
    asked = Asked(
        "instant",
        (("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "What is the weather in Oslo?")),
        max_tokens=200,
        temperature=0.5,
        tools=(WEATHER,),
        images=(PIXEL,),
    )
    facts = facts_of(answered(mock, dialect, asked), dialect)
    assert facts.wordless  # a tool was called
    assert set(json.loads("".join(facts.pieces))) == {"city"}
    bare = facts_of(answered(mock, dialect, replace(asked, images=())), dialect)
    assert facts.usage is not None
    assert bare.usage is not None
    assert (facts.usage.num_prompt_tokens or 0) > (bare.usage.num_prompt_tokens or 0) > 10


def test_embeddings_have_content_and_no_tokens(mock: Inside) -> None:
    asked = question(40, max_tokens=17, exact_length=True)
    facts = facts_of(answered(mock, OPENAI_EMBEDDINGS, asked), OPENAI_EMBEDDINGS, stream=False)
    assert facts.wordless
    assert facts.pieces == []
    assert facts.usage == TokenUsage(40, 0)
    assert not OPENAI_EMBEDDINGS.streams


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"object":"list","data":[],"model":"m"}', "empty_answer"),
        (b'{"object":"list","data":[{"embedding":[]}]}', "empty_answer"),
        (b'{"object":"list"}', "no_end"),
        (b'{"data":[{"embedding":[1,2', "bad_json"),
        (b'{"data":[{"embedding":{}}]}', "bad_json"),
        (b'{"error":{"message":"no"}}', "in_band_error"),
    ],
)
def test_embeddings_that_are_none(body: bytes, kind: str) -> None:
    facts = read_whole(body, 0.0, OPENAI_EMBEDDINGS)
    verdict = classify(
        ending="complete", detail=None, status=200, headers={}, error_body=None, stream=False, facts=facts
    )
    assert (verdict.outcome, verdict.error_kind) == ("failed", kind)


def test_vectors_may_come_in_base64() -> None:
    body = b'{"data":[{"embedding":"AACAPw=="}],"usage":{"prompt_tokens":3}}'
    assert facts_of(body, OPENAI_EMBEDDINGS, stream=False).usage == TokenUsage(3, 0)


# -- against the official SDKs -----------------------------------------------------------------------------


def client_of(body: bytes) -> httpx2.Client:
    """An HTTP client whose server answers with these bytes; nothing leaves the process."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def openai_client(body: bytes) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", base_url="http://mock/v1", http_client=client_of(body))


def chat_by_sdk(body: bytes) -> tuple[str, tuple[int, int]]:
    text, usage = "", (0, 0)
    chunk: ChatCompletionChunk
    for chunk in openai_client(body).chat.completions.create(model="m", messages=[], stream=True):
        for choice in chunk.choices:
            text += getattr(choice.delta, "reasoning_content", None) or ""
            text += choice.delta.content or ""
            text += "".join(call.function.arguments or "" for call in choice.delta.tool_calls or [] if call.function)
        if chunk.usage is not None:
            usage = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
    return text, usage


def completion_by_sdk(body: bytes) -> tuple[str, tuple[int, int]]:
    text, usage = "", (0, 0)
    for chunk in openai_client(body).completions.create(model="m", prompt="", stream=True):
        text += "".join(choice.text for choice in chunk.choices)
        if chunk.usage is not None:
            usage = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
    return text, usage


def response_by_sdk(body: bytes) -> tuple[str, tuple[int, int]]:
    *_, last = openai_client(body).responses.create(model="m", input="hi", stream=True)
    assert last.type in ("response.completed", "response.incomplete")
    final, said = last.response, []
    for item in final.output:
        if item.type == "message":
            said += [part.text for part in item.content if part.type == "output_text"]
        elif item.type == "function_call":
            said.append(item.arguments)
        elif item.type == "reasoning":
            said += [part.text for part in item.content or []]
    assert final.usage is not None
    return "".join(said), (final.usage.input_tokens, final.usage.output_tokens)


def message_by_sdk(body: bytes) -> tuple[str, tuple[int, int]]:
    client = anthropic.Anthropic(api_key="k", base_url="http://mock", http_client=client_of(body))
    text = ""
    with client.messages.stream(model="m", max_tokens=9, messages=[]) as stream:
        for event in stream:
            if event.type == "text":
                text += event.text
            elif event.type == "thinking":
                text += event.thinking
            elif event.type == "input_json":
                text += event.partial_json
        usage = stream.get_final_message().usage
    prompt = usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    return text, (prompt, usage.output_tokens)


BY_SDK = {
    "openai-chat": chat_by_sdk,
    "openai-completions": completion_by_sdk,
    "openai-responses": response_by_sdk,
    "anthropic-messages": message_by_sdk,
}
QUESTIONS = {
    "plain": question(40),
    "cut at its limit": question(40, max_tokens=9, exact_length=True),
    "calls a tool": question(40, tools=(WEATHER,)),
    "calls a tool without arguments": question(40, tools=(NOW,)),
}


@EACH
@pytest.mark.parametrize("what", QUESTIONS)
def test_the_official_client_reads_the_same(mock: Inside, dialect: Dialect, what: str) -> None:
    asked = QUESTIONS[what]
    if asked.tools and dialect is OPENAI_COMPLETIONS:
        asked = replace(asked, tools=())
    body = answered(mock, dialect, asked)
    facts = facts_of(body, dialect)
    assert facts.usage is not None
    found = "".join(facts.pieces), (facts.usage.num_prompt_tokens, facts.usage.num_output_tokens)
    assert found == BY_SDK[dialect.name](body)


@pytest.mark.parametrize("dialect", [OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC_MESSAGES], ids=lambda d: d.name)
def test_thoughts_are_content(mock: Inside, dialect: Dialect) -> None:
    thinking = {
        "openai-chat": {"reasoning_effort": "low"},
        "openai-responses": {"reasoning": {"effort": "low"}},
        "anthropic-messages": {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4096},
    }
    body = json.dumps(json.loads(dialect.body(question(40))) | thinking[dialect.name]).encode()
    answer = mock.post(dialect.path, body, dialect.headers(None))
    facts = facts_of(answer.body, dialect)
    text, usage = BY_SDK[dialect.name](answer.body)
    assert "".join(facts.pieces) == text
    assert facts.usage is not None
    assert (facts.usage.num_prompt_tokens, facts.usage.num_output_tokens) == usage
    assert 0 < (facts.usage.num_reasoning_tokens or 0) < usage[1]


# -- bodies and headers ------------------------------------------------------------------------------------

FULL = Asked(
    "m",
    (("system", "S"), ("user", "U"), ("assistant", "A"), ("user", "V")),
    max_tokens=7,
    exact_length=True,
    temperature=0.0,
    tools=(WEATHER,),
    images=("data:image/png;base64,QUJD", "https://x.test/y.png"),
)


def test_what_chat_asks() -> None:
    assert json.loads(OPENAI_CHAT.body(FULL)) == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 7,
        "ignore_eos": True,
        "temperature": 0.0,
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "U"},
            {"role": "assistant", "content": "A"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "V"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                    {"type": "image_url", "image_url": {"url": "https://x.test/y.png"}},
                ],
            },
        ],
        "tools": [{"type": "function", "function": WEATHER}],
    }


def test_what_messages_asks() -> None:
    assert json.loads(ANTHROPIC_MESSAGES.body(FULL)) == {
        "model": "m",
        "stream": True,
        "max_tokens": 7,
        "ignore_eos": True,
        "temperature": 0.0,
        "system": "S",
        "messages": [
            {"role": "user", "content": "U"},
            {"role": "assistant", "content": "A"},
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                    {"type": "image", "source": {"type": "url", "url": "https://x.test/y.png"}},
                    {"type": "text", "text": "V"},
                ],
            },
        ],
        "tools": [{"name": "weather", "description": WEATHER["description"], "input_schema": WEATHER["parameters"]}],
    }
    assert json.loads(ANTHROPIC_MESSAGES.body(question()))["max_tokens"] == 4096  # the protocol wants a limit


@pytest.mark.parametrize("dialect", [OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS], ids=lambda d: d.name)
def test_what_takes_text_only_says_so(dialect: Dialect) -> None:
    for asked, what in ((replace(FULL, images=()), "tools"), (replace(FULL, tools=()), "images")):
        with pytest.raises(UsageError, match=f"{dialect.name} takes text only, and this question has {what}"):
            dialect.body(asked)
    body = json.loads(dialect.body(replace(FULL, images=(), tools=())))
    assert body.get("prompt", body.get("input")) == "S\n\nU\n\nA\n\nV"


def test_nobody_asks_for_a_stream_where_there_is_none() -> None:
    for dialect in DIALECTS.values():
        body = json.loads(dialect.body(question(stream=True)))
        assert bool(body.get("stream")) is dialect.streams


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_the_key_goes_into_the_providers_header(dialect: Dialect) -> None:
    with_key, without = dialect.headers("sk-1"), dialect.headers(None)
    if dialect.name.startswith("anthropic"):
        assert with_key == {"x-api-key": "sk-1", "anthropic-version": "2023-06-01"}
        assert without == {"anthropic-version": "2023-06-01"}
    else:
        assert with_key == {"Authorization": "Bearer sk-1"}
        assert without == {}


def test_protocols_go_by_their_names() -> None:
    assert [dialect_of(name).name for name in DIALECTS] == list(DIALECTS)
    with pytest.raises(UsageError, match="--protocol 'openai': there are openai-chat, openai-completions, "):
        dialect_of("openai")


# -- usage and choices -------------------------------------------------------------------------------------


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def start(**usage: int) -> dict[str, Any]:
    return {"type": "message_start", "message": {"model": "m", "usage": usage}}


def delta(**usage: int) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}


@pytest.mark.parametrize(
    ("events", "usage"),
    [
        # the service: what no cache had to do with, read from it, written to it
        (
            [
                start(input_tokens=3, cache_read_input_tokens=20, cache_creation_input_tokens=4, output_tokens=1),
                delta(output_tokens=9),
            ],
            (27, 9, 20, 4),
        ),
        # it may repeat the prompt's part at the end
        (
            [
                start(input_tokens=3, cache_read_input_tokens=20, output_tokens=1),
                delta(input_tokens=3, cache_read_input_tokens=20, output_tokens=9),
            ],
            (23, 9, 20, None),
        ),
        # servers that know no cache, and such that know the prompt only at the end
        ([start(input_tokens=12, output_tokens=0), delta(output_tokens=9)], (12, 9, None, None)),
        ([start(input_tokens=0, output_tokens=0), delta(input_tokens=12, output_tokens=9)], (12, 9, None, None)),
        # cut before the end: the 1 of the beginning is no count
        ([start(input_tokens=12, output_tokens=1)], (12, None, None, None)),
        ([{"type": "message_start", "message": {"model": "m"}}], None),
    ],
)
def test_anthropics_usage_comes_in_two_parts(
    events: list[dict[str, Any]], usage: tuple[int | None, ...] | None
) -> None:
    found = read_stream([(0.0, sse(*events))], ANTHROPIC_MESSAGES).usage
    if usage is None:
        assert found is None
    else:
        assert found is not None
        counts = found.num_prompt_tokens, found.num_output_tokens, found.num_cached_tokens, found.num_cache_write_tokens
        assert counts == usage


def test_a_later_count_goes_before_an_earlier_one() -> None:
    running = [TokenUsage(5, 1), TokenUsage(5, 2, num_cached_tokens=3), TokenUsage(None, 3)]
    known = NO_USAGE
    for usage in running:
        known = known.then(usage)
    assert known == TokenUsage(5, 3, 3)


def test_less_than_no_tokens_says_nothing() -> None:
    """A bill must not fall because a server counts wrongly."""
    assert NO_USAGE.then(TokenUsage(5, -1)) == TokenUsage(5, None)
    assert TokenUsage(5, 2).then(TokenUsage(-5, 3, num_uncached_tokens=-9)) == TokenUsage(5, 3)


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        (ANTHROPIC_MESSAGES, b'{"content": [{"type": "tool_use", "input": {"a": "\xff"}}], "stop_reason": "tool_use"}'),
        (OPENAI_RESPONSES, b'{"status": "failed", "error": {"code": 100000000000000000000000}}'),
    ],
)
def test_what_no_decoder_has_looked_at_raises_nothing(dialect: Dialect, body: bytes) -> None:
    facts = read_whole(body, 1.0, dialect)
    assert facts.wordless or "100000000000000000000000" in (facts.error or "")


def test_openais_details_of_usage() -> None:
    prompt = {"cached_tokens": 3, "cache_write_tokens": 2}
    chat = {
        "choices": [],
        "usage": {
            "prompt_tokens": 9,
            "completion_tokens": 4,
            "prompt_tokens_details": prompt,
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    }
    response = {
        "type": "response.completed",
        "response": {
            "status": "completed",
            "usage": {
                "input_tokens": 9,
                "output_tokens": 4,
                "input_tokens_details": prompt,
                "output_tokens_details": {"reasoning_tokens": 1},
            },
        },
    }
    for dialect, event in ((OPENAI_CHAT, chat), (OPENAI_RESPONSES, response)):
        assert read_stream([(0.0, sse(event))], dialect).usage == TokenUsage(9, 4, 3, 1, 2)


def choice(index: int, text: str = "", finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}, "text": text, "finish_reason": finish}]}


@pytest.mark.parametrize("dialect", [OPENAI_CHAT, OPENAI_COMPLETIONS], ids=lambda d: d.name)
def test_each_choice_has_a_finish_of_its_own(dialect: Dialect) -> None:
    two = [choice(0, "a"), choice(1, "b"), choice(0, finish="stop"), choice(1, "c"), choice(1, finish="length")]
    facts = facts_of(sse(*two), dialect)
    assert (facts.finish_reasons, facts.content_after_end) == (["stop", "length"], False)
    twice = read_stream([(0.0, sse(*two, choice(0, finish="stop")))], dialect)
    assert twice.num_too_many_finishes == 1
    late = read_stream([(0.0, sse(*two, choice(0, "late")))], dialect)
    assert late.content_after_end


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({"status": "failed", "error": {"code": "server_error", "message": "It broke."}}, "It broke."),
        ({"status": "cancelled", "error": None}, "the response is cancelled"),
    ],
)
def test_a_response_that_failed_says_why(state: dict[str, Any], error: str) -> None:
    event = {"type": "response.failed", "response": state}
    assert read_stream([(0.0, sse(event))], OPENAI_RESPONSES).error == error
    assert read_whole(json.dumps(state).encode(), 0.0, OPENAI_RESPONSES).error == error


def test_a_response_that_is_not_done_has_no_end() -> None:
    assert not read_whole(b'{"status":"in_progress","output":[]}', 0.0, OPENAI_RESPONSES).complete


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":{"message":"a","type":"t"}}', "a"),
        (b'{"type":"error","error":{"type":"t","message":"b"}}', "b"),
        (b'{"error":"c"}', "c"),
        (b'{"detail":"d"}', "d"),
        (b'{"message":"e","code":1}', "e"),
        (b'{"error":{"detail":"f"}}', "f"),
        (b'{"detail":[{"loc":[]}]}', '{"detail":[{"loc":[]}]}'),
        (b"[1]", "[1]"),
        (b"<h1>no</h1>", "<h1>no</h1>"),
        (b"\xff", "\ufffd"),
        (b"", ""),
        (b'{"error":{"message":"' + b"x" * 999 + b'"}}', "x" * 300),
    ],
)
def test_the_message_of_an_error(body: bytes, text: str) -> None:
    assert {dialect.error_text(body) for dialect in DIALECTS.values()} == {text}
