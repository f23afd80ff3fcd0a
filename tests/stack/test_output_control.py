"""Output control: fewer tokens, by a cap that cuts and by asking for less, and what that saves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Emission, Finished, Request
from mockllm.engine.engine import Engine, Overhead, ServedModel
from mockllm.engine.hosted import HostedReplica
from mockllm.engine.length import AnswerLength, ReasoningLength
from mockllm.passage import Query, Tenant
from mockllm.stack.stack import Stack
from tests.stack.build import STREAMS, ask, end_of, known, passage_of, run, stack
from tests.stack.clocks import assert_both_clocks_agree, run_with_cancels

PROSE, JSON = Query("d"), Query("d", free_text=False)


def control(*rules: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "output_control", {"rules": list(rules)}


def finish(request: Request, *rules: dict[str, Any]) -> tuple[int, str]:
    end = end_of(run(stack(control(*rules)), [(0.0, request)]), 0)
    assert isinstance(end, Finished)
    return end.num_output_tokens, end.reason


@pytest.mark.parametrize(
    ("asked", "cap", "expected"),
    [
        (None, 30, (30, "length")),  # an answer of 50
        (None, 50, (50, "stop")),
        (None, 80, (50, "stop")),
        (20, 30, (20, "length")),  # the client wanted less
        (40, 30, (30, "length")),
    ],
)
def test_a_cap_is_the_most_that_comes(asked: int | None, cap: int, expected: tuple[int, str]) -> None:
    assert finish(ask(0, max_tokens=asked), {"max_tokens": cap}) == expected


@pytest.mark.parametrize(
    ("who", "fits"),
    [
        ({}, False),
        ({"urgency": "P2"}, False),
        ({"urgency": "P2", "tenant": Tenant(feature="support")}, True),
        ({"urgency": "P2", "tenant": Tenant(feature="support"), "model": "small"}, False),
    ],
)
def test_all_that_a_rule_says_must_fit(who: dict[str, Any], fits: bool) -> None:
    rule = {"urgency": "P2", "feature": "support", "model": "large", "max_tokens": 10}
    assert finish(ask(0, **who), rule)[0] == (10 if fits else 50)


@pytest.mark.parametrize(
    ("rules", "num_tokens"),
    [
        ([{"max_tokens": 40}, {"urgency": "P1", "max_tokens": 20}], 20),
        ([{"concise": 0.8}, {"structured": 0.4}], 20),  # 0.4 of 50
        ([{"concise": 0.8, "max_tokens": 15}, {"structured": 0.4}], 15),
    ],
)
def test_the_smallest_wins_in_whatever_order(rules: list[dict[str, Any]], num_tokens: int) -> None:
    assert finish(ask(0, query=PROSE), *rules)[0] == num_tokens
    assert finish(ask(0, query=PROSE), *rules[::-1])[0] == num_tokens


@pytest.mark.parametrize(
    ("request_", "num_tokens"),
    [
        (ask(0, query=PROSE), 30),  # 0.6 of 50, and it still ends by itself
        (ask(0, query=JSON), 50),
        (ask(0), 50),  # nobody may look
        (ask(0, query=PROSE, ignore_eos=True, max_tokens=50), 50),
        (ask(0, query=PROSE, num_reasoning_tokens=40), 46),  # 0.6 of the 10 words; it thinks as long as it did
        (ask(0, query=PROSE, num_answer_tokens=1), 1),
        (ask(0, query=PROSE, min_tokens=45), 45),
    ],
)
def test_only_prose_can_be_asked_to_be_shorter(request_: Request, num_tokens: int) -> None:
    assert finish(request_, {"concise": 0.6})[0] == num_tokens


def test_an_answer_asked_to_be_short_ends_by_itself_and_a_cut_one_is_counted() -> None:
    subject = stack(control({"concise": 0.6}))
    assert isinstance(end := end_of(run(subject, [(0.0, ask(0, query=PROSE))]), 0), Finished)
    assert (end.reason, counts_of(subject)["cut by the cap"]) == ("stop", 0)
    subject = stack(control({"max_tokens": 30}))
    out = run(subject, [(0.0, ask(0)), (0.0, ask(1, num_answer_tokens=20)), (0.0, ask(2, max_tokens=10))])
    assert counts_of(subject) | {"capped": 2, "cut by the cap": 1, "tokens spared": 20} == counts_of(subject)
    assert passage_of(out, 0).notes == ["output_control: at most 30 tokens", "output_control: cut at 30 tokens"]
    assert passage_of(out, 2).notes == []


def counts_of(subject: Stack) -> dict[str, int]:
    counts: Any = subject.stages[-1].state(0.0)["counts"]
    return dict(counts)


def drawing(subject: tuple[str, dict[str, Any]] | None) -> Stack:
    """A stack before a model whose answers have drawn lengths: median 200, sigma 0.8."""
    replica = HostedReplica(known(0.2, 0.02), STREAMS, every_token=False)
    length = AnswerLength(200, 0.8, 100_000)
    models = {"small": ServedModel("small", length, Overhead(), replica, replica, ReasoningLength(1, 0))}
    return stack(*([subject] if subject else []), behind=Engine(models, STREAMS))


def test_drawn_answers_are_the_same_answers_and_shorter() -> None:
    """Effect, on 500 requests: each answer has 0.6 of its tokens, and time and price follow."""
    load = [(n * 0.1, ask(n, "small", query=PROSE, num_answer_tokens=None)) for n in range(500)]
    plain, concise = drawing(None), drawing(control({"concise": 0.6}))
    before, after = run(plain, load), run(concise, load)
    tokens = {each.request_id: each.num_output_tokens for each in before if isinstance(each, Finished)}
    shorter = {each.request_id: each.num_output_tokens for each in after if isinstance(each, Finished)}
    assert shorter == {name: max(1, round(0.6 * num)) for name, num in tokens.items()}
    spared = sum(tokens.values()) - sum(shorter.values())
    assert counts_of(concise)["tokens spared"] == spared
    assert plain.cost_usd - concise.cost_usd == pytest.approx(spared * 0.4 / 1e6)
    saved = sum(
        each.passage.saved_usd["output_control"] for each in after if isinstance(each, Finished) and each.passage
    )
    assert saved == pytest.approx(plain.cost_usd - concise.cost_usd)
    assert mean_seconds(after) == pytest.approx(0.2 + 0.6 * (mean_seconds(before) - 0.2), rel=0.01)


def mean_seconds(emissions: list[Emission]) -> float:
    ends = [each for each in emissions if isinstance(each, Finished)]
    return sum(end.at - int(end.request_id[1:]) * 0.1 for end in ends) / len(ends)


def test_what_was_for_one_model_does_not_go_on_to_the_next() -> None:
    """The small model of a cascade is capped, the large one that is asked next is not."""
    rungs = [{"model": "small", "skill": 0.5}, {"model": "large", "skill": 1.0}]
    subject = stack(
        ("cascade", {"name": "assistant", "models": rungs, "threshold": 1.0}),
        control({"model": "small", "max_tokens": 10, "concise": 0.5}),
    )
    out = run(subject, [(0.0, ask(0, "assistant", query=PROSE))])
    end = end_of(out, 0)
    assert isinstance(end, Finished)
    assert (end.num_output_tokens, end.reason) == (50, "stop")
    assert passage_of(out, 0).cost_usd == pytest.approx((100 * 0.1 + 10 * 0.4 + 100 * 2.0 + 50 * 8.0) / 1e6)


def test_both_clocks_agree() -> None:
    load = [
        (n * 0.3, replace(ask(n, "small", query=PROSE if n % 3 else JSON), watched=n % 4 != 0, num_answer_tokens=None))
        for n in range(60)
    ]
    rules = control({"concise": 0.6}, {"urgency": "P1", "max_tokens": 40})
    assert_both_clocks_agree(lambda every_token: stack(rules, every_token=every_token), load)


@given(
    st.lists(st.floats(0, 3), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.floats(0, 3)), max_size=10),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_when_clients_go_away(arrivals: list[float], cancels: list[tuple[int, float]]) -> None:
    load = [(at, ask(n, "small", query=PROSE)) for n, at in enumerate(sorted(arrivals))]
    subject = stack(control({"concise": 0.6}, {"max_tokens": 25}))
    out = run_with_cancels(subject, load, cancels)
    assert {each.num_output_tokens for each in out if isinstance(each, Finished)} <= {25}
    assert counts_of(subject)["cut by the cap"] == subject.counts.num_finished
