"""Splits: shares, stickiness, arms, rollouts that only grow, and shadows that nobody sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import sqrt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mockllm import Emission, Finished, Request
from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.engine import Engine, Overhead, Replica, ServedModel
from mockllm.engine.hosted import HostedReplica
from mockllm.engine.kv_cache import KvCache
from mockllm.engine.latency import LinearStepTime
from mockllm.engine.length import AnswerLength, ReasoningLength
from mockllm.model import Forced
from mockllm.passage import Tenant
from mockllm.stack.split import SplitSettings
from mockllm.stack.stage import Again, End, Flight, Leaving, Stage
from tests.stack.build import STREAMS, ask, end_of, ends, engine, known, passage_of, run, stack
from tests.stack.clocks import assert_both_clocks_agree, run_with_cancels

WEIGHTS = {"name": "assistant", "weights": {"large": 90, "small": 10}}
STEPS = [["0s", 0.10], ["10m", 0.25], ["20m", 0.50], ["30m", 1.0]]
ROLLOUT = {"rollout": {"old": "large", "new": "small", "steps": STEPS}}
SMALL_USD, LARGE_USD = (100 * 0.1 + 50 * 0.4) / 1e6, (100 * 2.0 + 50 * 8.0) / 1e6


def wish(number: int, user: str | None = None, model: str = "assistant", **changes: Any) -> Request:
    return ask(number, model, tenant=Tenant(user=user), **changes)


def models_of(emissions: list[Emission]) -> dict[str, str]:
    return {each.request_id: each.passage.model for each in emissions if isinstance(each, Finished) and each.passage}


def within(num: int, of: int, share: float) -> bool:
    """Whether a binomial count is where it belongs; 4.5 sigmas: once in 150,000."""
    return abs(num - of * share) <= 4.5 * sqrt(of * share * (1 - share))


# -- weights and arms --------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["user", "request"])
def test_shares_are_the_weights_and_the_same_in_any_order(by: str) -> None:
    requests = [wish(n, f"u{n}") for n in range(4000)]
    forth = models_of(run(stack(("split", WEIGHTS | {"by": by})), [(0.0, each) for each in requests]))
    back = models_of(run(stack(("split", WEIGHTS | {"by": by})), [(0.0, each) for each in requests[::-1]]))
    assert forth == back
    counts = Counter(forth.values())
    assert counts.total() == 4000  # exactly one model answers each
    assert within(counts["small"], 4000, 0.1)


def test_a_user_always_meets_the_same_arm_and_a_request_may_not() -> None:
    requests = [wish(n, f"u{n % 40}") for n in range(800)]

    def models_by_user(by: str) -> list[set[str]]:
        keys = {"name": "assistant", "weights": {"large": 1, "small": 1}, "by": by}
        chosen = models_of(run(stack(("split", keys)), [(0.0, each) for each in requests]))
        return [{chosen[f"r{n}"] for n in range(user, 800, 40)} for user in range(40)]

    assert all(len(models) == 1 for models in models_by_user("user"))
    assert all(len(models) == 2 for models in models_by_user("request"))


def test_a_request_without_a_user_is_a_unit_of_its_own() -> None:
    chosen = models_of(run(stack(("split", WEIGHTS)), [(0.0, wish(n)) for n in range(1000)]))
    assert within(Counter(chosen.values())["small"], 1000, 0.1)


def test_all_choices_of_a_request_meet_one_arm() -> None:
    for n in range(50):
        keys = {"name": "assistant", "weights": {"large": 1, "small": 1}}
        first = wish(n)
        others = [replace(first, request_id=f"r{n}-{i}", key=f"k{n}\x00choice {i}", choice=i) for i in (1, 2)]
        assert (
            len(set(models_of(run(stack(("split", keys)), [(0.0, each) for each in (first, *others)])).values())) == 1
        )


def test_arms_have_names_and_books() -> None:
    arms = {"control": {"model": "large", "weight": 1}, "terse": {"model": "small", "weight": 3}}
    subject = stack(("split", {"name": "assistant", "arms": arms}))
    out = run(subject, [(0.0, wish(n)) for n in range(400)])
    noted = Counter(passage_of(out, n).notes[0] for n in range(400))
    assert set(noted) == {"split: control (large)", "split: terse (small)"}
    state: Any = subject.stages[0].state(0.0)
    assert state["counts"]["answered by terse"] == noted["split: terse (small)"]
    assert within(state["counts"]["sent to terse"], 400, 0.75)
    assert state["shares"] == {
        "control": pytest.approx(1 - state["shares"]["terse"]),
        "terse": pytest.approx(noted["split: terse (small)"] / 400),
    }


def test_two_splits_draw_apart() -> None:
    """The users of one test's small arm are no more likely to be in another's."""
    half = {"weights": {"large": 1, "small": 1}}
    subject = stack(("split", half | {"name": "a"}), ("split", half | {"name": "b"}))
    subject.stages[1].name = "split#2"  # as a deployment file names the second one
    load = [(0.0, wish(n, f"u{n % 1000}", "a" if n < 1000 else "b")) for n in range(2000)]
    chosen = models_of(run(subject, load))
    both = sum(chosen[f"r{n}"] == chosen[f"r{n + 1000}"] == "small" for n in range(1000))
    assert within(both, 1000, 0.25)


# -- rollout -----------------------------------------------------------------------------------------


def test_a_rollout_takes_its_steps_and_nobody_goes_back() -> None:
    """200 users come every minute for 33 minutes, the first 1,000 s after the clock's zero: the run's clock counts."""
    num_users, start = 200, 1000.0
    load = [
        (start + 60.0 * turn + user * 0.01, wish(turn * num_users + user, f"u{user}", "large"))
        for turn in range(33)
        for user in range(num_users)
    ]
    chosen = models_of(run(stack(("split", ROLLOUT)), load))
    is_new = [[chosen[f"r{turn * num_users + user}"] == "small" for turn in range(33)] for user in range(num_users)]
    for history in is_new:
        assert history == sorted(history)  # False comes before True, and once
    for turn, share in ((0, 0.10), (9, 0.10), (10, 0.25), (19, 0.25), (20, 0.5), (29, 0.5)):
        assert within(sum(history[turn] for history in is_new), num_users, share)
    assert all(history[30] for history in is_new)


def test_a_rollout_leaves_requests_for_the_new_model_alone() -> None:
    out = run(stack(("split", ROLLOUT)), [(0.0, wish(n, model="small")) for n in range(20)])
    assert set(models_of(out).values()) == {"small"}
    assert passage_of(out, 0).notes == []


def test_before_its_first_step_a_rollout_has_not_begun() -> None:
    keys = {"rollout": {"old": "large", "new": "small", "steps": [["1m", 1.0]]}}
    out = run(
        stack(("split", keys)),
        [(0.0, wish(0, model="large")), (59.9, wish(1, model="large")), (60.0, wish(2, model="large"))],
    )
    assert models_of(out) == {"r0": "large", "r1": "large", "r2": "small"}


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([["0s", 0.5], ["1m", 0.4]], "must not fall"),
        ([["1m", 0.5], ["1m", 0.6]], "times must rise"),
        ([["0s", 1.5]], "less than or equal to 1"),
        ([[0, 0.5]], "not a duration"),
        ([], "at least 1"),
    ],
)
def test_a_rollout_that_would_take_users_back_is_an_error(steps: list[Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SplitSettings.model_validate({"rollout": {"old": "large", "new": "small", "steps": steps}})


# -- shadow ------------------------------------------------------------------------------------------


def shadowed(share: float, **more: Any) -> dict[str, Any]:
    return {"weights": {"large": 1}, "shadow": {"model": "small", "share": share}} | more


def test_a_shadow_is_paid_by_the_stack_and_seen_by_nobody() -> None:
    load = [(n * 0.01, wish(n, model="large")) for n in range(2000)]
    subject, plain = stack(("split", shadowed(0.05))), stack(("split", {"weights": {"large": 1}}))
    out, expected = run(subject, load), run(plain, load)
    counts: Any = subject.stages[0].state(0.0)["counts"]
    assert within(counts["copies"], 2000, 0.05)
    assert subject.num_calls == 2000 + counts["copies"]
    assert subject.cost_usd == pytest.approx(2000 * LARGE_USD + counts["copies"] * SMALL_USD)
    assert set(models_of(out).values()) == {"large"}
    assert {name: end.at for name, end in ends(out).items()} == {name: end.at for name, end in ends(expected).items()}
    costs = {each.passage.cost_usd for each in out if isinstance(each, Finished) and each.passage}
    assert all(cost == pytest.approx(LARGE_USD) for cost in costs)


def batched() -> Replica:
    steps = LinearStepTime(0.01, 1e-4, 2e-3, 0.0)
    limits = BatchLimits(max_num_seqs=8, max_num_batched_tokens=2048)
    return BatchedReplica(steps, limits, KvCache(None, 16, prefix_caching=False), every_token=False)


def test_a_shadow_on_replicas_of_its_own_slows_nobody_down_and_on_the_same_it_does() -> None:
    """Effect: the copies load the shadow's replicas, so it matters whose those are."""
    load = [(n * 0.2, wish(n, model="large")) for n in range(100)]

    def mean_seconds(keys: dict[str, Any], *, shared: bool) -> float:
        large = batched()
        behind = engine({"large": large, "small": large if shared else batched()})
        out = run(stack(("split", keys), behind=behind), load)
        return sum(end_of(out, n).at - at for n, (at, _) in enumerate(load)) / len(load)

    without = mean_seconds({"weights": {"large": 1}}, shared=True)
    assert mean_seconds(shadowed(1.0), shared=False) == without
    assert mean_seconds(shadowed(1.0), shared=True) > 1.2 * without


