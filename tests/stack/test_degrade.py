"""What a request gets instead of a 429: the cheaper model, an old answer, or its turn later."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Emission, Finished, Refused, Request
from mockllm.passage import Query, Tenant
from mockllm.stack.stack import Stack
from tests.stack.build import ask, end_of, ends, passage_of, run, stack

LARGE_S, SMALL_S = 1.0 + 49 * 0.1, 0.2 + 49 * 0.02  # an answer of 50 tokens
RATE_S, CAPACITY = 10.0, 600.0  # 600 tokens a minute


def limits(*instead: dict[str, Any], **keys: Any) -> tuple[str, dict[str, Any]]:
    """Limits for each organization, and what is tried when they say no."""
    return "rate_limits", {"organization": keys or {"tokens": "600/min"}, "instead": list(instead)}


def sized(number: int, num_tokens: int, model: str = "small", **changes: Any) -> Request:
    """A request that takes so many tokens, one of them its answer."""
    lengths = {"num_prompt_tokens": num_tokens - 1, "num_answer_tokens": 1, "max_tokens": 1, "watched": False}
    return ask(number, model, **{**lengths, **changes})


def outcomes(out: Sequence[Emission], num: int) -> list[str]:
    """Who answered each request, or its status."""
    found = [(ends(out)[f"r{n}"], passage_of(out, n)) for n in range(num)]
    return [str(end.status) if isinstance(end, Refused) else f"{met.model} {met.source}" for end, met in found]


def waits(out: Sequence[Emission], num: int) -> list[float]:
    return [passage_of(out, n).waited_s.get("rate_limits", 0.0) for n in range(num)]


def counts(subject: Stack) -> Any:
    return subject.stages[-1].state(1e6)["counts"]


# -- another model ---------------------------------------------------------------------------------------------------


def test_instead_of_429_the_cheaper_model_answers_faster_and_for_less() -> None:
    load = [(n * 1.0, ask(n, watched=False)) for n in range(10)]  # 150 tokens each, four fit
    bare = run(stack(limits()), load)
    assert outcomes(bare, 10) == ["large model"] * 4 + ["429"] * 6
    subject = stack(limits({"model": "small"}))
    out = run(subject, load)
    assert outcomes(out, 10) == ["large model"] * 4 + ["small model"] * 6
    took = [end_of(out, n).at - load[n][0] for n in range(10)]
    assert took == pytest.approx([LARGE_S] * 4 + [SMALL_S] * 6)
    cost = [passage_of(out, n).cost_usd for n in range(10)]
    assert cost == pytest.approx([(100 * 2.0 + 50 * 8.0) / 1e6] * 4 + [(100 * 0.1 + 50 * 0.4) / 1e6] * 6)
    assert passage_of(out, 9).notes == ["rate_limits: degraded to small"]
    assert counts(subject) == {"admitted": 4, "degraded": 6, "stale": 0, "queued": 0, "refused": 0}


def test_who_asks_for_the_cheaper_model_anyhow_is_not_let_past_the_limit() -> None:
    out = run(stack(limits({"model": "small"}, requests="1/min")), [(0.0, sized(n, 10)) for n in range(2)])
    assert outcomes(out, 2) == ["small model", "429"]


def test_a_request_that_never_fits_can_go_to_another_model_but_not_into_a_line() -> None:
    out = run(stack(limits({"queue": "9m"})), [(0.0, sized(0, 601, "large"))])
    assert outcomes(out, 1) == ["429"]
    out = run(stack(limits({"queue": "9m"}, {"model": "small"})), [(0.0, sized(0, 601, "large"))])
    assert outcomes(out, 1) == ["small model"]
    assert waits(out, 1) == [0.0]


# -- an old answer ---------------------------------------------------------------------------------------------------


def test_instead_of_429_an_answer_that_has_expired() -> None:
    cache = ("exact_cache", {"ttl": "10s", "latency": {"median": "2ms", "sigma": 0.0}})
    questions = ["a", "b", "a", "c"]
    load = [(20.0 * n, ask(n, watched=False, query=Query(text, text=text))) for n, text in enumerate(questions)]
    keys = {"requests": "2/h", "burst": "1h"}
    assert outcomes(run(stack(cache, limits(**keys)), load), 4) == ["large model"] * 2 + ["429"] * 2
    subject = stack(cache, limits({"stale": True}, **keys))
    out = run(subject, load)
    assert outcomes(out, 4) == ["large model", "large model", "large exact_cache", "429"]
    assert passage_of(out, 2).cache_outcome == "stale"
    assert end_of(out, 2).at - 40.0 < 0.01
    assert passage_of(out, 2).notes[-1] == "rate_limits: degraded to a stale answer"
    assert counts(subject)["stale"] == 1


# -- later -----------------------------------------------------------------------------------------------------------


def test_instead_of_429_a_wait_until_there_is_room() -> None:
    """Of 100 tokens each six fit at once; then one every ten seconds."""
    load = [(0.001 * n, sized(n, 100)) for n in range(12)]
    subject = stack(limits({"queue": "31s"}))
    out = run(subject, load)
    assert outcomes(out, 12) == ["small model"] * 9 + ["429"] * 3
    assert waits(out, 9) == pytest.approx([0.0] * 6 + [10.0, 20.0, 30.0], abs=0.02)
    refused = end_of(out, 9)
    assert refused.at - load[9][0] == pytest.approx(31.0)
    assert isinstance(refused, Refused)
    assert refused.retry_after_s == pytest.approx(9.0, abs=0.11)
    assert passage_of(out, 9).notes == [
        "rate_limits: queued for organization",
        "rate_limits: refused by organization tokens",
    ]
    assert counts(subject) == {"admitted": 9, "degraded": 0, "stale": 0, "queued": 6, "refused": 3}


def test_who_has_waited_long_enough_gets_what_is_next_in_the_list() -> None:
    out = run(stack(limits({"queue": "5s"}, {"model": "small"})), [(0.0, sized(n, 500, "large")) for n in range(2)])
    assert outcomes(out, 2) == ["large model", "small model"]
    assert waits(out, 2) == [0.0, 5.0]


def test_the_list_is_tried_in_its_order() -> None:
    out = run(stack(limits({"model": "small"}, {"queue": "5m"})), [(0.0, sized(n, 500, "large")) for n in range(3)])
    assert outcomes(out, 3) == ["large model", "small model", "small model"]


@given(
    st.lists(st.tuples(st.one_of(st.just(0.0), st.floats(0, 40)), st.integers(2, 600)), min_size=1, max_size=40),
)
@settings(max_examples=150, deadline=None)
def test_first_come_first_served(load: list[tuple[float, int]]) -> None:
    """Against the formula of a line before one bucket: each starts when it is here, the one before it has gone in, and
    the bucket holds what it needs."""
    instants = list(accumulate(pause for pause, _ in load))
    requests = [(at, sized(n, size)) for n, (at, (_, size)) in enumerate(zip(instants, load, strict=True))]
    out = run(stack(limits({"queue": "100h"})), requests)
    level, before, expected = CAPACITY, 0.0, []
    for at, (_, size) in zip(instants, load, strict=True):
        here = max(at, before)
        level = min(CAPACITY, level + (here - before) * RATE_S)
        before = here + max(0.0, (size - level) / RATE_S)
        level += (before - here) * RATE_S - size
        expected.append(before - at)
    assert waits(out, len(load)) == pytest.approx(expected, abs=1e-3)


def test_small_ones_do_not_starve_a_large_one() -> None:
    small = [(0.5 * n, sized(n, 10)) for n in range(1, 120)]
    out = run(stack(limits({"queue": "10m"})), [(0.0, sized(0, 600)), (0.1, sized(999, 600)), *small])
    assert passage_of(out, 999).waited_s["rate_limits"] == pytest.approx(59.9)
    after = [end_of(out, n).at for n in range(1, 120)]
    assert min(after) > end_of(out, 999).at
    assert all(earlier < later for earlier, later in pairwise(after))


def test_who_waits_for_a_limit_of_its_own_does_not_hold_up_the_others() -> None:
    keys = {
        "organization": {"tokens": "6000/min"},
        "user": {"requests": "1/min"},
        "instead": [{"queue": "2m"}],
    }
    users = ["a", "a", "b", "a", "c"]
    load = [(0.1 * n, sized(n, 10, tenant=Tenant(organization="acme", user=user))) for n, user in enumerate(users)]
    out = run(stack(("rate_limits", keys)), load)
    assert waits(out, 5) == pytest.approx([0.0, 59.9, 0.0, 119.7, 0.0])


def test_a_place_that_becomes_free_goes_to_the_first_in_the_line() -> None:
    load = [(0.01 * n, sized(n, 10)) for n in range(4)]  # each answer is one token, after 0.2 s
    out = run(stack(limits({"queue": "2m"}, concurrency=1)), load)
    assert [end_of(out, n).at for n in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_what_is_given_back_lets_the_next_one_in_at_once() -> None:
    load = [(0.0, sized(0, 100, max_tokens=300)), (0.1, sized(1, 100, max_tokens=300))]
    out = run(stack(limits({"queue": "2m"})), load)
    assert waits(out, 2) == pytest.approx([0.0, 0.1])  # until the first is over, and gives 299 back


def test_a_client_that_goes_away_leaves_its_place_to_the_next() -> None:
    subject = stack(limits({"queue": "5m"}))
    for number, size in enumerate([600, 600, 100]):
        subject.submit(sized(number, size), 0.0)
    subject.advance(5.0)
    assert subject.cancel("r1", 5.0)
    out = subject.advance(100.0)
    assert passage_of(out, 2).waited_s == {"rate_limits": pytest.approx(10.0)}


def test_whoever_waits_for_two_limits_keeps_its_turn_at_both() -> None:
    """r2 waits for its user until 60 s. By then r3 has taken what the organization had; r4 comes later, and fits, but not
    before r2."""
    keys = {
        "organization": {"tokens": "600/min"},
        "user": {"requests": "1/min"},
        "instead": [{"queue": "5m"}],
    }
    plan = [(0.0, "a", 300), (0.0, "b", 300), (1.0, "a", 300), (55.0, "c", 500), (61.0, "d", 100)]
    load = [
        (at, sized(n, size, tenant=Tenant(organization="acme", user=user))) for n, (at, user, size) in enumerate(plan)
    ]
    out = run(stack(("rate_limits", keys)), load)
    began = [at + wait for (at, _), wait in zip(load, waits(out, 5), strict=True)]
    assert began == pytest.approx([0.0, 0.0, 80.0, 55.0, 90.0])


@given(
    st.lists(
        st.tuples(st.floats(0, 8), st.integers(2, 400), st.sampled_from("abc"), st.sampled_from(["x", "y"])),
        min_size=1,
        max_size=40,
    )
)
@settings(max_examples=100, deadline=None)
def test_through_several_lines_everybody_comes_in_order_and_within_every_limit(
    load: list[tuple[float, int, str, str]],
) -> None:
    """Nobody is forgotten, no limit is exceeded, and equals do not overtake each other."""
    keys = {
        "organization": {"tokens": "600/min"},
        "user": {"requests": "6/min"},
        "feature": {"concurrency": 2},
        "instead": [{"queue": "100h"}],
    }
    instants = list(accumulate(pause for pause, *_ in load))
    requests = [
        (at, sized(n, size, tenant=Tenant(organization="acme", user=user, feature=feature)))
        for n, (at, (_, size, user, feature)) in enumerate(zip(instants, load, strict=True))
    ]
    subject = stack(("rate_limits", keys))
    out = run(subject, requests)
    assert all(isinstance(end, Finished) for end in ends(out).values())
    began = [at + wait for at, wait in zip(instants, waits(out, len(load)), strict=True)]
    for user in "abc":
        times = sorted(begin for n, begin in enumerate(began) if load[n][2] == user)
        assert all(later - earlier >= 10 - 1e-3 for earlier, later in zip(times, times[6:], strict=False))
    totals = sorted((begin, load[n][1]) for n, begin in enumerate(began))
    for first in range(len(totals)):
        for last in range(first, len(totals)):
            span = totals[last][0] - totals[first][0]
            assert sum(size for _, size in totals[first : last + 1]) <= CAPACITY + RATE_S * span + 0.1
    same = [
        (began[n], began[m]) for n in range(len(load)) for m in range(n + 1, len(load)) if load[n][2:] == load[m][2:]
    ]
    assert all(earlier <= later for earlier, later in same), "of one user and feature in the order of arrival"
