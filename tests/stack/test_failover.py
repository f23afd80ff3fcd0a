"""Failover: no request is lost that another provider could answer, slow ones are given up in time, and breakers spare
those that are down. Providers: `large` needs 1 s to its first token, `small` 0.2 s, `third` 0.5 s."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Cut, Emission, Finished, Refused, Request, simulate
from mockllm.building import build_engine
from mockllm.deployment import load_deployment
from mockllm.engine.engine import Engine
from mockllm.engine.hosted import HostedReplica
from mockllm.errors import DeploymentError
from mockllm.model import Began, Forced
from mockllm.stack.stack import Stack
from mockllm.stack.stage import Answered, Arrival, Door, Flight, Later, Stage
from mockllm.stack.timeline import Timeline
from tests.stack.build import STREAMS, ask, end_of, ends, engine, known, parts, passage_of, run, stack, stage
from tests.stack.clocks import assert_both_clocks_agree, run_with_cancels
from tests.stack.doors import Outage, Slowness

CHAIN = ["large", "small", "third"]
FIRST_S = {"large": 1.0, "small": 0.2, "third": 0.5}
PATIENT = {"min_calls": 10**6}  # a breaker that never opens
ALWAYS = (0.0, 1e9)


def providers(*, every_token: bool = False) -> Engine:
    laws = {"large": known(1.0, 0.1), "small": known(0.2, 0.02), "third": known(0.5, 0.05)}
    return engine({name: HostedReplica(law, STREAMS, every_token=every_token) for name, law in laws.items()})


def subject(
    doors: Mapping[str, Door], *others: Stage | tuple[str, Mapping[str, Any]], every_token: bool = False, **keys: Any
) -> Stack:
    failover = ("failover", {"chain": CHAIN} | keys)
    behind = providers(every_token=every_token)
    return stack(failover, *others, behind=behind, doors={name: [door] for name, door in doors.items()})


def first_token_s(out: Sequence[Emission], number: int, submitted_at: float = 0.0) -> float:
    return next(each.at for each in out if isinstance(each, Began) and each.request_id == f"r{number}") - submitted_at


def counts(subject: Stack) -> dict[str, int]:
    got = subject.stages[0].state(0.0)["counts"]
    assert isinstance(got, dict)
    return got


# -- who is asked ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("status", [0, 429, 500, 502, 503, 529])
def test_the_next_one_is_asked_at_once(status: int, watched: bool) -> None:
    down = Outage(ALWAYS, status=status)
    out = run(subject({"large": down, "small": down}), [(1.0, ask(0, watched=watched))])
    end = end_of(out, 0)
    assert isinstance(end, Finished)
    assert end.at == pytest.approx(1.0 + 0.5 + 49 * 0.05)
    passage = passage_of(out, 0)
    assert (passage.model, passage.num_attempts, passage.waited_s) == ("third", 3, {})
    why = "reset" if status == 0 else str(status)
    assert passage.notes == [
        f"failover: from large ({why}) to small",
        f"failover: from small ({why}) to third",
    ]


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_an_error_of_the_clients_own_is_its_answer(status: int) -> None:
    down = Outage(ALWAYS, status=status)
    out = run(subject({"large": down}), [(0.0, ask(0))])
    assert isinstance(out[-1], Refused)
    assert out[-1].status == status
    assert passage_of(out, 0).num_attempts == 1


def test_when_all_fail_the_client_gets_the_last_error() -> None:
    doors = {model: Outage(ALWAYS, status=500 + number) for number, model in enumerate(CHAIN)}
    out = run(subject(doors), [(0.0, ask(0))])
    assert isinstance(out[-1], Refused)
    assert (out[-1].status, out[-1].at) == (502, 0.0)
    assert [len(door.calls) for door in doors.values()] == [1, 1, 1]


def test_an_answer_that_breaks_off_unseen_is_asked_for_elsewhere_and_one_that_began_is_not() -> None:
    cut = Forced(cut_after=10)

    def how(watched: bool) -> tuple[str, int]:
        out = run(subject({}), [(0.0, ask(0, watched=watched, forced=cut))])
        end = end_of(out, 0)
        assert end.passage is not None  # type: ignore[union-attr]
        return type(end).__name__, end.passage.num_attempts  # type: ignore[union-attr]

    assert how(watched=True) == ("Cut", 1)
    assert how(watched=False) == ("Cut", 3)  # every provider obeys the demand to break off


def test_only_requests_for_its_name_come_to_it() -> None:
    named = subject({"large": Outage(ALWAYS)}, name="assistant")
    out = run(named, [(0.0, ask(0, "assistant")), (0.0, ask(1, "large")), (0.0, ask(2, "small"))])
    assert [passage_of(out, number).model for number in range(3)] == ["small", "large", "small"]
    assert isinstance(end_of(out, 1), Refused)
    assert counts(named)["requests"] == 1
    assert list(named.models) == [*CHAIN, "assistant"]


def test_a_retry_further_out_begins_at_the_head_of_the_chain_again() -> None:
    doors: dict[str, Sequence[Door]] = {model: [Outage((0.0, 1.0))] for model in CHAIN}
    retry = ("retry", {"base": "4s", "jitter": "equal"})
    out = run(stack(retry, ("failover", {"chain": CHAIN}), behind=providers(), doors=doors), [(0.0, ask(0))])
    assert passage_of(out, 0).model == "large"
    assert passage_of(out, 0).num_attempts == 4


def test_regions_stand_in_for_one_another_and_share_what_they_know() -> None:
    down = Outage(ALWAYS)
    keys: dict[str, Any] = {
        "chain": None,
        "chains": [["large", "small", "third"], ["small", "large", "third"]],
        "breaker": {"min_calls": 4, "cooldown": "1h"},
    }
    whole = subject({"large": down, "small": Outage((100.0, 1e9))}, **keys)
    load = [(float(number), ask(number, "large")) for number in range(4)]  # marks `large` down
    load += [(100.0 + number, ask(4 + number, "small")) for number in range(10)]
    out = run(whole, load)
    assert [passage_of(out, number).model for number in range(14)] == ["small"] * 4 + ["third"] * 10
    assert len(down.calls) == 4
    assert [passage_of(out, number).num_attempts for number in range(14)] == [2] * 8 + [1] * 6


windows = st.lists(st.tuples(st.floats(0, 60), st.floats(0.1, 40)), max_size=4)
arrivals = st.lists(st.floats(0, 80), min_size=1, max_size=30)


def outages(drawn: Sequence[Sequence[tuple[float, float]]], statuses: Sequence[int]) -> dict[str, Outage]:
    return {
        model: Outage(*((begin, begin + length) for begin, length in spans), status=status)
        for model, spans, status in zip(CHAIN, drawn, statuses, strict=True)
    }


@given(
    st.tuples(windows, windows, windows),
    st.tuples(*[st.sampled_from([0, 429, 500, 503, 529])] * 3),
    arrivals,
    st.sampled_from([None, "3s", "500ms"]),
    st.sampled_from([None, "2s"]),
)
@settings(max_examples=150, deadline=None)
def test_no_request_is_lost_that_another_provider_could_answer(
    drawn: tuple[Any, Any, Any], statuses: tuple[int, ...], at: list[float], limit: str | None, check: str | None
) -> None:
    """A provider that was up from the arrival to the end of a request could have answered it."""
    doors = outages(drawn, statuses)
    breaker = {"min_calls": 2, "cooldown": "20s", "window": "30s"}
    whole = subject(doors, breaker=breaker, first_token_timeout=limit, health_check=check)
    load = [(instant, ask(number)) for number, instant in enumerate(sorted(at))]
    out = run(whole, load)
    for number, (submitted_at, _) in enumerate(load):
        end = end_of(out, number)
        up = [
            model
            for model, door in doors.items()
            if not any(begin <= end.at and submitted_at < until for begin, until in door.windows)
        ]
        assert isinstance(end, Finished) or not up
    assert whole.stages[0].state(0.0)["in_flight"] == 0


# -- too slow --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("every_token", [True, False])
def test_a_slow_first_token_is_waited_for_no_longer_than_the_limit(watched: bool, every_token: bool) -> None:
    slow = {"large": Slowness(60.0, ALWAYS)}
    whole = subject(slow, first_token_timeout="1500ms", every_token=every_token)
    out = run(whole, [(2.0, ask(0, watched=watched)), (4.0, ask(1, "small"))])
    assert end_of(out, 0).at == pytest.approx(2.0 + 1.5 + 0.2 + 49 * 0.02)
    assert passage_of(out, 0).notes == ["failover: from large (no first token in 1.5 s) to small"]
    assert passage_of(out, 0).cost_usd == pytest.approx((100 * 0.1 + 50 * 0.4) / 1e6)  # the other call never got in
    assert counts(whole)["late_first_tokens"] == 1
    assert whole.idle
    assert whole.engine.idle


@pytest.mark.parametrize("watched", [True, False])
def test_an_answer_that_began_in_time_may_take_as_long_as_it_takes(watched: bool) -> None:
    whole = subject({}, first_token_timeout="1001ms")
    out = run(whole, [(0.0, ask(0, watched=watched, num_answer_tokens=1000))])
    assert passage_of(out, 0).model == "large"
    assert end_of(out, 0).at == pytest.approx(1.0 + 999 * 0.1)
    assert counts(whole)["late_first_tokens"] == 0


def test_the_last_one_that_could_answer_is_not_given_up() -> None:
    slow = {model: Slowness(60.0, ALWAYS) for model in CHAIN}
    out = run(subject(slow, first_token_timeout="2s"), [(0.0, ask(0))])
    assert passage_of(out, 0).model == "third"
    assert first_token_s(out, 0) == pytest.approx(2.0 + 2.0 + 60.0 + 0.5)


@pytest.mark.parametrize(("mode", "answers"), [("try", True), ("refuse", False)])
def test_whoever_was_only_slow_is_asked_once_more_when_nobody_else_can(mode: str, answers: bool) -> None:
    down = Outage(ALWAYS)
    whole = subject({"small": down, "third": down}, first_token_timeout="800ms", when_all_down=mode)
    out = run(whole, [(0.0, ask(0))])
    if answers:
        assert end_of(out, 0).at == pytest.approx(0.8 + 1.0 + 49 * 0.1)
        assert passage_of(out, 0).notes[-1] == "failover: from third (503) to large, once more"
        assert passage_of(out, 0).cost_usd == pytest.approx(
            (2 * 100 * 2.0 + 50 * 8.0) / 1e6
        )  # its prompt was read twice
    else:
        assert isinstance(end_of(out, 0), Refused)


def test_what_is_planned_further_in_is_void_when_a_provider_is_given_up() -> None:
    class Slow(Stage):
        name = "slow"

        def arrive(self, flight: Flight, now: float) -> Arrival:
            return Later(now + 5.0) if flight.request.model == "large" else None

    whole = subject({}, Slow(), first_token_timeout="2s")
    out = run(whole, [(0.0, ask(0)), (20.0, ask(1, "small"))])
    assert first_token_s(out, 0) == pytest.approx(2.0 + 0.2)
    assert whole.num_calls == 2  # none for `large`, though its time to be called came
    assert passage_of(out, 0).waited_s == {"slow": 2.0}


# -- circuit breakers and health checks ------------------------------------------------------------------


def test_a_breaker_spares_whoever_hangs_and_those_who_would_wait_for_it() -> None:
    """The effect: `large` hangs for 100 s; without a breaker every request of that time waits for the limit first."""
    load = [(float(number), ask(number, num_answer_tokens=1)) for number in range(100)]
    waits, calls = {}, {}
    for name, breaker in (("with", {"min_calls": 5, "cooldown": "30s"}), ("without", PATIENT)):
        hangs = Slowness(1e4, (0.0, 100.0))
        out = run(subject({"large": hangs}, breaker=breaker, first_token_timeout="3s"), load)
        waits[name] = sorted(first_token_s(out, number, float(number)) for number in range(100))
        calls[name] = len(hangs.calls)
    assert waits["without"][50] == pytest.approx(3.2)
    assert waits["with"][50] == pytest.approx(0.2)
    assert calls["without"] == 100
    # 8 until the fifth is late 3 s after it came; three probes at most after each cooldown.
    assert 8 <= calls["with"] <= 8 + 3 * 3


def test_half_open_sends_exactly_so_many_requests_to_find_out() -> None:
    down = Outage((0.0, 1e9))
    keys = {"min_calls": 4, "cooldown": "100s", "probes": 3}
    load = [(number / 10, ask(number, num_answer_tokens=1)) for number in range(40)]  # opens at the fourth
    load += [(101.0, ask(100 + number, num_answer_tokens=1)) for number in range(50)]
    out = run(subject({"large": down}, breaker=keys), load)
    assert all(isinstance(end, Finished) for end in ends(out).values())
    assert [at for at, _ in down.calls] == pytest.approx(
        [0.0, 0.1, 0.2, 0.3, 101.0]
    )  # the first probe fails: open again

    slow = Slowness(5.0, (101.0, 200.0))  # probes that nobody knows the end of yet
    both: dict[str, Sequence[Door]] = {"large": [Outage((0.0, 100.0)), slow]}
    out = run(stack(("failover", {"chain": CHAIN, "breaker": keys}), behind=providers(), doors=both), load)
    assert len(slow.calls) == 3
    assert sum(passage_of(out, 100 + number).model == "large" for number in range(50)) == 3


def test_a_429_says_nothing_about_health() -> None:
    busy = Outage(ALWAYS, status=429)
    whole = subject({"large": busy}, breaker={"min_calls": 2})
    run(whole, [(float(number), ask(number)) for number in range(20)])
    assert len(busy.calls) == 20


@pytest.mark.parametrize("interval", [None, 10.0])
def test_a_health_check_finds_out_before_the_cooldown_is_over(interval: float | None) -> None:
    """`large` is down for 95 s. Checks are at 10, 20, ... after it was marked down; the cooldown is 1000 s."""
    down = Outage((0.0, 95.0))
    keys: dict[str, Any] = {"breaker": {"min_calls": 1, "cooldown": "1000s", "probes": 1}}
    if interval is not None:
        keys["health_check"] = f"{interval:g}s"
    whole = subject({"large": down}, **keys)
    load = [(number * 0.8 + 0.1, ask(number, num_answer_tokens=1)) for number in range(200)]
    out = run(whole, load)
    back = [at for (at, _), number in zip(load, range(200), strict=True) if passage_of(out, number).model == "large"]
    checks = [at for at, request in down.calls if request.request_id.startswith("~")]
    if interval is None:
        assert (back, checks, counts(whole)["checks"]) == ([], [], 0)
    else:
        assert checks == pytest.approx([10.1, 20.1, 30.1, 40.1, 50.1, 60.1, 70.1, 80.1, 90.1, 100.1])
        # The one that passed took 1 s for its token, until 101.1; the next request was the probe, until 102.7.
        assert back == pytest.approx([101.7, *[number * 0.8 + 0.1 for number in range(129, 200)]])
        assert (counts(whole)["checks"], counts(whole)["checks_passed"]) == (10, 1)
        assert whole.engine.counts.num_submitted == 200 + 1
        paid = sum(passage_of(out, number).cost_usd or 0.0 for number in range(200))
        assert whole.cost_usd - paid == pytest.approx((1 * 2.0 + 1 * 8.0) / 1e6)  # a check is a call like any other


def test_a_check_that_is_too_slow_is_failed() -> None:
    hangs = Slowness(20.0, (0.0, 50.0))
    keys: dict[str, Any] = {"breaker": {"min_calls": 1, "cooldown": "1000s"}, "first_token_timeout": "2s"}
    whole = subject({"large": hangs}, health_check="5s", **keys)
    run(whole, [(float(number), ask(number, num_answer_tokens=1)) for number in range(100)])
    # Marked down at 2 s; checks at 7, 32, 57: each once the one before has ended, 21 s later, and 5 s more.
    assert [at for at, request in hangs.calls if request.request_id.startswith("~")] == pytest.approx([7.0, 33.0, 59.0])
    assert counts(whole)["checks_passed"] == 1


def test_in_an_outage_of_all_a_request_is_tried_or_refused_as_one_wants() -> None:
    load = [(float(number), ask(number)) for number in range(20)]
    for mode, num_calls in (("try", 20), ("refuse", 4)):
        doors = {model: Outage((0.0, 15.5)) for model in CHAIN}
        keys: dict[str, Any] = {"breaker": {"min_calls": 4, "cooldown": "60s"}, "when_all_down": mode}
        out = run(subject(doors, **keys), load)
        assert len(doors["large"].calls) == num_calls
        lost = [number for number in range(20) if isinstance(end_of(out, number), Refused)]
        assert lost == list(range(16 if mode == "try" else 20))
        last = end_of(out, 10)
        assert isinstance(last, Refused)
        if mode == "refuse":
            assert (last.status, last.retry_after_s) == (503, 53.0)
            assert "large, small, third" in last.message


class Stale:
    """A cache that has something old for everybody."""

    def stale(self, flight: Flight, now: float) -> Answered:
        flight.passage.cache_outcome = "stale"
        return Answered(now + 0.01, "old_cache", 7)


@pytest.mark.parametrize("cause", ["down", "slow", "marked down"])
def test_when_nobody_is_left_a_stale_answer_is_better_than_none(cause: str) -> None:
    behind = providers()
    keys: dict[str, Any] = {"chain": CHAIN, "breaker": {"min_calls": 1}, "first_token_timeout": "2s"}
    built = stage("failover", keys, parts(behind, "failover", Timeline(), [Stale()]))
    door: Door = Slowness(60.0, ALWAYS) if cause == "slow" else Outage(ALWAYS)
    whole = stack(built, behind=behind, doors={model: [door] for model in CHAIN})
    load = [(0.0, ask(0)), (1.0, ask(1))] if cause == "marked down" else [(0.0, ask(0))]
    number = len(load) - 1
    out = run(whole, load)
    end = end_of(out, number)
    assert isinstance(end, Finished)
    assert (end.num_output_tokens, passage_of(out, number).source) == (7, "old_cache")
    assert end.at == pytest.approx({"down": 0.01, "slow": 6.01, "marked down": 1.01}[cause])
    assert passage_of(out, number).notes[-1] == "failover: a stale answer of old_cache, no model is left"
    assert whole.idle
    assert whole.stages[0].state(0.0)["in_flight"] == 0


# -- what every policy must bear -------------------------------------------------------------------------


def demanding(every_token: bool = False) -> Stack:
    doors: dict[str, Door] = {"large": Outage((3.0, 9.0), (20.0, 60.0)), "small": Slowness(7.0, (5.0, 30.0))}
    keys: dict[str, Any] = {"breaker": {"min_calls": 3, "cooldown": "4s"}, "first_token_timeout": "2s"}
    return subject(doors, every_token=every_token, **keys)


def test_both_clocks_agree() -> None:
    load = [(number * 0.7, ask(number, watched=number % 3 != 0)) for number in range(80)]
    virtual = assert_both_clocks_agree(demanding, load)
    assert counts(virtual)["moved"] > 20


@given(st.lists(st.tuples(st.integers(0, 39), st.floats(0, 6)), max_size=25))
@settings(max_examples=60, deadline=None)
def test_clients_may_go_away_at_any_moment(cancels: list[tuple[int, float]]) -> None:
    run_with_cancels(demanding(), [(number * 0.7, ask(number)) for number in range(40)], cancels)


def test_a_probe_whose_client_goes_away_does_not_block_the_next() -> None:
    keys: dict[str, Any] = {"breaker": {"min_calls": 1, "cooldown": "5s", "probes": 1}}
    whole = subject({"large": Outage((0.0, 1.0))}, **keys)
    load: list[tuple[float, Request]] = [(0.0, ask(0)), (6.0, ask(1)), (6.2, ask(2)), (7.0, ask(3))]
    out = run_with_cancels(whole, load, [(1, 0.5)])
    assert [passage_of(out, number).model for number in (0, 2, 3)] == ["small", "small", "large"]


DAY = """\
models:
  - {name: first, profile: hosted}
  - {name: second, profile: hosted}
