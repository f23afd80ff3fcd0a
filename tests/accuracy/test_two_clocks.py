"""One deployment, one load, two clocks: what comes over HTTP in real time is what comes in virtual time.

Two comparisons. The engine is told when a request came in and decides everything from there, so a simulation that is
given the instants at which the requests really came in must decide the same, and plan every token for the same instant;
the ledger's instants are rounded to a microsecond, which is all that may differ. And a simulation that is given the plan
may be as far from the measurement as the requests came in late, the mock wrote late and the client read late.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import aiohttp
import numpy as np
import pytest

from harness.asks import Ask, mock_headers
from harness.dialects import Asked
from harness.dialects.openai_chat import OPENAI_CHAT
from harness.outcome import Ending, Verdict, classify
from harness.plan import Arrival, LoadPlan, Materialized
from harness.reading import StreamFacts, read_stream, read_whole
from harness.records import RequestRecord
from harness.served import note_served
from harness.store import open_run
from harness.summary import load_run, samples, summarize
from harness.virtual import Load, Simulation, asked_load, run_in_virtual_time
from harness.workloads.prompts import PromptBook
from tests.conftest import mock_server
from tests.e2e.test_run import harness

pytestmark = [pytest.mark.realtime, pytest.mark.alone]

_SEED = 7
_LEAD_S = 1.0

_STACK = """
models:
  - {name: large, profile: h100-8b, price: {input: 2.0, output: 8.0}, replicas: {count: 2}}
  - {name: small, profile: shaky.yaml, price: {input: 0.1, output: 0.4}}
stack:
  - exact_cache: {ttl: 4s}
  - semantic_cache: {threshold: 0.95}
  - rate_limits: {user: {requests: 20/min, burst: 10s}, instead: [{queue: 1s}]}
  - priority_queue: {workers: 6, length: 20}
  - route: {name: assistant, by: complexity, below: {0.5: small}, otherwise: large}
  - retry: {attempts: 3, base: 50ms}
faults:
  - {at: 1s, for: 600ms, kind: slow_headers, delay: 120ms, share: 0.3}
  - {at: 1500ms, for: 800ms, kind: garbled, after_tokens: 4, share: 0.6}
  - {at: 2s, for: 800ms, kind: duplicate_finish, share: 0.4}
  - {at: 2500ms, for: 800ms, kind: in_band_error, after_tokens: 4, share: 0.7}
  - {at: 3s, for: 800ms, kind: truncate, after_tokens: 5, share: 0.5}
  - {at: 3500ms, for: 800ms, kind: cut, after_tokens: 7, share: 0.3}
  - {at: 4s, for: 300ms, kind: stall, model: large}
  - {at: 5s, for: 800ms, kind: reset, share: 0.5}
  - {at: 5500ms, for: 500ms, kind: errors, status: 500, share: 0.5}
  - {at: 6s, for: 500ms, kind: rate_limit_storm, retry_after: 90s, share: 0.5}
  - {at: 6500ms, for: 300ms, kind: outage, model: large}
  - {at: 7s, for: 500ms, kind: outage, model: large, replica: large-1}
  - {at: 7500ms, for: 1s, kind: brownout, factor: 2.5}
"""
_SHAKY = """
name: shaky
kind: hosted
model: shaky
summary: Fast, and fails at times.
as_of: 2026-11-21
sources: [a test]
max_model_len: 8192
answer_length: {median_tokens: 40, sigma: 0.4}
latency: {floor_s: 0.03, spread_median_s: 0.02, spread_sigma: 0.5, tpot_median_s: 0.005, tokens_per_chunk: 2, gap_cv: 0.3}
faultiness: {server_error_rate: 0.15, cut_rate: 0.1}
"""
_WORKLOAD = """
arrivals: {rate: 25/s, for: 9s}
model: assistant
classes:
  - name: asking
    weight: 4
    prefix: {tokens: 128}
    questions: {num: 25, zipf: 1.0, repeats: 0.4, paraphrases: 0.2}
    answer_tokens: {at_most: 60}
    users: 20
    difficulty: {least: 0, most: 1}
  - name: talking
    prompt_tokens: {median: 60, sigma: 0.8, most: 900}
    answer_tokens: {median: 40, sigma: 0.5, most: 120}
    users: 6
    turns: 3
    urgency: P0
    stream: 0.5
    difficulty: 0.8
