"""Routers, output control and prompt compression from the deployment file to the answer over HTTP, without a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mockllm.deployment import load_deployment
from mockllm.errors import DeploymentError
from tests.contract.inside import Inside, instant_app

MODELS = """
models:
  - {name: small, profile: instant}
  - {name: large, profile: instant}
stack:
"""
STACK = """
  - route: {name: assistant, by: complexity, below: {0.5: small}, otherwise: large, classifier: {latency: 5ms}}
  - cascade: {name: careful, models: [{model: small, skill: 0.5}, {model: large, skill: 1.1}], threshold: 1.0}
  - split: {name: shared, arms: {control: {model: large, weight: 1}}, shadow: {model: small, share: 1.0}}
  - output_control: {rules: [{feature: brief, concise: 0.5}]}
  - prompt_compression: {ratio: 2, min_tokens: 100, latency_per_1000_tokens: 10ms}
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    file = tmp_path_factory.mktemp("routers") / "stack.yaml"
    file.write_text(MODELS + STACK)
    with instant_app(str(file)) as inside:
        yield inside


def chat(app: Inside, model: str, text: str = "hi", body: dict[str, Any] | None = None, **labels: str) -> Any:
    asked = {"model": model, "messages": [{"role": "user", "content": text}], **(body or {})}
    headers = {f"X-Mock-{name}": value for name, value in labels.items()} | {"X-Client-Request-Id": "one"}
    answer = app.post("/v1/chat/completions", json.dumps(asked).encode(), headers)
    assert answer.status == 200
    return json.loads(answer.body)


def test_clients_ask_for_the_names_and_hear_which_model_answered(app: Inside) -> None:
    served = {model["id"] for model in json.loads(app.get("/v1/models").body)["data"]}
    assert served == {"small", "large", "assistant", "careful", "shared"}
    assert chat(app, "assistant", Difficulty="0.1")["model"] == "small"
    assert chat(app, "assistant", Difficulty="0.9")["model"] == "large"
    assert chat(app, "careful")["model"] == "large"
    assert chat(app, "shared")["model"] == "large"


def test_several_choices_come_from_one_model(app: Inside) -> None:
    for name in ("assistant", "careful", "shared"):
        answer = chat(app, name, body={"n": 3})
        assert (answer["model"], len(answer["choices"])) == ("large", 3)


def test_the_ledger_bills_every_choice_and_the_prompt_once(tmp_path: Path) -> None:
    file = tmp_path / "stack.yaml"
    file.write_text("models: [{name: m, profile: instant, price: {input: 1, output: 2}}]\nstack: [exact_cache]\n")
    with instant_app(str(file)) as app:
        usage = chat(app, "m", body={"n": 3, "max_tokens": 7})["usage"]
        _, entry = map(json.loads, app.get("/mock/ledger").body.splitlines())
    assert entry["num_attempts"] == 3
    assert entry["cost_usd"] == pytest.approx((usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1e6)


def test_no_router_is_called_anything(tmp_path: Path) -> None:
    file = tmp_path / "stack.yaml"
    file.write_text(MODELS + '  - split: {name: "*", weights: {small: 1}}\n')
    with pytest.raises(DeploymentError, match="'\\*', which stands for any name"):
        load_deployment(str(file))


def test_a_concise_answer_has_half_its_words_and_all_of_its_reasoning(app: Inside) -> None:
    for body in ({}, {"reasoning_effort": "high"}):
        plain, brief = (chat(app, "small", body=body, **labels)["usage"] for labels in ({}, {"Feature": "brief"}))
        reasoning = plain["completion_tokens_details"]["reasoning_tokens"]
        assert brief["completion_tokens_details"]["reasoning_tokens"] == reasoning
        assert brief["completion_tokens"] - reasoning == round((plain["completion_tokens"] - reasoning) / 2)


def test_json_is_not_made_shorter(app: Inside) -> None:
    body = {"response_format": {"type": "json_object"}}
    plain, brief = (chat(app, "small", body=body, **labels) for labels in ({}, {"Feature": "brief"}))
    assert brief["choices"] == plain["choices"]


def test_usage_tells_how_many_tokens_the_model_read(app: Inside) -> None:
    plain = chat(app, "small", "word " * 50)["usage"]["prompt_tokens"]
    assert plain < 100
    assert chat(app, "small", "word " * 400)["usage"]["prompt_tokens"] == pytest.approx(200, abs=1)


@pytest.mark.parametrize(
    ("stage", "key", "words"),
    [
        ("route: {by: complexity, below: {0.4: smal}, otherwise: large}", "route.below.0.4", "did you mean 'small'"),
        ("route: {by: complexity, models: {a: small}, otherwise: large}", "route", "needs `below`"),
        ("route: {by: task, models: {otherwise: small}, otherwise: large}", "route", "is a key beside"),
        ("route: {by: tier, models: {a: small}, otherwise: large, classifier: {}}", "route", "known without"),
        ("route: {name: large, by: tier, models: {a: small}, otherwise: large}", "route", "is taken"),
        ("cascade: {models: [{model: small, skill: 1}], threshold: 0.5}", "cascade.models", "at least 2"),
        (
            "cascade: {models: [{model: small, skill: 1}, {model: small, skill: 2}], threshold: 0.5}",
            "cascade",
            "stands twice",
        ),
        (
            "cascade: {models: [{model: small, skill: 1}, {model: big, skill: 2}], threshold: 0.5}",
            "cascade.models[1].model",
            "no model 'big'",
        ),
        ("split: {weights: {large: 1}, shadow: {model: tiny, share: 0.1}}", "split.shadow.model", "no model 'tiny'"),
        (
            "split: {rollout: {old: large, new: newer, steps: [[0s, 0.1]]}}",
            "split.rollout.new",
            "no model 'newer'",
        ),
        ("output_control: {rules: [{model: lrge, concise: 0.5}]}", "output_control.rules[0].model", "'large'"),
        ("output_control: {rules: [{feature: x}]}", "output_control.rules[0]", "does nothing"),
        (
            "prompt_compression: {ratio: 0.5, min_tokens: 10, latency_per_1000_tokens: 1ms}",
            "prompt_compression.ratio",
            "greater than 1",
        ),
    ],
)
def test_mistakes_in_the_file_are_told_with_line_and_key(tmp_path: Path, stage: str, key: str, words: str) -> None:
    file = tmp_path / "stack.yaml"
    file.write_text(f"{MODELS}  - {stage}\n")
    with pytest.raises(DeploymentError) as told:
        load_deployment(str(file))
    assert f"{file}:6: stack[0].{key}: " in str(told.value)
    assert words in str(told.value)
