"""The Batch API step by step: an endpoint that answers when it is told to, the official SDK as client and judge."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, NamedTuple

import openai
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Batch
from openai.types.chat import ChatCompletion
from openai.types.shared import ErrorObject
from pydantic import BaseModel, ConfigDict

from mockllm.clock import ManualClock
from mockllm.server.batch_work import BatchSettings
from mockllm.server.batches import BatchStore, add_batch_routes
from mockllm.server.files import FileStore, add_file_routes
from mockllm.wire.openai_batch import BatchError, LineReader
from tests.contract.sdk import error_of, strict
from tests.mockllm.fake_endpoint import FakeEndpoint, Seconds, http_client, other_tasks, until

pytestmark = pytest.mark.anyio

CHAT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "two\nlines", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    },
    "service_tier": "default",
}
OK = (200, {"x-request-id": "req_inner"}, json.dumps(COMPLETION, indent=1).encode())
REFUSAL = {"error": {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "x"}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class _Response(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    status_code: int
    request_id: str
    body: dict[str, Any]


class _NotRun(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    code: str
    message: str


class _OutputLine(BaseModel):
    """OpenAI's published BatchRequestOutput; the SDK has no type for it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    id: str
    custom_id: str
    response: _Response | None
    error: _NotRun | None


class Bench:
    """A small application with the two APIs, its parts, and a client."""

    def __init__(self, **changes: Any) -> None:
        self.settings = BatchSettings(**{"max_concurrency": 2, **changes})
        self.clock, self.epoch = ManualClock(), Seconds()
        self.endpoint = FakeEndpoint(OK)
        self.files = FileStore(self.settings, self.epoch)
        self.batches = BatchStore(
            self.files, self.endpoint, self.clock, self.epoch, self.settings, lambda model: model != "unknown"
        )
        self.app = FastAPI()
        add_file_routes(self.app, self.files)
        add_batch_routes(self.app, self.batches)
        self.http = http_client(self.app)
        self.sdk = openai.AsyncOpenAI(
            api_key="sk-1", base_url="http://mock.test/v1", http_client=self.http, max_retries=0
        )

    async def upload(self, lines: bytes) -> str:
        return (await self.sdk.files.create(file=("in.jsonl", lines), purpose="batch")).id

    async def create(self, lines: bytes, **changes: Any) -> Batch:
        order: dict[str, Any] = {
            "endpoint": CHAT,
            "completion_window": "24h",
            "input_file_id": await self.upload(lines),
        }
        return await self.sdk.batches.create(**{**order, **changes})

    async def get(self, batch: Batch) -> Batch:
        return strict(Batch, (await self.http.get(f"/v1/batches/{batch.id}")).content)

    async def ended(self, batch: Batch) -> Batch:
        await until(lambda: self.batches.num_running == 0)
        return await self.get(batch)

    async def lines(self, file_id: str | None) -> list[_OutputLine]:
        assert file_id is not None
        content = (await self.sdk.files.content(file_id)).content
        assert content.endswith(b"\n")
        return [_OutputLine.model_validate_json(line) for line in content.removesuffix(b"\n").split(b"\n")]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    async with bench.http:
        yield bench
    await bench.batches.close()
    assert bench.endpoint.num_open == 0
    assert other_tasks() == set()


