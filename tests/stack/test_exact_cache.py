"""The exact cache against a list that is kept by hand, and what it saves under popular questions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Cut, Emission, Finished, Refused, Request
from mockllm.call import Call
from mockllm.model import Forced
from mockllm.passage import Damage, Query
from mockllm.server.asking import body_fields, query_of
from mockllm.server.control import Demand
from mockllm.stack.parts import Fallback
from mockllm.stack.stack import Stack
from mockllm.stack.stage import End, Flight, Leaving, Refusal, Stage, Strike
from mockllm.stack.timeline import Timeline
from mockllm.wire.table import DIALECTS
from tests.stack.build import ask, end_of, ends, engine, parts, passage_of, run, stack, stage
from tests.stack.clocks import driven

LOOKUP_S = 0.002
SMALL_S = 0.2 + 49 * 0.02  # what the model `small` takes for an answer
SMALL_USD = (100 * 0.1 + 50 * 0.4) / 1e6
EXACT: dict[str, Any] = {"latency": {"median": "2ms"}}


def asked(number: int, question: object, **changes: Any) -> Request:
    """Request number n asks a question."""
    query = Query(str(question), text=f"question {question}", intent=f"intent {question}")
    values: dict[str, Any] = {"model": "small", "query": query, "watched": False} | changes
    return ask(number, **values)


def outcomes(out: list[Emission], num: int) -> list[str | None]:
    return [passage_of(out, n).cache_outcome for n in range(num)]


def saved_usd(out: dict[str, Emission]) -> float:
    """Of all requests together."""
    return sum(
        end.passage.saved_usd.get("exact_cache", 0.0)
        for end in out.values()
        if isinstance(end, Finished) and end.passage
    )


def counts(subject: Stack, number: int = 0) -> dict[str, int]:
    found = subject.stages[number].state(0.0)["counts"]
    assert isinstance(found, dict)
    return found


class Breaking:
    """A door: what happens to the calls in their order; after that, nothing. How many were inside at once, by question."""

    def __init__(self, *fates: Refusal | Strike | None) -> None:
        self.fates = list(fates)
        self.inside: dict[str, int] = {}
        self.most_inside = 0

    def enter(self, request: Request, now: float) -> Refusal | Strike | None:
        assert request.query is not None
        fate = self.fates.pop(0) if self.fates else None
        if not isinstance(fate, Refusal):
            inside = self.inside[request.query.digest] = self.inside.get(request.query.digest, 0) + 1
            self.most_inside = max(self.most_inside, inside)
        return fate

    def left(self, request: Request, end: End, now: float) -> None:
        assert request.query is not None
        self.inside[request.query.digest] -= 1


DOWN = Refusal(503, "unavailable", "no")
CUT = Strike(cut=Cut("", 0.0, 10))
GARBLED = Strike(damage=(Damage("garbled", 3),))


# -- laws ------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(3, 40), st.integers(0, 5)), min_size=1, max_size=40),
    st.sampled_from(["20500ms", "60500ms", "30d"]),
    st.integers(1, 5),
)
@settings(max_examples=150, deadline=None)
def test_hits_and_misses_are_those_of_a_list_kept_by_hand(asks: list[tuple[int, int]], ttl: str, capacity: int) -> None:
    """One after the other. The list has the least recently used first, and the instants at which answers were complete."""
    ttl_s = {"20500ms": 20.5, "60500ms": 60.5, "30d": 2_592_000}[ttl]
    kept: list[tuple[int, float]] = []
    expected, load, at = [], [], 0.0
    for number, (gap, question) in enumerate(asks):
        at += gap
        load.append((at, asked(number, question)))
        known = next((entry for entry in kept if entry[0] == question), None)
        fresh = known is not None and at - known[1] < ttl_s
        expected.append("hit" if fresh else "miss")
        kept = [entry for entry in kept if entry[0] != question]
        kept.append(known if known is not None and fresh else (question, at + LOOKUP_S + SMALL_S))
        kept = kept[-capacity:]
    subject = stack(("exact_cache", EXACT | {"ttl": ttl, "capacity": capacity}))
    out = run(subject, load)
    assert outcomes(out, len(asks)) == expected
    assert subject.stages[0].state(at)["entries"] == len(kept) <= capacity
    assert counts(subject)["hits"] == expected.count("hit")
    assert counts(subject)["misses"] == counts(subject)["stored"] == subject.num_calls == expected.count("miss")


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 3)), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_an_answer_is_there_for_others_once_it_is_complete(asks: list[tuple[float, int]]) -> None:
    complete: dict[int, float] = {}
    expected, load, at = [], [], 0.0
    for number, (gap, question) in enumerate(asks):
        at += gap
        load.append((at, asked(number, question)))
        expected.append("hit" if question in complete and complete[question] <= at else "miss")
        complete.setdefault(question, at + LOOKUP_S + SMALL_S)
    out = run(stack(("exact_cache", EXACT)), load)
    assert outcomes(out, len(asks)) == expected


def test_the_one_that_was_used_longest_ago_goes_first() -> None:
    """With room for three: d takes the place of b, b that of c, c that of d."""
    order = "abcadabcd"
    load = [(9.0 * n, asked(n, name)) for n, name in enumerate(order)]
    out = run(stack(("exact_cache", EXACT | {"capacity": 3})), load)
    assert "".join("h" if outcome == "hit" else "." for outcome in outcomes(out, len(order))) == "...h.h..."


def test_an_answer_lives_as_long_as_its_ttl_and_a_hit_does_not_prolong_it() -> None:
    complete = LOOKUP_S + SMALL_S
    load = [(0.0, asked(0, "a")), (complete + 9.9, asked(1, "a")), (complete + 10.01, asked(2, "a"))]
    out = run(stack(("exact_cache", EXACT | {"ttl": "10s"})), load)
    assert outcomes(out, 3) == ["miss", "hit", "miss"]


def test_a_hit_takes_its_look_up_and_its_pace_and_a_miss_waits_for_the_look_up() -> None:
    load = [(0.0, asked(0, "a", watched=True)), (9.0, asked(1, "a", watched=True))]
    out = run(stack(("exact_cache", EXACT | {"tokens_per_s": 100})), load)
    assert end_of(out, 0).at == pytest.approx(LOOKUP_S + SMALL_S)
    assert passage_of(out, 0).waited_s == pytest.approx({"exact_cache": LOOKUP_S})
    assert end_of(out, 1).at == pytest.approx(9.0 + LOOKUP_S + 49 / 100)
    out = run(stack(("exact_cache", EXACT)), load)
    assert end_of(out, 1).at == pytest.approx(9.0 + LOOKUP_S)


def test_look_ups_are_lognormal() -> None:
    load = [(0.0, asked(0, "a")), *((9.0 + n, asked(n, "a")) for n in range(1, 1500))]
    out = ends(run(stack(("exact_cache", {"latency": {"median": "2ms", "sigma": 0.5}})), load))
    logs = np.log([out[f"r{n}"].at - 9.0 - n for n in range(1, 1500)])
    assert logs.mean() == pytest.approx(np.log(0.002), abs=0.05)
    assert logs.std() == pytest.approx(0.5, abs=0.04)


def test_a_hit_is_the_same_answer() -> None:
    first = asked(0, "a", payload="the very words", max_tokens=30)
    out = run(stack(("exact_cache", EXACT)), [(0.0, first), (9.0, asked(1, "a", payload="others"))])
    end, passage = end_of(out, 1), passage_of(out, 1)
    assert isinstance(end, Finished)
    assert (end.num_output_tokens, end.reason) == (30, "length")
    assert (passage.source, passage.payload, passage.model) == ("exact_cache", "the very words", "small")
    assert passage.notes == ["exact_cache: hit"]
    assert (passage.num_attempts, passage.cost_usd, passage.wrong_hit) == (0, None, False)


class Turns(Stage):
    """Sends requests to `large` and to `small` in turn."""

    def __init__(self) -> None:
        self.num = 0

    def arrive(self, flight: Flight, now: float) -> None:
        flight.request = replace(flight.request, model=("large", "small")[self.num % 2])
        self.num += 1


def test_behind_a_router_each_model_has_answers_of_its_own() -> None:
    out = run(stack(Turns(), ("exact_cache", EXACT)), [(20.0 * n, asked(n, "a")) for n in range(4)])
    assert outcomes(out, 4) == ["miss", "miss", "hit", "hit"]
    assert [passage_of(out, n).model for n in range(4)] == ["large", "small", "large", "small"]


@pytest.mark.parametrize("fate", [DOWN, CUT, GARBLED], ids=["refused", "cut", "garbled"])
def test_an_answer_that_is_not_whole_is_not_kept(fate: Refusal | Strike) -> None:
    subject = stack(("exact_cache", EXACT), doors={"small": [Breaking(fate)]})
    out = run(subject, [(9.0 * n, asked(n, "a")) for n in range(3)])
    assert [end.passage.cache_outcome for end in ends(out).values()] == ["miss", "miss", "hit"]  # type: ignore[union-attr]
    assert counts(subject)["stored"] == 1


@pytest.mark.parametrize("coalesce", [False, True])
def test_the_answer_of_another_cache_is_not_kept_again(coalesce: bool) -> None:
    """It would outlive its time: the inner one's answer expires 10 s after it was given."""
    outer, inner = ("exact_cache", EXACT | {"coalesce": coalesce}), ("user_cache", {"ttl": "10s"})
    same = {"tenant": replace(ask(0).tenant, user="u")}
    subject = stack(outer, inner)
    load = [(0.0, asked(0, "b", **same))]
    load += [(5.0, replace(asked(n, "a", **same), query=Query(f"another {n > 2}", "Question b!"))) for n in (1, 2, 3)]
    out = run(subject, load)
    assert [passage_of(out, n).source for n in range(4)] == ["model", *["user_cache"] * 3]
    assert counts(subject)["stored"] == 1


