"""The cascade: who answers, how good it is, and that every call is paid. Expected values from closed formulas."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from math import exp, log, log1p, sqrt
from statistics import NormalDist
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Cut, Emission, Finished, Refused, Request, Tokens
from mockllm.engine.hosted import HostedReplica
from mockllm.model import Began, chunks_of
from mockllm.passage import Passage, Query
from mockllm.stack.stack import Stack
from mockllm.stack.stage import Answered, Arrival, End, Flight, Refusal, Stage, Strike
from tests.stack.build import STREAMS, ask, end_of, ends, engine, known, passage_of, run, stack
from tests.stack.clocks import assert_both_clocks_agree, run_with_cancels

SMALL_USD, LARGE_USD = (100 * 0.1 + 50 * 0.4) / 1e6, (100 * 2.0 + 50 * 8.0) / 1e6
SMALL_S, LARGE_S = 0.2 + 49 * 0.02, 1.0 + 49 * 0.1
NORMAL = NormalDist()


def keys(small: float = 0.5, large: float = 1.1, threshold: float = 0.6, auc: float = 0.8) -> dict[str, Any]:
    rungs = [{"model": "small", "skill": small}, {"model": "large", "skill": large}]
    return {"name": "assistant", "models": rungs, "threshold": threshold, "auc": auc}


def question(number: int, difficulty: float | None = None, model: str = "assistant", **changes: Any) -> Request:
    return ask(number, model, query=Query(f"d{number}", difficulty=difficulty), **changes)


def played(settings: dict[str, Any], requests: Iterable[Request]) -> tuple[list[Emission], Stack, dict[str, Any]]:
    subject = stack(("cascade", settings))
    out = run(subject, [(n * 0.05, request) for n, request in enumerate(requests)])
    return out, subject, subject.stages[0].state(0.0)


def logistic(x: float) -> float:
    return 1 / (1 + exp(-x))


def mean_right(skill: float) -> float:
    """The integral of 1 / (1 + exp(-8 (skill - b))) over b from 0 to 1."""
    return (log1p(exp(8 * skill)) - log1p(exp(8 * (skill - 1)))) / 8


def p_accept(auc: float, threshold: float, *, right: bool) -> float:
    """That a normal score, d/2 above or below 0, exceeds the one at which the confidence is the threshold."""
    d = sqrt(2) * NORMAL.inv_cdf(auc)
    return NORMAL.cdf((d if right else -d) / 2 - log(threshold / (1 - threshold)) / d)


def near(num: int, probabilities: list[float]) -> bool:
    """Whether a count of independent events is where it belongs; 4.5 sigmas: once in 150,000."""
    return abs(num - sum(probabilities)) <= 4.5 * sqrt(sum(p * (1 - p) for p in probabilities))


def passages_of(emissions: list[Emission]) -> list[Passage]:
    """By the request's number."""
    found = [each for each in emissions if isinstance(each, Finished)]
    return [each.passage for each in sorted(found, key=lambda each: int(each.request_id[1:])) if each.passage]


def escalated(passage: Passage) -> bool:
    return passage.num_attempts == 2


# -- what the client sees ----------------------------------------------------------------------------


def test_an_accepted_answer_comes_whole_and_an_escalated_one_streams_after_the_first_has_ended() -> None:
    out, _, _ = played(keys(), [question(n) for n in range(40)])
    passages = passages_of(out)
    assert {escalated(passage) for passage in passages} == {True, False}
    for n in range(40):
        began_at = next(each.at for each in out if isinstance(each, Tokens) and each.request_id == f"r{n}")
        first = next(each for each in out if isinstance(each, Tokens) and each.request_id == f"r{n}")
        first_at = next(chunks_of(first)).at if first.span else began_at
        if escalated(passages[n]):
            assert passage_of(out, n).model == "large"
            assert first_at == pytest.approx(n * 0.05 + SMALL_S + 1.0)
            assert end_of(out, n).at == pytest.approx(n * 0.05 + SMALL_S + LARGE_S)
        else:
            assert passage_of(out, n).model == "small"
            assert first_at == end_of(out, n).at == pytest.approx(n * 0.05 + SMALL_S)


def test_the_notes_say_who_was_asked_and_why_not_taken() -> None:
    out, _, _ = played(keys(threshold=0.0), [question(0)])
    assert passage_of(out, 0).notes[0].startswith("cascade: small accepted at 0.")
    out, _, _ = played(keys(threshold=1.0), [question(0)])
    first, last = passage_of(out, 0).notes
    assert first.startswith("cascade: small escalated at 0.")
    assert last == "cascade: large taken"


def test_where_nobody_may_look_the_last_model_answers_at_once() -> None:
    out = run(stack(("cascade", keys())), [(0.0, ask(0, "assistant"))])
    assert (passage_of(out, 0).model, passage_of(out, 0).num_attempts) == ("large", 1)
    assert end_of(out, 0).at == pytest.approx(LARGE_S)