def request(text: str, **changes: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    return {"custom_id": f"id-{text}", "method": "POST", "url": CHAT, "body": body, **changes}


def jsonl(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def asking(*texts: str) -> bytes:
    return jsonl(*(request(text) for text in texts))


async def test_a_batch_goes_through_its_life(bench: Bench) -> None:
    bench.endpoint.hold("a", "b", "c")
    bench.endpoint.answers["b"] = (400, {}, json.dumps(REFUSAL).encode())
    made = await bench.create(asking("a", "b", "c"), metadata={"job": "nightly"})
    assert made.status == "validating"
    assert (made.created_at, made.expires_at) == (bench.epoch.now, bench.epoch.now + 86_400)
    assert made.metadata == {"job": "nightly"}
    assert made.model is None

    bench.epoch.now += 5
    await until(lambda: len(bench.endpoint.calls) == 2)  # two slots
    running = await bench.get(made)
    assert (running.status, running.in_progress_at, running.model) == ("in_progress", bench.epoch.now, "m")
    assert running.request_counts is not None
    assert running.request_counts.to_dict() == {"total": 3, "completed": 0, "failed": 0}

    bench.endpoint.gates["b"].set()
    await until(lambda: len(bench.endpoint.calls) == 3)
    later = await bench.get(made)
    assert later.request_counts is not None
    assert later.request_counts.to_dict() == {"total": 3, "completed": 0, "failed": 1}
    assert (later.output_file_id, later.error_file_id) == (None, None)

    bench.epoch.now += 5
    bench.endpoint.gates["c"].set()
    bench.endpoint.gates["a"].set()
    seen = {"in_progress"}
    while bench.batches.num_running:
        seen.add((await bench.get(made)).status)
        await asyncio.sleep(0)
    done = await bench.get(made)
    assert seen <= {"in_progress", "finalizing", "completed"}
    assert (done.status, done.completed_at, done.finalizing_at) == ("completed", bench.epoch.now, bench.epoch.now)
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 3, "completed": 2, "failed": 1}
    assert done.usage is not None
    assert done.usage.to_dict() == {
        "input_tokens": 22,
        "input_tokens_details": {"cached_tokens": 6},
        "output_tokens": 14,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 36,
    }

    outputs = await bench.lines(done.output_file_id)
    assert {line.custom_id for line in outputs} == {"id-a", "id-c"}
    for line in outputs:
        assert line.error is None
        assert line.response is not None
        assert (line.response.status_code, line.response.request_id) == (200, "req_inner")
        assert line.response.body == COMPLETION  # service_tier untouched
        strict(ChatCompletion, json.dumps(line.response.body).encode())
    (failed,) = await bench.lines(done.error_file_id)
    assert failed.response is not None
    assert (failed.custom_id, failed.error, failed.response.status_code) == ("id-b", None, 400)
    ErrorObject.model_validate(failed.response.body["error"], strict=True)
    assert len({line.id for line in [*outputs, failed]}) == 3


async def test_finalizing_can_be_seen(bench: Bench) -> None:
    made = await bench.create(asking("a"))
    seen = set()
    while bench.batches.num_running:
        shown = bench.batches.get(made.id)
        assert shown is not None
        seen.add(shown.status)
        await asyncio.sleep(0)
    assert {"in_progress", "finalizing"} <= seen


async def test_results_come_in_the_order_of_the_answers(bench: Bench) -> None:
    bench.endpoint.hold("a")
    made = await bench.create(asking("a", "b", "c"))
    await until(lambda: len(bench.endpoint.calls) == 3)
    bench.endpoint.gates["a"].set()
    done = await bench.ended(made)
    assert [line.custom_id for line in await bench.lines(done.output_file_id)] == ["id-b", "id-c", "id-a"]


async def test_the_calls_carry_who_asks_and_the_batch(bench: Bench) -> None:
    made = await bench.create(jsonl(request("a") | {"body": request("a")["body"] | {"temperature": 0.5}}))
    await bench.ended(made)
    ((path, body, headers),) = bench.endpoint.calls
    assert path == CHAT
    assert body == request("a")["body"] | {"temperature": 0.5}
    assert headers == {
        "authorization": "Bearer sk-1",
        "content-type": "application/json",
        "x-mock-batch": made.id,
    }


async def test_all_batches_share_the_slots(bench: Bench) -> None:
    texts = [f"t{number}" for number in range(9)]
    bench.endpoint.hold(*texts)
    first = await bench.create(asking(*texts[:5]))
    second = await bench.create(asking(*texts[5:]))
    for number in range(9):
        await until(lambda: len(bench.endpoint.calls) == min(9, number + 2))  # noqa: B023
        bench.endpoint.gates[bench.endpoint.texts[number]].set()
    assert (await bench.ended(first)).status == "completed"
    assert (await bench.ended(second)).status == "completed"
    assert bench.endpoint.most_open == 2
    # Neither batch waits for the end of the other.
    assert {"t0", "t5"} <= set(bench.endpoint.texts[:4])


class Invalid(NamedTuple):
    """A line that fails the batch, and what the service was seen to say of it (`llama-stack`'s recordings)."""

    name: str
    line: bytes
    code: str
    param: str | None
    says: str


def changed(**changes: Any) -> bytes:
    return json.dumps({key: value for key, value in (request("x") | changes).items() if value is not ...}).encode()


def with_body(**changes: Any) -> bytes:
    body = {key: value for key, value in (request("x")["body"] | changes).items() if value is not ...}
    return changed(body=body)


NOT_JSON = "This line is not parseable as valid JSON."
INVALID = [
    Invalid("not-json", b"{invalid json here", "invalid_json_line", None, NOT_JSON),
    Invalid("blank", b"  ", "invalid_json_line", None, NOT_JSON),
    Invalid("array", b"[1, 2]", "invalid_json_line", None, NOT_JSON),
    Invalid("null", b"null", "invalid_json_line", None, NOT_JSON),
    Invalid("two", changed() + changed(), "invalid_json_line", None, NOT_JSON),
    Invalid("deep", b'{"a":' * 50_000, "invalid_json_line", None, NOT_JSON),
    Invalid("surrogate", changed(custom_id="\ud800"), "invalid_json_line", None, NOT_JSON),
    *(
        Invalid(f"no-{name}", changed(**{name: ...}), "missing_required_parameter", name, f"parameter: '{name}'.")
        for name in ("custom_id", "method", "url", "body")
    ),
    Invalid("id-number", changed(custom_id=5), "invalid_type", "custom_id", "custom_id"),
    Invalid("id-null", changed(custom_id=None), "invalid_type", "custom_id", "custom_id"),
    Invalid("method-get", changed(method="GET"), "invalid_value", "method", "'GET'"),
    Invalid("url", changed(url="/v1/embeddings"), "invalid_url", "url", "does not match the batch endpoint."),
    Invalid("url-absolute", changed(url="http://x/v1/chat/completions"), "invalid_url", "url", "does not match"),
    Invalid("twice", changed(custom_id="id-good"), "duplicate_custom_id", "custom_id", "'id-good'"),
    Invalid("body-null", changed(body=None), "invalid_type", "body", "expected object"),
    Invalid("body-array", changed(body=[]), "invalid_type", "body", "expected object"),
    Invalid("no-model", with_body(model=...), "invalid_request", "body.model", "Model parameter is required."),
    Invalid("model-number", with_body(model=5), "invalid_type", "body.model", "model"),
    Invalid(
        "no-messages", with_body(messages=...), "invalid_request", "body.messages", "Messages parameter is required."
    ),
    Invalid(
        "other-model", with_body(model="n"), "mismatched_model", "body.model", "'n' for this request does not match"
    ),
    Invalid("unknown-model", with_body(model="unknown"), "model_not_found", "body.model", "'unknown' is not supported"),
    Invalid(
        "stream",
        with_body(stream=True),
        "streaming_unsupported",
        "body.stream",
        "Chat Completions: Streaming is not supported in the Batch API.",
    ),
    Invalid("stream-number", with_body(stream=1), "invalid_type", "body.stream", "stream"),
]


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case.name)
async def test_an_invalid_line_fails_the_batch(bench: Bench, case: Invalid) -> None:
    made = await bench.create(asking("good") + case.line + b"\n" + asking("after"))
    done = await bench.ended(made)
    assert (done.status, done.failed_at) == ("failed", bench.epoch.now)
    assert done.errors is not None
    assert done.errors.object == "list"
    assert done.errors.data is not None
    (error,) = done.errors.data
    assert (error.code, error.param, error.line) == (case.code, case.param, 2)
    assert case.says in (error.message or "")
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 0, "completed": 0, "failed": 0}
    assert (done.output_file_id, done.error_file_id) == (None, None)
    assert bench.endpoint.calls == []


