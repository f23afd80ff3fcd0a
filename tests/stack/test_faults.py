"""Faults on the run's clock: whom they strike and whom not, alike under both clocks, and what they do to those they strike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Cut, Emission, Finished, Refused, Request, Tokens, chunks_of, load_deployment
from mockllm.building import build_engine, build_stack
from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.engine import Engine
from mockllm.engine.latency import LinearStepTime
from mockllm.errors import DeploymentError
from mockllm.passage import Damage, Passage, Tenant
from mockllm.stack.fault_kinds import KINDS, Fault
from mockllm.stack.stack import Stack
from tests.stack.build import STREAMS, ask, end_of, ends, engine, passage_of, run, stack
from tests.stack.clocks import assert_both_clocks_agree, run_with_cancels

STEP_S = 0.02


def fault(kind: str, **keys: Any) -> Fault:
    """A fault as a file would say it; `lasts` stands for the key `for`, which is a word of Python."""
    if "lasts" in keys:
        keys["for"] = keys.pop("lasts")
    return KINDS[kind].model_validate({"kind": kind, **keys})


def batched(every_token: bool) -> Engine:
    """`large` and `small`, each one batched replica whose steps take 20 ms, whatever is in them."""
    step, limits = LinearStepTime(STEP_S, 0.0, 0.0, 0.0), BatchLimits(64, 100_000)
    return engine(
        {name: BatchedReplica(step, limits, every_token=every_token, streams=STREAMS) for name in ("large", "small")}
    )


def steady(num: int, gap_s: float = 0.5, model: str = "small", **changes: Any) -> list[tuple[float, Request]]:
    return [(number * gap_s, ask(number, model, **changes)) for number in range(num)]


def chunks(emissions: Iterable[Emission], number: int) -> list[float]:
    """The instants of all tokens of request number n."""
    name = f"r{number}"
    out: list[float] = []
    for each in emissions:
        if isinstance(each, Tokens) and each.request_id == name:
            out += [chunk.at for chunk in chunks_of(each) for _ in range(chunk.num)]
    return out


def ended(emissions: Iterable[Emission]) -> dict[str, tuple[Any, ...]]:
    """How every request ended, without what it met on its way."""
    return {
        name: (type(end), *(None if isinstance(each, Passage) else each for each in end))
        for name, end in ends(emissions).items()
    }


# -- outages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [503, 529, "reset"])
def test_during_an_outage_nobody_is_answered_and_after_it_everybody(status: Any) -> None:
    """Answers take 1.18 s; the outage is from 10 s to 20 s on the run's clock, which began with the first request."""
    load = [(at + 100.0, request) for at, request in steady(60)]
    out = run(stack(faults=[fault("outage", at="10s", lasts="10s", model="small", status=status)]), load)
    for number, (at, _) in enumerate(load):
        end, come = end_of(out, number), at - 100.0
        if 10 <= come < 20:
            assert isinstance(end, Refused)
            assert (end.status, end.at) == (0 if status == "reset" else status, at)
        elif come + 0.2 + 49 * 0.02 <= 10 or come >= 20:
            assert isinstance(end, Finished)
        else:
            assert isinstance(end, Cut)
            assert end.at == pytest.approx(110.0)
            assert end.num_output_tokens == len(chunks(out, number)) == 1 + int((10 - come - 0.2) / 0.02 + 1e-6)
            assert max(chunks(out, number)) <= 110.0


@pytest.mark.parametrize("every_token", [True, False])
def test_of_an_answer_that_nobody_saw_an_outage_makes_a_refusal(every_token: bool) -> None:
    """Whole answers are seen at their end; streams from their first token on, here after 1 s."""
    load = [(0.0, ask(0, watched=False)), (0.0, ask(1, watched=True)), (4.5, ask(2, watched=True))]
    out = run(stack(faults=[fault("outage", at="5s", lasts="1s")], every_token=every_token), load)
    assert [type(end_of(out, number)) for number in range(3)] == [Refused, Cut, Refused]
    assert {end_of(out, number).at for number in range(3)} == {5.0}
    assert passage_of(out, 0).cost_usd is None
    assert passage_of(out, 1).cost_usd == pytest.approx((100 * 2.0 + 41 * 8.0) / 1e6)  # prompt and 41 tokens


