"""The static cache: what is asked most becomes static, at each refresh and not before."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mockllm import Finished, Refused, Request
from mockllm.content.reply import JsonTokens, Part, Reply
from mockllm.model import Forced
from mockllm.passage import Query
from mockllm.stack.parts import Fallback
from mockllm.stack.stage import End, Flight, Leaving, Refusal, Stage
from mockllm.stack.static_cache import StaticCacheSettings
from mockllm.stack.timeline import Timeline
from tests.stack.build import ask, end_of, ends, engine, parts, passage_of, run, stack, stage
from tests.stack.clocks import driven

HIT_S = 0.015
SMALL_S = 0.2 + 49 * 0.02
SMALL_USD = (100 * 0.1 + 50 * 0.4) / 1e6
KEYS: dict[str, Any] = {"period": "100s", "latency": {"median": "15ms"}}
HOURS = {"ask": "What are your opening hours?", "tokens": 12}


def asked(number: int, question: object, **changes: Any) -> Request:
    query = Query(f"{question}", text=f"question {question}", intent=f"intent {question}")
    values: dict[str, Any] = {"model": "small", "query": query, "watched": False} | changes
    return ask(number, **values)


def says(number: int, text: str, **changes: Any) -> Request:
    return asked(
        number, text, query=Query(f"digest {number}", text, free_text=changes.pop("free_text", True)), **changes
    )


def outcomes(load: list[tuple[float, Request]], **keys: Any) -> list[str | None]:
    out = run(stack(("static_cache", KEYS | keys)), load)
    return [passage_of(out, n).cache_outcome for n in range(len(load))]


# -- laws ------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 5)), min_size=1, max_size=60),
    st.integers(1, 3),
    st.sampled_from([0.0, 1234.0]),
)
@settings(max_examples=150, deadline=None)
def test_static_is_what_was_asked_most_in_the_period_before(
    asks: list[tuple[int, int]], top: int, first_at: float
) -> None:
    """Counted by hand, period by period of 100 s from the first request on; every answer ends in the period of its question."""
    load, offset, expected = [], 0, []
    in_period: dict[int, Counter[int]] = {}
    for number, (gap, question) in enumerate(asks):
        period = offset // 100
        most = dict(in_period.get(period - 1, Counter()).most_common(top))  # ties: the one that was asked first
        expected.append("hit" if question in most else "miss")
        in_period.setdefault(period, Counter())[question] += 1
        load.append((first_at + offset, asked(number, question)))
        offset += 4 * gap
    assert outcomes(load, top=top) == expected


def test_a_refresh_comes_at_its_instant() -> None:
    load = [(7.0, asked(0, "a")), (106.9, asked(1, "a")), (107.0, asked(2, "a")), (207.0, asked(3, "b"))]
    assert outcomes(load) == ["miss", "miss", "hit", "miss"]


def test_a_question_that_was_not_answered_cannot_become_static() -> None:
    late = [(99.5, asked(0, "a")), (100.5, asked(1, "a")), (103.0, asked(2, "a")), (203.0, asked(3, "a"))]
    load = [(0.0, asked(4, "b")), *late]  # a is asked in the first period and answered in the second
    subject = stack(("static_cache", KEYS))
    out = run(subject, load)
    assert [passage_of(out, n).cache_outcome for n in range(4)] == ["miss", "miss", "miss", "hit"]


def test_after_a_period_in_which_nobody_asks_nothing_is_static_and_a_new_run_has_no_past() -> None:
    assert outcomes([(0.0, asked(0, "a")), (250.0, asked(1, "a")), (350.0, asked(2, "a"))]) == ["miss", "miss", "hit"]
    subject = stack(("static_cache", KEYS))
    out = run(subject, [(0.0, asked(0, "a")), (120.0, asked(1, "a"))])
    subject.timeline.restart(130.0)
    out += run(subject, [(131.0, asked(2, "a")), (231.0, asked(3, "a"))])
    assert [passage_of(out, n).cache_outcome for n in range(4)] == ["miss", "hit", "miss", "hit"]


def test_what_is_counted_is_bounded_and_what_is_asked_most_is_remembered() -> None:
    """25,000 questions that come once, and three that come again and again among them."""
    small = engine()
    lent = parts(small, "static_cache", Timeline(), [])
    cache = stage("static_cache", KEYS | {"top": 3, "period": "1d"}, lent)
    subject = stack(cache, behind=small)
    subject.timeline.begin(0.0)
    lent.timeline.begin(0.0)
    most = 0
    for number in range(25_000):
        question = f"often {number % 3}" if number % 100 < 3 else f"once {number}"
        subject.submit(asked(number, question), float(number))
        subject.advance(number + 0.9)
        if number % 1000 == 0:
            tracked = cache.state(float(number))["tracked"]
            assert isinstance(tracked, int)
            most = max(most, tracked)
    subject.advance(86_300.0)
    assert 15_000 <= most <= 20_000
    for number in range(3):
        subject.submit(asked(number, f"often {number}"), 86_400.0)
    out = subject.advance(86_500.0)
    assert [passage_of(out, n).cache_outcome for n in range(3)] == ["hit"] * 3


@pytest.mark.parametrize("changes", [{"query": None}, {"forced": Forced(ttft_s=1.0)}], ids=["no query", "forced"])
def test_what_must_not_be_looked_at_passes_by(changes: dict[str, Any]) -> None:
    load = [(40.0 * n, asked(n, "a", **changes)) for n in range(4)]
    assert outcomes(load) == [None] * 4


def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    subject = stack(("static_cache", KEYS))
    subject.submit(asked(0, "a"), 0.0)
    subject.advance(0.5)
    assert subject.cancel("r0", 0.5)
    assert subject.idle
    assert subject.stages[0].state(0.5)["in_flight"] == 0
    out = run(subject, [(110.0, asked(1, "a"))])
    assert passage_of(out, 1).cache_outcome == "miss"


# -- fixed questions -------------------------------------------------------------------------------------------------


def test_fixed_questions_are_answered_from_the_start() -> None:
    load = [(0.0, says(0, "what are your  OPENING hours")), (5.0, says(1, "What are your closing hours?"))]
    out = run(stack(("static_cache", KEYS | {"questions": [HOURS]})), load)
    end, passage = end_of(out, 0), passage_of(out, 0)
    assert isinstance(end, Finished)
    assert end.at == pytest.approx(HIT_S)
    assert (end.num_output_tokens, end.reason) == (12, "stop")
    assert passage.saved_usd == {"static_cache": pytest.approx((100 * 0.1 + 12 * 0.4) / 1e6)}
    assert passage_of(out, 1).cache_outcome == "miss"


def test_a_fixed_answer_keeps_to_the_clients_limit_and_to_prose() -> None:
    load = [(0.0, says(0, HOURS["ask"], max_tokens=5)), (5.0, says(1, HOURS["ask"], free_text=False))]  # type: ignore[arg-type]
    out = run(stack(("static_cache", KEYS | {"questions": [HOURS]})), load)
    end = end_of(out, 0)
    assert isinstance(end, Finished)
    assert (end.num_output_tokens, end.reason) == (5, "length")
    assert passage_of(out, 1).cache_outcome == "miss"


def test_everybody_hears_the_same_words_at_the_fixed_length() -> None:
    """The words are those that the first to ask would have heard; a model that thinks first does not do so here."""
    words = JsonTokens([f" word{n}" for n in range(40)])
    reply = Reply((Part("reasoning", words, 30), Part("text", words, 3)))
    other = Reply((Part("text", JsonTokens([" other"] * 40), 40),))
    load = [(9.0 * n, says(n, "What are your opening hours?", payload=each)) for n, each in enumerate([reply, other])]
    out = run(stack(("static_cache", KEYS | {"questions": [HOURS]})), load)
    for n in range(2):
        payload = passage_of(out, n).payload
        assert isinstance(payload, Reply)
        assert payload.num_tokens == 12
        assert "".join(piece.text for piece in payload.slices(0, 12)) == "".join(f" word{n}" for n in range(12))


@pytest.mark.parametrize("second", ["what are your opening hours", "?"])
def test_a_fixed_question_stands_once_and_has_words(second: str) -> None:
    with pytest.raises(ValidationError, match="must have words, and stand once"):
        StaticCacheSettings.model_validate({"questions": [HOURS, {"ask": second, "tokens": 9}]})


def test_when_no_model_answers_whatever_is_known_is_given() -> None:
    class Falling(Stage):
        def __init__(self, fallbacks: list[Fallback]) -> None:
            self.fallbacks = fallbacks

        def leave(self, flight: Flight, end: End, now: float) -> Leaving:
            return self.fallbacks[0].stale(flight, now) if isinstance(end, Refused) else None

    class Down:
        def enter(self, request: Request, now: float) -> Refusal | None:
            return Refusal(503, "unavailable", "no") if now > 50 else None

        def left(self, request: Request, end: End, now: float) -> None: ...

    fallbacks: list[Fallback] = []
    behind = engine()
    cache = stage("static_cache", KEYS, parts(behind, "static_cache", Timeline(), fallbacks))
    subject = stack(cache, Falling(fallbacks), behind=behind, doors={"small": [Down()]})
    out = run(subject, [(0.0, asked(0, "a", payload="words")), (60.0, asked(1, "a")), (70.0, asked(2, "b"))])
    assert (passage_of(out, 1).cache_outcome, passage_of(out, 1).payload) == ("stale", "words")
    assert isinstance(end_of(out, 2), Refused)


# -- both clocks, and the effect -------------------------------------------------------------------------------------


def popular() -> list[tuple[float, Request]]:
    """Three periods of Zipf traffic, one question every 0.25 s."""
    weights = np.arange(1, 301.0) ** -1.1
    draws = np.random.default_rng(7).choice(300, size=1200, p=weights / weights.sum())
    return [(0.25 * n, asked(n, int(question))) for n, question in enumerate(draws)]


def test_both_clocks_say_the_same() -> None:
    keys = KEYS | {"top": 5, "tokens_per_s": 100, "latency": {"median": "15ms", "sigma": 0.5}}
    virtual, real = stack(("static_cache", keys)), stack(("static_cache", keys), every_token=True)
    expected = ends(run(virtual, popular()))
    told = driven(real, popular(), until=1e3)
    assert told == expected
    assert real.stages[0].state(1e3) == virtual.stages[0].state(1e3)


def test_from_the_second_day_on_popular_questions_cost_nothing() -> None:
    """The first period has no hits; in the next two the hits are those on the 20 favourites of the period before."""
    load = popular()
    asks = [request.query.digest for _, request in load if request.query is not None]
    days = [asks[:400], asks[400:800], asks[800:]]
    expected = [0]
    for before, day in pairwise(days):
        favourites = dict(Counter(before).most_common(20))
        expected.append(sum(question in favourites for question in day))
    assert min(expected[1:]) > 100
    without, subject = stack(), stack(("static_cache", KEYS | {"top": 20}))
    run(without, load)
    out = ends(run(subject, load))
    took_s = np.array([out[f"r{n}"].at - at for n, (at, _) in enumerate(load)])
    assert [int((day < 0.1).sum()) for day in np.split(took_s, 3)] == expected
    assert sorted({round(float(took), 6) for took in took_s}) == [HIT_S, SMALL_S]
    assert without.cost_usd - subject.cost_usd == pytest.approx(sum(expected) * SMALL_USD)


def test_a_look_at_the_state_refreshes_nothing() -> None:
    """Who looks may be ahead of requests that came earlier and are dealt with later. What it is shown is what a refresh
    at each multiple of the period would have done by then."""
    subject = stack(("static_cache", KEYS))
    run(subject, [(0.0, asked(0, "q"))])
    [cache] = subject.stages
    for at, num_refreshes, num_static in ((99.0, 0, 0), (150.0, 1, 1), (350.0, 3, 0)):
        shown = cache.state(at)
        counts = shown["counts"]
        assert isinstance(counts, dict)
        assert (counts["refreshes"], shown["static"]) == (num_refreshes, num_static)
    out = run(subject, [(50.0, asked(1, "q")), (110.0, asked(2, "q"))])
    assert [passage_of(out, n).cache_outcome for n in (1, 2)] == ["miss", "hit"]
