"""Retries: how often, when, and how few in an outage. Failures come from doors that a test closes, or from a model's own luck."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from math import inf, sqrt
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mockllm import Cut, Emission, Finished, Refused, Request
from mockllm.engine.hosted import Faultiness, HostedReplica
from mockllm.passage import Urgency
from mockllm.stack.retry import RetrySettings
from mockllm.stack.stack import Stack
from mockllm.stack.stage import End, Refusal, Strike
from tests.stack.build import STREAMS, ask, end_of, ends, engine, known, passage_of, run, stack
from tests.stack.clocks import assert_both_clocks_agree

ANSWER_S = 0.2 + 49 * 0.02  # of the model `small`


class Down:
    """A door that meets call number n of a request (the first is 0) with `met(n, now)`, and notes when it came."""

    def __init__(self, met: Callable[[int, float], Refusal | Strike | None]) -> None:
        self.met = met
        self.calls: list[tuple[float, str]] = []

    def enter(self, request: Request, now: float) -> Refusal | Strike | None:
        self.calls.append((now, request.request_id))
        _, _, number = request.request_id.partition("~")
        return self.met(int(number or 0), now)

    def left(self, request: Request, end: End, now: float) -> None: ...


def retrying(door: Down, **keys: Any) -> Stack:
    return stack(("retry", keys), doors={"small": [door]})


def quiet(number: int, **changes: Any) -> Request:
    """An answer that comes whole: until then nothing of it was seen."""
    return ask(number, "small", watched=False, **changes)


def counts_of(subject: Stack) -> Mapping[str, int]:
    counts = subject.stages[0].state(1e9)["counts"]
    assert isinstance(counts, dict)
    return counts


# -- which, and how often --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 429, 500, 502, 503, 529])
def test_a_failure_that_may_pass_is_tried_again(status: int) -> None:
    door = Down(lambda number, now: Refusal(status, "x", "x") if number < 2 else None)
    out = run(retrying(door), [(0.0, ask(0, "small"))])
    assert isinstance(end_of(out, 0), Finished)
    assert passage_of(out, 0).num_attempts == 3
    assert len(passage_of(out, 0).notes) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 413])
def test_a_failure_that_will_not_pass_is_not(status: int) -> None:
    door = Down(lambda number, now: Refusal(status, "x", "x"))
    out = run(retrying(door), [(0.0, ask(0, "small"))])
    assert (end_of(out, 0).at, len(door.calls)) == (0.0, 1)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_last_attempt_is_the_last(attempts: int) -> None:
    door = Down(lambda number, now: Refusal(503, "x", "the words of the model"))
    subject = retrying(door, attempts=attempts)
    end = end_of(run(subject, [(0.0, ask(0, "small"))]), 0)
    assert isinstance(end, Refused)
    assert (end.status, end.message) == (503, "the words of the model")
    assert len(door.calls) == attempts
    assert counts_of(subject)["exhausted"] == 1


@pytest.mark.parametrize(("watched", "attempts"), [(False, 2), (True, 1)])
@pytest.mark.parametrize("in_band", [False, True])
def test_a_cut_is_tried_again_only_where_nothing_was_seen(watched: bool, attempts: int, in_band: bool) -> None:
    door = Down(lambda number, now: Strike(cut=Cut("", 0.0, 10, in_band)) if number == 0 else None)
    subject = retrying(door)
    end = end_of(run(subject, [(0.0, ask(0, "small", watched=watched))]), 0)
    assert len(door.calls) == attempts
    assert counts_of(subject)["retries"] == attempts - 1
    assert subject.stages[0].state(1e9)["in_flight"] == 0
    assert isinstance(end, Cut if watched else Finished)
    assert end.num_output_tokens == (10 if watched else 50)


@pytest.mark.parametrize(("statuses", "in_band", "attempts"), [([500], True, 2), ([500], False, 1), ([0], False, 2)])
def test_an_error_in_a_stream_is_a_500_and_a_broken_one_a_reset(
    statuses: list[int], in_band: bool, attempts: int
) -> None:
    door = Down(lambda number, now: Strike(cut=Cut("", 0.0, 10, in_band)) if number == 0 else None)
    run(retrying(door, statuses=statuses), [(0.0, quiet(0))])
    assert len(door.calls) == attempts


def test_what_an_abandoned_attempt_cost_is_paid() -> None:
    door = Down(lambda number, now: Strike(cut=Cut("", 0.0, 10)) if number == 0 else None)
    out = run(retrying(door), [(0.0, quiet(0))])
    assert passage_of(out, 0).cost_usd == pytest.approx((2 * 100 * 0.1 + (10 + 50) * 0.4) / 1e6)


# -- when ------------------------------------------------------------------------------------------------------------


def waits_before(key: str, **keys: Any) -> list[float]:
    """Seconds between the attempts of a request that always fails at once."""
    door = Down(lambda number, now: Refusal(503, "x", "x"))
    request = Request("r", key, "small", 100)
    run(retrying(door, budget=None, **keys), [(0.0, request)])
    instants = [at for at, _ in door.calls]
    return [later - earlier for earlier, later in itertools.pairwise(instants)]


@pytest.mark.parametrize(("jitter", "least"), [("full", 0.0), ("equal", 0.5)])
def test_waits_are_uniform_and_grow_up_to_the_cap(jitter: str, least: float) -> None:
    """Kolmogorov's distance of 400 draws from the uniform distribution: 1.95 / sqrt(n) is passed once in 1,000 times."""
    keys = {"attempts": 6, "base": "1s", "factor": 3, "cap": "20s", "jitter": jitter}
    drawn = [waits_before(f"key {number}", **keys) for number in range(400)]
    for attempt, longest in enumerate([1.0, 3.0, 9.0, 20.0, 20.0]):
        shares = sorted((each[attempt] / longest - least) / (1 - least) for each in drawn)
        distance = max(abs(share - (n + 0.5) / len(shares)) for n, share in enumerate(shares))
        assert distance < 1.95 / sqrt(len(shares))