def test_what_was_not_seen_is_tried_again_and_what_was_is_not() -> None:
    subject = stack(
        ("retry", {"attempts": 2, "base": "2s", "jitter": "equal", "budget": None}),
        faults=[fault("outage", at="5s", lasts="1s")],
    )
    out = run(subject, [(0.0, ask(0, watched=False)), (0.0, ask(1, watched=True))])
    assert isinstance(end_of(out, 0), Finished)
    assert isinstance(end_of(out, 1), Cut)
    assert passage_of(out, 0).num_attempts == 2


def test_with_failover_an_outage_loses_no_request_that_was_not_seen() -> None:
    """The effect: with another provider everybody is answered, without one nobody in the window is."""
    outage, load = [fault("outage", at="5s", lasts="10s", model="large")], steady(40, model="large", watched=False)
    alone = run(stack(faults=outage), load)
    chain = run(stack(("failover", {"chain": ["large", "small"]}), faults=outage), load)
    assert Counter(type(end).__name__ for end in ends(alone).values()) == {"Finished": 10, "Refused": 30}
    assert {type(end) for end in ends(chain).values()} == {Finished}
    during = [passage_of(chain, number).model for number in range(11, 30)]
    assert set(during) == {"small"}


def test_an_outage_of_a_region_or_a_share_leaves_the_others_alone() -> None:
    load = [
        (0.01 * number, ask(number, "small", tenant=Tenant(region="eu" if number % 2 else "us")))
        for number in range(400)
    ]
    out = run(stack(faults=[fault("outage", at="0s", region="eu", share=0.5)]), load)
    struck = {name for name, end in ends(out).items() if isinstance(end, Refused)}
    assert all(int(name[1:]) % 2 for name in struck)
    assert 70 <= len(struck) <= 130  # binomial(200, 1/2): mean 100, standard deviation 7.1


# -- whom it strikes ---------------------------------------------------------------------------------------------------


def test_a_share_strikes_its_share_and_the_same_requests_in_any_order() -> None:
    def struck(order: Sequence[int]) -> set[str]:
        load = [(0.01 * place, ask(number, "small")) for place, number in enumerate(order)]
        out = run(stack(faults=[fault("errors", status=500, share=0.2)]), load)
        return {name for name, end in ends(out).items() if isinstance(end, Refused)}

    forwards = struck(range(1200))
    # Binomial(1200, .2): mean 240, standard deviation 13.9; five of them to either side.
    assert 170 <= len(forwards) <= 310
    assert struck(range(1199, -1, -1)) == forwards
    assert struck(range(0, 1200, 3)) == {name for name in forwards if int(name[1:]) % 3 == 0}


def test_two_shares_are_drawn_apart_and_a_retry_is_drawn_anew() -> None:
    faults = [fault("errors", status=500, share=0.5), fault("errors", status=429, share=0.5)]
    subject = stack(("retry", {"attempts": 2, "base": "1ms", "budget": None}), faults=faults)
    out = run(subject, steady(1000, 0.01))
    first = Counter(passage_of(out, number).notes[0] for number in range(1000) if passage_of(out, number).notes)
    assert 420 <= first["faults: errors (fault-1)"] <= 580  # 1/2 of 1000
    assert 180 <= first["faults: errors (fault-2)"] <= 320  # 1/2 of the other half
    second = [
        passage_of(out, number).num_attempts == 2 and isinstance(end_of(out, number), Finished)
        for number in range(1000)
    ]
    assert 125 <= sum(second) <= 250  # 3/4 are tried again, 1/4 of them get through


KINDS_OF_CALLS: list[dict[str, Any]] = [
    {"kind": "outage"},
    {"kind": "refuse_connections"},
    {"kind": "reset"},
    {"kind": "errors", "status": 500},
    {"kind": "rate_limit_storm", "retry_after": "2s"},
    {"kind": "slow_first_token", "delay": "700ms"},
    {"kind": "cut", "after_tokens": 7},
    {"kind": "truncate", "after_tokens": 7},
    {"kind": "in_band_error", "after_tokens": 7},
    {"kind": "garbled", "after_tokens": 7},
    {"kind": "duplicate_finish"},
    {"kind": "slow_headers", "delay": "300ms"},
]
KINDS_OF_REPLICAS: list[dict[str, Any]] = [{"kind": "brownout", "factor": 3}, {"kind": "stall", "for": "5s"}]


