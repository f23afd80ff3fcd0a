"""The semantic cache: what is near enough, near what, and how often that is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mockllm import Emission, Finished, Refused, Request, load_deployment
from mockllm.content.embeddings import default_embedder
from mockllm.errors import DeploymentError
from mockllm.model import Forced
from mockllm.passage import Query
from mockllm.stack.parts import Fallback, Parts
from mockllm.stack.semantic_cache import SemanticCache, SemanticCacheSettings
from mockllm.stack.stack import Stack
from mockllm.stack.stage import End, Flight, Leaving, Refusal, Stage
from mockllm.stack.timeline import Timeline
from tests.stack.build import PRICES, STREAMS, ask, end_of, ends, engine, passage_of, run, stack
from tests.stack.clocks import driven

SMALL_S = 0.2 + 49 * 0.02
SMALL_USD = (100 * 0.1 + 50 * 0.4) / 1e6
STEADY: dict[str, Any] = {"embedding": {"median": "10ms"}, "lookup": {"median": "3ms"}}
SEARCH_S = 0.013


class Angles:
    """Texts that say at which angle their vector stands: `30` is at 30 degrees, whatever follows it."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        angles = np.radians([float(re.split(r"[^\d.]", text)[0]) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def cosine(degrees: float) -> float:
    return float(np.cos(np.radians(degrees)))


def cache(keys: dict[str, Any], fallbacks: list[Fallback] | None = None) -> SemanticCache:
    behind = engine()
    parts = Parts("semantic_cache", STREAMS, behind, Timeline(), PRICES, Angles, [] if fallbacks is None else fallbacks)
    return SemanticCache(SemanticCacheSettings.model_validate(STEADY | keys), parts)


def says(number: int, text: str, context: str = "", intent: str | None = None, **changes: Any) -> Request:
    """Request number n; its digest is that of its words."""
    query = Query(f"{context}|{text}", text, context, intent=intent)
    values: dict[str, Any] = {"model": "small", "query": query, "watched": False} | changes
    return ask(number, **values)


def outcomes(out: list[Emission], num: int) -> list[str | None]:
    return [passage_of(out, n).cache_outcome for n in range(num)]


def counts(subject: Stack) -> dict[str, int]:
    found = subject.stages[-1].state(0.0)["counts"]
    assert isinstance(found, dict)
    return found


# -- laws ------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(3, 40), st.integers(0, 90), st.sampled_from("xy")), min_size=1, max_size=30),
    st.sampled_from([0.8, 0.95, 0.99]),
    st.sampled_from(["20500ms", "30d"]),
    st.integers(1, 4),
)
@settings(max_examples=150, deadline=None)
def test_hits_and_misses_are_those_of_a_full_search(
    asks: list[tuple[int, int, str]], threshold: float, ttl: str, capacity: int
) -> None:
    """One after the other. The list has the longest unused answer first: (angle, context, when complete)."""
    ttl_s = 20.5 if ttl == "20500ms" else inf_s
    known: list[tuple[int, str, float]] = []
    expected, load, at = [], [], 0.0
    for number, (gap, angle, context) in enumerate(asks):
        at += gap
        load.append((at, says(number, str(angle), context)))
        fresh = [entry for entry in known if entry[1] == context and at - entry[2] < ttl_s]
        near = [entry for entry in fresh if cosine(abs(entry[0] - angle)) >= threshold]
        expected.append("hit" if near else "miss")
        if near:
            best = min(near, key=lambda entry: abs(entry[0] - angle))
            same = [entry for entry in near if abs(entry[0] - angle) == abs(best[0] - angle)]
            if len(same) > 1:  # one on each side: either may answer
                load.pop()
                expected.pop()
                break
            known = [*(entry for entry in known if entry != best), best]
        else:
            known = [entry for entry in known if entry[:2] != (angle, context)]
            known = [*known, (angle, context, at + SEARCH_S + SMALL_S)][-capacity:]
    subject = stack(cache({"threshold": threshold, "ttl": ttl, "capacity": capacity}))
    out = run(subject, load)
    assert outcomes(out, len(load)) == expected
    state = subject.stages[0].state(at)
    assert state["in_flight"] == 0
    assert subject.num_calls == expected.count("miss") == counts(subject)["stored"]


inf_s = float("inf")


