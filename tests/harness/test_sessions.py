"""Sessions: growing prompts, exact sums, and what a prefix cache makes of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.arrivals.curves import steady
from harness.errors import UsageError
from harness.plan import Arrival, ReactivePlan
from harness.reactive.pauses import NO_PAUSE, ThinkTime
from harness.reactive.sessions import QUESTION, TOOL_RESULT, SessionLaw, SessionPlan
from harness.reactive.turns import sessions_of, sessions_text
from harness.records import RequestRecord
from harness.workloads.prompts import PromptBook
from harness.workloads.synthetic import Lognormal
from tests.conftest import REPOSITORY
from tests.harness.builders import record
from tests.harness.reactive import Reply, send_all, simulated


def fixed(num: int) -> Lognormal:
    return Lognormal(num, 0.0, num)


LAW = SessionLaw(
    turns=fixed(4),
    question_tokens=fixed(30),
    answer_tokens=fixed(20),
    think_time=ThinkTime("constant", 2.0),
    system_tokens=100,
)


def plan_of(law: SessionLaw, *, rate: float = 0.5, duration_s: float = 60.0, seed: int = 3) -> SessionPlan:
    return SessionPlan(steady(rate, duration_s), "poisson", law, seed)


def by_session(done: list[tuple[Arrival, RequestRecord]]) -> dict[int, list[tuple[Arrival, RequestRecord]]]:
    sessions = defaultdict(list)
    for arrival, answer in done:
        sessions[arrival.index].append((arrival, answer))
    return sessions


def test_every_turn_repeats_what_was_said_and_heard() -> None:
    plan = plan_of(LAW, duration_s=1000.0)
    assert isinstance(plan, ReactivePlan)
    sessions = by_session(send_all(plan, lambda _: Reply(1.5)))
    whole = [each for each in sessions.values() if len(each) == 4]
    assert len(whole) > 0.9 * plan.num_arrivals
    for turns in whole:
        asks = [arrival.ask for arrival, _ in turns]
        for before, after in pairwise(asks):
            assert before is not None
            assert after is not None
            assert after.messages[: len(before.messages)] == before.messages
            assert [said.role for said in after.messages[len(before.messages) :]] == ["assistant", "user"]
            assert (after.session, after.user) == (before.session, before.user)
        # 100 for the system, 30 a question, 20 an answer
        assert [arrival.num_prompt_tokens for arrival, _ in turns] == [130, 180, 230, 280]
        assert np.diff([arrival.at_s for arrival, _ in turns]) == pytest.approx([3.5] * 3, abs=1e-5)
    assert len({arrival.ask.session for each in sessions.values() for arrival, _ in each if arrival.ask}) == len(
        sessions
    )
    assert len({each[0][0].ask.messages[0] for each in sessions.values() if each[0][0].ask}) == 1  # one system prompt


def test_what_was_really_heard_goes_into_the_history() -> None:
    def server(arrival: Arrival) -> Reply:
        return Reply(0.1, text=f"answer to {arrival.key}", num_output_tokens=7)

    turns = by_session(send_all(plan_of(LAW, duration_s=300.0), server))[0]
    last = turns[-1][0]
    assert last.ask is not None
    texts = [text for role, text in PromptBook(0).messages(last) if role == "assistant"]
    assert texts == ["answer to 0", "answer to 0.1", "answer to 0.2"]
    assert last.num_prompt_tokens == 100 + 4 * 30 + 3 * 7  # as many tokens as the server counted


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.floats(0.0, 1.0), st.integers(0, 500))
def test_prompts_are_exact_sums_and_hang_on_nothing_but_their_name(seed: int, share: float, system: int) -> None:
    law = SessionLaw(
        turns=Lognormal(4, 0.5, 20),
        question_tokens=Lognormal(40, 1.0, 500),
        answer_tokens=Lognormal(60, 1.0, 500),
        think_time=ThinkTime("exponential", 3.0),
        system_tokens=system,
        tool_share=share,
        tool_tokens=Lognormal(300, 1.0, 5000),
    )
    plan = plan_of(law, seed=seed, duration_s=40.0)
    fast = {arrival.key: arrival for arrival, _ in send_all(plan, lambda _: Reply(0.1))}
    slow = {arrival.key: arrival for arrival, _ in send_all(plan, lambda _: Reply(4.0))}
    for key in fast.keys() & slow.keys():
        assert replace(fast[key], at_s=0.0) == replace(slow[key], at_s=0.0)
    for arrival in fast.values():
        assert arrival.ask is not None
        assert arrival.num_prompt_tokens == sum(said.num_tokens for said in arrival.ask.messages)
        assert arrival.at_s < 40.0
        assert arrival.turn < plan.num_turns(arrival.index)


def test_tools_answer_in_their_own_time_and_length() -> None:
    law = replace(LAW, turns=fixed(30), tool_share=0.7, tool_tokens=fixed(500), tool_time=ThinkTime("constant", 0.25))
    done = send_all(plan_of(law, rate=0.2, duration_s=2000.0), lambda _: Reply(1.0))
    later = [arrival for arrival, _ in done if arrival.turn]
    tools = [arrival for arrival in later if arrival.class_name == TOOL_RESULT]
    assert len(tools) / len(later) == pytest.approx(0.7, abs=0.02)
    ends = {arrival.key: record.done_at for arrival, record in done}
    for arrival in later:
        assert arrival.ask is not None
        num_tokens, pause_s = (500, 0.25) if arrival.class_name == TOOL_RESULT else (30, 2.0)
        assert arrival.ask.messages[-1].num_tokens == num_tokens
        before = replace(arrival, turn=arrival.turn - 1).key
        assert arrival.at_s - (ends[before] or 0.0) == pytest.approx(pause_s, abs=1e-5)
    assert all(arrival.class_name == QUESTION for arrival, _ in done if arrival.turn == 0)


def test_a_turn_that_is_not_answered_ends_its_session_and_is_counted() -> None:
    def server(arrival: Arrival) -> Reply:
        broken = (arrival.index, arrival.turn) in ((0, 2), (1, 0), (2, 3))
        return Reply(0.5, "throttled" if broken else "ok")

    done = send_all(plan_of(LAW, duration_s=400.0), server)
    sessions = by_session(done)
    assert [len(sessions[index]) for index in (0, 1, 2, 3)] == [3, 1, 4, 4]
    found = sessions_of([record for _, record in done])
    assert (found.num, found.num_broken, found.num_open) == (len(sessions), 3, 0)
    assert [turn.num for turn in found.turns][:2] == [len(sessions), sum(len(each) > 1 for each in sessions.values())]


def test_a_session_ends_before_its_context_is_full() -> None:
    done = send_all(plan_of(replace(LAW, context_tokens=250), duration_s=400.0), lambda _: Reply(0.5))
    assert max(arrival.num_prompt_tokens + (arrival.num_output_tokens or 0) for arrival, _ in done) == 250
    assert max(arrival.turn for arrival, _ in done) == 2  # 230 + 20 fit, 280 + 20 do not


def _profile_without_cache() -> str:
    text = (REPOSITORY / "mockllm" / "profiles" / "h100-8b.yaml").read_text()
    assert "kv_cache: {" in text
    return text.replace("kv_cache: {", "kv_cache: {prefix_caching: false, ")


def _ttft(records: list[RequestRecord], turn: int) -> float:
    rows = [each for each in records if int((each.request_id.partition(".")[2]) or 0) == turn]
    return float(np.median([(each.first_token_at or np.nan) - each.intended_at for each in rows]))


def test_a_prefix_cache_takes_the_growth_out_of_the_first_token(tmp_path: Path) -> None:
    """The same sessions on one GPU with and without prefix caching."""
    law = replace(LAW, turns=fixed(10), system_tokens=2000, question_tokens=fixed(1500), answer_tokens=fixed(50))
    plan = plan_of(law, rate=0.05, duration_s=1200.0)
    results = {}
    for name, deployment in (("with", "h100-8b"), ("without", _profile_without_cache())):
        (tmp_path / name).mkdir()
        results[name] = list(simulated(tmp_path / name, deployment, plan).records([]))
    cached = sessions_of(results["with"]).turns
    shares = [turn.cached_share or 0.0 for turn in cached]
    prompts = [turn.mean_prompt_tokens for turn in cached]
    assert prompts == [2000 + 1500 * (turn + 1) + 50 * turn for turn in range(10)]
    # Of turn k everything but its own question and the last answer was there before, in whole blocks of 16.
    expected = [(2000 + 1550 * turn - 50) / prompt for turn, prompt in enumerate(prompts) if prompt]
    assert shares[1:] == pytest.approx(expected[1:], abs=0.02)
    assert shares[1] < shares[4] < shares[9]
    assert all(turn.cached_share == 0.0 for turn in sessions_of(results["without"]).turns)
    assert _ttft(results["with"], 9) < 0.35 * _ttft(results["without"], 9)
    assert _ttft(results["with"], 9) < 1.5 * _ttft(results["with"], 1)
    assert _ttft(results["without"], 9) > 2.5 * _ttft(results["without"], 1)


def test_the_text_says_how_sessions_ended_and_what_turns_cost() -> None:
    def turn(session: int, number: int, **fields: Any) -> RequestRecord:
        found = record(**fields)
        found.request_id = f"a-b-0-{session}.{number}" if number else f"a-b-0-{session}"
        return found

    records = [turn(session, 0, num_prompt_tokens=1200, num_cached_tokens=300) for session in range(8)]
    records += [turn(session, 1, num_prompt_tokens=2000, num_cached_tokens=1500) for session in range(7)]
    records += [turn(0, 2, outcome="cut"), turn(1, 2, outcome="incomplete", done_at=None)]
    lines = sessions_text(sessions_of(records))
    assert lines[0] == "8 sessions: 1 ended early by a turn that was not ok, 1 were open when the run ended"
    assert lines[2].split() == ["1", "8", "1,200", "25%", "100"]
    assert lines[3].split() == ["2", "7", "2,000", "75%", "100"]
    assert lines[4].split() == ["3", "2", "–", "–", "–"]
    assert NO_PAUSE.describe() == "none"


@pytest.mark.parametrize(
    "changes", [{"tool_share": 1.5}, {"tool_share": 0.5, "tool_tokens": None}, {"system_tokens": -1}]
)
def test_laws_that_make_no_session_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(LAW, **changes)
