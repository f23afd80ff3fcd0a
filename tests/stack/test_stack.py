"""The stack itself, with stages that do one thing each: what every policy may rely on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Cut, Finished, Refused, Request, Tokens, simulate
from mockllm.model import Began
from mockllm.stack.stage import (
    HELD,
    Again,
    Answered,
    Arrival,
    Beside,
    End,
    Flight,
    Later,
    Leaving,
    Mirrored,
    Refusal,
    Release,
    Stage,
    Strike,
)
from tests.stack.build import ask, end_of, engine, passage_of, run, stack
from tests.stack.clocks import drive_with_cancels, driven


@dataclass
class Scripted(Stage):
    """Says what it is told to say, and keeps a diary."""

    steps: dict[str, list[Arrival]] = field(default_factory=dict)
    answers: dict[str, list[Leaving]] = field(default_factory=dict)
    timed: list[tuple[float, str, Any]] = field(default_factory=list)
    diary: list[tuple[float, str, str]] = field(default_factory=list)
    flights: dict[str, Flight] = field(default_factory=dict)
    name: str = "scripted"

    def arrive(self, flight: Flight, now: float) -> Arrival:
        name = flight.asked.request_id
        self.diary.append((now, "arrive", name))
        self.flights[name] = flight
        return self.steps.get(name, [None]).pop(0) if self.steps.get(name) else None

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        name = flight.asked.request_id
        self.diary.append((now, f"leave {type(end).__name__}", name))
        step = self.answers[name].pop(0) if self.answers.get(name) else None
        if isinstance(step, Again):
            return Again(now + step.at)
        return step

    def due(self) -> float:
        return self.timed[0][0] if self.timed else inf

    def advance(self, now: float) -> Iterable[Release]:
        while self.timed and self.timed[0][0] <= now:
            _, name, step = self.timed.pop(0)
            yield self.flights[name], step


def test_without_a_stage_the_stack_says_what_the_engine_says() -> None:
    load = [(n * 0.3, ask(n, "large" if n % 2 else "small", watched=bool(n % 3))) for n in range(40)]
    expected = list(simulate(engine(), load))
    got = run(stack(), load)
    strip = [each._replace(passage=None) if not isinstance(each, Tokens) else each for each in got]
    assert strip == expected


def test_a_wait_is_counted_by_the_stage_that_asked_for_it() -> None:
    out = run(stack(Scripted(steps={"r0": [Later(2.5)]})), [(0.0, ask(0))])
    assert end_of(out, 0).at == pytest.approx(2.5 + 1.0 + 49 * 0.1)
    assert passage_of(out, 0).waited_s == {"scripted": 2.5}


def test_a_held_request_goes_on_when_its_stage_lets_it_go() -> None:
    stage = Scripted(steps={"r0": [HELD]}, timed=[(7.0, "r0", None)])
    out = run(stack(stage), [(0.0, ask(0, "small"))])
    assert end_of(out, 0).at == pytest.approx(7.0 + 0.2 + 49 * 0.02)
    assert [what for _, what, _ in stage.diary] == ["arrive", "leave Finished"]


def test_a_refusal_leaves_only_the_stages_before_it() -> None:
    outer, inner = Scripted(name="outer"), Scripted(steps={"r0": [Refusal(429, "limit", "no", 3.0)]}, name="inner")
    out = run(stack(outer, inner), [(1.0, ask(0))])
    assert [type(each) for each in out] == [Refused]
    assert (out[0].at, out[0].status, out[0].retry_after_s) == (1.0, 429, 3.0)  # type: ignore[union-attr]
    assert [what for _, what, _ in outer.diary] == ["arrive", "leave Refused"]
    assert [what for _, what, _ in inner.diary] == ["arrive"]


def test_an_answer_of_a_stage_is_read_out_at_its_pace() -> None:
    subject = stack(Scripted(steps={"r0": [Answered(2.0, "exact", 11, "stop", "kept words", 0.1)]}))
    out = run(subject, [(1.0, ask(0))])
    end = end_of(out, 0)
    assert isinstance(end, Finished)
    assert end.num_output_tokens == 11
    assert end.at == pytest.approx(3.0)
    assert (passage_of(out, 0).source, passage_of(out, 0).payload) == ("exact", "kept words")
    assert passage_of(out, 0).cost_usd is None
    assert subject.num_calls == 0


def test_trying_again_is_a_new_call_and_the_stages_further_in_are_met_again() -> None:
    outer = Scripted(answers={"r0": [Again(4.0)]}, name="outer")
    inner = Scripted(name="inner")
    out = run(stack(outer, inner), [(0.0, ask(0, "small", watched=False))])
    once = 0.2 + 49 * 0.02
    assert end_of(out, 0).at == pytest.approx(2 * once + 4.0)
    assert [what for _, what, _ in inner.diary] == ["arrive", "leave Finished"] * 2
    assert passage_of(out, 0).num_attempts == 2
    assert passage_of(out, 0).cost_usd == pytest.approx(2 * (100 * 0.1 + 50 * 0.4) / 1e6)
    assert sum(isinstance(each, Tokens) for each in out) == 1  # the answer that was thrown away is not seen


def test_what_has_begun_is_not_tried_again() -> None:
    stage = Scripted(answers={"r0": [Again(4.0)]})
    out = run(stack(stage), [(0.0, ask(0, "small", watched=True))])
    assert passage_of(out, 0).num_attempts == 1


def test_a_held_back_answer_comes_whole() -> None:
    class Patient(Scripted):
        def arrive(self, flight: Flight, now: float) -> Arrival:
            flight.hold_back = True
            return super().arrive(flight, now)

    out = run(stack(Patient()), [(0.0, ask(0, "small"))])
    assert [type(each) for each in out] == [Began, Tokens, Finished]
    assert [each.at for each in out] == pytest.approx([0.2 + 49 * 0.02] * 3)


@pytest.mark.parametrize("every_token", [True, False])
def test_who_wants_no_tokens_may_still_want_to_know_when_they_begin(every_token: bool) -> None:
    subject = stack(Scripted(answers={"r0": [Again(4.0)]}), every_token=every_token)
    out = run(subject, [(0.0, ask(0, "small", watched=False, tell_first=True)), (0.0, ask(1, "small", watched=False))])
    began = [(each.request_id, each.at) for each in out if isinstance(each, Began)]
    again = 0.2 + 49 * 0.02 + 4.0 + 0.2  # nothing was seen yet: it may be tried again, and begins again
    assert [name for name, _ in began] == ["r0", "r0"]
    assert [at for _, at in began] == pytest.approx([0.2, again])


@pytest.mark.parametrize("every_token", [True, False])
def test_of_two_calls_the_first_to_begin_answers(every_token: bool) -> None:
    class Hedging(Scripted):
        def arrive(self, flight: Flight, now: float) -> Arrival:
            flight.request = replace(flight.request, tell_first=True)
            return super().arrive(flight, now)

    second = Beside(ask(0, "small", tell_first=True))
    subject = stack(Hedging(timed=[(0.5, "r0", second)]), every_token=every_token)
    out = run(subject, [(0.0, ask(0))])
    assert end_of(out, 0).at == pytest.approx(0.5 + 0.2 + 49 * 0.02)
    assert passage_of(out, 0).model == "small"
    assert subject.num_calls == 2
    assert subject.engine.counts.num_cancelled == 1
    # The loser's prompt was read: it is paid for.
    assert passage_of(out, 0).cost_usd == pytest.approx((100 * 2.0 + 100 * 0.1 + 50 * 0.4) / 1e6)


def test_a_copy_is_sent_and_nobody_hears_of_it() -> None:
    subject = stack(Scripted(steps={"r0": [Mirrored((ask(0, "large"),))]}))
    out = run(subject, [(0.0, ask(0, "small"))])
    assert end_of(out, 0).at == pytest.approx(0.2 + 49 * 0.02)
    assert subject.num_calls == 2
    assert subject.cost_usd == pytest.approx((100 * 0.1 + 50 * 0.4 + 100 * 2.0 + 50 * 8.0) / 1e6)
    assert passage_of(out, 0).cost_usd == pytest.approx((100 * 0.1 + 50 * 0.4) / 1e6)


def test_a_door_delays_and_cuts() -> None:
    class Broken:
        def __init__(self) -> None:
            self.told: list[End] = []

        def enter(self, request: Request, now: float) -> Strike:
            return Strike(delay_s=3.0, cut=Cut("", 0.0, 10))

        def left(self, request: Request, end: End, now: float) -> None:
            self.told.append(end)

    door = Broken()
    out = run(stack(doors={"small": [door]}), [(0.0, ask(0, "small"))])
    end = end_of(out, 0)
    assert isinstance(end, Cut)
    assert end.num_output_tokens == 10
    assert end.at == pytest.approx(3.0 + 0.2 + 9 * 0.02)
    assert len(door.told) == 1


@given(
    st.lists(
        st.tuples(st.floats(0, 5), st.sampled_from([None, Later(6.0), HELD, Refusal(429, "x", "x")]), st.booleans()),
        min_size=1,
        max_size=25,
    ),
    st.lists(st.tuples(st.integers(0, 24), st.floats(0, 9)), max_size=8),
)
@settings(max_examples=150, deadline=None)
def test_every_stage_is_left_once_for_every_request_that_went_on(
    load: list[tuple[float, Any, bool]], cancels: list[tuple[int, float]]
) -> None:
    load = sorted(load, key=lambda each: each[0])
    names = [f"r{n}" for n in range(len(load))]
    held = [name for name, (_, step, _) in zip(names, load, strict=True) if step is HELD]
    outer = Scripted(name="outer")
    inner = Scripted(
        steps={name: [step] for name, (_, step, _) in zip(names, load, strict=True)},
        timed=[(8.0, name, None) for name in held],
        name="inner",
    )
    subject = stack(outer, inner)
    asked = [(at, ask(n, watched=watched)) for n, (at, _, watched) in enumerate(load)]
    out = drive_with_cancels(subject, asked, cancels)
    for stage in (outer, inner):
        left = [name for _, what, name in stage.diary if what.startswith("leave")]
        refused = {name for name, (_, step, _) in zip(names, load, strict=True) if isinstance(step, Refusal)}
        expected = set(names) - (refused if stage is inner else set())
        assert sorted(left) == sorted(expected)
    assert all(earlier.at <= later.at for earlier, later in pairwise(out))


def test_both_clocks_say_the_same() -> None:
    """The real-time driver, rung late or on time under a clock that stands still, and the virtual one."""

    def subject(every_token: bool) -> Any:
        steps: dict[str, list[Arrival]] = {f"r{n}": [Later(n * 0.4 + 1.0)] for n in range(0, 30, 3)}
        steps |= {f"r{n}": [Answered(n * 0.4 + 0.5, "cache", 20, token_s=0.01)] for n in range(1, 30, 3)}
        return stack(Scripted(steps=steps, answers={"r2": [Again(0.7)]}), every_token=every_token)

    load = [(n * 0.4, ask(n, "small", watched=n != 2)) for n in range(30)]
    virtual = {each.request_id: each for each in run(subject(False), load) if isinstance(each, Finished)}
    told = driven(subject(True), load, until=100.0)
    assert {name: (each.at, each.num_output_tokens) for name, each in virtual.items()} == {
        name: (each.at, each.num_output_tokens)  # type: ignore[union-attr]
        for name, each in told.items()
    }


def test_the_choices_of_one_request_pay_for_its_prompt_once() -> None:
    """OpenAI counts `prompt_tokens` once in the usage of `n: 3`, and the tokens of every choice."""
    subject = stack()
    run(subject, [(0.0, ask(number, "large", choice=number, watched=False)) for number in range(3)])
    assert subject.cost_usd == pytest.approx((100 * 2.0 + 3 * 50 * 8.0) / 1e6)


@pytest.mark.parametrize(("leaves_at", "num_came"), [(0.5, 0), (1.05, 1), (3.05, 21)])
@pytest.mark.parametrize("every_token", [True, False])
def test_a_stream_whose_client_goes_away_costs_what_came_of_it(
    every_token: bool, leaves_at: float, num_came: int
) -> None:
    """`large` gives its first token after 1 s and one more every 0.1 s; 100 prompt tokens at 2, output at 8 USD a million."""
    subject = stack(every_token=every_token)
    subject.submit(ask(0, tell_first=True), 0.0)
    subject.advance(leaves_at)
    assert subject.cancel("r0", leaves_at)
    assert subject.idle
    assert subject.engine.idle
    assert subject.cost_usd == pytest.approx((100 * 2.0 + num_came * 8.0) / 1e6)