def test_a_third_model_is_asked_when_the_second_does_not_convince() -> None:
    rungs = [{"model": "small", "skill": 0.0}, {"model": "large", "skill": 0.0}, {"model": "small-2", "skill": 1.0}]
    replicas = {
        name: HostedReplica(known(1.0, 0.0), STREAMS, every_token=False) for name in ("small", "large", "small-2")
    }
    subject = stack(("cascade", {"name": "assistant", "models": rungs, "threshold": 1.0}), behind=engine(replicas))
    out = run(subject, [(0.0, question(0))])
    assert (passage_of(out, 0).model, passage_of(out, 0).num_attempts) == ("small-2", 3)
    assert end_of(out, 0).at == pytest.approx(3.0)


# -- the law of quality and confidence ---------------------------------------------------------------


@pytest.mark.parametrize("skill", [0.3, 0.5, 0.8, 1.2])
def test_a_model_alone_is_as_right_as_the_law_says(skill: float) -> None:
    _, _, state = played(keys(small=skill, threshold=0.0), [question(n) for n in range(2000)])
    assert near(round(state["quality"] * 2000), [mean_right(skill)] * 2000)
    assert state["alone"]["small"] == state["quality"]
    assert near(round(state["alone"]["large"] * 2000), [mean_right(1.1)] * 2000)


@pytest.mark.parametrize("auc", [0.6, 0.8, 0.95])
def test_the_confidence_tells_right_from_wrong_as_often_as_its_auc_says(auc: float) -> None:
    """Mann and Whitney: the AUC is the share of pairs (right, wrong) in which the right one scores higher."""

    def confidences(skill: float, numbers: range) -> list[float]:
        out, _, _ = played(keys(small=skill, auc=auc), [question(n, difficulty=1.0) for n in numbers])
        return [float(passage.notes[0].rpartition(" ")[2]) for passage in passages_of(out)]

    right, wrong = confidences(9.0, range(600)), confidences(0.0, range(600, 1200))  # 1 - e-28 and .0003 right
    pairs = [(r > w) + (r == w) / 2 for r, w in product(right, wrong)]
    assert sum(pairs) / len(pairs) == pytest.approx(auc, abs=4.5 * sqrt(auc * (1 - auc) / 600))


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("difficulty", [0.2, 0.5, 0.9])
def test_escalations_are_as_frequent_as_the_law_says(threshold: float, difficulty: float) -> None:
    num, p = 800, logistic(8 * (0.5 - difficulty))
    out, _, state = played(keys(threshold=threshold), [question(n, difficulty) for n in range(num)])
    counts = state["counts"]
    a, b = (p_accept(0.8, threshold, right=right) for right in (True, False))
    assert near(counts["escalations"], [1 - (p * a + (1 - p) * b)] * num)
    assert near(counts["escalated though right"], [p * (1 - a)] * num)
    assert near(counts["accepted but wrong"], [(1 - p) * b] * num)
    assert near(counts["right"], [p * a + (1 - p * a - (1 - p) * b) * logistic(8 * (1.1 - difficulty))] * num)
    assert counts["answers"] == num
    assert counts["escalations"] == sum(map(escalated, passages_of(out)))


def test_luck_does_not_hang_on_the_order_of_arrival() -> None:
    requests = [question(n) for n in range(300)]
    forth, _, state = played(keys(), requests)
    back, _, again = played(keys(), requests[::-1])
    assert state == again
    assert [each.notes for each in passages_of(forth)] == [each.notes for each in passages_of(back)]


# -- what it costs -----------------------------------------------------------------------------------


def test_both_calls_are_paid() -> None:
    out, subject, _ = played(keys(), [question(n) for n in range(200)])
    passages = passages_of(out)
    for passage in passages:
        paid = SMALL_USD + LARGE_USD if escalated(passage) else SMALL_USD
        assert passage.cost_usd == pytest.approx(paid)
        assert passage.saved_usd == {"cascade": pytest.approx(LARGE_USD - paid)}
    num_escalated = sum(map(escalated, passages))
    assert subject.cost_usd == pytest.approx(200 * SMALL_USD + num_escalated * LARGE_USD)


def test_it_costs_less_than_the_large_model_and_is_better_than_the_small_one() -> None:
    """Effect, on the same requests, evenly spread over the difficulties: 61 % of the price, .89 right in place of .49 (.95 if dear)."""
    num = 2500
    _, cascade, state = played(keys(auc=0.9), [question(n) for n in range(num)])
    a, b = (p_accept(0.9, 0.6, right=right) for right in (True, False))
    grid = [(n + 0.5) / 1000 for n in range(1000)]
    small, large = ([logistic(8 * (skill - difficulty)) for difficulty in grid] for skill in (0.5, 1.1))
    accepts = [p * a + (1 - p) * b for p in small]
    quality = sum(p * a + (1 - y) * q for p, y, q in zip(small, accepts, large, strict=True)) / 1000
    escalates = 1 - sum(accepts) / 1000
    assert near(state["counts"]["escalations"], [escalates] * num)
    assert near(state["counts"]["right"], [quality] * num)
    assert cascade.cost_usd == pytest.approx(num * SMALL_USD + state["counts"]["escalations"] * LARGE_USD)
    assert cascade.cost_usd / (num * LARGE_USD) == pytest.approx(0.61, abs=0.03)
    assert (state["quality"], state["alone"]["small"]) == (pytest.approx(0.89, abs=0.03), pytest.approx(0.5, abs=0.05))
    assert state["alone"]["large"] == pytest.approx(mean_right(1.1), abs=0.03)