def test_a_wait_belongs_to_request_and_attempt_and_not_to_the_order() -> None:
    keys = {"attempts": 5, "factor": 1}
    assert waits_before("a", **keys) == waits_before("a", **keys)
    assert len({round(wait, 9) for key in "ab" for wait in waits_before(key, **keys)}) == 8


@pytest.mark.parametrize(("retry_after_s", "honoured"), [(5.0, True), (30.0, True), (30.5, False)])
def test_nobody_comes_back_before_retry_after(retry_after_s: float, honoured: bool) -> None:
    door = Down(lambda number, now: Refusal(429, "x", "x", retry_after_s) if number == 0 else None)
    subject = retrying(door, max_retry_after="30s", base="2s")
    out = run(subject, [(0.0, quiet(0))])
    if honoured:
        assert retry_after_s <= door.calls[1][0] <= retry_after_s + 2.0
        assert passage_of(out, 0).waited_s["retry"] == door.calls[1][0]
    else:
        end = end_of(out, 0)
        assert isinstance(end, Refused)
        assert (end.at, end.retry_after_s) == (0.0, 30.5)
        assert counts_of(subject)["too_late"] == 1


# -- how few ---------------------------------------------------------------------------------------------------------

BUDGETS = st.fixed_dictionaries({"share": st.sampled_from([0.0, 0.1, 0.5, 1.0]), "num_spare": st.integers(1, 5)})


SECONDS = st.integers(0, 40).map(float)  # whole ones, so that a window often ends where something happened


@given(BUDGETS, st.lists(SECONDS, min_size=1, max_size=60), st.integers(2, 6))
@settings(max_examples=100, deadline=None)
def test_retries_of_any_window_stay_within_the_budget(
    budget: dict[str, Any], arrivals: list[float], attempts: int
) -> None:
    """Counted at the door: for every retry, those decided in the window before it. A wait of 0 s makes decision and call one."""
    door = Down(lambda number, now: Refusal(503, "x", "x"))
    rate = {"share": budget["share"], "window": "10s", "reserve": f"{budget['num_spare'] * 6}/min"}
    subject = retrying(door, attempts=attempts, base="0s", budget=rate)
    run(subject, [(at, quiet(n)) for n, at in enumerate(sorted(arrivals))])
    retries = [at for at, name in door.calls if "~" in name]
    for at in retries:
        num_requests = sum(at - 10 < came <= at for came in arrivals)
        num_retries = sum(at - 10 < other <= at for other in retries)
        assert num_retries <= budget["num_spare"] + budget["share"] * num_requests + 1e-9
    counts = counts_of(subject)
    assert counts["exhausted"] + counts["over_budget"] == counts["requests"] == len(arrivals)
    assert counts["retries"] == len(retries)


def test_a_budget_of_one_is_one_retry_a_window() -> None:
    door = Down(lambda number, now: Refusal(503, "x", "x"))
    subject = retrying(door, attempts=2, base="0s", budget={"share": 0.0, "window": "10s", "reserve": "6/min"})
    run(subject, [(at, quiet(n)) for n, at in enumerate([0.0, 1.0, 9.5, 10.0, 10.5, 20.5])])
    assert [at for at, name in door.calls if "~" in name] == [0.0, 10.0, 20.5]