@pytest.mark.parametrize("changes", [{"query": None}, {"forced": Forced(ttft_s=1.0)}], ids=["no query", "forced"])
def test_what_must_not_be_looked_at_passes_by(changes: dict[str, Any]) -> None:
    subject = stack(("exact_cache", EXACT))
    out = run(subject, [(9.0 * n, asked(n, "a", **changes)) for n in range(3)])
    assert outcomes(out, 3) == [None] * 3
    assert counts(subject)["passed_by"] == subject.num_calls == 3


def test_hit_rate_and_wrong_hit_rate_stand_together() -> None:
    """A workload that calls one question by two intents sees wrong hits also here; one without labels sees neither."""
    subject = stack(("exact_cache", EXACT))
    labels = ["x", "x", "y", None]
    load = [(9.0 * n, replace(asked(n, "a"), query=Query("a", intent=label))) for n, label in enumerate(labels)]
    out = run(subject, load)
    assert [passage_of(out, n).wrong_hit for n in range(4)] == [None, False, True, None]
    state = subject.stages[0].state(99.0)
    assert (state["hit_rate"], state["wrong_hit_rate"]) == (3 / 4, 1 / 2)
    assert counts(subject)["unlabelled_hits"] == 1
    empty = stack(("exact_cache", EXACT)).stages[0].state(0.0)
    assert (empty["hit_rate"], empty["wrong_hit_rate"]) == (None, None)


