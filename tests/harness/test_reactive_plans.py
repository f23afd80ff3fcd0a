"""Plans that go on from answers, and clients that leave, in virtual time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.plan import Arrival, Conduct, Heard, LoadPlan, Materialized, ReactivePlan
from harness.records import RequestRecord
from harness.store import open_run
from harness.summary import load_run, summarize
from harness.virtual import Simulation, run_in_virtual_time

_PROFILE = """\
name: known
kind: hosted
model: known
summary: One token every 20 ms after 100 ms.
as_of: 2026-11-21
sources: [made up for the test]
max_model_len: 100000
answer_length: {median_tokens: 10, sigma: 0}
latency: {floor_s: 0.1, tpot_median_s: 0.02}
"""


@dataclass(frozen=True)
class Chain(Materialized):
    """Every request is followed by another, `think_s` after its end, `num_turns` in all."""

    num_turns: int = 3
    think_s: float = 0.5

    def after(self, arrival: Arrival, record: RequestRecord, heard: Heard) -> Iterable[Arrival]:
        assert record.done_at is not None
        if arrival.turn + 1 < self.num_turns:
            yield replace(arrival, turn=arrival.turn + 1, at_s=record.done_at + self.think_s)


def _simulated(tmp_path: Path, plan: LoadPlan, *, every_token: bool = False) -> list[RequestRecord]:
    profile = tmp_path / "known.yaml"
    profile.write_text(_PROFILE)
    simulation = Simulation(deployment=str(profile), plan=plan, scenario="t", every_token=every_token)
    directory = run_in_virtual_time(simulation, tmp_path / "run", lambda *_: None)
    assert summarize(load_run(open_run(directory.path))).instrument.state == "NONE"
    return sorted(directory.records([]), key=lambda each: each.request_id)


def test_the_next_turn_is_sent_when_the_last_one_has_ended(tmp_path: Path) -> None:
    chain = Chain((Arrival(0, 0.0, 10, 11), Arrival(1, 0.25, 10, 11)), 10.0)
    assert isinstance(chain, ReactivePlan)
    records = _simulated(tmp_path, chain)
    # first token after .1 s, ten more: .3 s for each answer, half a second to think
    assert [each.request_id for each in records] == ["t-0-0", "t-0-0.1", "t-0-0.2", "t-0-1", "t-0-1.1", "t-0-1.2"]
    assert [each.intended_at for each in records] == pytest.approx([0, 0.8, 1.6, 0.25, 1.05, 1.85], abs=1e-6)
    assert all(each.outcome == "ok" and each.sent_at == each.intended_at for each in records)


def test_what_followed_is_counted_beside_what_was_planned(tmp_path: Path) -> None:
    _simulated(tmp_path, Chain((Arrival(0, 0.0, 10, 11),), 10.0))
    summary = summarize(load_run(open_run(tmp_path / "run")))
    assert (summary.load.num_planned, summary.load.num_sent, summary.load.num_missing) == (3, 3, 0)
    # over after 1.9 s, long before the 10 s that the plan might have taken
    assert summary.load.duration_s == pytest.approx(1.9, abs=0.05)
    assert summary.load.asked_rate == summary.delivery.asked.rate == pytest.approx(3 / summary.load.duration_s)


def test_a_plan_that_is_fixed_is_not_reactive() -> None:
    assert not isinstance(Materialized((), 1.0), ReactivePlan)


def test_a_client_that_leaves_after_a_time_has_what_came_until_then(tmp_path: Path) -> None:
    plan = Materialized((Arrival(0, 1.0, 10, 101, conduct=Conduct(leave_after_s=0.5)),), 10.0)
    (record,) = _simulated(tmp_path, plan, every_token=True)
    assert (record.outcome, record.error_kind, record.done_at) == ("left", "client_left", 1.5)
    # the first token comes after .1 s, the 21st after .5 s: at the instant at which the client leaves
    assert record.num_output_tokens in (20, 21)


def test_a_client_that_leaves_after_tokens_has_read_so_many(tmp_path: Path) -> None:
    plan = Materialized((Arrival(0, 1.0, 10, 101, conduct=Conduct(leave_after_tokens=6)),), 10.0)
    (record,) = _simulated(tmp_path, plan, every_token=True)
    assert (record.outcome, record.num_output_tokens) == ("left", 6)
    assert record.done_at == pytest.approx(1.0 + 0.1 + 5 * 0.02)


def test_who_has_heard_everything_does_not_leave(tmp_path: Path) -> None:
    plan = Materialized((Arrival(0, 1.0, 10, 11, conduct=Conduct(leave_after_s=0.5)),), 10.0)
    (record,) = _simulated(tmp_path, plan)
    assert record.outcome == "ok"
