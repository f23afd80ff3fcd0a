"""The Message Batches API step by step: an endpoint that answers when it is told to, the official SDK as judge."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from mockllm.clock import ManualClock
from mockllm.server.batch_work import BatchSettings
from mockllm.server.message_batches import MessageBatchStore, add_message_batch_routes
from mockllm.wire.anthropic_batch import parse_requests
from mockllm.wire.errors import ApiError
from tests.contract.sdk import strict
from tests.mockllm.fake_endpoint import FakeEndpoint, Seconds, http_client, other_tasks, until

pytestmark = pytest.mark.anyio

PATH = "/v1/messages/batches"
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "two\nlines"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": 3, "service_tier": "standard"},
}
OK = (200, {"request-id": "req_inner"}, json.dumps(MESSAGE, indent=1).encode())


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def anthropic() -> Any:
    """The official SDK."""
    return pytest.importorskip("anthropic", reason="NOT CHECKED: the anthropic SDK is not installed")


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    type: str
    message: str


class _Refusal(BaseModel):
    """Anthropic's error envelope."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: str
    error: _Inner
    request_id: str


class Bench:
    """A small application with the API, its parts, and a client."""

    def __init__(self, **changes: Any) -> None:
        self.settings = BatchSettings(**{"max_concurrency": 2, **changes})
        self.clock, self.epoch = ManualClock(), Seconds()
        self.endpoint = FakeEndpoint(OK)
        self.store = MessageBatchStore(self.endpoint, self.clock, self.epoch, self.settings)
        self.app = FastAPI()
        add_message_batch_routes(self.app, self.store)
        self.http = http_client(self.app)

    async def post(self, *requests: dict[str, Any]) -> dict[str, Any]:
        answer = await self.http.post(PATH, json={"requests": requests}, headers={"x-api-key": "sk-ant"})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def get(self, made: dict[str, Any]) -> dict[str, Any]:
        return dict((await self.http.get(f"{PATH}/{made['id']}")).json())

    async def ended(self, made: dict[str, Any]) -> dict[str, Any]:
        await until(lambda: self.store.num_running == 0)
        return await self.get(made)

    async def results(self, made: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Result by custom id."""
        answer = await self.http.get(f"{PATH}/{made['id']}/results")
        assert answer.headers["content-type"] == "application/x-jsonl"
        lines = [json.loads(line) for line in answer.content.split(b"\n") if line]
        assert all(set(line) == {"custom_id", "result"} for line in lines)
        assert len({line["custom_id"] for line in lines}) == len(lines)
        return {line["custom_id"]: line["result"] for line in lines}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    async with bench.http:
        yield bench
    await bench.store.close()
    assert bench.endpoint.num_open == 0
    assert other_tasks() == set()


def request(text: str, **changes: Any) -> dict[str, Any]:
    params = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": text}]}
    return {"custom_id": f"id-{text}", "params": params | changes}


def refusal(answer: httpx2.Response) -> _Inner:
    """The error of an answer, with the request id in body and header."""
    body = _Refusal.model_validate_json(answer.content)
    assert (body.type, body.request_id) == ("error", answer.headers["request-id"])
    return body.error


def counts(**nonzero: int) -> dict[str, int]:
    return {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0, **nonzero}


async def test_a_batch_goes_through_its_life(bench: Bench) -> None:
    bench.epoch.now = int(datetime(2026, 9, 2, 20, 8, 22, tzinfo=UTC).timestamp())
    bench.endpoint.hold("a", "b", "c")
    refused = {"type": "error", "error": {"type": "not_found_error", "message": "model: n"}, "request_id": "req_x"}
    bench.endpoint.answers["b"] = (404, {}, json.dumps(refused).encode())
    made = await bench.post(request("a"), request("b"), request("c"))
    assert made == {
        "id": made["id"],
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": counts(processing=3),
        "created_at": "2026-09-02T20:08:22Z",
        "expires_at": "2026-09-03T20:08:22Z",
        "ended_at": None,
        "cancel_initiated_at": None,
        "archived_at": None,
        "results_url": None,
    }
    await until(lambda: len(bench.endpoint.calls) == 2)  # two slots
    bench.endpoint.gates["b"].set()
    bench.endpoint.gates["c"].set()
    await until(lambda: bench.endpoint.num_open == 1)
    assert await bench.get(made) == made  # counts wait for the end
    answer = await bench.http.get(f"{PATH}/{made['id']}/results")
    assert (answer.status_code, refusal(answer).message) == (
        404,
        f"Message Batch {made['id']} has no available results.",
    )

    bench.epoch.now += 60
    bench.endpoint.gates["a"].set()
    done = await bench.ended(made)
    assert done == made | {
        "processing_status": "ended",
        "request_counts": counts(succeeded=2, errored=1),
        "ended_at": "2026-09-02T20:09:22Z",
        "results_url": f"http://mock.test/v1/messages/batches/{made['id']}/results",
    }
    results = await bench.results(made)
    assert list(results) == ["id-b", "id-c", "id-a"]  # in the order of the answers
    billed = MESSAGE | {"usage": {**MESSAGE["usage"], "service_tier": "batch"}}  # type: ignore[dict-item]
    assert results["id-a"] == results["id-c"] == {"type": "succeeded", "message": billed}
    assert results["id-b"] == {"type": "errored", "error": refused}


async def test_the_sdk_sees_all_of_it(bench: Bench, anthropic: Any) -> None:
    types = anthropic.types.messages
    sdk = anthropic.AsyncAnthropic(api_key="sk-ant", base_url="http://mock.test", http_client=bench.http, max_retries=0)
    bench.endpoint.hold("x", "y")
    bench.endpoint.answers["b"] = (
        400,
        {},
        b'{"type":"error","error":{"type":"invalid_request_error","message":"m"},"request_id":"r"}',
    )
    first = await sdk.messages.batches.create(requests=[request("a"), request("b"), request("s", stream=True)])
    with pytest.raises(anthropic.AnthropicError, match="No `results_url`"):
        await sdk.messages.batches.results(first.id)
    with pytest.raises(anthropic.BadRequestError, match="In progress batches cannot be deleted"):
        await sdk.messages.batches.delete(first.id)
    await until(lambda: bench.store.num_running == 0)
    second = await sdk.messages.batches.create(requests=[request("x"), request("z")])
    await until(lambda: "x" in bench.endpoint.texts)
    assert (await sdk.messages.batches.cancel(second.id)).processing_status == "canceling"
    await until(lambda: bench.store.num_running == 0)
    assert (await sdk.messages.batches.retrieve(second.id)).processing_status == "ended"

    for made in (first, second):
        strict(types.MessageBatch, (await bench.http.get(f"{PATH}/{made.id}")).content)
        for line in (await bench.http.get(f"{PATH}/{made.id}/results")).content.splitlines():
            strict(types.MessageBatchIndividualResponse, line)
    seen = {line.custom_id: line.result async for line in await sdk.messages.batches.results(first.id)}
    assert {key: result.type for key, result in seen.items()} == {
        "id-a": "succeeded",
        "id-b": "errored",
        "id-s": "errored",
    }
    assert seen["id-a"].message.usage.service_tier == "batch"
    assert seen["id-b"].error.error.type == "invalid_request_error"
    assert [batch.id async for batch in sdk.messages.batches.list(limit=1)] == [second.id, first.id]
    strict(types.DeletedMessageBatch, (await bench.http.delete(f"{PATH}/{first.id}")).content)
    for ask in (sdk.messages.batches.retrieve, sdk.messages.batches.delete, sdk.messages.batches.cancel):
        with pytest.raises(anthropic.NotFoundError, match=f"Message Batch {first.id} not found."):
            await ask(first.id)
    with pytest.raises(anthropic.BadRequestError, match=r"requests\.0\.params: Field required"):
        await sdk.messages.batches.create(requests=[{"custom_id": "a"}])


async def test_the_calls_carry_who_asks_and_the_batch(bench: Bench) -> None:
    made = await bench.post(request("a", temperature=0.5))
    await bench.ended(made)
    ((path, body, headers),) = bench.endpoint.calls
    assert (path, body) == ("/v1/messages", request("a", temperature=0.5)["params"])
    assert headers == {"x-api-key": "sk-ant", "content-type": "application/json", "x-mock-batch": made["id"]}


async def test_a_stream_is_refused_where_it_is_asked_for(bench: Bench) -> None:
    made = await bench.post(request("a", stream=True), request("b", stream=False), request("c", stream=None))
    assert (await bench.ended(made))["request_counts"] == counts(succeeded=2, errored=1)
    assert sorted(bench.endpoint.texts) == ["b", "c"]
    assert (await bench.results(made))["id-a"] == {
        "type": "errored",
        "error": {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": '"stream=True" is not supported in the Message Batches API',
            },
            "request_id": None,
        },
    }


@pytest.mark.parametrize(
    "answer",
    [RuntimeError("bug"), (200, {}, b"<html>"), (200, {}, b"[]"), (200, {}, b"{}"), (500, {}, b"oops"), (529, {}, b"")],
)
async def test_a_broken_answer_is_that_requests_error(bench: Bench, answer: Any) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    bench.endpoint.answers["a"] = answer
    made = await bench.post(request("a"), request("b"))
    assert (await bench.ended(made))["request_counts"] == counts(succeeded=1, errored=1)
    error = (await bench.results(made))["id-a"]["error"]
    assert error["error"] == {"type": "api_error", "message": "Internal server error"}
    assert [context.get("exception") for context in reported] == ([answer] if isinstance(answer, Exception) else [])


async def test_cancelling_stops_what_runs_and_keeps_what_is_done(bench: Bench) -> None:
    bench.endpoint.hold("b", "c")
    made = await bench.post(*(request(text) for text in "abcd"))
    await until(lambda: sorted(bench.endpoint.texts) == ["a", "b", "c"])
    bench.epoch.now += 9
    canceling = (await bench.http.post(f"{PATH}/{made['id']}/cancel")).json()
    instant = datetime.fromtimestamp(bench.epoch.now, UTC)
    assert canceling["processing_status"] == "canceling"
    assert datetime.fromisoformat(canceling["cancel_initiated_at"]) == instant
    assert canceling["request_counts"] == counts(processing=4)
    assert (await bench.http.post(f"{PATH}/{made['id']}/cancel")).json() == canceling
    done = await bench.ended(made)
    assert (done["processing_status"], done["request_counts"]) == ("ended", counts(succeeded=1, canceled=3))
    assert sorted(bench.endpoint.cancelled) == ["b", "c"]
    assert "d" not in bench.endpoint.texts
    results = await bench.results(made)
    assert results["id-a"]["type"] == "succeeded"
    assert results["id-b"] == results["id-c"] == results["id-d"] == {"type": "canceled"}
    answer = await bench.http.post(f"{PATH}/{made['id']}/cancel")
    assert (answer.status_code, refusal(answer).type) == (400, "invalid_request_error")


async def test_a_batch_can_be_cancelled_before_its_first_step(bench: Bench) -> None:
    made = await bench.post(request("a"))
    bench.store.cancel(made["id"])
    assert (await bench.ended(made))["request_counts"] == counts(canceled=1)
    assert bench.endpoint.calls == []


async def test_the_window_closes_while_requests_run(bench: Bench) -> None:
    bench.endpoint.hold("b", "c")
    made = await bench.post(*(request(text) for text in "abcd"))
    await until(lambda: len(bench.endpoint.calls) == 3)
    bench.clock.move_to(86_399.9)
    await bench.get(made)
    bench.clock.move_to(86_400.0)
    await bench.get(made)  # whoever asks makes the mock look at its clock
    assert (await bench.ended(made))["request_counts"] == counts(succeeded=1, expired=3)
    assert (await bench.results(made))["id-d"] == {"type": "expired"}


async def test_no_request_begins_after_the_window(bench: Bench) -> None:
    bench.endpoint.hold("a", "b")
    made = await bench.post(*(request(text) for text in "abc"))
    await until(lambda: len(bench.endpoint.calls) == 2)
    bench.clock.move_to(90_000.0)
    bench.endpoint.gates["a"].set()
    bench.endpoint.gates["b"].set()
    assert (await bench.ended(made))["request_counts"] == counts(succeeded=2, expired=1)
    assert bench.endpoint.texts == ["a", "b"]


async def test_lists_are_paged_both_ways(bench: Bench) -> None:
    ids = [(await bench.post(request("a")))["id"] for _ in range(5)][::-1]  # newest first

    async def page(**query: Any) -> tuple[list[str], bool]:
        body = (await bench.http.get(PATH, params=query)).json()
        found = [entry["id"] for entry in body["data"]]
        assert (body["first_id"], body["last_id"]) == ((found[0], found[-1]) if found else (None, None))
        assert set(body) == {"data", "has_more", "first_id", "last_id"}
        return found, body["has_more"]

    assert await page() == (ids, False)
    assert await page(limit=2) == (ids[:2], True)
    assert await page(limit=2, after_id=ids[1]) == (ids[2:4], True)
    assert await page(limit=2, after_id=ids[2]) == (ids[3:], False)
    assert await page(after_id=ids[4]) == ([], False)
    assert await page(limit=2, before_id=ids[4]) == (ids[2:4], True)
    assert await page(limit=2, before_id=ids[2]) == (ids[:2], False)
    assert await page(before_id=ids[0]) == ([], False)
    for query in (
        "limit=0",
        "limit=1001",
        "limit=x",
        "after_id=no",
        "before_id=no",
        f"before_id={ids[0]}&after_id={ids[1]}",
    ):
        answer = await bench.http.get(f"{PATH}?{query}")
        assert (answer.status_code, refusal(answer).type) == (400, "invalid_request_error")


A = {"custom_id": "a", "params": {}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "requests: Field required"),
        ({"requests": {}}, "requests: Input should be a valid list"),
        ({"requests": None}, "requests: Input should be a valid list"),
        ([], "Input should be a valid dictionary"),
        ({"requests": []}, "requests: List should have at least 1 item after validation, not 0"),
        ({"requests": [A] * 4}, "requests: List should have at most 3 items after validation, not 4"),
        ({"requests": ["a"]}, "requests.0: Input should be a valid dictionary"),
        ({"requests": [A, {"params": {}}]}, "requests.1.custom_id: Field required"),
        ({"requests": [{"custom_id": "a"}]}, "requests.0.params: Field required"),
        ({"requests": [{"custom_id": "a", "params": []}]}, "requests.0.params: Input should be a valid dictionary"),
        ({"requests": [{"custom_id": "a", "params": None}]}, "requests.0.params: Input should be a valid dictionary"),
        ({"requests": [{**A, "custom_id": 5}]}, "requests.0.custom_id: Input should be a valid string"),
        (
            {"requests": [{**A, "custom_id": "a" * 65}]},
            "requests.0.custom_id: String should have at most 64 characters",
        ),
        ({"requests": [{**A, "custom_id": ""}]}, "requests.0.custom_id: String should have at least 1 character"),
        (
            {"requests": [A, {**A, "custom_id": "a b"}]},
            "requests.1.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'",
        ),
        (
            {"requests": [{**A, "custom_id": "a\n"}]},
            "requests.0.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'",
        ),
        (
            {"requests": [A, A]},
            "requests: custom_id's must be unique within a batch. Duplicate custom_id found: a",
        ),
    ],
)
async def test_a_body_is_refused_in_the_providers_words(body: Any, message: str) -> None:
    bench = Bench(max_message_requests=3)
    async with bench.http:
        answer = await bench.http.post(PATH, json=body)
    error = refusal(answer)
    assert (answer.status_code, error.type, error.message) == (400, "invalid_request_error", message)
    assert bench.store.all() == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"x":' * 99_999, b'{"requests":' + b'[{"a":' * 9999, b'{"requests": NaN}']
)
async def test_a_body_that_is_no_json_is_refused(bench: Bench, body: bytes) -> None:
    answer = await bench.http.post(PATH, content=body)
    error = refusal(answer)
    assert (answer.status_code, error.type) == (400, "invalid_request_error")
    assert "JSON" in error.message


async def test_a_body_over_the_limit_is_refused() -> None:
    bench = Bench(max_message_bytes=1000)
    async with bench.http:
        answer = await bench.http.post(PATH, content=b" " * 1001)
    assert (answer.status_code, refusal(answer).type) == (413, "request_too_large")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_batch_is_not_found(bench: Bench, method: str) -> None:
    answer = await bench.http.request(method, f"{PATH}/msgbatch_no")
    error = refusal(answer)
    assert (answer.status_code, error.type) == (404, "not_found_error")
    assert error.message == "Message Batch msgbatch_no not found."


@pytest.mark.parametrize("host", [b"[", b"a b", b"%", b"x:99999999", "ü".encode("latin-1")])
async def test_any_host_may_be_named(bench: Bench, host: bytes) -> None:
    made = await bench.post(request("a"))
    await bench.ended(made)
    answer = await bench.http.get(f"{PATH}/{made['id']}", headers={b"host": host})
    assert answer.json()["results_url"] == f"http://{host.decode('latin-1')}{PATH}/{made['id']}/results"


async def test_only_so_many_batches_and_bytes_are_kept() -> None:
    bench = Bench(max_batches=2, max_total_bytes=5000)
    bench.endpoint.hold("a")
    async with bench.http:
        held, gone = await bench.post(request("a")), await bench.post(request("b"))
        await until(lambda: bench.store.num_running == 1)
        last = await bench.post(request("c"))
        assert [batch.id for batch in bench.store.all()] == [held["id"], last["id"]]
        assert (await bench.http.get(f"{PATH}/{gone['id']}")).status_code == 404
        await until(lambda: bench.store.num_running == 1)
        answer = await bench.http.post(PATH, json={"requests": [request("x" * 4900) | {"custom_id": "x"}]})
        assert (answer.status_code, refusal(answer).type) == (429, "rate_limit_error")
    await bench.store.close()


async def test_nothing_is_kept_of_work_that_has_ended(bench: Bench) -> None:
    bench.endpoint.hold("a", "x")
    done = await bench.post(*(request(text) for text in "abc"))
    stopped = await bench.post(*(request(text) for text in "xyz"))
    await until(lambda: {"a", "x"} <= set(bench.endpoint.texts))
    kept = weakref.WeakSet(other_tasks())
    assert len(kept) == 2 + 2 * bench.settings.max_concurrency
    bench.endpoint.gates["a"].set()
    bench.store.cancel(stopped["id"])
    assert (await bench.ended(done))["request_counts"] == counts(succeeded=3)
    assert all(job.pending == {} for job in bench.store._jobs.values())
    gc.collect()
    assert len(kept) == 0


async def test_closing_ends_all_work(bench: Bench) -> None:
    texts = [f"t{number}" for number in range(6)]
    bench.endpoint.hold(*texts)
    for text in texts:
        await bench.post(request(text))
    await until(lambda: bench.endpoint.num_open == 2)
    await bench.store.close()
    assert (bench.endpoint.num_open, bench.store.num_running) == (0, 0)
    assert other_tasks() == set()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
_REQUEST = st.fixed_dictionaries(
    {"custom_id": st.text("ab-_ ", max_size=3) | _JSON, "params": st.dictionaries(st.text(max_size=3), _JSON) | _JSON}
)


@given(st.one_of(st.lists(_REQUEST, max_size=4).map(lambda found: {"requests": found}), _JSON))
@settings(deadline=None, max_examples=40)
def test_what_passes_is_what_was_sent(body: Any) -> None:
    read = parse_requests(json.dumps(body).encode(), 3)
    if isinstance(read, ApiError):
        assert (read.status, bool(read.message)) == (400, True)
        return
    assert [(item.custom_id, json.loads(item.params)) for item in read] == [
        (item["custom_id"], item["params"]) for item in body["requests"]
    ]
    assert 1 <= len({item.custom_id for item in read}) == len(read) <= 3


@given(st.binary(max_size=60))
def test_no_bytes_raise(body: bytes) -> None:
    assert isinstance(parse_requests(body, 3), ApiError)