@pytest.mark.parametrize(
    ("policy", "keys", "words"),
    [
        ("exact_cache", {"ttl": "10m"}, "up to 10,000 answers for 10 min, 2 ms a look-up"),
        ("exact_cache", {"ttl": "10m", "coalesce": True}, "wait for the first one's answer"),
        ("user_cache", {"capacity": 7}, "a user's last messages, up to 7 answers for 5 min"),
        ("semantic_cache", {"threshold": 0.9, "stale_threshold": 0.8}, "a cosine of 0.9, 0.8 when no model answers"),
        ("static_cache", {"top": 9, "period": "1h"}, "the 9 most asked questions of the last 1 h, 15 ms a hit"),
    ],
)
def test_a_cache_describes_itself_with_its_numbers(policy: str, keys: dict[str, Any], words: str) -> None:
    assert words in stack((policy, keys)).stages[0].describe()


# -- equal requests at the same time ---------------------------------------------------------------------------------

COALESCING = EXACT | {"coalesce": True}


def test_equal_requests_wait_for_the_first_ones_answer() -> None:
    load = [(0.1 * n, asked(n, "a")) for n in range(10)]
    subject = stack(("exact_cache", COALESCING))
    out = run(subject, load)
    complete = LOOKUP_S + SMALL_S
    assert subject.num_calls == 1
    assert end_of(out, 0).at == pytest.approx(complete)
    for n in range(1, 10):
        assert end_of(out, n).at == pytest.approx(complete + LOOKUP_S)
        assert passage_of(out, n).waited_s == pytest.approx({"exact_cache": complete - 0.1 * n})
        assert passage_of(out, n).notes == ["exact_cache: hit, waited for it"]
    assert counts(subject)["coalesced"] == counts(subject)["hits"] == 9
    without = stack(("exact_cache", EXACT))
    run(without, load)
    assert without.num_calls == 10