async def test_all_invalid_lines_are_named_up_to_a_bound(bench: Bench) -> None:
    done = await bench.ended(await bench.create(asking("good") + b"no\n" * 30))
    assert done.errors is not None
    assert [error.line for error in done.errors.data or []] == list(range(2, 32))
    done = await bench.ended(await bench.create(asking("good") + b"no\n" * 30_000))
    assert done.errors is not None
    assert len(done.errors.data or []) == 100


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n \r\n"])
async def test_line_ends_of_all_kinds_are_read(bench: Bench, end: bytes) -> None:
    lines = asking("a", "b").removesuffix(b"\n").replace(b"\n", b"\r\n") + end
    done = await bench.ended(await bench.create(lines))
    assert (done.status, len(bench.endpoint.calls)) == ("completed", 2)


def _empty(files: FileStore) -> str:
    return _id(files.add("in.jsonl", "batch", b" \n\n"))


def _other_purpose(files: FileStore) -> str:
    return _id(files.add("in.jsonl", "user_data", asking("a")))


def _too_many(files: FileStore) -> str:
    return _id(files.add("in.jsonl", "batch", asking("a", "b", "c", "d")))


def _id(file: Any) -> str:
    return str(file.id)


@pytest.mark.parametrize(
    ("file", "code", "param"),
    [
        (lambda _: "file-none", "invalid_request", "file_id"),
        (_other_purpose, "invalid_request", "file_id"),
        (_empty, "empty_file", None),
        (_too_many, "too_many_tasks", None),
    ],
)
async def test_an_unfit_file_fails_the_batch(
    bench: Bench, file: Callable[[FileStore], str], code: str, param: str | None
) -> None:
    small = Bench(max_requests=3)
    async with small.http:
        made = await small.sdk.batches.create(endpoint=CHAT, completion_window="24h", input_file_id=file(small.files))
        done = await small.ended(made)
    assert done.status == "failed"
    assert done.errors is not None
    assert [(error.code, error.param, error.line) for error in done.errors.data or []] == [(code, param, None)]
    assert small.endpoint.calls == []