def test_it_takes_the_time_of_embedding_and_search_hit_or_miss() -> None:
    load = [(0.0, says(0, "30", payload="words", watched=True)), (9.0, says(1, "31", watched=True))]
    out = run(stack(cache({"tokens_per_s": 100})), load)
    assert passage_of(out, 0).waited_s == pytest.approx({"semantic_cache": SEARCH_S})
    assert end_of(out, 0).at == pytest.approx(SEARCH_S + SMALL_S)
    assert end_of(out, 1).at == pytest.approx(9.0 + SEARCH_S + 49 / 100)
    passage = passage_of(out, 1)
    assert (passage.source, passage.payload, passage.num_attempts) == ("semantic_cache", "words", 0)
    assert passage.notes == ["semantic_cache: hit at 1.000"]
    assert passage.saved_usd == {"semantic_cache": pytest.approx(SMALL_USD)}


def test_the_nearest_answers_not_the_first_that_is_near_enough() -> None:
    load = [(9.0 * n, says(n, text, payload=text)) for n, text in enumerate(["10", "40", "33"])]
    out = run(stack(cache({"threshold": 0.9})), load)
    assert passage_of(out, 2).payload == "40"


def test_other_words_before_or_another_model_are_another_question() -> None:
    load = [(0.0, says(0, "30", "one")), (9.0, says(1, "30", "two")), (18.0, says(2, "30", "one", model="large"))]
    assert outcomes(run(stack(cache({})), load), 3) == ["miss"] * 3


@pytest.mark.parametrize(("degrees", "outcome"), [(18.19, "hit"), (18.2, "miss")])
def test_the_threshold_is_a_cosine(degrees: float, outcome: str) -> None:
    """arccos .95 is 18.1949 degrees."""
    load = [(0.0, says(0, "30")), (9.0, says(1, str(30 + degrees)))]
    assert outcomes(run(stack(cache({})), load), 2) == ["miss", outcome]


def test_the_same_words_are_found_at_a_threshold_of_one() -> None:
    texts = ["How do I reset my password?", "how do I RESET my password?", "How do I reset the password?"]
    load = [(9.0 * n, says(n, text)) for n, text in enumerate(texts)]
    assert outcomes(run(stack(("semantic_cache", {"threshold": 1})), load), 3) == ["miss", "hit", "miss"]


def test_wrong_hits_are_counted_beside_hits() -> None:
    labels = ["one", "one", "two", None]
    load = [(9.0 * n, says(n, f"{30 + n}", intent=label)) for n, label in enumerate(labels)]
    subject = stack(cache({}))
    out = run(subject, load)
    assert [passage_of(out, n).wrong_hit for n in range(4)] == [None, False, True, None]
    state = subject.stages[0].state(99.0)
    assert (state["hit_rate"], state["wrong_hit_rate"]) == (3 / 4, 1 / 2)
    assert counts(subject) | {"hits": 3, "misses": 1, "wrong_hits": 1, "unlabelled_hits": 1} == counts(subject)


@pytest.mark.parametrize(
    "changes",
    [{"query": None}, {"query": Query("image", "")}, {"forced": Forced(ttft_s=1.0)}],
    ids=["no query", "no text", "forced"],
)
def test_what_must_not_or_cannot_be_embedded_passes_by(changes: dict[str, Any]) -> None:
    subject = stack(cache({}))
    out = run(subject, [(9.0 * n, says(n, "30", **changes)) for n in range(2)])
    assert outcomes(out, 2) == [None, None]
    assert counts(subject)["passed_by"] == subject.num_calls == 2


def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    for at in (0.005, 0.5):  # in the search, and in the model
        subject = stack(cache({}))
        subject.submit(says(0, "30"), 0.0)
        subject.advance(at)
        assert subject.cancel("r0", at)
        assert subject.idle
        state = subject.stages[0].state(at)
        assert (state["in_flight"], state["entries"]) == (0, 0)