def test_when_the_first_fails_the_next_goes_in_its_place() -> None:
    door = Breaking(DOWN, CUT, None)
    subject = stack(("exact_cache", COALESCING), doors={"small": [door]})
    out = run(subject, [(0.0, asked(n, "a")) for n in range(5)])
    assert [type(end_of(out, n)) for n in range(5)] == [Refused, Cut, Finished, Finished, Finished]
    cut_s = 0.2 + 9 * 0.02
    assert end_of(out, 1).at == pytest.approx(LOOKUP_S + cut_s)
    assert end_of(out, 2).at == pytest.approx(LOOKUP_S + cut_s + SMALL_S)
    assert end_of(out, 4).at == pytest.approx(LOOKUP_S + cut_s + SMALL_S + LOOKUP_S)
    assert subject.num_calls == 3


def test_when_the_clients_that_lead_go_away_the_next_goes_in_their_place() -> None:
    subject = stack(("exact_cache", COALESCING))
    for n in range(4):
        subject.submit(asked(n, "a"), 0.0)
    out = subject.advance(0.5)
    assert subject.cancel("r2", 0.5)  # waits
    assert subject.cancel("r0", 0.5)  # leads
    assert subject.cancel("r1", 0.5)  # was to lead next, at this very instant
    out += subject.advance(9.0)
    assert list(ends(out)) == ["r3"]
    assert end_of(out, 3).at == pytest.approx(0.5 + SMALL_S)
    assert subject.idle
    assert subject.stages[0].state(9.0)["waiting"] == 0