"""


@dataclass
class Measured:
    """What the test's own client saw of one request, and its verdict. Instants from the start of the plan."""

    facts: StreamFacts | None
    verdict: Verdict
    headers: dict[str, str]


async def _ask(
    session: aiohttp.ClientSession, arrival: Arrival, name: str, book: PromptBook, origin: float
) -> Measured:
    ask, status, ending = arrival.ask, None, "complete"
    stream = ask is None or ask.stream
    body = OPENAI_CHAT.body(
        Asked(
            (ask.model if ask is not None else None) or "large",
            tuple(book.messages(arrival)),
            stream=stream,
            max_tokens=arrival.num_output_tokens,
            exact_length=ask is None or ask.exact_length,
        )
    )
    headers = {"Content-Type": "application/json", "X-Client-Request-Id": name} | mock_headers(ask or Ask(()))
    await asyncio.sleep(max(0.0, origin + arrival.at_s - time.monotonic()))
    reads: list[tuple[float, bytes]] = []
    answered: dict[str, str] = {}
    try:
        async with session.post("/v1/chat/completions", data=body, headers=headers) as response:
            status, answered = response.status, {key.lower(): value for key, value in response.headers.items()}
            async for piece in response.content.iter_any():
                reads.append((time.monotonic() - origin, piece))
    except (aiohttp.ClientError, ConnectionError):
        ending = "closed"  # or reset: aiohttp does not tell them apart
    facts = None
    if status == 200:
        whole = b"".join(piece for _, piece in reads)
        facts = (
            read_stream(reads, OPENAI_CHAT)
            if stream
            else read_whole(whole, reads[-1][0] if reads else 0.0, OPENAI_CHAT)
        )
    verdict = classify(
        ending=cast("Ending", ending),
        detail=None,
        status=status,
        headers=answered,
        error_body="",
        stream=stream,
        facts=facts,
    )
    return Measured(facts, verdict, answered)


async def _send(url: str, load: Load) -> tuple[list[Measured], float, dict[str, Any]]:
    """Send a plan; what was seen, the plan's origin on the monotonic clock, and the mock's state afterwards."""
    book = PromptBook(_SEED)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        await session.get("/mock/state")
        origin = time.monotonic() + _LEAD_S
        seen = await asyncio.gather(
            *(
                _ask(session, arrival, f"{load.scenario}-{_SEED}-{arrival.index}", book, origin)
                for arrival in load.plan.arrivals()
            )
        )
        async with session.get("/mock/state") as response:
            state: dict[str, Any] = await response.json()
    return seen, origin, state