def test_a_copy_outlives_the_client_and_does_not_do_what_the_client_demanded() -> None:
    subject = stack(("split", shadowed(1.0)))
    demanding = wish(0, model="large", forced=Forced(status=500))
    run_with_cancels(subject, [(0.0, demanding), (0.0, wish(1, model="large"))], [(1, 0.1)])
    assert subject.engine.counts.num_finished == 2  # both copies
    assert subject.cost_usd == pytest.approx(2 * SMALL_USD + 100 * 2.0 / 1e6)  # and the prompt of who went away


class Listening(HostedReplica):
    """Notes how long each answer is to be, by the key of its luck."""

    def __init__(self) -> None:
        super().__init__(known(0.1, 0.01), STREAMS, every_token=False)
        self.heard: dict[str, int] = {}

    def submit(self, request: Request, size: int, reason: str, *, ready_at: float) -> None:
        self.heard[request.key] = size
        super().submit(request, size, reason, ready_at=ready_at)


def test_the_luck_of_a_copy_does_not_hang_on_what_came_before() -> None:
    """Lengths are drawn by key: the copy of a request alone is as long as that of the same request among others."""

    def length_of_copy(numbers: range) -> int:
        copies, length = Listening(), AnswerLength(100, 1.0, 100_000)
        models = {
            name: ServedModel(name, length, Overhead(), replica, replica, ReasoningLength(1, 0))
            for name, replica in (("large", Listening()), ("small", copies))
        }
        subject = stack(("split", shadowed(1.0)), behind=Engine(models, STREAMS))
        run(subject, [(0.0, wish(n, model="large", num_answer_tokens=None)) for n in numbers])
        return next(size for key, size in copies.heard.items() if key.startswith("k5~"))

    assert length_of_copy(range(5, 6)) == length_of_copy(range(10))