@given(
    st.lists(st.tuples(st.floats(0, 1.5), st.integers(0, 2), st.booleans()), min_size=1, max_size=25),
    st.lists(st.tuples(st.integers(0, 24), st.floats(0, 3)), max_size=10),
    st.lists(st.sampled_from([DOWN, CUT, GARBLED, None]), max_size=15),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_the_books_balance_whoever_goes_away(
    asks: list[tuple[float, int, bool]],
    cancels: list[tuple[int, float]],
    fates: list[Refusal | Strike | None],
    coalesce: bool,
) -> None:
    """Nobody waits for ever, nobody is asked twice at once, and what is not there for anybody is not remembered."""
    door = Breaking(*fates)
    subject = stack(("exact_cache", EXACT | {"coalesce": coalesce, "ttl": "1s"}), doors={"small": [door]})
    at, arrived, todo = 0.0, list[float](), list[tuple[float, int, Any]]()
    for n, (gap, question, watched) in enumerate(asks):
        at += gap
        arrived.append(at)
        todo.append((at, 0, asked(n, question, watched=watched)))
    todo += [(arrived[n] + later, 1, f"r{n}") for n, later in cancels if n < len(asks)]
    out: list[Emission] = []
    num_cancelled = 0
    for when, kind, what in sorted(todo, key=lambda each: each[:2]):
        out += subject.advance(when)
        if kind == 0:
            subject.submit(what, when)
        else:
            num_cancelled += subject.cancel(what, when)
    out += subject.advance(1e6)
    assert subject.idle
    assert subject.engine.idle
    assert len(ends(out)) == len(asks) - num_cancelled
    state = subject.stages[0].state(1e6)
    assert (state["in_flight"], state["waiting"]) == (0, 0)
    assert set(door.inside.values()) <= {0}
    assert not coalesce or door.most_inside <= 1
    assert counts(subject)["misses"] >= subject.num_calls


# -- what helps when no model answers --------------------------------------------------------------------------------


class Falling(Stage):
    """When the model refuses, whatever a cache still has."""

    def __init__(self, fallbacks: list[Fallback]) -> None:
        self.fallbacks = fallbacks

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        found = (fallback.stale(flight, now) for fallback in self.fallbacks)
        return next((answer for answer in found if answer), None) if isinstance(end, Refused) else None


@pytest.mark.parametrize("outside", [True, False], ids=["before the cache", "behind it"])
def test_an_expired_answer_is_given_when_there_is_no_other(outside: bool) -> None:
    fallbacks: list[Fallback] = []
    behind = engine()
    cache = stage("exact_cache", EXACT | {"ttl": "10s"}, parts(behind, "exact_cache", Timeline(), fallbacks))
    order = [Falling(fallbacks), cache] if outside else [cache, Falling(fallbacks)]
    subject = stack(*order, behind=behind, doors={"small": [Breaking(None, DOWN, DOWN, DOWN)]})
    number = subject.stages.index(cache)
    load = [(0.0, asked(0, "a", payload="words")), (50.0, asked(1, "a")), (60.0, asked(2, "b")), (70.0, asked(3, "a"))]
    out = run(subject, load)
    assert [type(end_of(out, n)) for n in range(4)] == [Finished, Finished, Refused, Finished]
    passage = passage_of(out, 1)
    assert (passage.cache_outcome, passage.source, passage.payload) == ("stale", "exact_cache", "words")
    assert passage.saved_usd == {}  # without the cache there would be no answer
    assert passage.notes == ["exact_cache: miss", "exact_cache: stale"]
    assert counts(subject, number) | {"stale": 2, "hits": 0, "misses": 4, "stored": 1} == counts(subject, number)
    assert passage_of(out, 3).cache_outcome == "stale"  # a stale answer is not kept as a new one


# -- both clocks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coalesce", [False, True])
def test_both_clocks_say_the_same(coalesce: bool) -> None:
    keys = {"coalesce": coalesce, "ttl": "3s", "capacity": 4, "tokens_per_s": 200}
    load = [(n * 0.3, asked(n, n * n % 7, watched=n % 3 > 0)) for n in range(60)]
    virtual = stack(("exact_cache", keys), doors={"small": [Breaking(None, DOWN, CUT)]})
    expected = ends(run(virtual, load))
    real = stack(("exact_cache", keys), doors={"small": [Breaking(None, DOWN, CUT)]}, every_token=True)
    told = driven(real, load, until=100.0)
    assert told == expected
    assert counts(real) == counts(virtual)


# -- the key -----------------------------------------------------------------------------------------------------------

CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}],
    "temperature": 0.2,
}
RESPONSES: dict[str, Any] = {"model": "m", "instructions": "Be brief.", "input": "Hello?", "temperature": 0.2}
MESSAGES: dict[str, Any] = {
    "model": "m",
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "Hello?"}],
    "max_tokens": 100,
    "temperature": 0.2,
}
BODIES: dict[str, dict[str, Any]] = {"/v1/chat/completions": CHAT, "/v1/responses": RESPONSES, "/v1/messages": MESSAGES}
LIMIT = {"/v1/chat/completions": "max_completion_tokens", "/v1/responses": "max_output_tokens"}


def digest(path: str, body: dict[str, Any]) -> str:
    raw = json.dumps(body).encode()
    dialect = DIALECTS[path]
    call = dialect.parse(raw)
    assert isinstance(call, Call), call
    query = query_of(dialect.name, call, body_fields(raw), Demand())
    assert query is not None
    return query.digest


