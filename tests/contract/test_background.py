"""Background responses: read by polling and as a stream, while nobody waits for them. On a clock that tests move."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast, get_args

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

from mockllm.clock import ManualClock
from mockllm.deployment import load_deployment
from mockllm.server.app import create_app
from mockllm.server.background import Background, BackgroundSettings, Run
from mockllm.server.driver import Driver
from mockllm.server.protocol import StreamCap
from mockllm.wire.table import DIALECTS
from tests.mockllm.fake_endpoint import http_client, other_tasks, until

from . import sdk

pytestmark = pytest.mark.anyio

RESPONSES = "/v1/responses"
# The first token after a second, then one every 0.1 s, ten of them: over a little after 1.9 s.
SLOW = {"X-Mock-TTFT-MS": "1000", "X-Mock-ITL-MS": "100", "X-Mock-Output-Tokens": "10"}
ENDS_AT = 1.95
EVENT_TYPES: dict[str, type[BaseModel]] = {
    str(get_args(kind.model_fields["type"].annotation)[0]): kind for kind in get_args(get_args(ResponseStreamEvent)[0])
}
Event = dict[str, Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Alarm:
    """Rings when the test says so."""

    def arm(self, at: float, ring: Callable[[], None]) -> None: ...
    def disarm(self) -> None: ...


class Bench:
    """The application on a clock that stands still, and the official client of it."""

    def __init__(self, what: str = "instant", cap: StreamCap | None = None) -> None:
        self.cap = cap or StreamCap(100)
        self.app = create_app(load_deployment(what), streams=self.cap)
        self.server = self.app.state.server
        self.clock = ManualClock()
        self.server.clock = self.clock
        self.server._driver = self.driver = Driver(self.server.engine, self.clock, Alarm())
        self.http = http_client(self.app)
        self.sdk = openai.AsyncOpenAI(
            api_key="sk-1", base_url="http://mock.test/v1", http_client=self.http, max_retries=0
        )

    async def move_to(self, instant: float) -> None:
        """Let everything happen until then, at its time, and everybody hear of it."""
        while (due := self.server.engine.due()) <= instant:
            self.clock.move_to(max(due, self.clock.now()))
            self.driver.ring()
        self.clock.move_to(instant)
        await settle()

    async def create(self, headers: dict[str, str] = SLOW, **fields: Any) -> Response:
        asked: Any = {"model": "instant", "input": "hi", "background": True, **fields}
        return cast("Response", await self.sdk.responses.create(**asked, extra_headers=headers))

    async def post(self, headers: dict[str, str] = SLOW, **fields: Any) -> Any:
        asked: Any = {"model": "instant", "input": "hi", "background": True, **fields}
        return await self.http.post(RESPONSES, json=asked, headers=headers)

    async def poll(self, tag: str) -> Response:
        """The response as it stands, strictly of the SDK's type."""
        return strict((await self.http.get(f"{RESPONSES}/{tag}")).content)

    async def cancel(self, tag: str) -> Any:
        return await self.http.post(f"{RESPONSES}/{tag}/cancel")

    async def follow(
        self, path: str, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> Follower:
        follower = Follower(self.app, path, body, headers or {})
        await settle()
        return follower

    def ledger(self) -> list[dict[str, Any]]:
        header, *entries = map(json.loads, self.server.ledger.lines())
        assert header["kind"] == "header"
        return entries


async def settle() -> None:
    """Turns enough for everybody to hear of what happened."""
    for _ in range(20):
        await asyncio.sleep(0)


class Follower:
    """A client of a stream, that can go away."""

    def __init__(self, app: Any, path: str, body: dict[str, Any] | None, headers: dict[str, str]) -> None:
        self.sent: list[bytes] = []
        self.status: int | None = None
        self._gone = asyncio.Event()
        self._unread = [json.dumps(body).encode() if body else b""]
        target, _, query = path.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
            "method": "POST" if body else "GET", "path": target, "raw_path": target.encode(),
            "query_string": query.encode(), "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    def go_away(self) -> None:
        self._gone.set()

    @property
    def events(self) -> list[Event]:
        return events_of(b"".join(self.sent))

    async def _receive(self) -> Any:
        if self._unread:
            return {"type": "http.request", "body": self._unread.pop(), "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif not self._gone.is_set():
            self.sent.append(message.get("body", b""))


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    life = bench.app.router.lifespan_context(bench.app)
    await life.__aenter__()
    try:
        async with bench.http:
            yield bench
    finally:
        await life.__aexit__(None, None, None)
        await until(lambda: other_tasks() == set())
    assert bench.cap.num_running == 0
    assert bench.server.engine.idle


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(Bench()) as bench:
        yield bench


def strict(body: bytes) -> Response:
    """A response object strictly of the SDK's type; OpenAI sends `store`, which the SDK does not know."""
    value = json.loads(body)
    value.pop("store")
    return cast("Any", sdk.strict)(Response, json.dumps(value).encode())  # type: ignore[no-any-return]


def events_of(body: bytes) -> list[Event]:
    """The events of a stream, each strictly of the SDK's type for its name, numbered without a gap."""
    found: list[Event] = []
    for lines in body.split(b"\n\n")[:-1]:
        name, data = lines.split(b"\n")
        event = json.loads(data.removeprefix(b"data: "))
        assert name == f"event: {event['type']}".encode()
        event.pop("obfuscation", None)
        if "response" in event:
            event["response"].pop("store")
        cast("Any", sdk.strict)(EVENT_TYPES[event["type"]], json.dumps(event).encode())
        found.append(event)
    numbers = [event["sequence_number"] for event in found]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    return found


def text_of(events: list[Event]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


# -- polling ---------------------------------------------------------------------------------------------------------


async def test_a_response_is_queued_then_in_progress_then_completed(bench: Bench) -> None:
    made = await bench.create()
    seen = {0.0: made.status}
    for instant in (0.99, 1.0, 1.85, ENDS_AT):
        await bench.move_to(instant)
        polled = await bench.poll(made.id)
        assert (polled.id, polled.background, polled.created_at) == (made.id, True, made.created_at)
        seen[instant] = polled.status
    assert list(seen.values()) == ["queued", "queued", "in_progress", "in_progress", "completed"]
    done = await bench.sdk.responses.retrieve(made.id)
    assert done.output_text
    assert done.usage is not None
    assert done.usage.output_tokens == 10


async def test_the_answer_is_the_one_of_the_foreground(bench: Bench) -> None:
    headers = {**SLOW, "X-Client-Request-Id": "one"}
    made = await bench.create(headers)
    await bench.move_to(ENDS_AT)
    behind = json.loads((await bench.http.get(f"{RESPONSES}/{made.id}")).content)
    asked = asyncio.ensure_future(bench.post({**headers, "X-Mock-TTFT-MS": "0"}, background=False))
    await until(lambda: bench.server.engine.due() < 100)
    await bench.move_to(10.0)
    before = (await asked).json()
    assert list(behind) == list(before)
    assert (behind.pop("background"), before.pop("background")) == (True, False)
    for each in (behind, before):
        del each["id"], each["created_at"], each["output"][0]["id"]
    assert behind == before


async def test_the_limit_makes_it_incomplete(bench: Bench) -> None:
    made = await bench.create({"X-Mock-ITL-MS": "100"}, max_output_tokens=3)
    await bench.move_to(10.0)
    polled = await bench.poll(made.id)
    assert polled.status == "incomplete"
    assert polled.incomplete_details is not None
    assert polled.incomplete_details.reason == "max_output_tokens"


async def test_what_it_was_asked_can_be_read_from_the_start(bench: Bench) -> None:
    made = await bench.create(input=[{"role": "user", "content": text} for text in "abc"])
    running_ = await bench.sdk.responses.input_items.list(made.id, order="asc")
    await bench.move_to(ENDS_AT)
    done = await bench.sdk.responses.input_items.list(made.id, order="asc")
    assert running_.to_dict() == done.to_dict()
    assert [item.to_dict()["content"][0]["text"] for item in done.data] == list("abc")  # type: ignore[index]


# -- streaming -------------------------------------------------------------------------------------------------------

STREAM = {"model": "instant", "input": "hi", "background": True, "stream": True}


async def test_a_stream_says_what_happens_when_it_happens(bench: Bench) -> None:
    client = await bench.follow(RESPONSES, STREAM, SLOW)
    seen: dict[float, list[str]] = {}
    for instant in (0.0, 0.5, 1.0, 1.1, 1.95):
        await bench.move_to(instant)
        seen[instant] = [event["type"].removeprefix("response.") for event in client.events]
    assert client.status == 200
    assert seen[0.0] == seen[0.5] == ["created", "queued"]
    assert seen[1.0][2:] == ["in_progress", "output_item.added", "content_part.added", "output_text.delta"]
    assert seen[1.1] == [*seen[1.0], "output_text.delta"]
    assert seen[1.95][-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    await client.task
    assert client.events[0]["response"]["status"] == "queued"
    polled = await bench.poll(client.events[0]["response"]["id"])
    assert text_of(client.events) == polled.output_text


async def test_a_client_that_lost_its_stream_misses_nothing(bench: Bench) -> None:
    first = await bench.follow(RESPONSES, STREAM, SLOW)
    await bench.move_to(1.35)
    first.go_away()
    await bench.move_to(1.4)
    await first.task
    had, tag = first.events, first.events[0]["response"]["id"]
    assert (await bench.poll(tag)).status == "in_progress"

    again = await bench.follow(f"{RESPONSES}/{tag}?stream=true&starting_after={had[-1]['sequence_number']}")
    await bench.move_to(1.55)
    assert 0 < len(again.events) < 10, "what it missed comes at once, the rest in its time"
    await bench.move_to(2.0)
    await again.task
    whole = [*had, *again.events]
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    assert whole[-1]["type"] == "response.completed"

    replayed = await bench.sdk.responses.retrieve(tag, stream=True)
    events = [event async for event in replayed]
    assert [event.sequence_number for event in events] == list(range(len(whole)))
    last = await bench.sdk.responses.retrieve(tag, stream=True, starting_after=len(whole) - 2)
    assert [event.type async for event in last] == ["response.completed"]
    beyond = await bench.http.get(f"{RESPONSES}/{tag}?stream=true&starting_after=9999")
    assert (beyond.status_code, beyond.content) == (200, b"")


async def test_any_number_may_follow(bench: Bench) -> None:
    first = await bench.follow(RESPONSES, STREAM, SLOW)
    await bench.move_to(0.0)
    tag = first.events[0]["response"]["id"]
    others = []
    for instant in (0.5, 1.0, 1.45, 1.9):
        await bench.move_to(instant)
        others.append(await bench.follow(f"{RESPONSES}/{tag}?stream=true"))
    await bench.move_to(3.0)
    for follower in others:
        await follower.task
        assert follower.events == first.events


async def test_a_poll_shows_the_items_that_are_done(bench: Bench) -> None:
    client = await bench.follow(RESPONSES, {**STREAM, "reasoning": {"effort": "low"}}, {"X-Mock-TTFT-MS": "1000"})
    await bench.move_to(0.5)
    tag = client.events[0]["response"]["id"]
    assert (await bench.poll(tag)).output == []
    await bench.move_to(2.0)
    assert [item.type for item in (await bench.poll(tag)).output] == ["reasoning", "message"]


# -- cancelling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("instant", [0.0, 0.5, 1.25])
async def test_to_cancel_frees_the_engine_at_once(bench: Bench, instant: float, stream: bool) -> None:
    client = await bench.follow(RESPONSES, {**STREAM, "stream": stream}, SLOW)
    await bench.move_to(instant)
    tag = client.events[0]["response"]["id"] if stream else json.loads(b"".join(client.sent))["id"]
    assert bench.server.engine.counts.num_in_flight == 1
    cancelled = await bench.sdk.responses.cancel(tag)
    assert bench.server.engine.counts.num_in_flight == 0
    assert bench.cap.num_running == 0
    assert (cancelled.status, cancelled.output, cancelled.error) == ("cancelled", [], None)
    assert (await bench.sdk.responses.cancel(tag)).to_dict() == cancelled.to_dict(), "to cancel twice is no error"
    await client.task
    if stream:
        last = client.events[-1]
        assert (last["type"], last["response"]["status"]) == ("response.failed", "cancelled")
    await bench.move_to(5.0)
    assert (await bench.poll(tag)).status == "cancelled"
    assert [entry["outcome"] for entry in bench.ledger()] == ["cancelled"]


async def test_what_is_over_or_in_the_foreground_cannot_be_cancelled(bench: Bench) -> None:
    done = await bench.create()
    limited = await bench.create({}, max_output_tokens=2)
    await bench.move_to(2.0)
    asked = asyncio.ensure_future(bench.post({}, background=False))
    await until(lambda: bench.server.engine.due() < 100)
    await bench.move_to(3.0)
    front = (await asked).json()["id"]
    for tag, what in ((done.id, "a completed"), (limited.id, "an incomplete"), (front, "a synchronous")):
        answer = await bench.cancel(tag)
        assert answer.status_code == 400
        assert sdk.error_of(answer.content).message == f"Cannot cancel {what} response."
    assert (await bench.cancel("resp_none")).status_code == 404


# -- failing ---------------------------------------------------------------------------------------------------------


async def test_what_is_refused_at_once_has_its_status(bench: Bench) -> None:
    for stream in (False, True):
        answer = await bench.post({"X-Mock-Error": "429", "X-Mock-Retry-After-S": "7"}, stream=stream)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert sdk.error_of(answer.content).type == "requests"
    assert [(entry["outcome"], entry["status"]) for entry in bench.ledger()] == [("refused", 429)] * 2
    assert bench.cap.num_running == 0


@pytest.mark.parametrize(
    ("orders", "code"),
    [
        ({"X-Mock-Error": "429", "X-Mock-TTFT-MS": "1000"}, "rate_limit_exceeded"),
        ({"X-Mock-Error": "503", "X-Mock-TTFT-MS": "1000"}, "server_error"),
        ({**SLOW, "X-Mock-Cut-After-Tokens": "3"}, "server_error"),
        ({**SLOW, "X-Mock-Error-After-Tokens": "3"}, "server_error"),
    ],
)
async def test_what_fails_later_is_a_response_that_failed(bench: Bench, orders: dict[str, str], code: str) -> None:
    made = await bench.create(orders)
    client = await bench.follow(RESPONSES, STREAM, orders)
    await bench.move_to(0.5)
    assert (await bench.poll(made.id)).status == "queued"
    await bench.move_to(2.0)
    await client.task
    polled = await bench.poll(made.id)
    assert polled.status == "failed"
    assert polled.error is not None
    assert polled.error.code == code
    assert [event["type"] for event in client.events][-2:] == ["error", "response.failed"]
    assert client.events[-1]["response"]["error"]["code"] == code
    streamed = await bench.poll(client.events[0]["response"]["id"])
    assert streamed.error is not None
    assert streamed.error.code == code


async def test_a_fault_of_the_mock_is_one_response_that_failed(bench: Bench) -> None:
    class Broken:
        def slices(self, first: int, num: int) -> Any:
            raise RuntimeError("a fault of ours")

    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    exchange = exchange_of(bench, 0, stream=True)
    exchange.replies = [Broken()]
    ended: list[str] = []
    run = Run(exchange, (), lambda run, _: ended.append(run.status), lambda _: None)
    run.start()
    await settle()
    assert (ended, json.loads(run.body)["status"]) == (["failed"], "failed")
    assert [str(context["exception"]) for context in reported] == ["a fault of ours"]
    assert [entry["outcome"] for entry in bench.ledger()] == ["cancelled"]


# -- what is kept, and for how long ----------------------------------------------------------------------------------


async def test_a_complete_one_is_gone_on_from_and_one_that_runs_is_not(bench: Bench) -> None:
    made = await bench.create()
    early = await bench.post(input="more", previous_response_id=made.id)
    error = sdk.error_of(early.content)
    assert (early.status_code, error.code) == (400, "previous_response_not_complete")
    await bench.move_to(ENDS_AT)
    more = await bench.create(input="more", previous_response_id=made.id)
    assert more.previous_response_id == made.id


@pytest.mark.parametrize("store", [False, True])
async def test_ten_minutes_after_its_end_only_what_is_to_be_stored_is_kept(bench: Bench, store: bool) -> None:
    client = await bench.follow(RESPONSES, {**STREAM, "store": store}, SLOW)
    await bench.move_to(ENDS_AT)
    path = f"{RESPONSES}/{client.events[0]['response']['id']}"
    await bench.move_to(ENDS_AT + 599.0)
    assert (await bench.http.get(f"{path}?stream=true")).status_code == 200
    await bench.move_to(ENDS_AT + 600.0)
    later = await bench.http.get(f"{path}?stream=true")
    assert later.status_code == (400 if store else 404)
    assert (await bench.http.get(path)).status_code == (200 if store else 404)


async def test_what_cannot_be_streamed_says_why(bench: Bench) -> None:
    polled = await bench.create()
    answer = await bench.http.get(f"{RESPONSES}/{polled.id}?stream=true")
    message = "This response cannot be streamed because it was not created with stream=true."
    assert (answer.status_code, sdk.error_of(answer.content).message) == (400, message)
    bad = await bench.http.get(f"{RESPONSES}/{polled.id}?stream=true&starting_after=x")
    assert bad.status_code == 400


async def test_one_that_runs_cannot_be_deleted(bench: Bench) -> None:
    made = await bench.create()
    answer = await bench.http.delete(f"{RESPONSES}/{made.id}")
    assert sdk.error_of(answer.content).message == "Cannot delete an in-flight response."
    await bench.move_to(ENDS_AT)
    await bench.sdk.responses.delete(made.id)
    assert (await bench.http.get(f"{RESPONSES}/{made.id}")).status_code == 404


def test_nothing_grows_without_end() -> None:
    """Of hundreds that were made, so many are kept as may be, and those that ended first are forgotten."""

    async def kept(settings: BackgroundSettings, stream: bool) -> list[bool]:
        bench, tags = Bench(), []
        subject = Background(bench.server, lambda exchange: None, settings)
        async with running(bench):
            for number in range(50):
                exchange = exchange_of(bench, number, stream=stream)
                subject.answer(exchange, ())
                tags.append(exchange.context.tag)
                await bench.move_to(number * 1.0)
        return [subject.get(tag) is not None for tag in tags]

    assert asyncio.run(kept(BackgroundSettings(max_kept=3), False)) == [False] * 47 + [True] * 3
    few = asyncio.run(kept(BackgroundSettings(max_bytes=30_000), True))
    assert few == sorted(few)
    assert 1 <= sum(few) <= 10


def exchange_of(bench: Bench, number: int, **fields: Any) -> Any:
    body = json.dumps({"model": "instant", "input": f"number {number}", "background": True, **fields}).encode()
    dialect, server = DIALECTS[RESPONSES], bench.server
    call = dialect.parse(body)
    return server.exchange(dialect, call, {}, body, server.next_id(), server.clock.now(), bench.driver)


async def test_more_than_may_run_are_turned_away() -> None:
    async with running(Bench(cap=StreamCap(2))) as bench:
        for expected in (200, 200, 503):
            assert (await bench.post()).status_code == expected
        await bench.move_to(ENDS_AT)
        assert (await bench.post()).status_code == 200


async def test_a_batch_has_no_background(bench: Bench) -> None:
    answer = await bench.post({"X-Mock-Batch": "batch_1"})
    assert sdk.error_of(answer.content).param == "background"


# -- behind policies -------------------------------------------------------------------------------------------------


@pytest.fixture
def one_worker(tmp_path: Path) -> str:
    path = tmp_path / "one.yaml"
    path.write_text("models: [{name: instant, profile: instant}]\nstack: [{priority_queue: {workers: 1}}]\n")
    return str(path)


@pytest.mark.parametrize("stream", [False, True])
async def test_one_waits_in_a_queue_and_leaves_it_when_it_is_cancelled(one_worker: str, stream: bool) -> None:
    async with running(Bench(one_worker)) as bench:
        first, second, third = [await bench.create() for _ in range(3)]
        client = await bench.follow(RESPONSES, {**STREAM, "stream": stream}, SLOW)
        await bench.move_to(1.5)
        assert [(await bench.poll(each.id)).status for each in (first, second, third)] == [
            "in_progress",
            "queued",
            "queued",
        ]
        assert (await bench.cancel(second.id)).json()["status"] == "cancelled"
        await bench.move_to(ENDS_AT + 1.5)
        assert [(await bench.poll(each.id)).status for each in (first, third)] == ["completed", "in_progress"]
        await bench.move_to(3 * ENDS_AT)
        await client.task
        assert [entry["outcome"] for entry in bench.ledger()] == ["cancelled", "ok", "ok", "ok"]
        assert bench.ledger()[-1]["waited_s"] == {"priority_queue": pytest.approx(2 * 1.9)}


async def test_the_servers_end_ends_what_runs() -> None:
    async with running(Bench()) as bench:
        await bench.create()
        client = await bench.follow(RESPONSES, STREAM, SLOW)
        await bench.move_to(1.2)
    await client.task
    assert client.events[-1]["response"]["status"] == "cancelled"
    assert [entry["outcome"] for entry in bench.ledger()] == ["cancelled"] * 2