GOOD_ORDER = {"input_file_id": "file-1", "endpoint": CHAT, "completion_window": "24h"}


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"input_file_id": ...}, "input_file_id", "missing_required_parameter"),
        ({"endpoint": ...}, "endpoint", "missing_required_parameter"),
        ({"completion_window": ...}, "completion_window", "missing_required_parameter"),
        ({"endpoint": "/v1/invalid/endpoint"}, "endpoint", "invalid_value"),
        ({"endpoint": "/v1/messages"}, "endpoint", "invalid_value"),
        ({"completion_window": "1h"}, "completion_window", "invalid_value"),
        ({"completion_window": ""}, "completion_window", "invalid_value"),
        ({"input_file_id": 5}, "input_file_id", "invalid_type"),
        ({"metadata": {"tags": ["a"]}}, "metadata.tags", "invalid_type"),
        ({"metadata": {"tags": None}}, "metadata.tags", "invalid_type"),
        ({"metadata": []}, "metadata", "invalid_type"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "object_above_max_properties"),
        ({"metadata": {"k" * 65: ""}}, "metadata", "string_above_max_length"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length"),
        (
            {"output_expires_after": {"anchor": "created_at"}},
            "output_expires_after.seconds",
            "missing_required_parameter",
        ),
        ({"output_expires_after": {"anchor": "x", "seconds": 3600}}, "output_expires_after.anchor", "invalid_value"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 5}},
            "output_expires_after.seconds",
            "integer_below_min_value",
        ),
    ],
)
async def test_an_order_is_refused_in_the_providers_words(
    bench: Bench, changes: dict[str, Any], param: str, code: str
) -> None:
    order = {key: value for key, value in {**GOOD_ORDER, **changes}.items() if value is not ...}
    answer = await bench.http.post("/v1/batches", json=order)
    error = error_of(answer.content)
    assert (answer.status_code, error.param, error.code) == (400, param, code)
    assert bench.batches.all() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"[]", 400), (b"{", 400), (b"\xff", 400), (b"[" * 99_999, 400), (b" " * 999_999, 413)],
)
async def test_an_order_that_is_none_is_refused(bench: Bench, body: bytes, status: int) -> None:
    answer = await bench.http.post("/v1/batches", content=body)
    assert answer.status_code == status
    error_of(answer.content)