@pytest.mark.parametrize("path", BODIES)
def test_whatever_changes_the_answer_changes_the_key(path: str) -> None:
    body = BODIES[path]
    others: list[dict[str, Any]] = [
        {"temperature": 0.3},
        {"top_p": 0.5},
        {"model": "n"},
        {LIMIT.get(path, "max_tokens"): 99},
    ]
    if path == "/v1/responses":
        others += [{"input": "Hello"}, {"instructions": "Be kind."}]
    else:
        others += [{"messages": [*body["messages"][:-1], {"role": "user", "content": "Hello"}]}]
        others += [{"messages": [*body["messages"], {"role": "assistant", "content": "Hi."}, body["messages"][-1]]}]
    if path == "/v1/messages":
        others += [{"system": "Be kind."}]
    if path == "/v1/chat/completions":
        others += [{"seed": 1}, {"messages": [{"role": "system", "content": "Be kind."}, body["messages"][1]]}]
    without = {name: value for name, value in body.items() if name != "temperature"}
    digests = [digest(path, each) for each in [body, without, *(body | other for other in others)]]
    assert len(set(digests)) == len(digests) == len(others) + 2


@pytest.mark.parametrize("path", BODIES)
def test_what_does_not_change_the_answer_does_not_change_the_key(path: str) -> None:
    body = BODIES[path]
    same: list[dict[str, Any]] = [dict(reversed(body.items())), body | {"stream": True}]
    same += [body | {"metadata": {"user_id": "u"}}] if path == "/v1/messages" else [body | {"user": "u"}]
    assert {digest(path, each) for each in same} == {digest(path, body)}


# -- effect ----------------------------------------------------------------------------------------------------------


def popular_questions(num: int, exponent: float) -> list[int]:
    """Zipf over 200 questions (a ~ 1.1: research on prompt popularity), one draw a request."""
    weights = np.arange(1, 201.0) ** -exponent
    draws = np.random.default_rng(5).choice(200, size=num, p=weights / weights.sum())
    return [int(draw) for draw in draws]


def test_popular_questions_are_answered_at_once_and_cost_nothing() -> None:
    """Hits as counted in the list itself; the median drops from a model's answer to a look-up; the bill by the hits."""
    questions = popular_questions(1500, 1.1)
    load = [(2.0 * n, asked(n, question)) for n, question in enumerate(questions)]
    num_hits = len(questions) - len(set(questions))
    assert 0.8 < num_hits / len(questions) < 0.95
    without, subject = stack(), stack(("exact_cache", EXACT))
    plain, cached = ends(run(without, load)), ends(run(subject, load))
    state = subject.stages[0].state(1e4)
    assert (state["hit_rate"], state["wrong_hit_rate"]) == (num_hits / len(questions), 0.0)
    medians = [np.median([out[f"r{n}"].at - at for n, (at, _) in enumerate(load)]) for out in (plain, cached)]
    assert medians == pytest.approx([SMALL_S, LOOKUP_S])
    assert without.cost_usd - subject.cost_usd == pytest.approx(num_hits * SMALL_USD)
    assert saved_usd(cached) == pytest.approx(num_hits * SMALL_USD)


def test_a_small_cache_hits_as_often_as_the_last_questions_repeat() -> None:
    """Least recently used, room for c: a hit is a question with fewer than c others since it was last asked (Mattson 1970)."""
    questions = popular_questions(1500, 0.8)
    distances, recent = [], list[int]()
    for question in questions:
        distances.append(recent.index(question) if question in recent else None)
        recent = [question, *(each for each in recent if each != question)]
    load = [(2.0 * n, asked(n, question)) for n, question in enumerate(questions)]
    for capacity in (5, 20, 80):
        subject = stack(("exact_cache", EXACT | {"capacity": capacity}))
        run(subject, load)
        expected = sum(distance is not None and distance < capacity for distance in distances)
        assert counts(subject)["hits"] == expected
        assert counts(subject)["evicted"] == counts(subject)["stored"] - capacity