@pytest.mark.parametrize("keys", KINDS_OF_CALLS, ids=lambda keys: keys["kind"])
def test_nobody_is_harmed_outside_the_window_or_whom_it_does_not_concern(keys: dict[str, Any]) -> None:
    """Two models, two regions; struck are calls from eu to small in [10 s, 15 s), and every one of those."""
    load = [
        (0.25 * n, ask(n, ("small", "large")[n % 2], tenant=Tenant(region="eu" if n % 4 < 2 else "us")))
        for n in range(100)
    ]
    usual = run(stack(), load)
    subject = stack(
        faults=[
            KINDS[keys["kind"]].model_validate({**keys, "at": "10s", "for": "5s", "model": "small", "region": "eu"})
        ]
    )
    out = run(subject, load)
    broken_off = {
        f"r{n}"
        for n, (at, r) in enumerate(load)
        if r.model == "small" and n % 4 == 0 and at < 10 < at + 0.2 + 49 * 0.02
    }
    concerned = {f"r{n}" for n, (at, _) in enumerate(load) if 10 <= at < 15 and n % 4 == 0}
    concerned |= broken_off if keys["kind"] == "outage" else set()
    changed = {
        name
        for name, end in ends(out).items()
        if ended(out)[name] != ended(usual)[name] or end.passage.damage  # type: ignore[union-attr]
    }
    assert changed == concerned
    assert subject.faults.scheduled[0].num_struck == len(concerned)
    noted = {name for name, end in ends(out).items() if end.passage.notes}  # type: ignore[union-attr]
    assert noted == concerned


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"kind": "errors", "status": 418}, (418, "mock_error", None)),
        ({"kind": "errors", "status": 503, "retry_after": "7s"}, (503, "mock_error", 7.0)),
        ({"kind": "rate_limit_storm", "retry_after": "1m"}, (429, "mock_error", 60.0)),
        ({"kind": "reset"}, (0, "connection_reset", None)),
        ({"kind": "refuse_connections"}, (0, "connection_refused", None)),
        ({"kind": "outage", "status": "reset"}, (0, "outage", None)),
    ],
    ids=lambda value: str(value.get("kind")) if isinstance(value, dict) else "",
)
def test_what_refuses(keys: dict[str, Any], expected: tuple[Any, ...]) -> None:
    end = end_of(run(stack(faults=[KINDS[keys["kind"]].model_validate(keys)]), [(1.0, ask(0))]), 0)
    assert isinstance(end, Refused)
    assert (end.at, (end.status, end.kind, end.retry_after_s)) == (1.0, expected)


@pytest.mark.parametrize(
    ("kind", "flags"), [("cut", (False, False)), ("truncate", (False, True)), ("in_band_error", (True, False))]
)
@pytest.mark.parametrize("every_token", [True, False])
def test_what_ends_early(kind: str, flags: tuple[bool, bool], every_token: bool) -> None:
    """After 12 tokens; an answer of 12 ends early too, one of 11 does not."""
    load = [
        (0.0, ask(0, "small")),
        (0.0, ask(1, "small", num_answer_tokens=12)),
        (0.0, ask(2, "small", num_answer_tokens=11)),
    ]
    out = run(stack(faults=[fault(kind, after_tokens=12)], every_token=every_token), load)
    for number in (0, 1):
        end = end_of(out, number)
        assert isinstance(end, Cut)
        assert (end.num_output_tokens, end.in_band, end.silent) == (12, *flags)
        assert end.at == pytest.approx(0.2 + 11 * 0.02)
    assert isinstance(end_of(out, 2), Finished)


