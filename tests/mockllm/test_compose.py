"""What the model answers: tools until one has answered, JSON that fits, words up to a stop word."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mockllm.call import Call, Segment, Thinking, Tool
from mockllm.content.compose import Composer
from mockllm.content.reply import JsonTokens, Part, Reply
from mockllm.content.text import Speaker
from mockllm.engine.length import AnswerLength, ReasoningLength
from mockllm.streams import Streams
from mockllm.tokens import o200k

STREAMS = Streams(5)
COMPOSER = Composer(Speaker(STREAMS), STREAMS, o200k())
LENGTH, REASONING = AnswerLength(40, 0.5, 10_000), ReasoningLength(50, 0.5)
WEATHER = Tool(
    "get_weather",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
)
CLOCK = Tool("get_time", {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]})


def reply(key: str = "k", **options: Any) -> Reply:
    call = Call("m", (Segment("hello"),), **options)
    return COMPOSER.compose(call, key, LENGTH, REASONING)


@pytest.mark.parametrize(
    ("choice", "answered", "names"),
    [
        ("auto", False, {"get_weather", "get_time"}),
        ("auto", True, set()),  # an agent's loop ends
        ("none", False, set()),
        ("required", True, {"get_weather", "get_time"}),
        ("tool:get_time", False, {"get_time"}),
        ("tool:get_time", True, {"get_time"}),
    ],
)
def test_tools_are_called_until_one_has_answered(choice: str, answered: bool, names: set[str]) -> None:
    called = set()
    for number in range(40):
        answer = reply(f"k{number}", tools=(WEATHER, CLOCK), tool_choice=choice, answered=answered)
        called |= {part.name for part in answer.parts if part.kind == "tool_call"}
        for part in answer.parts:
            if part.kind == "tool_call":
                parameters = {"get_weather": WEATHER, "get_time": CLOCK}[part.name].parameters
                Draft202012Validator(parameters).validate(json.loads(part.text()))
        assert answer.calls_tools == bool(names)
    assert called == names


@pytest.mark.parametrize("parallel", [True, False])
def test_several_tools_at_once_only_where_it_is_allowed(parallel: bool) -> None:
    nums = {
        len(reply(f"k{number}", tools=(WEATHER, CLOCK), parallel_tool_calls=parallel).parts) for number in range(60)
    }
    assert nums == ({1, 2} if parallel else {1})


def test_structured_output_is_the_same_for_the_same_key_and_fits() -> None:
    schema = WEATHER.parameters
    assert isinstance(schema, dict)
    texts = [reply(key, schema=schema).parts[0].text() for key in ("a", "a", "b", "c")]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1
    for text in texts:
        Draft202012Validator(schema).validate(json.loads(text))
    assert isinstance(json.loads(reply(schema=True).parts[0].text()), dict)


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high", "max"])
def test_more_effort_thinks_longer(effort: Any) -> None:
    factor = {"minimal": 0.25, "low": 0.5, "medium": 1, "high": 2, "max": 4}[effort]
    parts = reply(thinking=Thinking(effort)).parts
    assert [part.kind for part in parts] == ["reasoning", "text"]
    medium = reply(thinking=Thinking("medium")).parts[0].num_tokens
    assert parts[0].num_tokens == pytest.approx(factor * medium, abs=3)  # both are rounded


def test_thinking_keeps_to_its_budget_and_its_off_switch() -> None:
    assert reply(thinking=Thinking("max", 10)).parts[0].num_tokens == 10
    assert [part.kind for part in reply(thinking=Thinking("none")).parts] == ["text"]


def test_the_text_ends_before_the_first_stop_word() -> None:
    whole = reply().parts[0].text()
    word = whole.split()[7]
    stopped = reply(stop=("never said", word))
    assert stopped.stop_sequence == word
    assert stopped.parts[0].text() == whole[: whole.index(word)]
    assert stopped.num_tokens <= 8 + whole[: whole.index(word)].count(".")
    assert reply(stop=("never said",)).stop_sequence is None


def test_a_stop_word_beyond_the_limit_of_tokens_stops_nothing() -> None:
    whole = reply().parts[0]
    late = whole.words.piece(whole.num_tokens - 2, 1).strip(" .")
    if whole.text().index(late) > len(whole.text(5)):
        assert reply(stop=(late,), max_tokens=5).stop_sequence is None


def test_a_stop_word_at_the_very_start_leaves_an_empty_answer() -> None:
    first = reply().parts[0].words.piece(0, 1)
    stopped = reply(stop=(first,))
    assert (stopped.parts[0].text(), stopped.num_tokens, stopped.stop_sequence) == ("", 1, first)


def test_ignore_eos_fills_the_limit_and_min_tokens_is_a_floor() -> None:
    assert reply(ignore_eos=True, max_tokens=500).num_tokens == 500
    thinking = reply(ignore_eos=True, max_tokens=500, thinking=Thinking("high"))
    assert thinking.num_tokens == 500
    assert reply(min_tokens=3000).num_tokens == 3000


@given(
    st.lists(st.lists(st.sampled_from(["a", "bb", " c", "é", ""]), min_size=1, max_size=9), min_size=1, max_size=4),
    st.data(),
)
def test_slices_cover_every_token_once_however_it_is_cut(parts: list[list[str]], data: st.DataObject) -> None:
    answer = Reply(tuple(Part("text", JsonTokens(tokens), len(tokens), number=n) for n, tokens in enumerate(parts)))
    said, first, ended = [""] * len(parts), 0, []
    while first < answer.num_tokens:
        num = data.draw(st.integers(1, answer.num_tokens - first))
        for piece in answer.slices(first, num):
            said[piece.index] += piece.text
            assert "".join(piece.tokens()) == piece.text
            ended += [piece.index] if piece.ends else []
        first += num
    assert said == ["".join(tokens) for tokens in parts]
    assert ended == list(range(len(parts)))