async def test_metadata_at_its_limits_comes_back(bench: Bench) -> None:
    metadata = {chr(0x1F600 + number) * 64: "\x01" * 512 for number in range(16)}
    made = await bench.create(asking("a"), metadata=metadata)
    assert (await bench.ended(made)).metadata == metadata


async def test_cancelling_stops_what_runs_and_keeps_what_is_done(bench: Bench) -> None:
    bench.endpoint.hold("b", "c")
    made = await bench.create(asking("a", "b", "c", "d"))
    await until(lambda: sorted(bench.endpoint.texts) == ["a", "b", "c"])
    bench.epoch.now += 9
    cancelling = strict(Batch, (await bench.http.post(f"/v1/batches/{made.id}/cancel")).content)
    assert (cancelling.status, cancelling.cancelling_at) == ("cancelling", bench.epoch.now)
    done = await bench.ended(made)
    assert (done.status, done.cancelled_at, done.completed_at) == ("cancelled", bench.epoch.now, None)
    assert sorted(bench.endpoint.cancelled) == ["b", "c"]
    assert "d" not in bench.endpoint.texts
    assert [line.custom_id for line in await bench.lines(done.output_file_id)] == ["id-a"]
    unexecuted = await bench.lines(done.error_file_id)
    assert sorted(line.custom_id for line in unexecuted) == ["id-b", "id-c", "id-d"]
    assert {line.error.code for line in unexecuted if line.error and line.response is None} == {"batch_cancelled"}
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 4, "completed": 1, "failed": 0}
    again = await bench.sdk.batches.cancel(made.id)  # seen: cancelling a cancelled batch is allowed
    assert again.to_dict() == done.to_dict()


async def test_a_batch_can_be_cancelled_before_its_first_step(bench: Bench) -> None:
    made = await bench.create(asking("a"))
    cancelling = bench.batches.cancel(made.id)
    assert getattr(cancelling, "status", None) == "cancelling"
    done = await bench.ended(made)
    assert (done.status, done.output_file_id, done.error_file_id) == ("cancelled", None, None)
    assert bench.endpoint.calls == []


async def test_a_batch_that_has_ended_cannot_be_cancelled(bench: Bench) -> None:
    completed, failed = await bench.create(asking("a")), await bench.create(asking("a", "a"))
    for made, status in ((completed, "completed"), (failed, "failed")):
        assert (await bench.ended(made)).status == status
        with pytest.raises(openai.ConflictError, match=f"Cannot cancel a batch with status '{status}'."):
            await bench.sdk.batches.cancel(made.id)
    for ask in (bench.sdk.batches.retrieve, bench.sdk.batches.cancel):
        with pytest.raises(openai.NotFoundError, match="No batch found"):
            await ask("batch_none")


async def test_the_window_closes_while_requests_run(bench: Bench) -> None:
    bench.endpoint.hold("b", "c")
    made = await bench.create(asking("a", "b", "c", "d"))
    await until(lambda: len(bench.endpoint.calls) == 3)
    bench.clock.move_to(86_399.9)
    assert (await bench.get(made)).status == "in_progress"
    bench.clock.move_to(86_400.0)
    bench.epoch.now += 86_400
    await bench.get(made)  # whoever asks makes the mock look at its clock
    done = await bench.ended(made)
    assert (done.status, done.expired_at) == ("expired", bench.epoch.now)
    assert [line.custom_id for line in await bench.lines(done.output_file_id)] == ["id-a"]
    assert {
        (line.custom_id, line.error.code, line.error.message)
        for line in await bench.lines(done.error_file_id)
        if line.error
    } == {
        (f"id-{text}", "batch_expired", "This request could not be executed before the completion window expired.")
        for text in "bcd"
    }