def test_damage_is_noted_for_the_answer_that_is_seen() -> None:
    """What an attempt that was thrown away would have been does not stick to the next one."""
    faults = [fault("garbled", after_tokens=3, lasts="1s"), fault("slow_headers", delay="2s")]
    assert passage_of(run(stack(faults=faults), [(0.0, ask(0))]), 0).damage == (
        Damage("garbled", after=3),
        Damage("slow_headers", seconds=2.0),
    )
    refusing = [
        fault("garbled", after_tokens=3, lasts="1s", model="large"),
        fault("errors", status=500, lasts="1s", model="small"),
    ]
    out = run(
        stack(("failover", {"chain": ["small", "large"]}), ("retry", {"attempts": 1}), faults=refusing),
        [(0.0, ask(0, "small")), (2.0, ask(1, "small"))],
    )
    assert [passage_of(out, number).model for number in (0, 1)] == ["large", "small"]
    assert [len(passage_of(out, number).damage) for number in (0, 1)] == [1, 0]


# -- slow and still ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every_token", [True, False])
def test_a_brownout_times_three_makes_every_token_three_times_as_slow(every_token: bool) -> None:
    """One batched replica, one answer of 2000 tokens; the step that runs when it begins or ends keeps its pace."""
    subject = stack(
        behind=batched(every_token), every_token=every_token, faults=[fault("brownout", at="5s", lasts="6s", factor=3)]
    )
    at = chunks(run(subject, [(0.0, ask(0, num_answer_tokens=2000))]), 0)
    gaps = [(before, after - before) for before, after in pairwise(at)]
    inside = [gap for before, gap in gaps if 5.0 < before < 11.0]
    outside = [gap for before, gap in gaps if not 5.0 - 1e-9 < before < 11.0 + 1e-9]
    assert inside == pytest.approx([3 * STEP_S] * len(inside), rel=1e-6)
    assert outside == pytest.approx([STEP_S] * len(outside), rel=1e-6)
    assert len(inside) == pytest.approx(6.0 / (3 * STEP_S), abs=2)


def test_a_brownout_of_a_hosted_model_is_for_the_calls_that_come_in() -> None:
    out = run(stack(faults=[fault("brownout", at="5s", lasts="5s", factor=3, model="small")]), steady(40))
    for number, (at, _) in enumerate(steady(40)):
        factor = 3 if 5 <= at < 10 else 1
        assert end_of(out, number).at == pytest.approx(at + factor * (0.2 + 49 * 0.02))


@pytest.mark.parametrize("hosted", [True, False])
def test_while_it_stalls_nothing_moves_and_then_everything_is_so_much_later(hosted: bool) -> None:
    load, keys = steady(20, 0.3), {"at": "2s", "lasts": "3s", "model": "small"}
    usual = run(stack(behind=None if hosted else batched(False)), load)
    out = run(stack(behind=None if hosted else batched(False), faults=[fault("stall", **keys)]), load)
    for number in range(7):  # before it begins
        expected = [at if at <= 2 else at + 3 for at in chunks(usual, number)]
        assert chunks(out, number) == pytest.approx(expected)
    assert not [at for number in range(20) for at in chunks(out, number) if 2 + 1e-9 < at < 5 - 1e-9]


def test_brownouts_multiply_and_a_stall_lasts_as_long_as_the_longest() -> None:
    faults = [fault("brownout", factor=2), fault("brownout", factor=4, lasts="1h")]
    end = end_of(run(stack(faults=faults), [(0.0, ask(0, "small"))]), 0)
    assert end.at == pytest.approx(8 * (0.2 + 49 * 0.02))
    stalls = [
        fault("stall", at="100ms", lasts="1s"),
        fault("stall", at="500ms", lasts="4s"),
        fault("stall", at="600ms", lasts="1s"),
    ]
    end = end_of(run(stack(faults=stalls), [(0.0, ask(0, "small"))]), 0)
    assert end.at == pytest.approx(0.2 + 49 * 0.02 + 4.4)


