"""Which replica takes a request: the rules against brute force, and what they do to latency and caches."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Finished, Request
from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.kv_cache import KvCache
from mockllm.engine.latency import LinearStepTime
from mockllm.passage import Tenant
from mockllm.stack.balancing import (
    BALANCERS,
    BalanceRule,
    LeastConnections,
    LeastKv,
    LeastTokens,
    PrefixAffinity,
    RoundRobin,
    Sticky,
)
from mockllm.stack.fleet import Member
from mockllm.streams import Streams
from tests.stack.build import STREAMS, ask
from tests.stack.pools import batched, first_tokens, hosted, pool, serve

Load = list[tuple[float, Request]]


def members(num: int, **counts: list[int]) -> list[Member]:
    """Ready replicas of a hosted model, with so much to do."""
    found = [Member(f"m-{number}", hosted()(f"m-{number}")) for number in range(num)]
    for name, values in counts.items():
        for member, value in zip(found, values, strict=True):
            setattr(member, name, value)
    return found


def test_round_robin_goes_round() -> None:
    rule, some = RoundRobin(), members(3)
    assert [rule.pick(some, ask(n)).name for n in range(7)] == [f"m-{n % 3}" for n in range(7)]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
def test_the_least_is_the_least_and_the_first_of_equals(loads: list[tuple[int, int]]) -> None:
    requests, tokens = [each[0] for each in loads], [each[1] for each in loads]
    some = members(len(loads), num_requests=requests, num_tokens=tokens)
    assert LeastConnections().pick(some, ask(0)) is some[requests.index(min(requests))]
    assert LeastTokens().pick(some, ask(0)) is some[tokens.index(min(tokens))]
    assert LeastKv().pick(some, ask(0)) is some[requests.index(min(requests))]  # hosted replicas show no cache


def test_least_kv_asks_for_the_queue_before_the_cache() -> None:
    make = batched(num_slots=2, num_blocks=100)
    some = [Member(f"m-{n}", make(f"m-{n}")) for n in range(3)]
    for number, tokens in ((0, 320), (1, 160), (1, 16), (1, 16)):  # m-1 uses less, and has somebody waiting
        some[number].replica.submit(ask(number * 10 + tokens, num_prompt_tokens=tokens), 20, "stop", ready_at=0.0)
        some[number].replica.advance(0.001)
    assert LeastKv().pick(some[:2], ask(1)) is some[0]
    some[2].replica.submit(ask(99, num_prompt_tokens=480), 20, "stop", ready_at=0.0)
    some[2].replica.advance(0.001)
    assert LeastKv().pick([some[2], some[0]], ask(1)) is some[0]


# -- sticky ------------------------------------------------------------------------------------------


def owners(names: list[str], num_sessions: int = 2000) -> dict[str, str]:
    rule = Sticky(STREAMS)
    some = [Member(name, hosted()(name)) for name in names]
    sessions = [f"s{n}" for n in range(num_sessions)]
    return {each: rule.pick(some, ask(0, tenant=Tenant(session=each))).name for each in sessions}


@pytest.mark.parametrize("num", [1, 2, 4, 9])
def test_a_new_replica_takes_its_share_of_the_sessions_and_no_other_moves(num: int) -> None:
    names = [f"m-{n}" for n in range(num)]
    before, after = owners(names), owners([*names, "m-new"])
    moved = {each for each in before if before[each] != after[each]}
    assert {after[each] for each in moved} == {"m-new"}
    share = 1 / (num + 1)
    assert abs(len(moved) / 2000 - share) < 4 * sqrt(share * (1 - share) / 2000)  # binomial


def test_a_replica_that_goes_moves_only_its_own_sessions() -> None:
    before, after = owners(["m-0", "m-1", "m-2"]), owners(["m-0", "m-2"])
    assert {before[each] for each in before if before[each] != after[each]} == {"m-1"}


def test_without_a_session_the_user_sticks_and_without_a_user_nobody() -> None:
    rule, some = Sticky(STREAMS), members(4, num_requests=[3, 2, 0, 1])
    alice = [rule.pick(some, ask(n, tenant=Tenant(user="alice"))).name for n in range(5)]
    assert len(set(alice)) == 1
    assert rule.pick(some, ask(9, tenant=Tenant(user="alice", session="other"))) is rule.pick(
        some, ask(9, tenant=Tenant(user="bob", session="other"))
    )
    assert rule.pick(some, ask(9)) is some[2]


# -- prefix affinity ---------------------------------------------------------------------------------

prompts = st.lists(st.sampled_from("abc"), min_size=1, max_size=6)


def hashes(words: list[str]) -> tuple[int, ...]:
    """A chain: each block is named by itself and all before it."""
    return tuple(hash(tuple(words[: end + 1])) for end in range(len(words)))


@given(st.lists(st.tuples(prompts, st.lists(st.integers(0, 5), min_size=3, max_size=3)), min_size=1, max_size=30))
@settings(deadline=None)
def test_the_longest_known_beginning_is_found(asked: list[tuple[list[str], list[int]]]) -> None:
    rule = PrefixAffinity()
    given_to: list[list[list[str]]] = [[], [], []]
    for number, (words, loads) in enumerate(asked):
        some = members(3, num_requests=loads)
        shared = [
            max((sum(1 for end in range(len(words)) if old[: end + 1] == words[: end + 1]) for old in known), default=0)
            for known in given_to
        ]
        best = max(shared) if max(shared) > 0.3 * len(words) else None
        fit = [n for n in range(3) if best is None or shared[n] == best]
        expected = min(fit, key=lambda n: loads[n])
        picked = rule.pick(some, ask(number, block_hashes=hashes(words)))
        assert picked is some[expected]
        given_to[expected].append(words)


def test_a_hot_prompt_does_not_pile_up_on_one_replica() -> None:
    rule, some = PrefixAffinity(), members(3)
    for number in range(600):
        rule.pick(some, ask(number, block_hashes=(1, 2, 3))).num_requests += 1
        loads = [member.num_requests for member in some]
        assert max(loads) - min(loads) <= 65 or max(loads) <= 1.5 * min(loads) + 1
    assert min(member.num_requests for member in some) > 100


def test_the_index_is_bounded_and_forgets_ends_before_beginnings() -> None:
    rule = PrefixAffinity(blocks_per_replica=10)
    some = members(2)
    for number in range(50):
        rule.pick(some, ask(number, block_hashes=(1, 2, *range(100 * number, 100 * number + 6))))
        assert len(rule._given) <= 20
    assert {1, 2} <= set(rule._given)
    assert 4905 in rule._given
    assert 0 not in rule._given


def test_a_replica_that_is_gone_is_forgotten() -> None:
    rule = PrefixAffinity()
    for number in range(40):  # each time another pair
        rule.pick([Member(f"m-{number}", hosted()("")), Member(f"n-{number}", hosted()(""))], ask(0, block_hashes=(1,)))
    assert all(len(holders) <= 2 for holders in rule._given.values())


# -- effects -----------------------------------------------------------------------------------------


def h100(name: str) -> BatchedReplica:
    """About an 8B model on an H100: 7 ms a step, 23 us a prompt token, 448,000 tokens of KV cache."""
    steps = LinearStepTime(0.007, 2.3e-5, 1.2e-5, 4.2e-8)
    return BatchedReplica(steps, BatchLimits(256, 8192), KvCache(28_000, 16, prefix_caching=True), every_token=False)


def mixed(num: int, rate: float, seed: int) -> Load:
    """One in fifty prompts is long (32,000 tokens), the others are short (300)."""
    draw, at, load = Streams(seed).generator("mixed", ""), 0.0, Load()
    for number in range(num):
        at += draw.exponential(1 / rate)
        prompt, answer = (32_000, 400) if draw.random() < 0.02 else (300, 100)
        load.append((at, ask(number, num_prompt_tokens=prompt, num_answer_tokens=answer)))
    return load


def p99_first_token(rule: BalanceRule, load: Load) -> float:
    found = first_tokens(load, serve(pool({"count": 4, "balance": rule}, h100), load))
    assert len(found) == len(load)
    return float(np.percentile(list(found.values()), 99))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_counting_tokens_beats_taking_turns_where_lengths_are_mixed(seed: int) -> None:
    load = mixed(1500, 80.0, seed)
    turns = p99_first_token("round_robin", load)
    assert p99_first_token("least_tokens", load) < 0.7 * turns
    assert p99_first_token("least_kv", load) < 0.7 * turns


def cached_share(rule: BalanceRule, load: Load, **keys: Any) -> float:
    """Prompt tokens found in a cache, of all."""
    out = serve(pool({"count": 4, "balance": rule}, batched(num_slots=32, **keys)), load)
    read = sum(each.cache.num_read for each in out if isinstance(each, Finished))
    return read / sum(request.num_prompt_tokens for _, request in load)


def shared_prompts(num: int, num_prefixes: int) -> Load:
    """Each request begins with one of a few texts of 128 blocks, and ends with 4 blocks of its own."""
    draw, at, load = Streams(1).generator("prefixes", ""), 0.0, Load()
    for number in range(num):
        at += draw.exponential(1 / 8)
        which = int(draw.integers(num_prefixes))
        blocks = (*range(1000 * which, 1000 * which + 128), *range(10**6 + 10 * number, 10**6 + 10 * number + 4))
        load.append((at, ask(number, num_prompt_tokens=132 * 16, block_hashes=blocks)))
    return load


def test_prefix_affinity_finds_in_one_cache_what_turns_spread_over_all() -> None:
    load = shared_prompts(600, 30)
    # Each of four replicas can keep about half of the thirty texts.
    affinity = cached_share("prefix_affinity", load, num_blocks=2000)
    assert affinity == pytest.approx((600 - 30) * 128 / (600 * 132))  # all but the first of each text
    assert cached_share("round_robin", load, num_blocks=2000) < 0.6 * affinity


def conversations(num: int, num_turns: int) -> Load:
    """Each turn sends everything before it and 20 new blocks."""
    draw, turns = Streams(2).generator("sessions", ""), list[tuple[float, int, int]]()
    for session in range(num):
        at = float(draw.uniform(0, 100))
        for turn in range(num_turns):
            turns.append((at, session, 20 * (turn + 1)))
            at += 15 + draw.exponential(5)
    return [
        (
            at,
            ask(
                number,
                num_prompt_tokens=16 * blocks + 5,
                num_answer_tokens=20,
                tenant=Tenant(session=f"s{session}"),
                block_hashes=tuple(range(10_000 * session, 10_000 * session + blocks)),
            ),
        )
        for number, (at, session, blocks) in enumerate(sorted(turns))
    ]


def test_a_sticky_session_finds_all_of_its_past() -> None:
    load = conversations(60, 8)
    past = sum((len(request.block_hashes) - 20) * 16 for _, request in load)
    all_of_it = past / sum(request.num_prompt_tokens for _, request in load)
    assert cached_share("sticky", load) == pytest.approx(all_of_it)
    assert cached_share("round_robin", load) < 0.6 * all_of_it
    nameless = [(at, replace(request, tenant=Tenant())) for at, request in load]
    assert cached_share("sticky", nameless) < 0.8 * all_of_it


def test_every_rule_has_a_name() -> None:
    for rule in BALANCERS:
        subject = pool({"count": 2, "balance": rule}, hosted())
        assert rule.replace("_", " ") in subject.describe()
