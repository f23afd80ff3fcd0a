"""What the Responses API remembers: earlier turns become part of the prompt, and stored responses can be read again."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response
from openai.types.responses.response_item_list import ResponseItemList

from mockllm.call import Call, Usage
from mockllm.content.reply import JsonTokens, Part, Reply
from mockllm.streams import Streams
from mockllm.wire.conversations import Conversations, deleted_body, response_not_found
from mockllm.wire.dialect import Context, End
from mockllm.wire.errors import ApiError
from mockllm.wire.openai_responses import ResponsesWriter, parse

from . import sdk

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def strict(kind: Any, data: bytes) -> Any:
    return cast("Any", sdk.strict)(kind, data)


def said(text: str) -> Reply:
    return Reply((Part("reasoning", JsonTokens(["hm"]), 1), Part("text", JsonTokens([text]), 1)))


CALLING = Reply((Part("tool_call", JsonTokens(["{", "}"]), 2, "weather"),))


def ask(kept: Conversations, **fields: object) -> Call | ApiError:
    call = parse(json.dumps({"model": "m", **fields}).encode())
    assert isinstance(call, Call), call
    return kept.resolve(call)


def turn(kept: Conversations, tag: str, reply: Reply, num_tokens: int | None = None, **fields: object) -> Call:
    """One request and its complete answer."""
    call = ask(kept, **fields)
    assert isinstance(call, Call), call
    writer = ResponsesWriter(call, Context(tag, 1, False, tag, Streams(1)), [reply])
    num = reply.num_tokens if num_tokens is None else num_tokens
    writer.whole([End("stop" if num == reply.num_tokens else "length", num)], Usage(1, num))
    assert writer.finished is not None
    kept.remember(call, writer.finished)
    return call


def texts(call: Call | ApiError) -> list[str]:
    assert isinstance(call, Call), call
    return [segment.text for segment in call.segments]


def refusal(answer: Call | ApiError) -> tuple[int, str | None, str | None, str]:
    assert isinstance(answer, ApiError), answer
    return answer.status, answer.param, answer.code, answer.message


def test_an_earlier_turn_comes_before_the_new_input_and_after_the_new_instructions() -> None:
    kept = Conversations()
    turn(kept, "resp_1", said("one"), input="a", instructions="old")
    turn(kept, "resp_2", said("two"), input="b", instructions="new", previous_response_id="resp_1")
    third = ask(kept, input="c", instructions="newest", previous_response_id="resp_2")
    assert texts(third) == ["newest", "a", "one", "b", "two", "c"]
    branch = ask(kept, input="d", previous_response_id="resp_1")
    assert texts(branch) == ["a", "one", "d"], "two answers to one response do not mix"


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))), max_size=6))
def test_a_chain_reads_like_the_same_turns_sent_at_once(turns: list[tuple[str, str]]) -> None:
    kept = Conversations()
    items: list[dict[str, object]] = []
    before: dict[str, Any] = {}
    for number, (question, answer) in enumerate(turns):
        turn(kept, f"resp_{number}", said(answer), input=question, **before)
        before = {"previous_response_id": f"resp_{number}"}
        items += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    chained = ask(kept, input="last", **before)
    at_once = ask(kept, input=[*items, {"role": "user", "content": "last"}])
    assert texts(chained) == texts(at_once)


def test_an_unknown_response_is_refused_by_name() -> None:
    answer = ask(Conversations(), input="a", previous_response_id="resp_x")
    message = "Previous response with id 'resp_x' not found."
    assert refusal(answer) == (400, "previous_response_id", "previous_response_not_found", message)


def test_what_is_not_to_be_stored_is_not_found() -> None:
    kept = Conversations()
    turn(kept, "resp_1", said("one"), input="a", store=False)
    assert kept.get("resp_1") is None
    assert isinstance(ask(kept, input="b", previous_response_id="resp_1"), ApiError)


def test_a_conversation_grows_and_others_do_not_see_it() -> None:
    kept = Conversations()
    assert texts(turn(kept, "resp_1", said("one"), input="a", conversation="conv_1")) == ["a"]
    turn(kept, "resp_2", said("two"), input="b", conversation={"id": "conv_1"}, store=False)
    assert texts(ask(kept, input="c", conversation="conv_1")) == ["a", "one", "b", "two", "c"]
    assert texts(ask(kept, input="c", conversation="conv_2")) == ["c"]
    assert texts(ask(kept, input="c", conversation="resp_1")) == ["c"], "the id of a response is no conversation"
    assert isinstance(ask(kept, input="c", previous_response_id="conv_1"), ApiError)
    assert texts(ask(kept, input="c")) == ["c"]


def test_a_call_waits_for_its_result() -> None:
    kept = Conversations()
    turn(kept, "resp_1", CALLING, input="a", tools=[WEATHER])
    stored = kept.get("resp_1")
    assert stored is not None
    call_id = json.loads(stored)["output"][0]["call_id"]
    result = {"type": "function_call_output", "call_id": call_id, "output": "rain"}
    answered = turn(kept, "resp_2", said("It rains"), input=[result], previous_response_id="resp_1")
    assert texts(answered) == ["a", "weather {}", "rain"]
    assert answered.answered
    unanswered = refusal(ask(kept, input="b", previous_response_id="resp_1"))
    assert unanswered == (400, "input", None, f"No tool output found for function call {call_id}.")
    again = refusal(ask(kept, input=[result], previous_response_id="resp_2"))
    assert again == (400, "input", None, f"No tool call found for function call output with call_id {call_id}.")


def test_a_call_that_the_limit_cut_waits_for_nothing() -> None:
    kept = Conversations()
    turn(kept, "resp_1", CALLING, 1, input="a", tools=[WEATHER])
    assert texts(ask(kept, input="b", previous_response_id="resp_1")) == ["a", "weather {", "b"]


def test_a_reference_becomes_the_item() -> None:
    kept = Conversations()
    turn(kept, "resp_1", said("one"), input="a")
    stored = kept.get("resp_1")
    assert stored is not None
    reasoning, spoken = (item["id"] for item in json.loads(stored)["output"])
    items = [{"role": "user", "content": "a"}, {"id": reasoning}, {"type": "item_reference", "id": spoken}]
    call = ask(kept, input=[*items, {"role": "user", "content": "b"}], instructions="brief")
    assert texts(call) == ["brief", "a", "hm", "one", "b"]
    status, param, _, message = refusal(ask(kept, input=[{"id": "msg_x"}]))
    assert (status, param) == (404, "input")
    assert message.startswith("Item with id 'msg_x' not found.")


def test_a_stored_response_is_the_body_that_was_sent_until_it_is_deleted() -> None:
    kept = Conversations()
    turn(kept, "resp_1", said("one"), input="a")
    body = kept.get("resp_1")
    assert body is not None
    response = json.loads(body)
    assert response.pop("store") is True
    assert strict(Response, json.dumps(response).encode()).output_text == "one"
    spoken = response["output"][1]["id"]
    assert kept.delete("resp_1")
    assert kept.get("resp_1") is None
    assert kept.input_items("resp_1") is None
    assert not kept.delete("resp_1")
    assert isinstance(ask(kept, input=[{"id": spoken}]), ApiError)
    assert json.loads(deleted_body("resp_1")) == {"id": "resp_1", "object": "response", "deleted": True}
    assert (response_not_found("resp_1").status, response_not_found("resp_1").type) == (404, "invalid_request_error")


def test_responses_outlive_the_one_that_they_build_on() -> None:
    kept = Conversations()
    turn(kept, "resp_1", said("one"), input="a")
    turn(kept, "resp_2", said("two"), input="b", previous_response_id="resp_1")
    assert kept.delete("resp_1")
    assert texts(ask(kept, input="c", previous_response_id="resp_2")) == ["a", "one", "b", "two", "c"]


def test_the_least_used_goes_first() -> None:
    kept = Conversations(capacity=2)
    turn(kept, "resp_1", said("one"), input="a")
    turn(kept, "resp_2", said("two"), input="b")
    ask(kept, input="c", previous_response_id="resp_1")
    turn(kept, "resp_3", said("three"), input="c")
    assert [kept.get(f"resp_{number}") is not None for number in (1, 2, 3)] == [True, False, True]


def test_what_is_kept_has_a_size() -> None:
    kept = Conversations(max_bytes=100_000)
    for number in range(20):
        turn(kept, f"resp_{number}", said("yes"), input="x" * 20_000)
    left = [number for number in range(20) if kept.get(f"resp_{number}") is not None]
    assert left == [16, 17, 18, 19], "four of 21 kB and what is around them"
    turn(kept, "resp_big", said("yes"), input="x" * 200_000)
    assert kept.get("resp_big") is not None, "the newest is kept in any case"
    assert kept.get("resp_19") is None


ITEMS: list[dict[str, Any]] = [
    {"role": "developer", "content": "be brief"},
    {
        "role": "user",
        "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "https://x"}],
    },
    {"role": "user", "content": [{"type": "input_file", "filename": "a.pdf", "file_data": "data:,x"}]},
    {"role": "assistant", "content": "b"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "c"}], "status": "incomplete"},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "d"}]},
    {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
    {"type": "custom_tool_call", "call_id": "call_2", "name": "shell", "input": "ls"},
    {"type": "custom_tool_call_output", "call_id": "call_2", "output": "a.py"},
    {"type": "mcp_call", "id": "mcp_1", "arguments": "{}", "name": "n", "server_label": "s"},
]


def test_input_items_are_the_sdks_types_with_ids_of_their_own() -> None:
    kept = Conversations()
    turn(kept, "resp_1", said("one"), input=ITEMS)
    body = kept.input_items("resp_1", order="asc")
    assert body is not None
    page = strict(ResponseItemList, body)
    assert [item.type for item in page.data] == [item.get("type", "message") for item in ITEMS]
    assert len({item.id for item in page.data}) == len(ITEMS)
    assert [item.id for item in page.data if item.type in ("reasoning", "mcp_call")] == ["rs_1", "mcp_1"]
    assert (page.first_id, page.last_id, page.has_more) == (page.data[0].id, page.data[-1].id, False)
    assert json.loads(body)["data"][4]["status"] == "incomplete"


def test_input_items_come_in_pages_newest_first() -> None:
    kept = Conversations()
    turn(kept, "resp_1", said("one"), input=[{"role": "user", "content": str(number)} for number in range(7)])
    seen: list[str] = []
    after, more = None, True
    while more:
        body = kept.input_items("resp_1", limit=3, after=after)
        assert body is not None
        page = json.loads(body)
        seen += [item["content"][0]["text"] for item in page["data"]]
        after, more = page["last_id"], page["has_more"]
    assert seen == list("6543210")


def test_the_text_input_is_one_message() -> None:
    kept = Conversations()
    turn(kept, "resp_1", said("one"), input="a")
    body = kept.input_items("resp_1")
    assert body is not None
    (item,) = json.loads(body)["data"]
    assert (item["role"], item["content"]) == ("user", [{"type": "input_text", "text": "a"}])


@pytest.mark.parametrize("limit", [-5, 0, 1, 10**9])
def test_any_limit_gives_a_page(limit: int) -> None:
    kept = Conversations()
    turn(kept, "resp_1", said("one"), input="a")
    body = kept.input_items("resp_1", limit=limit)
    assert body is not None
    assert len(json.loads(body)["data"]) == 1
