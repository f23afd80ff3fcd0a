"""What a client sees of a cache: the same words, in every dialect, whole or streamed; and headers that say where from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.inside import Answer, Inside, instant_app

DEPLOYMENT = """\
models: [{name: m, profile: varied.yaml}]
stack:
  - static_cache:
      latency: {median: 0ms}
      questions: [{ask: "What are your opening hours?", tokens: 24}]
  - exact_cache: {latency: {median: 0ms}, tokens_per_s: 100000}
"""
QUESTION = "Tell me about rivers."
PATHS = ("/v1/chat/completions", "/v1/responses", "/v1/messages")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Inside]:
    """Answers of different lengths, at once."""
    profile = (Path(__file__).parents[2] / "mockllm" / "profiles" / "instant.yaml").read_text()
    (tmp_path / "varied.yaml").write_text(profile.replace("sigma: 0}", "sigma: 0.8}"))
    (tmp_path / "stack.yaml").write_text(DEPLOYMENT)
    with instant_app(str(tmp_path / "stack.yaml")) as inside:
        yield inside


def ask(app: Inside, path: str, text: str = QUESTION, **changes: Any) -> Answer:
    asked: dict[str, Any] = {"model": "m", "temperature": 0.7}
    if path == "/v1/responses":
        asked |= {"input": text}
    else:
        asked |= {"messages": [{"role": "user", "content": text}]}
    if path == "/v1/messages":
        asked |= {"max_tokens": 1000}
    answer = app.post(path, json.dumps(asked | changes).encode())
    assert answer.status == 200, answer.body
    return answer


def told(answer: Answer) -> tuple[str, int]:
    """The text of a whole answer, and its output tokens as billed."""
    body = json.loads(answer.body)
    usage = body["usage"]
    num_tokens = usage["completion_tokens"] if "completion_tokens" in usage else usage["output_tokens"]
    if "choices" in body:
        return body["choices"][0]["message"]["content"], num_tokens
    parts = body["content"] if "content" in body else body["output"][0]["content"]
    return parts[0]["text"], num_tokens


def streamed(answer: Answer) -> str:
    """The text of a streamed answer."""
    text = ""
    for line in answer.body.decode().splitlines():
        if not line.startswith("data: {"):
            continue
        event = json.loads(line.removeprefix("data: "))
        if "choices" in event:
            text += event["choices"][0]["delta"].get("content") or "" if event["choices"] else ""
        elif event["type"] == "response.output_text.delta":
            text += event["delta"]
        elif event["type"] == "content_block_delta":
            text += event["delta"]["text"]
    return text


@pytest.mark.parametrize("path", PATHS)
def test_the_second_to_ask_reads_what_the_first_one_read(app: Inside, path: str) -> None:
    first, second, third = ask(app, path), ask(app, path), ask(app, path, stream=True)
    assert [each.headers["x-mock-cache"] for each in (first, second, third)] == ["miss", "hit", "hit"]
    assert [each.headers["x-mock-source"] for each in (first, second, third)] == ["model", "exact_cache", "exact_cache"]
    assert [each.headers["x-mock-attempts"] for each in (first, second)] == ["1", "0"]
    assert told(first) == told(second)
    assert streamed(third) == told(first)[0]
    assert json.loads(first.body)["id"] != json.loads(second.body)["id"]


@pytest.mark.parametrize("path", PATHS)
def test_another_temperature_never_shares_an_answer(app: Inside, path: str) -> None:
    answers = [ask(app, path, temperature=each) for each in (0.7, 0.6, 0.7, 0.6)]
    assert [each.headers["x-mock-cache"] for each in answers] == ["miss", "miss", "hit", "hit"]
    texts = [told(each)[0] for each in answers]
    assert texts[0] == texts[2] != texts[1] == texts[3]


def test_protocols_do_not_share_answers(app: Inside) -> None:
    assert [ask(app, path).headers["x-mock-cache"] for path in PATHS] == ["miss"] * 3


def test_a_fixed_answer_has_its_length_and_the_same_words_in_every_protocol(app: Inside) -> None:
    count = pytest.importorskip("quicktok").get_encoding("o200k_base").encode_ordinary
    asked = "what are your opening HOURS"
    answers = [ask(app, path, asked) for path in PATHS]
    assert {each.headers["x-mock-source"] for each in answers} == {"static_cache"}
    assert len({told(each) for each in answers}) == 1
    text, num_tokens = told(answers[0])
    assert num_tokens == len(count(text)) == 24
    assert streamed(ask(app, PATHS[0], asked, stream=True)) == text
    assert told(ask(app, PATHS[0], asked, max_completion_tokens=10))[1] == 10