@dataclass
class Both:
    """A load over HTTP, and what the ledger says of it by request."""

    load: Load
    deployment: str
    seen: list[Measured]
    ledger: dict[int, dict[str, Any]]
    shift: float  # of the ledger's clock against the plan's
    state: dict[str, Any]
    path: Path

    def simulate(self, plan: LoadPlan, name: str) -> tuple[dict[int, RequestRecord], dict[str, Any]]:
        """The records of a simulation by the number of the request, and what its stack did."""
        simulation = Simulation(self.deployment, plan, self.load.scenario, _SEED, models=self.load.models)
        directory = run_in_virtual_time(simulation, self.path / name, lambda *_: None)
        records = {int(record.request_id.rpartition("-")[2]): record for record in directory.records([])}
        stack = directory.path / "stack.json"
        return records, json.loads(stack.read_text()) if stack.exists() else {}

    def as_it_came(self) -> Materialized:
        """The plan with the instants at which the mock took the requests in."""
        arrivals = {arrival.index: arrival for arrival in self.load.plan.arrivals()}
        came = sorted((entry["submitted_at"] + self.shift, index) for index, entry in self.ledger.items())
        return Materialized(tuple(replace(arrivals[index], at_s=at) for at, index in came), self.load.plan.duration_s)

    def late_s(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """How late each request came in."""
        planned = {arrival.index: arrival.at_s for arrival in self.load.plan.arrivals()}
        return np.array([entry["submitted_at"] + self.shift - planned[index] for index, entry in self.ledger.items()])


def _over_http(deployment: str, load: Load, path: Path) -> Both:
    ledger = path / "ledger.jsonl"
    with mock_server(deployment, "--ledger", str(ledger), "--seed", str(_SEED)) as url:
        seen, origin, state = asyncio.run(_send(url, load))
    header, *lines = map(json.loads, ledger.read_text().splitlines())
    entries = {int(line["client_request_id"].rpartition("-")[2]): line for line in lines if line["client_request_id"]}
    return Both(load, deployment, seen, entries, header["monotonic_origin"] - origin, state, path)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Both:
    path = tmp_path_factory.mktemp("two-clocks")
    (path / "stack.yaml").write_text(_STACK)
    (path / "shaky.yaml").write_text(_SHAKY)
    (path / "mixed.yaml").write_text(_WORKLOAD)
    asked: dict[str, Any] = dict.fromkeys(("trace", "window", "speed", "rate", "duration_s"))
    load = asked_load(workload=path / "mixed.yaml", **asked, seed=_SEED)
    return _over_http(str(path / "stack.yaml"), load, path)


def _decided(entry: dict[str, Any]) -> tuple[Any, ...]:
    """What became of a request, by the ledger; what a client reads in an answer is None where it saw nothing of one."""
    answered = entry["outcome"] == "ok" or (entry["stream"] and bool(entry["num_tokens"]))
    return (
        entry["status"], entry["cache_outcome"], entry["replica"], entry["num_attempts"], entry["cost_usd"],
        entry["model_served"] if answered else None, entry["num_output_tokens"] if answered else None,
        entry["num_cached_tokens"] if entry["outcome"] == "ok" else None, entry["finish_reason"],
    )  # fmt: skip


def _decided_in_virtual_time(record: RequestRecord) -> tuple[Any, ...]:
    return (
        record.status, record.cache_outcome, record.replica, record.num_attempts, record.cost_usd,
        record.model_served, record.num_output_tokens, record.num_cached_tokens, record.finish_reason,
    )  # fmt: skip


def _counts(state: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {stage["name"]: stage["state"].get("counts", {}) for stage in state["stages"]}


def test_given_the_instants_of_arrival_both_clocks_decide_and_plan_the_same(
    stack: Both, capsys: pytest.CaptureFixture[str]
) -> None:
    records, document = stack.simulate(stack.as_it_came(), "as-it-came")
    assert len(records) == len(stack.ledger) == stack.load.plan.num_arrivals
    furthest = 0.0
    for index, entry in stack.ledger.items():
        record = records[index]
        assert _decided(entry) == _decided_in_virtual_time(record), (index, entry["notes"])
        if record.stream and record.first_token_at is not None:
            instants = record.first_token_at + np.cumsum([0.0, *(record.token_gaps_s or [])])
            planned = np.array(entry["planned_at"]) + stack.shift
            assert len(planned) == record.num_chunks
            furthest = max(furthest, float(np.abs(planned - instants).max()))
    # Each of the gaps between is rounded to a microsecond.
    assert furthest < 100e-6
    assert _counts(stack.state) == _counts(document["state"])
    assert stack.state["calls"] == document["state"]["calls"]
    assert stack.state["cost_usd"] == pytest.approx(document["state"]["cost_usd"], rel=1e-12)
    counts = _counts(stack.state)
    kinds, outcomes = Counter[str | None](), Counter[str | None]()
    for index, seen in enumerate(stack.seen):
        label, expected = seen.verdict.error_kind, records[index].error_kind
        assert (seen.verdict.outcome, label) == (
            records[index].outcome,
            expected and expected.replace("reset_", "closed_"),
        ), index
        kinds[label] += 1
        if seen.headers:  # what the server says of the way is what virtual time takes from it
            said = RequestRecord(request_id="", intended_at=0.0)
            note_served(said, seen.headers)
            assert (said.cache_outcome, said.replica) == (records[index].cache_outcome, records[index].replica), index
            waited_s = sum(stack.ledger[index]["waited_s"].values())
            assert (said.queue_s or 0.0) == pytest.approx(waited_s, abs=2e-6), index
            outcomes[said.cache_outcome] += 1
    assert min(outcomes["hit"], outcomes["miss"]) > 10, outcomes
    # It was a load that met every policy, and every fault.
    for kind in (
        None, "bad_json", "two_finishes", "in_band_error", "no_end", "closed_mid_answer", "closed_before_headers", "http_429",
    ):  # fmt: skip
        assert kinds[kind] > 0, kinds
    for name, event in (
        ("exact_cache", "hits"), ("semantic_cache", "hits"), ("rate_limits", "queued"), ("rate_limits", "refused"),
        ("priority_queue", "P1_waited"), ("route", "sent to small"), ("route", "sent to large"), ("retry", "recovered"),
    ):  # fmt: skip
        assert counts[name][event] > 0, (name, event, counts[name])
    replicas = Counter(entry["replica"] for entry in stack.ledger.values())
    assert min(replicas["large-0"], replicas["large-1"]) > 10
    with capsys.disabled():
        print(f"\n  {len(records)} requests: the same decisions and counters, instants within {furthest * 1e6:.0f} us")


def test_given_the_plan_the_counters_are_nearly_the_same(stack: Both, capsys: pytest.CaptureFixture[str]) -> None:
    """Hits, refusals, escalations, retries. A request that comes in a few milliseconds late may find a bucket full: a few
    may differ. Whether somebody waited at all in the queue is left out: that hangs on each of those milliseconds."""
    _, document = stack.simulate(stack.load.plan, "as-planned")
    measured, virtual = _counts(stack.state), _counts(document["state"])
    apart = {
        (stage, event): num - measured[stage][event]
        for stage, counts in virtual.items()
        for event, num in counts.items()
        if "waited" not in event
    }
    worst = max(apart, key=lambda each: abs(apart[each]))
    total = stack.load.plan.num_arrivals
    with capsys.disabled():
        late_ms = np.percentile(stack.late_s(), 99) * 1e3
        print(
            f"\n  requests in up to {late_ms:.0f} ms late: no counter of {total} differs by more than {apart[worst]} {worst}"
        )
    assert abs(apart[worst]) <= 0.05 * total


def test_given_the_plan_the_distributions_differ_by_the_measured_jitter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plain profile with a queue and a batch, without a stack: by Locust over HTTP, and in virtual time."""
    trace = tmp_path / "trace.csv"
    rows = [f"{n * 0.043 + 0.008 * (n * 7 % 5):.4f},{50 + 37 * (n % 40)},{5 + n % 60}" for n in range(140)]
    trace.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    words = ["--trace", str(trace), "--seed", "5", "--out"]
    done = harness("run", "scenarios/trace_replay.py", "--mock", "h100-8b", *words, str(tmp_path / "http"))
    assert done.returncode == 0, done.stderr
    done = harness("simulate", "h100-8b", *words, str(tmp_path / "virtual"))
    assert done.returncode == 0, done.stderr
    http, virtual = (load_run(open_run(tmp_path / name)) for name in ("http", "virtual"))
    records = [
        {record.request_id: record for record in run.directory.records([])} for run in (http, virtual)
    ]  # fmt: skip
    assert records[0].keys() == records[1].keys()
    for name, record in records[0].items():
        for field in (
            "outcome", "status", "finish_reason", "num_prompt_tokens", "num_output_tokens", "token_source", "num_chunks",
            "chunk_tokens", "num_attempts", "model", "model_served", "planned_output_tokens", "intended_at",
        ):  # fmt: skip
            assert getattr(record, field) == getattr(records[1][name], field), (name, field)
    truth = summarize(http).truth
    assert truth is not None
    assert truth.lateness.at(95) is not None
    late = float(np.percentile(http.table["sent_at"] - http.table["intended_at"], 95))
    jitter = late + (truth.lateness.at(95) or 0.0) + (truth.ttft_error.at(95) or 0.0)
    apart = {}
    for metric in ("ttft", "e2e"):
        (measured, _), (expected, _) = samples(http.table)[metric], samples(virtual.table)[metric]
        for percent in (10, 50, 90):
            apart[f"{metric} p{percent}"] = float(np.percentile(measured, percent) - np.percentile(expected, percent))
    with capsys.disabled():
        words = [f"{name} {seconds * 1e3:+.1f} ms" for name, seconds in apart.items()]
        print(f"\n  over HTTP less in virtual time: {', '.join(words)}; measured jitter {jitter * 1e3:.1f} ms")
    # Between the socket and the engine lie some milliseconds of reading and counting, and who comes late by less than a
    # step of the batch (10 ms) waits for the next one, and may then decode in another company than planned.
    for name, seconds in apart.items():
        assert abs(seconds) <= jitter + (0.015 if name.startswith("ttft") else 0.030), name
