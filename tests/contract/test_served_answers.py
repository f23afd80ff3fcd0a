"""What the application answers to what chat, completions, embeddings and the token endpoints can be asked for."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from math import sqrt
from typing import Any

import jsonschema
import numpy as np
import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from .inside import Inside, instant_app
from .sdk import error_of, event_data, strict

O200K = pytest.importorskip("quicktok").get_encoding("o200k_base")
CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 2, "maxLength": 40},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "units": {"enum": ["metric", "imperial"]},
        "stops": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["city", "days", "units", "stops"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("forecast", "route")]
USER = {"role": "user", "content": "What will the weather be?"}


@pytest.fixture(scope="module")
def app() -> Iterator[Inside]:
    with instant_app() as inside:
        yield inside


def count(text: str) -> int:
    """Tokens by a tokenizer that nothing under test uses."""
    return len(O200K.encode_ordinary(text))


def chat(app: Inside, number: int = 0, **fields: object) -> ChatCompletion:
    """One answer; `number` names the request, and so its luck."""
    body = json.dumps({"model": "instant", "messages": [USER], **fields}).encode()
    answer = app.post(CHAT, body, {"x-client-request-id": f"chat-{number}"})
    assert answer.status == 200, answer.body
    return strict(ChatCompletion, answer.body, beside=("reasoning_content",))


def chunks(app: Inside, number: int = 0, **fields: object) -> list[ChatCompletionChunk]:
    asked = {"stream": True, "stream_options": {"include_usage": True}, **fields}
    body = json.dumps({"model": "instant", "messages": [USER], **asked}).encode()
    *events, last = event_data(app.post(CHAT, body, {"x-client-request-id": f"chat-{number}"}).body)
    assert last == b"[DONE]"
    return [strict(ChatCompletionChunk, data, beside=("reasoning_content",)) for data in events]


def calls(answer: ChatCompletion) -> list[tuple[str, Any]]:
    found = answer.choices[0].message.tool_calls or []
    return [(each.function.name, json.loads(each.function.arguments)) for each in found if each.type == "function"]


# -- tools and structured output -------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", ["auto", "required", None])
def test_tools_are_called_with_arguments_that_fit(app: Inside, choice: str | None) -> None:
    lengths = set()
    for number in range(30):
        answer = chat(app, number, tools=TOOLS, tool_choice=choice)
        assert answer.choices[0].finish_reason == "tool_calls"
        assert answer.choices[0].message.content is None
        told = calls(answer)
        lengths.add(len(told))
        for name, arguments in told:
            assert name in ("forecast", "route")
            jsonschema.validate(arguments, SCHEMA)
    assert lengths == {1, 2}, "of thirty answers some call two tools at once"


def test_one_call_where_only_one_is_wanted(app: Inside) -> None:
    assert {len(calls(chat(app, n, tools=TOOLS, parallel_tool_calls=False))) for n in range(30)} == {1}


def test_no_call_where_none_is_wanted(app: Inside) -> None:
    for number in range(10):
        answer = chat(app, number, tools=TOOLS, tool_choice="none")
        assert (answer.choices[0].finish_reason, calls(answer)) == ("stop", [])
        assert answer.choices[0].message.content


@pytest.mark.parametrize("name", ["forecast", "route"])
def test_the_tool_that_is_named_is_called(app: Inside, name: str) -> None:
    for number in range(10):
        answer = chat(app, number, tools=TOOLS, tool_choice={"type": "function", "function": {"name": name}})
        assert {called for called, _ in calls(answer)} == {name}


def test_an_agent_loop_ends(app: Inside) -> None:
    messages: list[dict[str, Any]] = [USER]
    for turn in range(5):
        answer = chat(app, turn, messages=messages, tools=TOOLS).choices[0].message
        if not answer.tool_calls:
            break
        messages.append(answer.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": each.id, "content": "sunny"} for each in answer.tool_calls]
    assert answer.content
    assert turn >= 1, "a tool was called first"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_structured_output_fits_its_schema(app: Inside, stream: bool) -> None:
    asked = {"response_format": {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA}}}
    texts = set()
    for number in range(20):
        if stream:
            told = chunks(app, number, **asked)
            text = "".join(choice.delta.content or "" for chunk in told for choice in chunk.choices)
        else:
            text = chat(app, number, **asked).choices[0].message.content or ""
        jsonschema.validate(json.loads(text), SCHEMA)
        texts.add(text)
    assert len(texts) == 20


def test_any_json_is_an_object(app: Inside) -> None:
    content = chat(app, response_format={"type": "json_object"}).choices[0].message.content
    assert isinstance(json.loads(content or ""), dict)


# -- how an answer ends, and what it costs ---------------------------------------------------------------------------


def test_choices_are_different_and_all_are_billed(app: Inside) -> None:
    answer = chat(app, n=8)
    texts = [choice.message.content or "" for choice in answer.choices]
    assert len(set(texts)) == 8
    assert answer.usage is not None
    assert answer.usage.completion_tokens == sum(map(count, texts)) == 8 * 16  # the profile's answer length
    assert answer.usage.prompt_tokens == count(USER["content"])


@pytest.mark.parametrize("number", range(5))
def test_a_stop_word_ends_the_answer_before_it(app: Inside, number: int) -> None:
    full = chat(app, number).choices[0].message.content or ""
    word = full.split()[4]
    cut = chat(app, number, stop=["never in it", word])
    told = "".join(choice.delta.content or "" for chunk in chunks(app, number, stop=word) for choice in chunk.choices)
    assert cut.choices[0].message.content == told == full[: full.index(word)]
    assert cut.choices[0].finish_reason == "stop"
    assert cut.usage is not None
    assert cut.usage.completion_tokens < 16


def test_reasoning_is_asked_for_and_counted(app: Inside) -> None:
    answer = chat(app, reasoning_effort="high")
    thought = (answer.choices[0].message.model_extra or {})["reasoning_content"]
    said = answer.choices[0].message.content or ""
    assert answer.usage is not None
    details = answer.usage.completion_tokens_details
    assert details is not None
    assert details.reasoning_tokens == count(thought) > 0
    assert answer.usage.completion_tokens == count(thought) + count(said)
    assert "reasoning_content" not in (chat(app).choices[0].message.model_extra or {})


@pytest.mark.parametrize("fields", [{}, {"n": 3}, {"tools": TOOLS}, {"reasoning_effort": "low"}, {"stop": ["the"]}])
def test_a_stream_says_and_costs_what_a_whole_answer_does(app: Inside, fields: dict[str, object]) -> None:
    answer, told = chat(app, 7, **fields), chunks(app, 7, **fields)
    assert told[-1].usage is not None
    assert answer.usage is not None
    assert told[-1].usage.completion_tokens == answer.usage.completion_tokens
    for choice in answer.choices:
        deltas = [each.delta for chunk in told for each in chunk.choices if each.index == choice.index]
        assert "".join(delta.content or "" for delta in deltas) == (choice.message.content or "")
        arguments = [each.function.arguments for each in choice.message.tool_calls or [] if each.type == "function"]
        streamed = [c.function.arguments or "" for d in deltas for c in d.tool_calls or [] if c.function is not None]
        assert "".join(streamed) == "".join(arguments)


# -- completions -----------------------------------------------------------------------------------------------------


def complete(app: Inside, **fields: object) -> Completion:
    body = json.dumps({"model": "instant", "prompt": "Once upon a time", **fields}).encode()
    answer = app.post(COMPLETIONS, body, {"x-client-request-id": "complete"})
    assert answer.status == 200, answer.body
    return strict(Completion, answer.body)


def test_a_completion_and_its_echo(app: Inside) -> None:
    plain, echoed = complete(app).choices[0].text, complete(app, echo=True).choices[0].text
    assert echoed == "Once upon a time" + plain
    assert complete(app).choices[0].finish_reason == "stop"
    assert complete(app, max_tokens=3).choices[0].finish_reason == "length"


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2, 3]], ["Once upon a time"], "Once upon a time"])
def test_a_prompt_as_text_or_as_token_ids(app: Inside, prompt: object) -> None:
    usage = complete(app, prompt=prompt).usage
    assert usage is not None
    assert usage.prompt_tokens == (count("Once upon a time") if "Once" in str(prompt) else 3)


def test_log_probabilities_of_a_completion_line_up(app: Inside) -> None:
    choice = complete(app, logprobs=3).choices[0]
    told = choice.logprobs
    assert told is not None
    assert "".join(told.tokens or []) == choice.text
    assert told.text_offset == [len("".join((told.tokens or [])[:number])) for number in range(len(told.tokens or []))]
    assert all(value is not None and value <= 0 for value in told.token_logprobs or [])
    assert all(len(top) == 3 for top in told.top_logprobs or [])


# -- embeddings ------------------------------------------------------------------------------------------------------


def embed(app: Inside, texts: object, **fields: object) -> CreateEmbeddingResponse:
    answer = app.post(EMBEDDINGS, json.dumps({"model": "instant", "input": texts, **fields}).encode())
    assert answer.status == 200, answer.body
    if "encoding_format" in fields:  # the SDK decodes base64 itself; its type knows only numbers
        value = json.loads(answer.body)
        for item in value["data"]:
            item["embedding"] = np.frombuffer(b64decode(item["embedding"]), "<f4").tolist()
        return strict(CreateEmbeddingResponse, json.dumps(value).encode())
    return strict(CreateEmbeddingResponse, answer.body)


@pytest.mark.parametrize("dimensions", [1, 8, 256, 1536])
def test_base64_holds_the_same_numbers(app: Inside, dimensions: int) -> None:
    plain = embed(app, "a text", dimensions=dimensions).data[0].embedding
    packed = embed(app, "a text", dimensions=dimensions, encoding_format="base64").data[0].embedding
    assert len(plain) == dimensions
    assert packed == pytest.approx(plain, rel=1e-6)
    assert sqrt(sum(value * value for value in plain)) == pytest.approx(1, rel=1e-5)


def test_a_paraphrase_is_nearer_than_another_subject(app: Inside) -> None:
    texts = ["How do I reset my password?", "I forgot my password, how can I change it?", "The cake needs three eggs."]
    answer = embed(app, texts)
    first, paraphrase, other = (np.array(item.embedding) for item in answer.data)
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert first @ paraphrase > first @ other + 0.2
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(map(count, texts))


def test_token_ids_stand_for_their_text(app: Inside) -> None:
    text = "The cake needs three eggs."
    ids = O200K.encode_ordinary(text)
    assert embed(app, ids).data[0].embedding == embed(app, text).data[0].embedding
    assert embed(app, [ids, ids]).data[1].embedding == embed(app, text).data[0].embedding


# -- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["Hello there.", "naïve 日本語 \U0001f389", "<|endoftext|>", "  \n\t", "1234567890", ""], ids=repr
)
def test_tokens_by_another_tokenizer(app: Inside, text: str) -> None:
    body = json.dumps({"prompt": text, "return_token_strs": True}).encode()
    told = json.loads(app.post("/tokenize", body).body)
    assert told["tokens"] == O200K.encode_ordinary(text)
    assert told["count"] == len(told["tokens"]) == len(told["token_strs"])
    back = json.loads(app.post("/detokenize", json.dumps({"tokens": told["tokens"]}).encode()).body)
    assert back["prompt"] == text or "\ufffd" in back["prompt"]


def test_a_conversation_is_counted_as_chat_bills_it(app: Inside) -> None:
    told = json.loads(app.post("/tokenize", json.dumps({"messages": [USER]}).encode()).body)
    usage = chat(app).usage
    assert usage is not None
    assert told["count"] == usage.prompt_tokens


def test_tokenize_without_anything_to_count(app: Inside) -> None:
    answer = app.post("/tokenize", b"{}")
    assert answer.status == 400
    assert error_of(answer.body).param == "messages"