def test_several_at_once_compose_in_the_order_of_the_module() -> None:
    def struck(*faults: Fault) -> tuple[Stack, Emission, Passage]:
        subject = stack(faults=faults)
        out = run(subject, [(0.0, ask(0, "small"))])
        return subject, end_of(out, 0), passage_of(out, 0)

    late, later = fault("slow_first_token", delay="1s"), fault("slow_first_token", delay="2s")
    _, end, _ = struck(late, later)
    assert end.at == pytest.approx(3 + 0.2 + 49 * 0.02)
    _, end, passage = struck(
        fault("cut", after_tokens=20), fault("truncate", after_tokens=10), fault("in_band_error", after_tokens=10)
    )
    assert isinstance(end, Cut)
    assert (end.num_output_tokens, end.silent, end.in_band) == (10, True, False)
    assert passage.notes == ["faults: cut (fault-1)", "faults: truncate (fault-2)", "faults: in_band_error (fault-3)"]
    subject, end, passage = struck(late, fault("errors", status=500), fault("reset"))
    assert isinstance(end, Refused)
    assert (end.status, end.at) == (500, 0.0)
    assert [each.num_struck for each in subject.faults.scheduled] == [0, 1, 0]
    assert passage.notes == ["faults: errors (fault-2)"]


# -- laws ----------------------------------------------------------------------------------------------------------------


@st.composite
def scripts(draw: st.DrawFn) -> list[Fault]:
    """Up to five faults of any kind, anywhere in the first seconds."""
    out = []
    for _ in range(draw(st.integers(1, 5))):
        keys = dict(draw(st.sampled_from(KINDS_OF_CALLS + KINDS_OF_REPLICAS)))
        if keys in KINDS_OF_CALLS:
            keys |= {"share": draw(st.sampled_from([0.3, 1.0])), "region": draw(st.sampled_from([None, "eu"]))}
        keys |= {"at": f"{draw(st.integers(0, 6000))}ms", "for": f"{draw(st.integers(1, 5000))}ms"}
        keys |= {"model": draw(st.sampled_from([None, "small", "large"]))}
        out.append(KINDS[keys["kind"]].model_validate(keys))
    return out


@st.composite
def loads(draw: st.DrawFn) -> list[tuple[float, Request]]:
    out, now = [], 0.0
    for number, gap in enumerate(draw(st.lists(st.sampled_from([0.0, 0.05, 0.33, 1.1]), min_size=1, max_size=16))):
        now += gap
        model, watched = draw(st.sampled_from(["small", "large"])), draw(st.booleans())
        region = draw(st.sampled_from([None, "eu"]))
        out.append((now, ask(number, model, watched=watched, tenant=Tenant(region=region))))
    return out


STAGES: list[list[tuple[str, dict[str, Any]]]] = [
    [],
    [("retry", {"attempts": 3, "base": "100ms", "budget": None})],
    [("failover", {"chains": [["large", "small"], ["small", "large"]]})],
]


def of_kind(kind: str, every_token: bool) -> Engine:
    return engine(every_token=every_token) if kind == "hosted" else batched(every_token)


@given(scripts(), loads(), st.sampled_from(STAGES), st.sampled_from(["hosted", "batched"]))
@settings(max_examples=100, deadline=None)
def test_both_clocks_tell_the_same_story(
    script: list[Fault], load: list[tuple[float, Request]], stages: list[tuple[str, dict[str, Any]]], kind: str
) -> None:
    made: list[Stack] = []

    def make(every_token: bool) -> Stack:
        made.append(stack(*stages, behind=of_kind(kind, every_token), every_token=every_token, faults=script))
        return made[-1]

    assert_both_clocks_agree(make, load)
    first, second = ([each.num_struck for each in subject.faults.scheduled] for subject in made)
    assert first == second


@given(
    scripts(), loads(), st.sampled_from(STAGES), st.lists(st.tuples(st.integers(0, 15), st.floats(0, 6)), max_size=8)
)
@settings(max_examples=100, deadline=None)
def test_nothing_is_lost_whatever_breaks_and_whoever_goes_away(
    script: list[Fault],
    load: list[tuple[float, Request]],
    stages: list[tuple[str, dict[str, Any]]],
    cancels: list[tuple[int, float]],
) -> None:
    subject = stack(*stages, faults=script)
    run_with_cancels(subject, load, list(dict(cancels).items()))
    assert subject.engine.counts.num_in_flight == 0


# -- replicas --------------------------------------------------------------------------------------------------------------

POOLED = """\
seed: 3
models:
  - {name: small, profile: %s, replicas: {count: 3}}
"""


def pooled(tmp_path: Path, *faults: str, profile: str = "golden", every_token: bool = False) -> Stack:
    path = tmp_path / "pooled.yaml"
    path.write_text(POOLED % profile + f"faults: [{', '.join(f'{{{each}}}' for each in faults)}]\n")
    return build_stack(load_deployment(str(path)), every_token=every_token)


