"""Every protocol by stock Locust against the mock, an endpoint of one's own, and what streaming and batches are worth."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Thread

import pytest
from aiohttp import web

from harness.dialects.table import DIALECTS
from harness.records import RequestRecord
from harness.store import open_run
from harness.summary import load_run
from tests.conftest import mock_server
from tests.scenarios.running import locust, rehearse


def recorded(path: Path) -> list[RequestRecord]:
    """The records of a run; all that was planned has one."""
    run = load_run(open_run(path))
    records = list(run.directory.records([]))
    assert len(records) == run.manifest.num_planned > 5
    return records


def by_class(records: list[RequestRecord]) -> dict[str | None, list[RequestRecord]]:
    found: dict[str | None, list[RequestRecord]] = defaultdict(list)
    for record in records:
        found[record.class_name].append(record)
    return found


def e2e(record: RequestRecord) -> float:
    assert record.done_at is not None
    return record.done_at - record.intended_at


def printed(url: str, scenario: str, out: Path, *words: str) -> str:
    """What a run of stock Locust prints."""
    done = locust(url, scenario, out, *words)
    # 2: a busy machine sent something late, which is not the question here
    assert done.returncode in (0, 2), done.stderr
    return done.stdout + done.stderr


# -- real time ---------------------------------------------------------------------------------------------


RUNS = {
    "every protocol": ("tests/scenarios/every_protocol.py", "-r", "60", "--batch-wait", "300ms"),
    "by option": ("scenarios/burst.py", "-r", "12", "--protocol", "anthropic-messages"),
    "three ways": ("scenarios/streaming_vs_batch.py", "-r", "20", "--batch-size", "3"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[RequestRecord]]]:
    """A second of load each; the runs share the machine, for nothing here depends on a clock."""
    base = tmp_path_factory.mktemp("protocols")
    with mock_server("instant") as url, ThreadPoolExecutor() as pool:

        def run(name: str) -> list[RequestRecord]:
            scenario, *words = RUNS[name]
            out = base / name.replace(" ", "-")
            said = printed(url, scenario, out, "-t", "1s", "--batch-poll", "100ms", *words)
            assert (out / "manifest.json").is_file(), said
            return recorded(out)

        yield dict(zip(RUNS, pool.map(run, RUNS), strict=True))


@pytest.mark.realtime
@pytest.mark.parametrize("name", DIALECTS)
def test_planned_tokens_are_counted_tokens(runs: dict[str, list[RequestRecord]], name: str) -> None:
    found = [record for record in runs["every protocol"] if record.protocol == name]
    assert len(found) >= 8
    for record in found:
        assert (record.outcome, record.error_text) == ("ok", None)
        assert record.num_prompt_tokens == record.planned_prompt_tokens
        planned = 0 if name == "openai-embeddings" else record.planned_output_tokens
        assert (record.num_output_tokens, record.token_source) == (planned, "server")
        assert record.stream is DIALECTS[name].streams
        assert (record.first_token_at is not None) is record.stream
        assert record.server_request_id


@pytest.mark.realtime
def test_a_scenario_speaks_the_protocol_it_is_told(runs: dict[str, list[RequestRecord]]) -> None:
    for record in runs["by option"]:
        assert (record.outcome, record.protocol) == ("ok", "anthropic-messages")
        assert (record.num_prompt_tokens, record.num_output_tokens) == (
            record.planned_prompt_tokens,
            record.planned_output_tokens,
        )


@pytest.mark.realtime
@pytest.mark.parametrize("name", ["openai-batch", "anthropic-batch"])
def test_requests_of_a_batch_share_a_job(runs: dict[str, list[RequestRecord]], name: str) -> None:
    found = [record for record in runs["every protocol"] if record.protocol == name]
    jobs = defaultdict(set)
    for record in found:
        jobs[record.server_request_id].add(record.done_at)
    assert 1 <= len(jobs) < len(found)
    for ends in jobs.values():
        instants = [end for end in ends if end is not None]
        assert max(instants) - min(instants) < 0.1


@pytest.mark.realtime
def test_every_way_takes_its_own_road(runs: dict[str, list[RequestRecord]]) -> None:
    ways = by_class(runs["three ways"])
    assert {(way, record.protocol, record.stream) for way, records in ways.items() for record in records} == {
        ("streamed", "openai-chat", True),
        ("whole", "openai-chat", False),
        ("batch", "openai-batch", False),
    }
    assert {record.outcome for record in runs["three ways"]} == {"ok"}
    jobs = [record.server_request_id for record in ways["batch"]]
    assert max(map(jobs.count, jobs)) <= 3


@pytest.mark.realtime
def test_an_endpoint_of_ones_own(tmp_path: Path) -> None:
    with assistant() as url:
        printed(url, "tests/scenarios/own_endpoint.py", tmp_path / "run", "-r", "20", "-t", "1s", "--model", "ours")
    for record in recorded(tmp_path / "run"):
        assert (record.outcome, record.error_text, record.protocol) == ("ok", None, "our-assistant")
        assert record.num_output_tokens == record.planned_output_tokens == record.num_chunks
        assert record.token_source == "server"


@pytest.mark.realtime
def test_the_key_goes_where_each_protocol_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_API_KEY", "sk-test-4711")
    keys: dict[str, set[tuple[str | None, str | None]]] = defaultdict(set)

    async def refuse(request: web.Request) -> web.StreamResponse:
        keys[request.path].add((request.headers.get("Authorization"), request.headers.get("x-api-key")))
        return web.json_response({"error": {"message": "not today"}}, status=500)

    with served("/{path:.*}", refuse) as url:
        locust(url, "tests/scenarios/every_protocol.py", tmp_path / "run", "-r", "30", "-t", "1s", "--model", "ours")
    bearer, own = ("Bearer sk-test-4711", None), (None, "sk-test-4711")
    assert keys["/v1/chat/completions"] == keys["/v1/completions"] == keys["/v1/responses"] == {bearer}
    assert keys["/v1/embeddings"] == {bearer}
    assert keys["/v1/messages"] == keys["/v1/messages/batches"] == {own}


@contextmanager
def assistant() -> Iterator[str]:
    """An application with an endpoint like no provider's: it says as many words as it is asked for, a line each."""

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for number in range(asked["words"]):
            await response.write(json.dumps({"say": f"word{number} "}).encode() + b"\n")
        await response.write(json.dumps({"done": True, "num_words": asked["words"]}).encode() + b"\n")
        return response

    with served("/api/answer", answer) as url:
        yield url


