"""The user-context cache: whose answers it gives to whom, and when that is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Request
from mockllm.model import Forced
from mockllm.passage import NOBODY, Query, Tenant
from tests.stack.build import ask, end_of, passage_of, run, stack

ANN = Tenant(user="ann")


def says(number: int, text: str, tenant: Tenant = ANN, **changes: Any) -> Request:
    """Request number n: the last message of a conversation that has grown, so its digest is new."""
    query = Query(f"conversation at {number}", text, f"turns before {number}", changes.pop("parameters", "t=0.7"))
    return ask(number, "small", tenant=tenant, query=changes.pop("query", query), watched=False, **changes)


def outcomes(*requests: Request, gap_s: float = 10.0, **keys: Any) -> list[str | None]:
    """What became of requests that come one after the other."""
    subject = stack(("user_cache", keys))
    out = run(subject, [(gap_s * n, request) for n, request in enumerate(requests)])
    assert subject.stages[0].state(1e3)["in_flight"] == 0
    return [passage_of(out, n).cache_outcome for n in range(len(requests))]


@pytest.mark.parametrize(
    ("text", "other", "same"),
    [
        ("What is my limit?", "what  is my\nLIMIT", True),
        ("What is my limit?", "What is my limit…", True),
        ("Ｗｈａｔ is my limit", "What is my limit!", True),  # full-width letters
        ("What is my limit?", "What was my limit?", False),
        ("1.5", "15", False),
        ("Straße", "STRASSE", True),
    ],
)
def test_the_same_words_are_the_same_question(text: str, other: str, same: bool) -> None:
    assert outcomes(says(0, text), says(1, other)) == ["miss", "hit" if same else "miss"]


@pytest.mark.parametrize(
    "other",
    [
        says(1, "My limit?", Tenant(user="bob")),
        says(1, "My limit?", Tenant(user="ann", organization="elsewhere")),
        says(1, "My limit?", parameters="t=0.8"),
        says(1, "My limit?", max_tokens=7, parameters="t=0.7, 7 tokens"),
    ],
    ids=["user", "organization", "temperature", "limit"],
)
def test_nobody_gets_what_another_was_told_or_what_was_asked_otherwise(other: Request) -> None:
    assert outcomes(says(0, "My limit?"), other) == ["miss", "miss"]


@pytest.mark.parametrize(
    "other",
    [
        says(1, "My limit?", NOBODY),
        says(1, "?!"),
        says(1, "My limit?", query=None),
        says(1, "My limit?", forced=Forced(ttft_s=1.0)),
    ],
    ids=["no user", "no words", "no query", "forced"],
)
def test_what_has_no_key_passes_by(other: Request) -> None:
    assert outcomes(says(0, "My limit?"), other) == ["miss", None]


def test_it_forgets_after_a_short_time() -> None:
    requests = [says(n, "My limit?") for n in range(3)]
    assert outcomes(*requests, gap_s=200.0) == ["miss", "hit", "miss"]  # 300 s unless the file says otherwise
    assert outcomes(*requests, gap_s=200.0, ttl="10m") == ["miss", "hit", "hit"]


def test_a_message_that_leans_on_what_was_said_is_answered_wrongly() -> None:
    """The digest of the whole conversation would know better; the labels do."""
    first = Query("a", "And the second one?", "cards", "", intent="second card")
    other = Query("b", "And the second one?", "loans", "", intent="second loan")
    both = [(10.0 * n, says(n, "", query=query)) for n, query in enumerate([first, other])]
    subject = stack(("user_cache", {}))
    assert passage_of(run(subject, both), 1).wrong_hit is True
    assert subject.stages[0].state(99.0)["wrong_hit_rate"] == 1.0
    assert passage_of(run(stack(("exact_cache", {})), both), 1).cache_outcome == "miss"


@given(
    st.lists(
        st.tuples(st.integers(3, 200), st.sampled_from(["ann", "bob", None]), st.sampled_from(["Hi", "hi!", "ho"])),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=100, deadline=None)
def test_hits_and_misses_are_those_of_a_table_by_user_and_text(asks: list[tuple[int, str | None, str]]) -> None:
    """One after the other; `complete` is when the model's answer was there."""
    complete: dict[tuple[str, str], float] = {}
    expected: list[str | None] = []
    load, at = [], 0.0
    for number, (gap, user, text) in enumerate(asks):
        at += gap
        load.append((at, says(number, text, Tenant(user=user))))
        known = complete.get((user or "", text[:2].lower()))
        fresh = known is not None and at - known < 300
        expected.append(None if user is None else "hit" if fresh else "miss")
        if user is not None and not fresh:
            complete[user, text[:2].lower()] = at + 0.002 + 0.2 + 49 * 0.02
    out = run(stack(("user_cache", {"latency": {"median": "2ms"}})), load)
    assert [passage_of(out, n).cache_outcome for n in range(len(asks))] == expected


def test_users_who_ask_again_are_answered_at_once_where_the_exact_cache_cannot() -> None:
    """The effect: every third message of a growing conversation is a repetition."""
    load = [(5.0 * n, says(n, f"message {n - 1 if n % 3 == 2 else n}")) for n in range(90)]
    exact, user = stack(("exact_cache", {})), stack(("user_cache", {"latency": {"median": "2ms"}}))
    out = run(exact, load)
    assert all(end_of(out, n).at - 5.0 * n > 1.0 for n in range(90))
    out = run(user, load)
    assert [round(end_of(out, n).at - 5.0 * n, 3) for n in range(6)] == [1.182, 1.182, 0.002] * 2
    assert user.num_calls == 60
    assert exact.cost_usd - user.cost_usd == pytest.approx(30 * (100 * 0.1 + 50 * 0.4) / 1e6)
