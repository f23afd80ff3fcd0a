"""The bridge to virtual time: the requests are those that the mock's server would read, the records what a client sees."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from scipy import stats
from starlette.datastructures import Headers

from harness.asks import mock_headers
from harness.dialects import Asked
from harness.dialects.openai_chat import OPENAI_CHAT
from harness.errors import TraceError, UsageError, WorkloadError
from harness.plan import Arrival, Materialized
from harness.records import RequestRecord
from harness.stack_text import stack_text
from harness.store import open_run
from harness.summary import load_run, summarize
from harness.virtual import Simulation, asked_load, run_in_virtual_time
from harness.virtual.requests import Requests
from harness.workloads.prompts import PromptBook, ask_of
from mockllm import Request, bundled_deployments, load_deployment
from mockllm.server.app import create_app
from mockllm.server.server import Server
from mockllm.wire.table import DIALECTS

_STACK = """
models:
  - {name: large, profile: h100-70b}
  - {name: small, profile: h100-8b}
stack: [exact_cache]
"""
_WORKLOAD = """
arrivals: {rate: 20/s, for: 30s}
model: {large: 1, small: 2}
answer_tokens: {at_most: 300}
classes:
  - name: asking
    weight: 4
    prefix: {tokens: 100, num: 3}
    questions: {num: 20, zipf: 1.0, repeats: 0.5, paraphrases: 0.3}
    users: 30
    tier: {free: 3, pro: 1}
    feature: search
    difficulty: {least: 0.2, most: 0.9}
    task: {code: 1, chat: 2}
  - name: talking
    weight: 2
    prompt_tokens: {median: 40, sigma: 0.7, most: 300}
    answer_tokens: {median: 50, sigma: 0.5, most: 200}
    prefix: {tokens: 70}
    users: 5
    turns: 4
    region: eu
    urgency: {P0: 1, P2: 1}
    stream: 0.5
  - name: nightly
    prompt_tokens: 250
    organization: acme
    batch: true
    stream: 0
"""
_ATTACHED = """
arrivals: {rate: 10/s, for: 30s}
model: {large: 1, small: 2}
classes:
  - {name: acting, weight: 2, prompt_tokens: {least: 20, most: 200}, tools: {num: 5, tokens: 90}, prefix: {tokens: 60}}
  - {name: bounded, prompt_tokens: 40, tools: 2, answer_tokens: {at_most: 12}, stream: 0}
  - {name: planned, prompt_tokens: 40, tools: 2, answer_tokens: 300}
  - name: looking
    questions: {num: 10, repeats: 0.6, paraphrases: 0.2}
    images: {width: 640, height: 480}
    answer_tokens: {at_most: 100}
  - name: both
    prompt_tokens: 30
    answer_tokens: 15
    users: 4
    turns: 3
    images: {num: 2, width: 200, height: 900}
    tools: [{name: look_up, description: Finds things., parameters: {type: object, properties: {what: {type: string}}}}]
"""


def _on_the_wire(server: Server, arrivals: Iterable[Arrival], seed: int, scenario: str) -> Iterator[Request]:
    """The same arrivals as the mock's server reads them from what the load side sends."""
    book = PromptBook(seed)
    for arrival in arrivals:
        ask = arrival.ask
        body = OPENAI_CHAT.body(
            Asked(
                ask.model if ask is not None and ask.model else "large",
                tuple(book.messages(arrival)),
                stream=ask is None or ask.stream,
                max_tokens=arrival.num_output_tokens,
                exact_length=ask is None or ask.exact_length,
                tools=() if ask is None else ask.tools,
                images=() if ask is None else ask.images,
            )
        )
        headers = {"x-client-request-id": f"{scenario}-{seed}-{arrival.key}"} | mock_headers(ask_of(arrival))
        dialect = DIALECTS["/v1/chat/completions"]
        call = dialect.parse(body)
        exchange = server.exchange(dialect, cast("Any", call), Headers(headers), body, "r", 0.0, cast("Any", None))
        yield cast("Any", exchange).requests[0]