def by_replica(out: list[Emission]) -> dict[str, list[tuple[float, Emission]]]:
    found: dict[str, list[tuple[float, Emission]]] = {}
    for end in ends(out).values():
        found.setdefault(str(getattr(end, "replica", None)), []).append((end.at, end))
    return found


def test_a_replica_that_is_down_breaks_what_it_has_and_takes_nothing_new(tmp_path: Path) -> None:
    """Round robin over three; the golden profile's answers of 50 tokens take 1.55 s."""
    subject = pooled(tmp_path, "at: 5s, for: 5s, kind: outage, model: small, replica: small-1")
    out = run(subject, [(0.1 * number, ask(number, "small")) for number in range(150)])
    broken = [end for end in ends(out).values() if not isinstance(end, Finished)]
    assert {end.at for end in broken} == {5.0}
    assert Counter(type(end).__name__ for end in broken) == {"Cut": 3, "Refused": 1}  # the last had no token yet
    assert subject.faults.scheduled[0].num_struck == 4
    replicas = by_replica(out)
    assert not [at for at, _ in replicas["small-1"] if 5.0 < at < 10.0]
    assert [at for at, _ in replicas["small-1"] if at > 11.5], "it is back"
    assert all(isinstance(end, Finished) for name in ("small-0", "small-2") for _, end in replicas[name])
    assert len(ends(out)) == 150


def test_struck_replicas_tell_the_same_story_under_both_clocks(tmp_path: Path) -> None:
    script = [
        "at: 2s, for: 3s, kind: outage, model: small, replica: small-1",
        "at: 3s, for: 6s, kind: brownout, model: small, factor: 2",
        "at: 4s, for: 3s, kind: brownout, model: small, replica: small-2, factor: 1.5",
        "at: 6s, for: 2s, kind: stall, model: small, replica: small-0",
        "at: 7s, for: 2s, kind: stall, model: small",
    ]
    load = [(0.07 * number, ask(number, "small", watched=number % 4 > 0)) for number in range(200)]
    for profile in ("golden", "h100-8b"):

        def make(every_token: bool, profile: str = profile) -> Stack:
            return pooled(tmp_path, *script, profile=profile, every_token=every_token)

        assert_both_clocks_agree(make, load)


def test_when_every_replica_is_down_calls_are_refused(tmp_path: Path) -> None:
    script = [
        f"at: {2 + number}s, for: 10s, kind: outage, model: small, replica: small-{number}" for number in range(3)
    ]
    late = ["at: 3500ms, for: 5s, kind: slow_first_token, delay: 1s"]  # on their way when the last one goes down
    subject = pooled(tmp_path, *script, *late)
    out = run(subject, [(0.25 * number, ask(number, "small")) for number in range(60)])
    for number in range(60):
        end, at = end_of(out, number), 0.25 * number
        if 4 <= at < 12:
            assert isinstance(end, Refused)
            assert end.status == 503
        elif at in (3.5, 3.75):  # as Envoy says: no healthy upstream
            assert isinstance(end, Refused)
            assert (end.status, end.at) == (503, at + 1.0)
    assert len(ends(out)) == 60


def test_one_slow_replica_is_slow_alone(tmp_path: Path) -> None:
    subject = pooled(tmp_path, "kind: brownout, model: small, replica: small-2, factor: 5, for: 20s")
    load = [(0.1 * number, ask(number, "small")) for number in range(60)]
    out = run(subject, load)
    took: dict[str, list[float]] = {}
    for (at, _), number in zip(load, range(60), strict=True):
        end = end_of(out, number)
        assert isinstance(end, Finished)
        took.setdefault(str(end.replica), []).append(end.at - at)
    assert min(took["small-2"]) == pytest.approx(5 * max(took["small-0"]), rel=1e-6)
    assert max(took["small-0"]) == pytest.approx(max(took["small-1"]))
    assert subject.faults.scheduled[0].num_struck == len(took["small-2"])