async def test_no_request_begins_after_the_window(bench: Bench) -> None:
    bench.endpoint.hold("a", "b")
    made = await bench.create(asking("a", "b", "c"))
    await until(lambda: len(bench.endpoint.calls) == 2)
    bench.clock.move_to(90_000.0)
    bench.endpoint.gates["a"].set()
    bench.endpoint.gates["b"].set()
    await until(lambda: bench.batches.num_running == 0)
    assert bench.endpoint.texts == ["a", "b"]
    assert (await bench.get(made)).status == "expired"


@pytest.mark.parametrize(
    "answer", [RuntimeError("bug"), (200, {}, b"<html>"), (200, {}, b""), (200, {}, b'{"a": "\n"}')]
)
async def test_a_broken_answer_is_that_requests_error(bench: Bench, answer: Any) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    bench.endpoint.answers["a"] = answer
    done = await bench.ended(await bench.create(asking("a", "b")))
    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 2, "completed": 1, "failed": 1}
    (line,) = await bench.lines(done.error_file_id)
    assert line.response is not None
    assert (line.custom_id, line.response.status_code) == ("id-a", 500)
    assert line.response.body["error"]["type"] == "server_error"
    assert [context.get("exception") for context in reported] == ([answer] if isinstance(answer, Exception) else [])


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, (0, 0, 0)),
        ({"prompt_tokens": 5, "total_tokens": 5}, (5, 0, 5)),
        ({"input_tokens": 4, "output_tokens": 3, "total_tokens": 7, "input_tokens_details": None}, (4, 3, 7)),
        ({"prompt_tokens": "many"}, (0, 0, 0)),
    ],
)
async def test_usage_of_every_endpoint_is_added_up(bench: Bench, usage: Any, tokens: tuple[int, int, int]) -> None:
    bench.endpoint.usual = (200, {}, json.dumps({"id": "x", "usage": usage}).encode())
    done = await bench.ended(await bench.create(asking("a", "b")))
    assert done.usage is not None
    shown = (done.usage.input_tokens, done.usage.output_tokens, done.usage.total_tokens)
    assert shown == tuple(2 * number for number in tokens)


async def test_output_files_expire_when_they_were_asked_to(bench: Bench) -> None:
    made = await bench.create(asking("a"), output_expires_after={"anchor": "created_at", "seconds": 3600})
    bench.epoch.now += 50
    done = await bench.ended(made)
    file = await bench.sdk.files.retrieve(str(done.output_file_id))
    assert (file.purpose, file.created_at, file.expires_at) == ("batch_output", bench.epoch.now, bench.epoch.now + 3600)


async def test_results_that_find_no_room_fail_the_batch() -> None:
    bench = Bench(max_files=1)
    async with bench.http:
        done = await bench.ended(await bench.create(asking("a")))
    assert done.status == "failed"
    assert done.errors is not None
    assert [error.code for error in done.errors.data or []] == ["storage_full"]


async def test_the_input_may_be_deleted_while_the_batch_runs(bench: Bench) -> None:
    bench.endpoint.hold("a")
    made = await bench.create(asking("a", "b"))
    await bench.sdk.files.delete(made.input_file_id)
    await until(lambda: "a" in bench.endpoint.texts)
    bench.endpoint.gates["a"].set()
    assert (await bench.ended(made)).status == "completed"


async def test_lists_are_paged(bench: Bench) -> None:
    made = [(await bench.create(asking("a"))).id for _ in range(5)]
    await until(lambda: bench.batches.num_running == 0)
    assert [batch.id async for batch in bench.sdk.batches.list(limit=2)] == made[::-1]
    page = (await bench.http.get("/v1/batches", params={"limit": 2, "after": made[3]})).json()
    assert (page["object"], page["has_more"], page["first_id"], page["last_id"]) == ("list", True, made[2], made[1])
    for entry in page["data"]:
        strict(Batch, json.dumps(entry).encode())
    for query in ("limit=101", "limit=0", "limit=x", "after=batch_none"):
        assert (await bench.http.get(f"/v1/batches?{query}")).status_code == 400