stack:
  - failover: {name: assistant, chain: [first, second], health_check: 5s}
faults:
  - {at: 60s, for: 60s, kind: outage, model: first}
"""


def test_an_outage_on_the_timeline_costs_only_the_answers_that_it_cuts(tmp_path: Path) -> None:
    """The effect, with the deployment's own fault: those who ask for `first` itself are refused for a minute."""
    path = tmp_path / "day.yaml"
    path.write_text(DAY)
    deployment = load_deployment(str(path))
    ended: dict[str, dict[str, Emission]] = {}
    for model in ("assistant", "first"):
        load = [(number * 0.5, ask(number, model, num_answer_tokens=20)) for number in range(360)]
        ended[model] = ends(simulate(build_engine(deployment, every_token=False), load))
    refused = {model: {name for name, end in out.items() if isinstance(end, Refused)} for model, out in ended.items()}
    assert not refused["assistant"]
    assert refused["first"] >= {f"r{number}" for number in range(120, 240)}
    cut = {name for name, end in ended["assistant"].items() if isinstance(end, Cut)}
    assert cut <= {f"r{number}" for number in range(60, 120)}  # they had begun when it began


# -- the file --------------------------------------------------------------------------------------------

FILE = """\
models:
  - {name: large, profile: hosted}
  - {name: small, profile: hosted}
stack:
  - failover:
      name: assistant
      chain: [large, CHAINED]
      first_token_timeout: 5s
      health_check: 10s
      breaker: {window: 30s, failure_share: 0.5, min_calls: 10, cooldown: 30s, probes: 3}
"""