def test_one_replica_that_stands_still_holds_up_only_its_own(tmp_path: Path) -> None:
    script = "at: 2s, for: 3s, kind: stall, model: small, replica: small-0"
    load = [(0.1 * number, ask(number, "small")) for number in range(40)]
    usual, out = run(pooled(tmp_path), load), run(pooled(tmp_path, script), load)
    for number in range(20):
        end, before = end_of(out, number), end_of(usual, number)
        assert isinstance(end, Finished)
        late = 3.0 if end.replica == "small-0" and before.at > 2.0 else 0.0
        assert end.at == pytest.approx(before.at + late)


# -- by hand ---------------------------------------------------------------------------------------------------------------


def test_faults_come_and_go_while_it_runs() -> None:
    subject = stack()
    load, out = steady(40), list[Emission]()
    for at, request in load:
        out += subject.advance(at)
        if at == 5.0:
            (added,) = subject.faults.add([fault("outage", model="small")], at)
            out += subject.advance(at)
        if at == 12.0:
            assert subject.faults.remove(added.name, at)
            assert not subject.faults.remove(added.name, at)
        subject.submit(request, at)
    out += subject.advance(1e6)
    refused = [number for number in range(40) if isinstance(end_of(out, number), Refused)]
    assert refused == list(range(10, 24))
    assert {end_of(out, number).at for number in range(40) if isinstance(end_of(out, number), Cut)} == {5.0}


def test_a_stall_that_is_taken_back_lets_the_answers_go_on_at_once() -> None:
    for behind in (None, batched(False)):
        subject = stack(behind=behind)
        subject.submit(ask(0, "small"), 0.0)
        out = subject.advance(0.5)
        (added,) = subject.faults.add([fault("stall", lasts="1h")], 0.5)
        out += subject.advance(2.0)
        subject.faults.remove(added.name, 2.0)
        out += subject.advance(100.0)
        usual = run(stack(behind=None if behind is None else batched(False)), [(0.0, ask(0, "small"))])
        assert end_of(out, 0).at == pytest.approx(end_of(usual, 0).at + 1.5)


def test_the_run_can_be_begun_anew_and_the_faults_with_it() -> None:
    subject = stack(faults=[fault("errors", at="2s", lasts="2s", status=500)])
    out = list[Emission]()
    for number in range(40):
        at = 0.5 * number
        out += subject.advance(at)
        if number == 20:
            assert subject.faults.state(at)[0]["state"] == "over"
            assert subject.faults.state(at)[0]["num_struck"] == 4
            subject.faults.restart(at)
            assert subject.faults.state(at)[0]["state"] == "scheduled"
        subject.submit(ask(number, "small"), at)
    out += subject.advance(1e6)
    refused = [number for number in range(40) if isinstance(end_of(out, number), Refused)]
    assert refused == [4, 5, 6, 7, 24, 25, 26, 27]


def test_before_the_first_request_nothing_is_due_and_now_means_its_beginning() -> None:
    subject = stack()
    subject.faults.add([fault("errors", status=500, lasts="1s")], 77.0)
    assert subject.due() == float("inf")
    out = run(subject, [(100.0, ask(0)), (100.99, ask(1)), (101.0, ask(2))])
    assert [type(end_of(out, number)) for number in range(3)] == [Refused, Refused, Finished]


def test_the_state_says_everything() -> None:
    subject = stack(
        faults=[fault("rate_limit_storm", at="1m30s", lasts="500ms", retry_after="2s", share=0.25, model="small")]
    )
    run(subject, [(10.0, ask(0))])
    assert subject.faults.state(100.2) == [
        {
            "id": "fault-1",
            "state": "active",
            "begins_s": 90.0,
            "ends_s": 90.5,
            "num_struck": 0,
            "fault": {
                "kind": "rate_limit_storm",
                "at": "90s",
                "for": "0.5s",
                "retry_after": "2s",
                "share": 0.25,
                "model": "small",
            },
        }
    ]


@given(st.sampled_from(KINDS_OF_CALLS + KINDS_OF_REPLICAS), st.floats(1e-3, 1e9))
def test_what_is_shown_can_be_sent_again(keys: dict[str, Any], seconds: float) -> None:
    made = KINDS[keys["kind"]].model_validate({"for": "1h", **keys}).model_copy(update={"at": seconds})
    assert KINDS[made.kind].model_validate(made.written()) == made