# -- what goes wrong ---------------------------------------------------------------------------------


class Shut:
    """A door that lets nobody in."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal

    def enter(self, request: Request, now: float) -> Refusal | None:
        return self.refusal

    def left(self, request: Request, end: End, now: float) -> None: ...


@pytest.mark.parametrize(
    ("status", "kind", "goes_on"),
    [
        (429, "rate_limit", True),
        (503, "overloaded", True),
        (529, "overloaded_error", True),
        (0, "reset", True),
        (400, "context_length_exceeded", True),
        (400, "invalid_request_error", False),
        (401, "authentication_error", False),
    ],
)
def test_no_answer_is_no_confidence_but_a_clients_mistake_is_told(status: int, kind: str, goes_on: bool) -> None:
    door = Shut(Refusal(status, kind, "no"))
    subject = stack(("cascade", keys()), doors={"small": [door]})
    end = end_of(run(subject, [(0.0, question(0))]), 0)
    counts: Any = subject.stages[0].state(0.0)["counts"]
    assert counts["no answer"] == goes_on
    if goes_on:
        assert isinstance(end, Finished)
        assert end.passage is not None
        assert end.passage.model == "large"
        assert end.passage.cost_usd == pytest.approx(LARGE_USD)
        assert end.passage.notes == ["cascade: no answer from small, escalated", "cascade: large taken"]
    else:
        assert isinstance(end, Refused)
        assert end.status == status


def test_when_the_last_model_refuses_too_the_client_is_told() -> None:
    door = Shut(Refusal(503, "overloaded", "no"))
    end = end_of(run(stack(("cascade", keys()), doors={"small": [door], "large": [door]}), [(0.0, question(0))]), 0)
    assert isinstance(end, Refused)


def test_a_broken_answer_is_not_seen_and_paid_all_the_same() -> None:
    class Breaks:
        def enter(self, request: Request, now: float) -> Strike:
            return Strike(cut=Cut("", 0.0, 10))

        def left(self, request: Request, end: End, now: float) -> None: ...

    out = run(stack(("cascade", keys()), doors={"small": [Breaks()]}), [(0.0, question(0))])
    assert [type(each) for each in out if not isinstance(each, Began)] == [Tokens, Finished]
    assert passage_of(out, 0).cost_usd == pytest.approx((100 * 0.1 + 10 * 0.4) / 1e6 + LARGE_USD)


def test_an_answer_from_a_cache_behind_it_is_taken() -> None:
    class Cache(Stage):
        def arrive(self, flight: Flight, now: float) -> Arrival:
            return Answered(now + 0.1, "cache", 20)

    for watched in (True, False):
        subject = stack(("cascade", keys(threshold=1.0)), Cache())
        out = run(subject, [(0.0, question(0, watched=watched))])
        assert end_of(out, 0).at == pytest.approx(0.1)
        assert passage_of(out, 0).source == "cache"
        assert subject.num_calls == 0


# -- under both clocks, and under cancels ------------------------------------------------------------


def test_both_clocks_agree() -> None:
    load = [(n * 0.21, question(n, watched=n % 4 != 0)) for n in range(60)]
    subject = assert_both_clocks_agree(lambda every_token: stack(("cascade", keys()), every_token=every_token), load)
    counts: Any = subject.stages[0].state(0.0)["counts"]
    assert 0 < counts["escalations"] < 60


class Recorder(Stage):
    """Keeps what every request met."""

    def __init__(self) -> None:
        self.passages: list[Passage] = []

    def arrive(self, flight: Flight, now: float) -> Arrival:
        self.passages.append(flight.passage)
        return None


@given(
    st.lists(st.tuples(st.floats(0, 3), st.booleans()), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.floats(0, 8)), max_size=10),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_when_clients_go_away(
    arrivals: list[tuple[float, bool]], cancels: list[tuple[int, float]]
) -> None:
    load = [(at, question(n, watched=watched)) for n, (at, watched) in enumerate(sorted(arrivals))]
    recorder = Recorder()
    subject = stack(recorder, ("cascade", keys()))
    out = run_with_cancels(subject, load, cancels)
    counts: Any = subject.stages[1].state(0.0)["counts"]
    assert counts["answers"] == len(ends(out))
    # Every call is on somebody's account, also those of clients who went away.
    assert subject.cost_usd == pytest.approx(sum(passage.cost_usd or 0.0 for passage in recorder.passages))
