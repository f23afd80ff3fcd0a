"""A rim for reactive plans: sends what they plan, in order of time, to a server that is a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from harness.plan import Arrival, Heard, ReactivePlan, withdrawn_by
from harness.records import RequestRecord
from harness.store import RunDirectory
from harness.timetable import Timetable
from harness.virtual import Simulation, run_in_virtual_time


@dataclass(frozen=True)
class Reply:
    """What becomes of a request, `after_s` after it was sent."""

    after_s: float
    outcome: Any = "ok"
    text: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    num_output_tokens: int | None = None


def send_all(
    plan: ReactivePlan, server: Callable[[Arrival], Reply], *, until_s: float = float("inf")
) -> list[tuple[Arrival, RequestRecord]]:
    """Every request in order of its end. What is open at `until_s` stays without a record, as after a kill."""
    timetable = Timetable(plan.arrivals(), withdrawn_by(plan))
    ends: list[tuple[float, str, Arrival, RequestRecord, Heard]] = []
    done: list[tuple[Arrival, RequestRecord]] = []
    while True:
        sends_at, ends_at = timetable.next_at(), ends[0][0] if ends else float("inf")
        if min(sends_at, ends_at) >= until_s:
            return done
        if ends_at <= sends_at:
            _, _, arrival, record, heard = heappop(ends)
            done.append((arrival, record))
            timetable.add(plan.after(arrival, record, heard))
            continue
        arrival = timetable.take()
        reply = server(arrival)
        ended_at = arrival.at_s + reply.after_s
        record = RequestRecord(
            request_id=f"t-0-{arrival.key}",
            phase=arrival.phase,
            class_name=arrival.class_name,
            planned_prompt_tokens=arrival.num_prompt_tokens,
            planned_output_tokens=arrival.num_output_tokens,
            intended_at=round(arrival.at_s, 6),
            sent_at=round(arrival.at_s, 6),
            first_token_at=round(ended_at, 6),
            last_token_at=round(ended_at, 6),
            done_at=None if reply.outcome == "refused" else round(ended_at, 6),
            num_output_tokens=reply.num_output_tokens,
            outcome=reply.outcome,
        )
        heappush(ends, (ended_at, arrival.key, arrival, record, Heard(reply.text, reply.headers)))


def simulated(path: Path, deployment: str, plan: ReactivePlan, *, seed: int = 0) -> RunDirectory:
    """A run in virtual time; `deployment` is a bundled name, or a file's text."""
    if "\n" in deployment:
        (path / "deployment.yaml").write_text(deployment)
        deployment = str(path / "deployment.yaml")
    simulation = Simulation(deployment=deployment, plan=plan, scenario="t", seed=seed, num_with_gaps=0)
    return run_in_virtual_time(simulation, path / "run", lambda *_: None)


def queue_profile(num_slots: int, step_s: float) -> str:
    """A server whose every answer takes `step_s` a token, whatever else runs, `num_slots` at once."""
    return f"""\
name: queue
kind: batched
model: queue
summary: A queue as theory has it.
as_of: 2026-11-21
sources: [made up for the test]
max_model_len: 1000000
answer_length: {{median_tokens: 10, sigma: 0}}
step_time: {{b0: {step_s}, b1: 0.0, b2: 0.0, b3: 0.0}}
scheduler: {{max_num_seqs: {num_slots}, max_num_batched_tokens: 100000}}
"""