# -- files -----------------------------------------------------------------------------------------------------------------

FILE = """\
models:
  - {name: large, profile: golden}
  - {name: small, profile: golden, replicas: {count: 2}}
faults:
  - {at: 1s, for: 2s, kind: outage, model: large}
  - %s
"""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{kind: outgae}", ["faults[1].kind", "'outgae'", "did you mean outage?"]),
        ("{for: 2s}", ["faults[1]", "must name its kind", "brownout"]),
        ("outage", ["faults[1]", "must name its kind"]),
        ("{kind: [outage]}", ["faults[1].kind", "no kind of fault"]),
        ("{kind: outage, modle: large}", ["faults[1].modle", "no key that belongs here"]),
        ("{kind: outage, model: lagre}", ["faults[1].model", "'lagre'", "did you mean 'large'?"]),
        ("{kind: outage, for: 10}", ["faults[1].for", "10 is not a duration", "500ms"]),
        ("{kind: outage, for: 0s}", ["faults[1].for", "greater than 0"]),
        ("{kind: outage, at: -1s}", ["faults[1].at", "'-1s' is not a duration"]),
        ("{kind: outage, status: 404}", ["faults[1].status", "404"]),
        ("{kind: errors}", ["faults[1].status", "required"]),
        ("{kind: errors, status: 200}", ["faults[1].status", "greater than or equal to 400"]),
        ("{kind: errors, status: 500, share: 0}", ["faults[1].share", "greater than 0"]),
        ("{kind: errors, status: 500, share: 1.5}", ["faults[1].share", "less than or equal to 1"]),
        ("{kind: cut}", ["faults[1].after_tokens", "required"]),
        ("{kind: cut, after_tokens: 0}", ["faults[1].after_tokens", "greater than or equal to 1"]),
        ("{kind: brownout, factor: 0.5}", ["faults[1].factor", "greater than or equal to 1"]),
        ("{kind: brownout, factor: 3, share: 0.5}", ["faults[1].share", "no key that belongs here"]),
        ("{kind: stall}", ["faults[1].for", "required"]),
        ("{kind: slow_first_token, delay: 0s}", ["faults[1].delay", "greater than 0"]),
        ("{kind: outage, replica: small-1}", ["faults[1]", "name the `model` too"]),
        ("{kind: outage, model: small, replica: small-2}", ["faults[1].replica", "small-0, small-1"]),
        ("{kind: outage, model: large, replica: large-0}", ["faults[1].replica", "has no name"]),
        ("{kind: outage, model: small, replica: small-1, share: 0.5}", ["faults[1]", "without `region` and `share`"]),
    ],
)  # fmt: skip
def test_a_broken_rule_names_line_key_and_rule(tmp_path: Path, line: str, words: list[str]) -> None:
    path = tmp_path / "faulty.yaml"
    path.write_text(FILE % line)
    with pytest.raises(DeploymentError) as caught:
        load_deployment(str(path))
    assert f"{path}:6: " in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_deployment_with_nothing_but_faults_has_a_stack(tmp_path: Path) -> None:
    path = tmp_path / "faulty.yaml"
    path.write_text(FILE % "{kind: brownout, model: small, replica: small-1, factor: 2}")
    deployment = load_deployment(str(path))
    assert deployment.has_stack
    subject = build_engine(deployment, every_token=False)
    assert isinstance(subject, Stack)
    assert len(subject.faults.scheduled) == 2


def test_a_run_without_faults_is_the_run_without_a_stack() -> None:
    """Every server has a stack, for the faults that may come; it changes nothing."""
    deployment = load_deployment("h100-8b")
    name = deployment.names[0]
    load = [(0.05 * number, ask(number, name, watched=number % 3 > 0)) for number in range(60)]
    plain = build_engine(deployment, every_token=False)
    assert not isinstance(plain, Stack)
    expected = ended(run(plain, load))  # type: ignore[arg-type]
    assert ended(run(build_stack(deployment, every_token=False), load)) == expected


def test_every_kind_is_tried_here() -> None:
    assert {keys["kind"] for keys in KINDS_OF_CALLS + KINDS_OF_REPLICAS} == set(KINDS)