@contextmanager
def served(path: str, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Iterator[str]:
    """A server in a thread of its own that answers what is posted to a path; yields its URL."""

    async def start() -> tuple[web.AppRunner, int]:
        app = web.Application()
        app.router.add_post(path, answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, int(runner.addresses[0][1])

    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    runner, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


# -- virtual time ------------------------------------------------------------------------------------------

_PRICED = """
seed: 1
models: [{name: assistant, profile: h100-8b, price: {input: 1, output: 4}}]
stack: [{priority_queue: {workers: 16}}]
"""


def test_what_streaming_and_batches_are_worth(tmp_path: Path) -> None:
    """Under load: a stream's first word is there long before a whole answer, which comes no later than the stream's last
    word; a batch waits behind both, at half the price for the same tokens."""
    (tmp_path / "priced.yaml").write_text(_PRICED)
    done = rehearse(tmp_path / "priced.yaml", "streaming_vs_batch", tmp_path / "run", "-r", "9", "-t", "120s")
    assert done.returncode == 0, done.stderr
    ways = by_class(recorded(tmp_path / "run"))
    assert set(ways) == {"streamed", "whole", "batch"}
    ttft = median(record.first_token_at - record.intended_at for record in ways["streamed"] if record.first_token_at)
    streamed, whole, batch = (median(map(e2e, ways[way])) for way in ("streamed", "whole", "batch"))
    assert ttft < whole / 5
    assert streamed == pytest.approx(whole, rel=0.1)
    assert batch > 1.5 * whole
    assert all(record.first_token_at is None for way in ("whole", "batch") for record in ways[way])
    cost = {way: sum(record.cost_usd or 0.0 for record in records) for way, records in ways.items()}
    tokens = {way: sum(record.num_output_tokens or 0 for record in records) for way, records in ways.items()}
    rounds = min(map(len, ways.values()))
    matched = {
        way: [record.planned_output_tokens for record in sorted(records, key=lambda each: each.intended_at)[:rounds]]
        for way, records in ways.items()
    }
    assert matched["streamed"] == matched["whole"] == matched["batch"]
    assert cost["batch"] / tokens["batch"] == pytest.approx(cost["whole"] / tokens["whole"] / 2, rel=0.02)
    assert cost["streamed"] / tokens["streamed"] == pytest.approx(cost["whole"] / tokens["whole"], rel=0.02)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--whole"], "--whole has no meaning here"), (["--streamed", "-1"], "is none")],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "priced.yaml").write_text(_PRICED)
    done = rehearse(tmp_path / "priced.yaml", "streaming_vs_batch", tmp_path / "run", "-r", "9", "-t", "5s", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