# -- when no model answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "degrees", "answered"),
    [
        ({}, 5, True),  # expired
        ({}, 20, False),  # not near enough
        ({"stale_threshold": 0.9}, 20, True),
        ({"stale_threshold": 0.9}, 26, False),  # arccos .9 is 25.8 degrees
    ],
)
def test_an_expired_or_a_farther_answer_is_given_when_there_is_no_other(
    keys: dict[str, Any], degrees: int, answered: bool
) -> None:
    class Falling(Stage):
        def leave(self, flight: Flight, end: End, now: float) -> Leaving:
            return fallbacks[0].stale(flight, now) if isinstance(end, Refused) else None

    class Down:
        def enter(self, request: Request, now: float) -> Refusal | None:
            return Refusal(503, "unavailable", "no") if now > 50 else None

        def left(self, request: Request, end: End, now: float) -> None: ...

    fallbacks: list[Fallback] = []
    semantic = cache({"ttl": "10s", **keys}, fallbacks)
    subject = stack(semantic, Falling(), doors={"small": [Down()]})
    load = [(0.0, says(0, "30", intent="one")), (60.0, says(1, f"{30 + degrees}", intent="two"))]
    out = run(subject, load)
    assert isinstance(end_of(out, 1), Finished if answered else Refused)
    assert passage_of(out, 1).cache_outcome == ("stale" if answered else "miss")
    found = semantic.state(99.0)["counts"]
    assert isinstance(found, dict)
    assert (found["stale"], found["wrong_stale"], found["hits"]) == (int(answered), int(answered), 0)


# -- the deployment file ---------------------------------------------------------------------------------------------


def deployment(tmp_path: Path, keys: str) -> Path:
    path = tmp_path / "stack.yaml"
    path.write_text(f"models:\n  - {{name: m, profile: instant}}\nstack:\n  - semantic_cache:\n      {keys}\n")
    return path


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("stale_threshold: 0.97", "stale_threshold 0.97 must not lie above threshold 0.95"),
        ("threshold: 95", "threshold"),
        ("ttl: 60", "60 is not a duration"),
        ("ttl: 0s", "greater than 0"),
        ("capacity: 0", "capacity"),
        ("treshold: 0.9", "treshold"),
    ],
)
def test_a_broken_rule_is_named_with_its_line(tmp_path: Path, keys: str, words: str) -> None:
    with pytest.raises(DeploymentError, match=re.escape(words)) as caught:
        load_deployment(str(deployment(tmp_path, keys)))
    assert "stack.yaml:" in str(caught.value)


# -- both clocks, and the effect on questions of bank customers ----------------------------------------------------------


def in_their_own_words(num: int) -> list[tuple[float, Request]]:
    asks = ["reset my password", "track my parcel", "close the account", "change my address", "get a refund"]
    shapes = ["How do I {}?", "how do i {}", "How can I {}?", "Please tell me how to {}", "I want to {} now"]
    drawn = np.random.default_rng(3).integers(0, 25, num)
    return [
        (0.4 * n, says(n, shapes[draw % 5].format(asks[draw // 5]), intent=asks[draw // 5], watched=n % 2 > 0))
        for n, draw in enumerate(drawn)
    ]


def test_both_clocks_say_the_same() -> None:
    keys = {"threshold": 0.85, "ttl": "20s", "capacity": 8, "tokens_per_s": 100}
    virtual, real = stack(("semantic_cache", keys)), stack(("semantic_cache", keys), every_token=True)
    expected = ends(run(virtual, in_their_own_words(120)))
    told = driven(real, in_their_own_words(120), until=100.0)
    assert told == expected
    assert real.stages[0].state(100.0) == virtual.stages[0].state(100.0)
    assert counts(real)["hits"] > 20


def test_questions_in_other_words_are_answered_at_once_and_cost_nothing() -> None:
    """Hits by a full search in double precision; without the cache, or with the exact one, fewer or none."""
    load = [(3.0 * n, request) for n, (_, request) in enumerate(in_their_own_words(200))]
    texts = [request.query.text for _, request in load if request.query is not None]
    every = default_embedder().embed(texts).astype(float)
    stored: list[int] = []
    expected = []
    for n in range(200):
        hit = bool(stored) and float((every[stored] @ every[n]).max()) >= 0.85
        expected.append("hit" if hit else "miss")
        stored += [] if hit else [n]
    without, exact = stack(), stack(("exact_cache", {}))
    semantic = stack(("semantic_cache", STEADY | {"threshold": 0.85}))
    out = run(semantic, load)
    run(without, load)
    run(exact, load)
    assert outcomes(out, 200) == expected
    num_hits = expected.count("hit")
    assert num_hits > counts(exact)["hits"] > 0
    assert np.median([end_of(out, n).at - 3.0 * n for n in range(200)]) == pytest.approx(SEARCH_S)
    assert without.cost_usd - semantic.cost_usd == pytest.approx(num_hits * SMALL_USD)
