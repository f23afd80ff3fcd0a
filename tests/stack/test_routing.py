"""Routing before the call: by difficulty, task and tier; what looking costs, and what its mistakes do."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import sqrt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Emission, Finished, Request, Tokens
from mockllm.engine.hosted import HostedReplica
from mockllm.model import chunks_of
from mockllm.passage import Query, Tenant
from mockllm.stack.stage import Again, Arrival, End, Flight, Leaving, Refusal, Stage
from mockllm.stack.task_words import task_by_words
from tests.stack.build import PRICES, STREAMS, ask, end_of, engine, known, passage_of, run, stack
from tests.stack.clocks import assert_both_clocks_agree, run_with_cancels

BY_DIFFICULTY = {"name": "assistant", "by": "complexity", "below": {0.5: "small"}, "otherwise": "large"}
AT_ONCE = {"latency": "0s"}


def question(number: int, model: str = "assistant", **labels: Any) -> Request:
    return ask(number, model, query=Query(f"d{number}", **labels))


def models_of(emissions: list[Emission]) -> dict[str, str]:
    return {each.request_id: each.passage.model for each in emissions if isinstance(each, Finished) and each.passage}


def first_token_at(emissions: list[Emission], number: int) -> float:
    tokens = next(each for each in emissions if isinstance(each, Tokens) and each.request_id == f"r{number}")
    return next(chunks_of(tokens)).at


def within(num: int, of: int, share: float, sigmas: float = 4.5) -> bool:
    """Whether a binomial count is where it belongs; 4.5 sigmas: once in 150,000."""
    return abs(num - of * share) <= sigmas * sqrt(of * share * (1 - share))


# -- which model -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difficulty", "model"),
    [(0.0, "small"), (0.49, "small"), (0.5, "large"), (1.0, "large")],  # a threshold belongs to the harder class
)
def test_the_label_of_difficulty_decides(difficulty: float, model: str) -> None:
    out = run(stack(("route", BY_DIFFICULTY)), [(0.0, question(0, difficulty=difficulty))])
    assert models_of(out) == {"r0": model}
    assert passage_of(out, 0).notes == [f"route: {'below 0.5' if model == 'small' else 'otherwise'} to {model}"]


def test_without_labels_thresholds_are_shares_of_requests_in_any_order() -> None:
    """The mix of a hierarchy: 40 % tiny, 35 % small, 20 % medium, 5 % large."""
    replicas = {name: HostedReplica(known(0.1, 0.01), STREAMS, every_token=False) for name in "abcd"}
    keys = {"name": "assistant", "by": "complexity", "below": {0.95: "c", 0.4: "a", 0.75: "b"}, "otherwise": "d"}
    requests = [question(n) for n in range(4000)]

    def routed(order: list[Request]) -> tuple[dict[str, str], object]:
        subject = stack(("route", keys | {"classifier": AT_ONCE}), behind=engine(replicas))
        return models_of(run(subject, [(n * 0.01, each) for n, each in enumerate(order)])), subject.stages[0].state(0.0)

    chosen, state = routed(requests)
    counts = Counter(chosen.values())
    assert len(chosen) == 4000  # exactly one model answers each
    for model, share in {"a": 0.40, "b": 0.35, "c": 0.20, "d": 0.05}.items():
        assert within(counts[model], 4000, share), (model, counts)
    assert state["shares"] == {model: num / 4000 for model, num in counts.items()}  # type: ignore[index]
    assert state["counts"]["unlabelled"] == 4000  # type: ignore[index]
    assert routed(requests[::-1])[0] == chosen


@pytest.mark.parametrize(
    ("tier", "model"), [("free", "small"), ("pro", "large"), ("unheard-of", "large"), (None, "large")]
)
def test_a_tier_is_known_and_costs_nothing(tier: str | None, model: str) -> None:
    keys = {"name": "assistant", "by": "tier", "models": {"free": "small"}, "otherwise": "large"}
    out = run(stack(("route", keys)), [(0.0, replace(ask(0, "assistant"), tenant=Tenant(tier=tier)))])
    assert models_of(out) == {"r0": model}
    assert passage_of(out, 0).waited_s == {}


@pytest.mark.parametrize(
    ("task", "text", "model"),
    [
        ("code", "", "large"),
        ("chat", "", "small"),
        ("unheard-of", "", "small"),
        ("chat", "Why does my Python code not compile?", "small"),  # the label is the truth
        (None, "Why does my Python code not compile?", "large"),
        (None, "How are you?", "small"),
    ],
)
def test_the_label_of_a_task_decides_or_else_its_words(task: str | None, text: str, model: str) -> None:
    keys = {"name": "assistant", "by": "task", "models": {"code": "large"}, "otherwise": "small"}
    subject = stack(("route", keys | {"classifier": AT_ONCE}))
    out = run(subject, [(0.0, question(0, task=task, text=text))])
    assert models_of(out) == {"r0": model}
    counts: Any = subject.stages[0].state(0.0)["counts"]
    assert counts["unlabelled"] == (task is None)


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("Translate this SQL comment into French", "translation"),
        ("TL;DR please", "summarization"),
        ("Summarise the meeting", "summarization"),
        ("```\nfor\n```", "code"),
        ("What is the probability of two heads?", "math"),
        ("Extract all names", "extraction"),
        ("I will encode and decodes", "chat"),  # whole words only
        ("", "chat"),
    ],
)
def test_words_of_tasks(text: str, task: str) -> None:
    assert task_by_words(text) == task


def test_what_nobody_may_look_into_is_not_classified() -> None:
    named, unnamed = BY_DIFFICULTY, {key: value for key, value in BY_DIFFICULTY.items() if key != "name"}
    out = run(stack(("route", named)), [(0.0, ask(0, "assistant"))])
    assert models_of(out) == {"r0": "large"}
    assert passage_of(out, 0).waited_s == {}
    out = run(stack(("route", unnamed)), [(0.0, ask(0, "small"))])
    assert models_of(out) == {"r0": "small"}
    assert passage_of(out, 0).notes == []


def test_without_a_name_it_acts_on_requests_for_its_own_models_only() -> None:
    keys = {key: value for key, value in BY_DIFFICULTY.items() if key != "name"}
    replicas = {
        name: HostedReplica(known(0.1, 0.01), STREAMS, every_token=False) for name in ("small", "large", "other")
    }
    load = [(0.0, question(n, model, difficulty=0.9)) for n, model in enumerate(("small", "large", "other"))]
    assert models_of(run(stack(("route", keys), behind=engine(replicas)), load)) == {
        "r0": "large",
        "r1": "large",
        "r2": "other",
    }


def test_a_request_that_a_fallback_sent_elsewhere_is_left_there() -> None:
    class Fallback(Stage):
        def leave(self, flight: Flight, end: End, now: float) -> Leaving:
            if flight.passage.num_attempts > 1:
                return None
            flight.request = replace(flight.request, model="small")
            return Again(now)

    for keys in (BY_DIFFICULTY, {key: value for key, value in BY_DIFFICULTY.items() if key != "name"}):
        asked = replace(question(0, str(keys.get("name", "large")), difficulty=0.9), watched=False)
        subject = stack(Fallback(), ("route", keys))
        assert models_of(run(subject, [(0.0, asked)])) == {"r0": "small"}
        assert subject.num_calls == 2


# -- what the classifier does ------------------------------------------------------------------------


def test_mistakes_are_as_frequent_as_said_and_the_same_in_any_order() -> None:
    replicas = {name: HostedReplica(known(0.1, 0.01), STREAMS, every_token=False) for name in "abc"}
    keys = {"name": "assistant", "by": "complexity", "below": {0.3: "a", 0.6: "b"}, "otherwise": "c"}
    requests = [question(n, difficulty=(n % 100) / 100) for n in range(3000)]
    truth = {f"r{n}": "a" if n % 100 < 30 else "b" if n % 100 < 60 else "c" for n in range(3000)}

    def routed(order: list[Request]) -> tuple[dict[str, str], Any]:
        subject = stack(("route", keys | {"classifier": {"error_rate": 0.1}}), behind=engine(replicas))
        return models_of(run(subject, [(0.0, each) for each in order])), subject.stages[0].state(0.0)

    chosen, state = routed(requests)
    pairs = Counter((truth[name], model) for name, model in chosen.items())
    wrong = sum(num for (true, said), num in pairs.items() if true != said)
    assert within(wrong, 3000, 0.1)
    for true, of in (("a", 900), ("b", 900), ("c", 1200)):
        for said in set("abc") - {true}:
            assert within(pairs[true, said], of, 0.05)
    labels = {"a": "below 0.3", "b": "below 0.6", "c": "otherwise"}
    assert state["confusion"] == {
        labels[true]: {labels[said]: pairs[true, said] for said in "abc" if pairs[true, said]} for true in "abc"
    }
    assert state["counts"]["misrouted"] == wrong
    assert state["counts"]["misrouted to an easier class"] == pairs["b", "a"] + pairs["c", "a"] + pairs["c", "b"]
    assert routed(requests[::-1])[0] == chosen


def test_its_time_is_in_every_first_token_and_its_price_in_every_cost() -> None:
    slow = {"latency": "500ms", "sigma": 0.0, "price": 0.001}
    load = [(n * 3.0, question(n, difficulty=n / 10)) for n in range(10)]
    subject = stack(("route", BY_DIFFICULTY | {"classifier": slow}))
    with_it, without = run(subject, load), run(stack(("route", BY_DIFFICULTY | {"classifier": AT_ONCE})), load)
    for n in range(10):
        assert first_token_at(with_it, n) == pytest.approx(first_token_at(without, n) + 0.5)
        assert passage_of(with_it, n).waited_s == {"route": pytest.approx(0.5)}
        call = (100 * 0.1 + 50 * 0.4) / 1e6 if n < 5 else (100 * 2.0 + 50 * 8.0) / 1e6
        assert passage_of(with_it, n).cost_usd == pytest.approx(call + 0.001)
        assert passage_of(with_it, n).saved_usd["route"] == pytest.approx((100 * 2.0 + 50 * 8.0) / 1e6 - call - 0.001)
    assert subject.cost_usd == pytest.approx(sum(passage_of(with_it, n).cost_usd or 0.0 for n in range(10)))


def test_its_time_is_lognormal() -> None:
    keys = BY_DIFFICULTY | {"classifier": {"latency": "20ms", "sigma": 0.5}}
    out = run(stack(("route", keys)), [(0.0, question(n)) for n in range(2000)])
    passages = [each.passage for each in out if isinstance(each, Finished) and each.passage]
    waits = sorted(passage.waited_s["route"] for passage in passages)
    for share, factor in ((0.1587, -1), (0.5, 0), (0.8413, 1)):  # one sigma to either side of the median
        assert waits[round(share * 2000)] == pytest.approx(0.02 * 2.71828 ** (0.5 * factor), rel=0.08)


def test_a_fee_is_paid_although_the_client_went_away() -> None:
    subject = stack(("route", BY_DIFFICULTY | {"classifier": {"latency": "1s", "sigma": 0.0, "price": 0.001}}))
    run_with_cancels(subject, [(0.0, question(0))], [(0, 0.5)])
    assert subject.cost_usd == 0.001
    assert subject.num_calls == 0


def test_routing_costs_what_its_mix_costs() -> None:
    """Effect: 70 % easy questions on a model at a twentieth of the price."""
    load = [(n * 0.1, question(n, difficulty=0.2 if n % 10 < 7 else 0.8)) for n in range(200)]
    everything = [(at, replace(request, model="large")) for at, request in load]
    routed, large = stack(("route", BY_DIFFICULTY)), stack()
    run(routed, load)
    run(large, everything)
    assert large.cost_usd == pytest.approx(200 * 600e-6)
    assert routed.cost_usd == pytest.approx(140 * 30e-6 + 60 * 600e-6)
    assert PRICES["large"].output == 20 * PRICES["small"].output


# -- under both clocks, and under cancels ------------------------------------------------------------


def test_both_clocks_agree() -> None:
    keys = BY_DIFFICULTY | {"classifier": {"latency": "40ms", "sigma": 0.4, "price": 1e-5, "error_rate": 0.2}}
    load = [(n * 0.13, replace(question(n), watched=n % 3 != 0)) for n in range(60)]
    assert_both_clocks_agree(lambda every_token: stack(("route", keys), every_token=every_token), load)


@given(
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1)), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.floats(0, 8)), max_size=10),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_when_clients_go_away(
    arrivals: list[tuple[float, float]], cancels: list[tuple[int, float]]
) -> None:
    load = [(at, question(n, difficulty=hard)) for n, (at, hard) in enumerate(sorted(arrivals))]
    keys = BY_DIFFICULTY | {"classifier": {"latency": "300ms", "price": 0.001, "error_rate": 0.3}}
    subject = stack(("route", keys))
    out = run_with_cancels(subject, load, cancels)
    assert set(models_of(out).values()) <= {"small", "large"}
    counts: Any = subject.stages[0].state(0.0)["counts"]
    assert counts["sent to small"] + counts["sent to large"] == len(load)


def test_a_refusal_behind_it_is_passed_on() -> None:
    class Closed(Stage):
        def arrive(self, flight: Flight, now: float) -> Arrival:
            return Refusal(429, "limit", "no")

    out = run(stack(("route", BY_DIFFICULTY), Closed()), [(0.0, question(0))])
    assert passage_of(out, 0).saved_usd == {}
    assert getattr(end_of(out, 0), "status", None) == 429