def test_a_request_that_is_tried_again_is_copied_once() -> None:
    class TwiceTried(Stage):
        def leave(self, flight: Flight, end: End, now: float) -> Leaving:
            return Again(now) if flight.passage.num_attempts == 1 else None

    subject = stack(TwiceTried(), ("split", shadowed(1.0)))
    run(subject, [(0.0, wish(0, model="large", watched=False))])
    assert subject.num_calls == 3


# -- settings, clocks, cancels -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "none of them"),
        ({"shadow": {"model": "small", "share": 0.1}}, "none of them"),
        ({"weights": {"a": 1}, "arms": {"x": {"model": "a", "weight": 1}}}, "weights and arms"),
        ({"weights": {"a": 0}}, "greater than 0"),
    ],
)
def test_who_answers_is_said_once(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SplitSettings.model_validate(keys)


@pytest.mark.parametrize("keys", [WEIGHTS, shadowed(0.5, name="assistant"), ROLLOUT | {"name": "assistant"}])
def test_both_clocks_agree(keys: dict[str, Any]) -> None:
    load = [(n * 30.1, wish(n, f"u{n % 7}", watched=n % 3 != 0)) for n in range(70)]
    assert_both_clocks_agree(lambda every_token: stack(("split", keys), every_token=every_token), load)


@given(
    st.lists(st.floats(0, 3), min_size=1, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.floats(0, 8)), max_size=10),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_when_clients_go_away(arrivals: list[float], cancels: list[tuple[int, float]]) -> None:
    load = [(at, wish(n)) for n, at in enumerate(sorted(arrivals))]
    subject = stack(("split", shadowed(0.5, name="assistant", weights={"large": 1, "small": 1})))
    run_with_cancels(subject, load, cancels)
    counts: Any = subject.stages[0].state(0.0)["counts"]
    assert counts["sent to large"] + counts["sent to small"] == len(load)
    answered = counts["answered by large"] + counts["answered by small"]
    assert answered == subject.counts.num_finished