# -- cancels, and both clocks ----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 6), st.integers(0, 4), st.floats(0, 12)), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_books_balance_whenever_clients_go_away(load: list[tuple[float, int, float]]) -> None:
    load = sorted(load)
    fails = {f"r{n}": num for n, (_, num, _) in enumerate(load)}

    class Failing(Down):
        def enter(self, request: Request, now: float) -> Refusal | None:
            name, _, number = request.request_id.partition("~")
            return Refusal(500, "x", "x") if int(number or 0) < fails[name] else None

    subject = retrying(Failing(lambda number, now: None), base="2s")
    todo: list[tuple[float, int, Any]] = [(at, 0, quiet(n)) for n, (at, _, _) in enumerate(load)]
    todo += [(at + after, 1, f"r{n}") for n, (at, _, after) in enumerate(load)]
    out: list[Emission] = []
    for at, kind, what in sorted(todo, key=lambda each: each[:2]):
        out += subject.advance(at)
        subject.submit(what, at) if kind == 0 else subject.cancel(what, at)
    out += subject.advance(1e6)
    counts, ended = counts_of(subject), subject.counts
    assert subject.stages[0].state(1e6)["in_flight"] == 0
    assert counts["cancelled"] == ended.num_cancelled
    assert counts["exhausted"] + counts["over_budget"] == ended.num_refused
    tried_again = [end for end in ends(out).values() if isinstance(end, Finished) and end.passage is not None]
    assert counts["recovered"] == sum(end.passage.num_attempts > 1 for end in tried_again if end.passage is not None)


def test_both_clocks_say_the_same() -> None:
    """Retries before a queue of two workers that is often full."""

    def subject(every_token: bool) -> Stack:
        door = Down(lambda number, now: Refusal(503, "x", "x", 0.5) if number == 0 and now % 2 < 1 else None)
        stages: list[tuple[str, dict[str, Any]]] = [
            ("retry", {}),
            ("priority_queue", {"workers": 2, "ageing": "1s", "P0": {"timeout": "3s"}, "length": 6, "shed": "lowest"}),
        ]
        return stack(*stages, doors={"small": [door]}, every_token=every_token)

    urgencies: tuple[Urgency, ...] = get_args(Urgency)
    load = [(n * 0.3, ask(n, "small", watched=n % 2 == 0, urgency=urgencies[n % 3])) for n in range(60)]
    counts = assert_both_clocks_agree(subject, load).counts
    assert counts.num_finished > 20
    assert counts.num_refused > 5


# -- what it is for --------------------------------------------------------------------------------------------------


def failures(num: int, **keys: Any) -> int:
    """How many of `num` requests fail on a model that fails three times in ten, whether it was asked before or not."""
    law = known(0.2, 0.02)
    replica = HostedReplica(law, STREAMS, Faultiness(server_error_rate=0.3), every_token=False)
    stages = [("retry", keys)] if keys else []
    out = run(stack(*stages, behind=engine({"small": replica})), [(n * 0.1, quiet(n)) for n in range(num)])
    return sum(isinstance(end, Refused) for end in ends(out).values())


def test_three_attempts_on_a_model_that_fails_three_times_in_ten() -> None:
    """0.3 ** 3 of the requests fail, and without retries 0.3: within four standard deviations of the binomial law."""
    num = 6_000
    for share, got in ((0.3, failures(num)), (0.3**3, failures(num, attempts=3, budget=None))):
        assert abs(got - share * num) < 4 * sqrt(num * share * (1 - share))


def amplification(num: int, **keys: Any) -> float:
    """Calls a request on a model that is down, at 20 requests a second."""
    door = Down(lambda number, now: Refusal(503, "x", "x"))
    run(retrying(door, attempts=4, **keys), [(n * 0.05, quiet(n)) for n in range(num)])
    return len(door.calls) / num


def test_an_outage_is_not_made_worse() -> None:
    """Four calls a request without a budget; with one of 20 % and a retry a second, 1.2 and 1 / 20 s."""
    assert amplification(2_000, budget=None) == 4.0
    bound = 1 + 0.2 + 1 / 20
    measured = amplification(2_000, budget={"share": 0.2, "window": "10s", "reserve": "1/s"})
    assert measured == pytest.approx(bound, rel=0.02)


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [{"attempts": 0}, {"statuses": [600]}, {"base": 1}, {"factor": 0.5}, {"budget": {"window": "0s"}}, {"tries": 3}],
)
def test_settings_that_make_no_sense_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RetrySettings.model_validate(keys)


def test_the_policy_says_what_it_does() -> None:
    subject = stack(("retry", {"statuses": [0, 503], "base": "250ms"})).stages[0]
    words = "3 attempts on reset, 503; full jitter, 250 ms times 2 each, at most 8 s; "
    assert subject.describe() == words + "retries at most 20% of requests and 600 a minute, over 10 s"
    assert (subject.state(0.0)["budget_left"], subject.due()) == (100.0, inf)


def test_a_look_at_the_state_gives_no_budget_back() -> None:
    """Who looks may be ahead of requests that came earlier and are dealt with later."""
    door = Down(lambda n, now: Refusal(503, "down", "down"))
    budget = {"share": 0.0, "window": "10s", "reserve": "6/min"}  # one retry
    subject = retrying(door, attempts=2, base="100ms", budget=budget)
    run(subject, [(0.0, quiet(0))])
    assert subject.stages[0].state(1000.0)["budget_left"] == 1.0
    run(subject, [(2.0, quiet(1))])
    assert [name for _, name in door.calls] == ["r0", "r0~1", "r1"]
