"""Hedging: the tail of first tokens gets shorter, for a cost that the budget bounds, and nobody gets two answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Emission, Finished, Tokens
from mockllm.engine.engine import Engine
from mockllm.engine.hosted import HostedLatency, HostedReplica
from mockllm.model import Began, chunks_of
from mockllm.passage import Passage
from mockllm.stack.hedging import RecentQuantile
from mockllm.stack.stack import Stack
from mockllm.stack.stage import Door
from mockllm.stack.timeline import Timeline
from tests.stack.build import STREAMS, ask, end_of, ends, engine, known, parts, passage_of, run, stack, stage
from tests.stack.clocks import assert_both_clocks_agree, run_with_cancels
from tests.stack.doors import Outage, Slowness


def tailed(*, every_token: bool = False) -> Engine:
    """`large`: the first token after 0.5 s, but one call in ten waits about 10 s more; then 50 tokens a second."""
    slow = HostedLatency(0.5, 0.0, 0.0, 0.0, 0.0, 0.1, 10.0, 0.02, 0.0, 1.0, 0.0, 0.0, 0.0)
    laws = {"large": slow, "small": known(0.2, 0.02)}
    return engine({name: HostedReplica(law, STREAMS, every_token=every_token) for name, law in laws.items()})


def hedged(
    *, every_token: bool = False, behind: Engine | None = None, doors: Mapping[str, Sequence[Door]] = {}, **keys: Any
) -> Stack:
    return stack(("hedge", keys), behind=behind or tailed(every_token=every_token), doors=doors)


def counts(subject: Stack) -> dict[str, int]:
    got = subject.stages[0].state(0.0)["counts"]
    assert isinstance(got, dict)
    return got


def firsts_s(out: Sequence[Emission], load: Sequence[tuple[float, Any]]) -> np.ndarray[Any, Any]:
    """Waits for first tokens, as the clients see them."""
    at = {each.request_id: next(chunks_of(each)).at for each in reversed(out) if isinstance(each, Tokens)}
    return np.array([at[request.request_id] - submitted_at for submitted_at, request in load])


def passages(out: Sequence[Emission]) -> list[Passage]:
    """What the requests met, in the order of their numbers."""
    found = ends(out)
    return [found[f"r{number}"].passage for number in range(len(found))]  # type: ignore[union-attr,misc]


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("every_token", [True, False])
def test_the_second_call_comes_after_the_delay_and_the_first_to_begin_answers(every_token: bool, watched: bool) -> None:
    late = {"large": [Slowness(9.0, (0.0, 1.0))]}
    subject = hedged(
        behind=engine(every_token=every_token), doors=late, delay="700ms", budget=1.0, every_token=every_token
    )
    out = run(subject, [(0.5, ask(0, watched=watched)), (5.0, ask(1, watched=watched))])
    first, second = end_of(out, 0), passage_of(out, 1)
    assert isinstance(first, Finished)
    assert first.at == pytest.approx(0.5 + 0.7 + 1.0 + 49 * 0.1)
    assert passage_of(out, 0).notes == [
        "hedge: a second call to large after 0.700 s",
        "hedge: the second call began first",
    ]
    assert second.notes == ["hedge: a second call to large after 0.700 s", "hedge: the first call began first"]
    assert (counts(subject)["hedged"], counts(subject)["won"], counts(subject)["lost"]) == (2, 1, 1)
    # The first call of r0 never got in; of r1 both did, and each read the prompt.
    assert passage_of(out, 0).cost_usd == pytest.approx((100 * 2.0 + 50 * 8.0) / 1e6)
    assert second.cost_usd == pytest.approx((2 * 100 * 2.0 + 50 * 8.0) / 1e6)
    assert subject.engine.idle


def test_an_answer_in_time_is_not_hedged() -> None:
    subject = hedged(behind=engine(), delay="1001ms", budget=1.0)
    out = run(subject, [(0.0, ask(0))])
    assert (passage_of(out, 0).num_attempts, passage_of(out, 0).notes) == (1, [])


def test_the_second_call_may_go_to_another_model() -> None:
    subject = hedged(behind=engine(), delay="300ms", budget=1.0, to="small")
    out = run(subject, [(0.0, ask(0)), (10.0, ask(1, "small"))])
    assert passage_of(out, 0).model == "small"
    assert end_of(out, 0).at == pytest.approx(0.3 + 0.2 + 49 * 0.02)
    assert passage_of(out, 1).num_attempts == 1


def test_one_call_that_fails_leaves_the_answer_to_the_other() -> None:
    for down, slow in (("large", "small"), ("small", "large")):
        doors: dict[str, Sequence[Door]] = {down: [Outage((0.0, 9.0))], slow: []}
        out = run(hedged(behind=engine(), doors=doors, delay="300ms", budget=1.0, to="small"), [(0.0, ask(0))])
        # A refusal before the delay is the client's answer: hedging is no retry.
        assert isinstance(end_of(out, 0), Finished) == (down == "small")


LOAD = [(number * 0.5, ask(number, num_answer_tokens=10, watched=number % 2 == 0)) for number in range(3000)]


def test_the_tail_gets_shorter_for_the_stated_cost() -> None:
    """One call in ten is slow by an exponential time of 10 s: alone, p99 is 0.5 + 10 ln(0.1 / 0.01) = 23.5 s. With a second
    call after 1 s, both must be slow: 0.1 * exp(-(t - 0.5) / 10) * 0.1 * exp(-(t - 1.5) / 10) = 0.01 at t = 1.5 s."""
    alone = stack(behind=tailed())
    without = firsts_s(run(alone, LOAD), LOAD)
    subject = hedged(delay="1s", budget=0.2)
    out = run(subject, LOAD)
    with_it = firsts_s(out, LOAD)
    assert np.quantile(without, 0.99) == pytest.approx(0.5 + 10 * np.log(10), rel=0.25)
    assert np.quantile(with_it, 0.99) < 4.0
    assert np.quantile(with_it, 0.5) == pytest.approx(0.5)
    expected_share = 0.1 * np.exp(-0.5 / 10)  # slow, and more than 0.5 s beyond its 0.5 s
    share = counts(subject)["hedged"] / len(LOAD)
    assert share == pytest.approx(expected_share, abs=4 * np.sqrt(0.1 / len(LOAD)))
    # Every hedge has one prompt read in vain; an answer costs what it costs.
    assert subject.cost_usd - alone.cost_usd == pytest.approx(counts(subject)["hedged"] * 100 * 2.0 / 1e6)
    assert subject.cost_usd == pytest.approx(sum(passage.cost_usd or 0.0 for passage in passages(out)))


@pytest.mark.parametrize("budget", [0.02, 0.05])
def test_the_budget_bounds_hedges_at_every_instant(budget: float) -> None:
    subject = hedged(behind=engine(), delay="300ms", budget=budget)  # everything is slower than that
    at = np.cumsum(STREAMS.generator("arrivals", "hedge").exponential(0.2, 2000))
    out = run(subject, [(instant, ask(number)) for number, instant in enumerate(at.tolist())])
    hedges_at = at[[passage.num_attempts == 2 for passage in passages(out)]] + 0.3
    num_arrived = np.searchsorted(at, hedges_at, side="right")
    assert (np.arange(1, len(hedges_at) + 1) <= budget * num_arrived + 1e-6).all()
    assert counts(subject)["hedged"] == pytest.approx(budget * 2000, abs=1)
    assert counts(subject)["over_budget"] == 2000 - counts(subject)["hedged"]


def test_the_delay_follows_the_quantile_of_recent_first_tokens() -> None:
    subject = hedged(behind=engine(), quantile=0.9, budget=1.0, doors={"large": [Slowness(2.0, (50.0, 1e9))]})
    load = [(number * 1.0, ask(number, num_answer_tokens=1)) for number in range(2200)]
    out = run(subject, load)
    hedged_ones = [number for number, passage in enumerate(passages(out)) if passage.num_attempts == 2]
    # From second 50 on everything takes 3 s: hedged after 1 s, until those are above a tenth of what was seen.
    assert hedged_ones[0] == 50
    assert 4 <= len(hedged_ones) < 20
    assert subject.stages[0].state(0.0)["quantile_s"] == {"large": pytest.approx(3.0)}


def test_nothing_is_hedged_before_the_quantile_is_known() -> None:
    subject = hedged(behind=tailed(), quantile=0.95, budget=1.0)
    run(subject, [(0.0, ask(number)) for number in range(300)])  # nobody has seen a first token yet
    assert counts(subject)["hedged"] == 0


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=1500),
    st.sampled_from([0.5, 0.55, 0.9, 0.95, 0.99]),
)
@settings(max_examples=100, deadline=None)
def test_the_quantile_is_that_of_the_last_thousand(values: list[float], share: float) -> None:
    subject = RecentQuantile(share)
    for value in values:
        subject.add(value)
    recent = values[-1000:]
    if len(recent) < ceil(round(1 / (1 - share), 9)):
        assert subject.value() is None
    else:
        assert subject.value() == np.quantile(recent, share, method="inverted_cdf")


def test_nobody_gets_two_answers_and_losers_are_cancelled() -> None:
    subject = hedged(delay="400ms", budget=1.0)  # before any first token: every request is hedged
    out = run(subject, LOAD[:500])
    firsts = Counter(each.request_id for each in out if isinstance(each, Began))
    answers = Counter(each.request_id for each in out if isinstance(each, Finished))
    assert set(answers.values()) == {1}
    assert set(firsts.values()) <= {1}
    assert len(answers) == 500
    assert sum(each.num for each in out if isinstance(each, Tokens)) == 500 * 10
    inside = subject.engine.counts
    assert (inside.num_submitted, inside.num_finished, inside.num_cancelled) == (1000, 500, 500)


def everybody(every_token: bool = False) -> Stack:
    return hedged(every_token=every_token, quantile=0.8, budget=0.5)


def test_both_clocks_agree() -> None:
    virtual = assert_both_clocks_agree(everybody, LOAD[:300])
    assert counts(virtual)["won"] > 5


@given(st.lists(st.tuples(st.integers(0, 59), st.floats(0, 12)), max_size=30))
@settings(max_examples=60, deadline=None)
def test_clients_may_go_away_at_any_moment(cancels: list[tuple[int, float]]) -> None:
    subject = hedged(delay="600ms", budget=1.0)
    run_with_cancels(subject, LOAD[:60], cancels)


@pytest.mark.parametrize("keys", [{}, {"delay": "1s", "quantile": 0.9}, {"quantile": 1.0}, {"delay": "1"}])
def test_it_needs_one_rule_for_when(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not both|less than 1|not a duration"):
        stage("hedge", keys, parts(engine(), "hedge", Timeline(), []))


def test_it_says_what_it_does() -> None:
    assert hedged(quantile=0.95, models=["large"], to="small").stages[0].describe() == (
        "a second call for large to small after p95 of the recent first tokens, for 10% of requests at most"
    )