async def test_only_so_many_batches_are_kept() -> None:
    bench = Bench(max_batches=2)
    bench.endpoint.hold("a")
    async with bench.http:
        held = await bench.create(asking("a"))
        gone = await bench.create(asking("b"))
        await until(lambda: bench.batches.num_running == 1)
        last = await bench.create(asking("a"))
        assert [batch.id async for batch in bench.sdk.batches.list()] == [last.id, held.id]
        with pytest.raises(openai.NotFoundError):
            await bench.sdk.batches.retrieve(gone.id)
        with pytest.raises(openai.RateLimitError, match="at most 2 batches"):
            await bench.create(asking("a"))
    await bench.batches.close()


async def test_nothing_is_kept_of_work_that_has_ended(bench: Bench) -> None:
    bench.endpoint.hold("a", "x")
    await bench.create(asking("a", "b", "c"))
    stopped = await bench.create(asking("x", "y", "z"))
    await until(lambda: {"a", "x"} <= set(bench.endpoint.texts))
    kept = weakref.WeakSet(other_tasks())
    assert len(kept) == 2 + 2 * bench.settings.max_concurrency
    bench.endpoint.gates["a"].set()
    await bench.sdk.batches.cancel(stopped.id)
    await until(lambda: bench.batches.num_running == 0)
    for job in bench.batches._jobs.values():
        assert (job.content, job.pending, job.outputs, job.errors) == (None, {}, [], [])
    gc.collect()
    assert len(kept) == 0


async def test_closing_ends_all_work(bench: Bench) -> None:
    texts = [f"t{number}" for number in range(6)]
    bench.endpoint.hold(*texts)
    for text in texts:
        await bench.create(asking(text))
    await until(lambda: bench.endpoint.num_open == 2)
    await bench.batches.close()
    assert (bench.endpoint.num_open, bench.batches.num_running) == (0, 0)
    assert other_tasks() == set()


async def test_other_work_gets_its_turns_while_a_large_file_is_validated(bench: Bench) -> None:
    made = await bench.create(jsonl(*(request(f"{'x' * 2000}{number}") for number in range(1000))))
    turns = 0
    while getattr(bench.batches.get(made.id), "status", "") == "validating":
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 2_000_000 // (256 * 1024)
    await bench.batches.close()


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["POST", CHAT, "m"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "messages", "stream"]), inner)
    ),
    max_leaves=6,
)
_LINES = st.fixed_dictionaries(
    {},
    optional={
        "custom_id": st.text(max_size=2) | _VALUES,
        "method": st.just("POST") | _VALUES,
        "url": st.just(CHAT) | _VALUES,
        "body": st.just({"model": "m", "messages": []}) | _VALUES,
    },
).map(lambda line: json.dumps(line).encode()) | st.binary(max_size=30)


@given(st.lists(_LINES, max_size=6))
@settings(deadline=None)
def test_what_passes_is_valid_by_another_parser(lines: list[bytes]) -> None:
    reader = LineReader(CHAT, lambda _: True)
    passed = []
    for number, line in enumerate(lines, 1):
        read = reader.read(number, line)
        if isinstance(read, BatchError):
            assert (read.line, bool(read.message), bool(read.code)) == (number, True, True)
            continue
        value = json.loads(line)
        assert (value["method"], value["url"], value["custom_id"]) == ("POST", CHAT, read.custom_id)
        assert value["body"] == json.loads(read.body)
        assert isinstance(value["body"]["model"], str)
        assert not value["body"].get("stream")
        passed.append(value)
    assert len({value["custom_id"] for value in passed}) == len(passed)
    assert len({value["body"]["model"] for value in passed}) <= 1