def _partition(values: Sequence[object]) -> list[int]:
    """Which of the values are equal: for each the place of the first that equals it."""
    first: dict[object, int] = {}
    return [first.setdefault(value, place) for place, value in enumerate(values)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    path = tmp_path_factory.mktemp("wire") / "stack.yaml"
    path.write_text(_STACK)
    made: Server = create_app(load_deployment(str(path)), seed=5).state.server
    return made


def _arrivals(kind: str, tmp_path: Path) -> list[Arrival]:
    if kind == "turns":
        return [Arrival(n % 20, n * 0.1, 30 + n % 5, 10, turn=n // 20) for n in range(60)]
    if kind in ("workload", "attached"):
        path = tmp_path / "mix.yaml"
        path.write_text(_WORKLOAD if kind == "workload" else _ATTACHED)
        load = asked_load(workload=path, trace=None, window=None, speed=None, rate=None, duration_s=None, seed=5)
        return list(load.plan.arrivals())
    if kind == "trace":
        path = tmp_path / "trace.jsonl"
        with path.open("w") as file:
            for number in range(60):
                size, blocks = 400 + 300 * (number % 7), [number % 3, 9, number // 4, 7, 7]
                line = {"timestamp": number * 100, "input_length": size, "output_length": 5 + number}
                file.write(json.dumps(line | {"hash_ids": blocks[: -(-size // 512)]}) + "\n")
        load = asked_load(workload=None, trace=path, window=None, speed=None, rate=None, duration_s=None, seed=5)
        return list(load.plan.arrivals())
    users = 7 if kind == "named" else None
    load = asked_load(workload=None, trace=None, window=None, speed=None, rate=10, duration_s=5, seed=5, users=users)
    return list(load.plan.arrivals())


@pytest.mark.parametrize("kind", ["workload", "attached", "trace", "steady", "named", "turns"])
def test_a_request_is_what_the_server_reads_off_the_wire(kind: str, server: Server, tmp_path: Path) -> None:
    arrivals = _arrivals(kind, tmp_path)
    assert len(arrivals) >= 40
    make = Requests(server.engine, "large", kind, 5)
    virtual = [make.of(arrival) for arrival in arrivals]
    wire = list(_on_the_wire(server, arrivals, 5, kind))
    for ours, theirs in zip(virtual, wire, strict=True):
        for name in (
            "key", "model", "num_prompt_tokens", "max_tokens", "min_tokens", "ignore_eos", "watched", "priority",
            "num_answer_tokens", "num_reasoning_tokens", "cache_points", "forced", "tenant", "urgency", "batch", "choice",
        ):  # fmt: skip
            assert getattr(ours, name) == getattr(theirs, name), name
        assert ours.query is not None
        assert theirs.query is not None
        assert ours.query.intent is not None
        for name in ("text", "intent", "task", "difficulty", "free_text"):
            assert getattr(ours.query, name) == getattr(theirs.query, name), name
    for name in ("digest", "context", "parameters"):
        assert _partition([getattr(each.query, name) for each in virtual]) == _partition(
            [getattr(each.query, name) for each in wire]
        )
    ours_shared, theirs_shared = _shared_blocks(virtual), _shared_blocks(wire)
    assert sum(ours_shared) > 0 or kind in ("steady", "named", "turns")
    # Two wordings of one question may begin alike: over the wire that can fill one more block.
    slack = 1 if kind in ("workload", "attached") else 0
    assert all(0 <= there - here <= slack for here, there in zip(ours_shared, theirs_shared, strict=True))


def _shared_blocks(requests: Sequence[Request]) -> list[int]:
    """How many leading blocks of each prompt one of the prompts before has too."""
    seen: set[int] = set()
    found = []
    for request in requests:
        hashes = request.block_hashes[: request.num_prompt_tokens // 16]
        num = next((place for place, content in enumerate(hashes) if content not in seen), len(hashes))
        found.append(num)
        seen.update(hashes)
    return found


# -- records -------------------------------------------------------------------------------------------------


def _plan(num: int, gap_s: float = 0.5, **fields: Any) -> Materialized:
    items = tuple(Arrival(n, n * gap_s, 100, 10, **fields) for n in range(num))
    return Materialized(items, num * gap_s)


def _run(what: str, out: Path, plan: Any = None, **fields: Any) -> list[RequestRecord]:
    """The records of a simulation by the number of their requests."""
    simulation = Simulation(what, _plan(20) if plan is None else plan, "by hand", **fields)
    directory = run_in_virtual_time(simulation, out, lambda *_: None)
    return sorted(directory.records([]), key=lambda record: int(record.request_id.rpartition("-")[2]))


def _profile(path: Path, **keys: object) -> str:
    """The golden profile (first token after 0.2 s, then one every 0.02 s) with other keys."""
    golden: dict[str, object] = {
        "name": path.stem, "kind": "hosted", "model": path.stem, "summary": "For a test.", "as_of": date(2026, 11, 21), "sources": ["a test"],
        "max_model_len": 4096, "answer_length": {"median_tokens": 48, "sigma": 0},
        "latency": {"floor_s": 0.2, "tpot_median_s": 0.02},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(golden | keys))
    return str(path)


def test_a_record_holds_the_known_times(tmp_path: Path) -> None:
    """The golden profile's own numbers: 200 ms, then a token every 20 ms."""
    records = _run("golden", tmp_path / "run", seed=3)
    assert len(records) == 20
    for number, record in enumerate(records):
        at = number * 0.5
        assert record.request_id == f"by hand-3-{number}"
        assert (record.intended_at, record.sent_at) == (at, at)
        assert record.first_token_at == pytest.approx(at + 0.2, abs=2e-6)
        assert record.last_token_at == record.done_at == pytest.approx(at + 0.2 + 9 * 0.02, abs=2e-6)
        assert record.token_gaps_s == pytest.approx([0.02] * 9, abs=2e-6)
        assert (record.outcome, record.status, record.finish_reason) == ("ok", 200, "length")
        assert (record.num_prompt_tokens, record.num_output_tokens, record.token_source) == (100, 10, "server")
        assert (record.num_chunks, record.chunk_tokens, record.num_attempts) == (10, None, 1)
        assert (record.connected_at, record.num_merged_chunks, record.replica) == (None, None, None)


def test_an_answer_that_is_no_stream_has_no_token_times(tmp_path: Path) -> None:
    from harness.asks import Ask, Said

    whole = Ask((Said("user", 1, 100),), stream=False)
    (record, *_) = _run("golden", tmp_path / "run", _plan(2, ask=whole))
    assert (record.stream, record.first_token_at, record.token_gaps_s) == (False, None, None)
    assert record.done_at == pytest.approx(0.38, abs=2e-6)
    assert (record.outcome, record.num_output_tokens) == ("ok", 10)


def test_chunks_of_several_tokens_say_so(tmp_path: Path) -> None:
    latency = {"floor_s": 0.2, "tpot_median_s": 0.02, "tokens_per_chunk": 3}
    for record in _run(_profile(tmp_path / "chunky.yaml", latency=latency), tmp_path / "run"):
        assert record.chunk_tokens is not None
        assert record.token_gaps_s is not None
        assert sum(record.chunk_tokens) == 10
        assert len(record.chunk_tokens) == record.num_chunks == len(record.token_gaps_s) + 1
        # Every chunk waits as long as its tokens take.
        assert record.token_gaps_s == pytest.approx([0.02 * num for num in record.chunk_tokens[1:]], abs=2e-6)


@pytest.mark.parametrize("profile", ["h100-8b", "hosted"])
def test_without_gaps_the_other_instants_are_the_same(profile: str, tmp_path: Path) -> None:
    load = asked_load(workload=None, trace=None, window=None, speed=None, rate=20, duration_s=20, seed=1)
    full = _run(profile, tmp_path / "full", load.plan)
    bare = _run(profile, tmp_path / "bare", load.plan, num_with_gaps=0)
    some = _run(profile, tmp_path / "some", load.plan, num_with_gaps=100)
    assert all(record.token_gaps_s is not None for record in full)
    assert all(record.token_gaps_s is None and record.num_chunks is None for record in bare)
    assert sum(record.token_gaps_s is not None for record in some) == pytest.approx(100, abs=40)
    for one, other in zip(full, bare, strict=True):
        assert (one.first_token_at, one.last_token_at, one.done_at) == (
            other.first_token_at,
            other.last_token_at,
            other.done_at,
        )
        assert one.first_token_at is not None
        assert one.last_token_at is not None
        # Each of the gaps is rounded to a microsecond.
        assert sum(one.token_gaps_s or []) == pytest.approx(one.last_token_at - one.first_token_at, abs=1e-3)


def test_the_same_arguments_give_the_same_records(tmp_path: Path) -> None:
    load = asked_load(workload=None, trace=None, window=None, speed=None, rate=10, duration_s=30, seed=4)
    runs = [_run("h100-8b", tmp_path / name, load.plan, seed=4) for name in ("one", "other")]
    assert runs[0] == runs[1]
    assert _run("h100-8b", tmp_path / "third", load.plan, seed=5) != runs[0]


def test_a_long_plan_is_never_in_memory(tmp_path: Path) -> None:
    """When a request is drawn, those that ended long before are in the file already."""
    out = tmp_path / "run"

    class Watched(Materialized):
        def arrivals(self) -> Iterator[Arrival]:
            for arrival in self.items:
                if arrival.index == 400:
                    lines.append((out / "records-virtual.jsonl").read_bytes().count(b"\n"))
                yield arrival

    lines: list[int] = []
    plan = _plan(500)
    _run("golden", out, Watched(plan.items, plan.duration_s))
    assert lines[0] >= 399  # header and answers: one request lies in flight


# -- labels --------------------------------------------------------------------------------------------------


def test_refusals_and_cuts_are_labelled_as_over_http(tmp_path: Path) -> None:
    faulty = _profile(tmp_path / "faulty.yaml", faultiness={"server_error_rate": 0.3, "cut_rate": 0.3})
    records = _run(faulty, tmp_path / "run", _plan(400, 0.1))
    kinds = Counter((record.outcome, record.error_kind, record.status) for record in records)
    assert set(kinds) == {("ok", None, 200), ("failed", "http_500", 500), ("cut", "closed_mid_answer", 200)}
    assert kinds["failed", "http_500", 500] == pytest.approx(120, abs=40)
    for record in records:
        if record.outcome == "failed":
            assert (record.first_token_at, record.num_output_tokens, record.num_prompt_tokens) == (None, None, None)
            assert "had an error" in (record.error_text or "")
        elif record.outcome == "cut":
            assert record.num_output_tokens == record.num_chunks
            assert record.num_prompt_tokens is None  # the server never came to say it
            assert record.token_source == "local"


def test_a_prompt_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    plan = Materialized((Arrival(0, 0.0, 5000, 10), Arrival(1, 1.0, 50, 10)), 2.0)
    refused, answered = _run(_profile(tmp_path / "small.yaml"), tmp_path / "run", plan)
    assert (refused.outcome, refused.error_kind, refused.status) == ("failed", "http_400", 400)
    assert answered.outcome == "ok"


# -- the run -------------------------------------------------------------------------------------------------


def test_the_run_pretends_to_no_instrument(tmp_path: Path) -> None:
    _run("golden", tmp_path / "run")
    run = load_run(open_run(tmp_path / "run"))
    summary = summarize(run)
    instrument = summary.instrument
    assert run.manifest.clock == "virtual"
    assert (instrument.state, instrument.reasons) == ("NONE", ["virtual time: no instrument"])
    assert (instrument.send_lag.num, instrument.loop_lag.num) == (0, 0)
    assert (instrument.merged_share, instrument.cpu_max, instrument.stalled_share) == (None, None, None)
    assert summary.truth is None
    assert (summary.verdict.answer, summary.verdict.exit_code) == ("PASS", 0)
    assert summary.metrics["connect"].num == 0
    assert not (tmp_path / "run" / "stack.json").exists()


def test_a_run_that_was_broken_off_keeps_what_was_open_and_is_invalid(tmp_path: Path) -> None:
    class Impatient(Materialized):
        def arrivals(self) -> Iterator[Arrival]:
            yield from self.items[:10]
            raise KeyboardInterrupt

    plan = _plan(20, 0.1)
    records = _run("golden", tmp_path / "run", Impatient(plan.items, plan.duration_s))
    outcomes = Counter(record.outcome for record in records)
    assert outcomes["incomplete"] > 0
    assert outcomes["ok"] + outcomes["incomplete"] == 9  # the plan is read one arrival ahead
    summary = summarize(load_run(open_run(tmp_path / "run")))
    assert (summary.verdict.answer, summary.load.num_missing) == ("INVALID", 11)
    assert "stopped" in summary.verdict.reasons[0]


def test_lost_records_make_it_invalid_here_too(tmp_path: Path) -> None:
    _run("golden", tmp_path / "run")
    path = tmp_path / "run" / "records-virtual.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5] + lines[6:]))
    assert summarize(load_run(open_run(tmp_path / "run"))).verdict.answer == "INVALID"


def test_what_a_stack_did_stands_beside_the_records(tmp_path: Path) -> None:
    stack = tmp_path / "stack.yaml"
    stack.write_text(
        "models: [{name: golden, profile: golden, price: {input: 1.0, output: 10.0}}]\nstack: [exact_cache]\n"
    )
    workload = tmp_path / "asking.yaml"
    workload.write_text(
        "arrivals: {gaps: constant, rate: 1/s, for: 300s}\nanswer_tokens: {at_most: 20}\n"
        "questions: {num: 10, repeats: 0.8}\n"
    )
    load = asked_load(workload=workload, trace=None, window=None, speed=None, rate=None, duration_s=None, seed=2)
    records = _run(str(stack), tmp_path / "run", load.plan, seed=2)
    # Answers take 0.6 s, requests come every second: whatever was asked before is known.
    seen: set[str] = set()
    hits = 0
    for arrival, record in zip(load.plan.arrivals(), records, strict=True):
        assert arrival.ask is not None
        text = arrival.ask.messages[-1].text
        assert text is not None
        assert record.cache_outcome == ("hit" if text in seen else "miss")
        hits += text in seen
        seen.add(text)
        cost = (arrival.num_prompt_tokens * 1.0 + 20 * 10.0) / 1e6
        assert record.cost_usd == (None if record.cache_outcome == "hit" else pytest.approx(cost))
    assert hits > 150
    document = json.loads((tmp_path / "run" / "stack.json").read_text())
    (stage,) = document["state"]["stages"]
    assert stage["state"]["counts"]["hits"] == hits
    clients = document["clients"]
    assert (clients["num"], clients["num_calls"], clients["num_wrong_hits"]) == (300, 300 - hits, 0)
    assert clients["cache_outcomes"] == {"hit": hits, "miss": 300 - hits}
    assert clients["answered_by"] == {"golden": 300 - hits, "exact_cache": hits}
    assert document["state"]["cost_usd"] == pytest.approx(sum(record.cost_usd or 0.0 for record in records))


@pytest.mark.parametrize("name", bundled_deployments())
def test_every_bundled_stack_can_be_simulated(name: str, tmp_path: Path) -> None:
    load = asked_load(workload=None, trace=None, window=None, speed=None, rate=3, duration_s=20, seed=1)
    records = _run(name, tmp_path / "run", load.plan, seed=1)
    assert len(records) == load.plan.num_arrivals
    assert not [record for record in records if record.outcome == "incomplete"]
    document = json.loads((tmp_path / "run" / "stack.json").read_text())
    requests = document["state"]["requests"]
    assert requests["submitted"] == len(records) == requests["finished"] + requests["refused"] + requests["cut"]
    answered = sum(record.outcome == "ok" for record in records)
    assert sum(document["clients"]["answered_by"].values()) >= answered > 0
    assert f"for {len(records)} requests" in stack_text(document)


# -- who asks ------------------------------------------------------------------------------------------------


def test_users_are_named_and_nothing_else_changes() -> None:
    asked: dict[str, Any] = dict.fromkeys(("workload", "trace", "window", "speed")) | {"rate": 20.0, "duration_s": 60.0}
    plain = asked_load(**asked, seed=3)
    named = asked_load(**asked, seed=3, users=8)
    book = PromptBook(3)
    users: Counter[str | None] = Counter()
    for one, other in zip(plain.plan.arrivals(), named.plan.arrivals(), strict=True):
        assert other.ask is not None
        users[other.ask.user] += 1
        assert replace(other, ask=None) == one
        assert book.messages(other) == book.messages(one)
        assert ask_of(one) == replace(other.ask, user=None)
    assert users.keys() == {f"user-{number}" for number in range(8)}
    assert stats.chisquare(list(users.values())).pvalue > 1e-4
    assert (named.scenario, named.plan.num_arrivals) == (plain.scenario, plain.plan.num_arrivals)


# -- what cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "--rate 20/s --for 10m"),
        ({"rate": 5.0}, "--rate 20/s --for 10m"),
        ({"workload": Path("a"), "trace": Path("b")}, "either --workload FILE or --trace FILE"),
        ({"rate": 5.0, "duration_s": 5.0, "speed": 2.0}, "--trace"),
        ({"rate": 5.0, "trace": Path("b")}, "the rate is the trace's own"),
        ({"workload": Path("a"), "users": 5}, "the workload says who asks"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], words: str) -> None:
    asked: dict[str, Any] = dict.fromkeys(("workload", "trace", "window", "speed", "rate", "duration_s"))
    with pytest.raises(UsageError, match=words):
        asked_load(**(asked | options), seed=0)


@pytest.mark.parametrize(("option", "error"), [("trace", TraceError), ("workload", WorkloadError)])
def test_files_that_are_not_there(option: str, error: type[Exception], tmp_path: Path) -> None:
    asked: dict[str, Any] = dict.fromkeys(("workload", "trace", "window", "speed", "rate", "duration_s"))
    with pytest.raises(error, match="cannot be read"):
        asked_load(**(asked | {option: tmp_path / "none"}), seed=0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"deployment": "h100-9b"}, "did you mean"),
        ({"model": "gpt"}, "golden does not serve 'gpt'; it serves golden"),
        ({"models": frozenset({"small"})}, "does not serve 'small'"),
        ({"plan": Materialized((), 5.0)}, "the plan holds no request in its 5 s"),
    ],
)
def test_a_simulation_that_cannot_be_leaves_no_directory(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"deployment": "golden", "plan": _plan(2), "scenario": "none"}
    with pytest.raises(UsageError, match=words):
        run_in_virtual_time(Simulation(**(given | fields)), tmp_path / "run", lambda *_: None)
    assert not (tmp_path / "run").exists()