@pytest.mark.parametrize(
    ("chained", "line", "message"),
    [
        ("small", 0, ""),
        ("smal", 7, "did you mean 'small'"),
        ("large", 7, "twice"),
        ("small]\n      nam: [x", 8, "no key"),
        ("small]\n      chains: [[large], [small]", 5, "not both"),
    ],
)
def test_names_that_lead_nowhere_are_errors_with_a_line(chained: str, line: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / "stack.yaml"
    path.write_text(FILE.replace("CHAINED", chained))
    if not line:
        assert load_deployment(str(path)).names == ["large", "small", "assistant"]
        return
    with pytest.raises(DeploymentError) as caught:
        load_deployment(str(path))
    assert f":{line}:" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "needs either"),
        ({"chains": [["large"]], "name": "assistant"}, "belongs to one `chain`"),
        ({"chains": [["large", "small"], ["large"]]}, "begins two"),
        ({"chain": []}, "at least 1 item"),
    ],
)
def test_chains_that_make_no_sense_are_errors(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stage("failover", keys, parts(engine(), "failover", Timeline(), []))


def test_it_says_what_it_does() -> None:
    whole = subject({}, first_token_timeout="5s", health_check="10s", name="assistant")
    assert whole.stages[0].describe() == (
        "assistant: large then small then third, on 429, 5xx, reset, cut, no first token in 5 s; marked down at 50% "
        "failures of at least 10 calls in 30 s, for 30 s, then 3 probes, checked every 10 s; when all are down: a stale "
        "answer, or they are tried all the same"
    )
