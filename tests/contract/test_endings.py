"""How answers end when something goes wrong: the ledger says what happened, and nobody is left waiting."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from starlette.types import Message

from mockllm.deployment import load_deployment
from mockllm.server.app import create_app

PATH = "/v1/chat/completions"


def body_of(**options: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **options}).encode()


class Client:
    """An in-process client whose socket can be full, and which can go away."""

    def __init__(self, body: bytes, headers: dict[str, str] | None = None, *, path: str = PATH) -> None:
        self.scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1),
        }  # fmt: skip
        self.sent: list[Message] = []
        self.gone, self.room = asyncio.Event(), asyncio.Event()
        self.room.set()
        self._bodies = [body]

    async def receive(self) -> Message:
        if self._bodies:
            return {"type": "http.request", "body": self._bodies.pop(), "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        while not self.room.is_set():
            await self.room.wait()
        if not self.gone.is_set():  # as uvicorn: what is sent to nobody is dropped in silence
            self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def app_of(profile: str = "instant", **changes: Any) -> Any:
    deployment = load_deployment(profile)
    (only,) = deployment.profiles.values()
    return create_app(replace(deployment, profiles={"m": only.model_copy(update=changes)}))


def entries(app: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in app.state.server.ledger.lines()][1:]


def test_what_a_full_socket_never_took_is_not_written() -> None:
    async def run() -> None:
        app = app_of()
        client = Client(body_of(stream=True, max_tokens=50, ignore_eos=True), {"x-mock-itl-ms": "0.2"})
        answering = asyncio.ensure_future(app(client.scope, client.receive, client.send))
        while len(client.sent) < 3:
            await asyncio.sleep(0)
        client.room.clear()
        while app.state.server.engine.counts.num_in_flight:
            await asyncio.sleep(0)
        num_sent = client.body.count(b'"content":"') - 1  # the first one is the role's
        client.gone.set()
        client.room.set()
        await asyncio.wait_for(answering, 5)
        (entry,) = entries(app)
        assert entry["outcome"] == "cancelled"
        assert entry["num_output_tokens"] == sum(entry["num_tokens"]) == num_sent < 50
        assert app.state.server.cap.num_running == 0

    asyncio.run(run())


def test_a_cut_behind_a_full_socket_is_noted_when_it_is_out() -> None:
    async def run() -> None:
        app = app_of()
        headers = {"x-mock-itl-ms": "0.2", "x-mock-cut-after-tokens": "15"}
        client = Client(body_of(stream=True, max_tokens=50, ignore_eos=True), headers)
        answering = asyncio.ensure_future(app(client.scope, client.receive, client.send))
        while len(client.sent) < 3:
            await asyncio.sleep(0)
        client.room.clear()
        while app.state.server.engine.counts.num_in_flight:
            await asyncio.sleep(0)
        client.room.set()
        with pytest.raises(Exception, match="req_"):
            await asyncio.wait_for(answering, 5)
        (entry,) = entries(app)
        assert (entry["outcome"], entry["num_output_tokens"], sum(entry["num_tokens"])) == ("cut", 15, 15)

    asyncio.run(run())


def test_a_disk_that_is_full_keeps_nobody_from_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    class Full:
        def __init__(self) -> None:
            self.lines = 0

        def write(self, line: bytes) -> int:
            self.lines += 1
            if self.lines > 1:
                raise OSError(28, "No space left on device")
            return len(line)

    async def run() -> None:
        app: Any = create_app(load_deployment("instant"), ledger_file=Full())  # type: ignore[arg-type]
        for _ in range(2):
            client = Client(body_of(stream=True, max_tokens=3).replace(b'"m"', b'"instant"'))
            await asyncio.wait_for(app(client.scope, client.receive, client.send), 5)
            assert client.body.endswith(b"data: [DONE]\n\n")
        assert len(entries(app)) == 2

    asyncio.run(run())
    assert [record for record in caplog.records if "ledger ends here" in record.message]


def test_choices_of_one_request_fail_together_and_never_start_twice() -> None:
    async def run() -> None:
        app = app_of(faultiness=load_deployment("instant").profiles["instant"].faultiness.model_copy(  # type: ignore[union-attr]
            update={"server_error_rate": 0.5}
        ))  # fmt: skip
        statuses = []
        for number in range(30):
            client = Client(body_of(stream=True, n=2, max_tokens=3, user=str(number)))
            await asyncio.wait_for(app(client.scope, client.receive, client.send), 5)
            starts = [message for message in client.sent if message["type"] == "http.response.start"]
            assert len(starts) == 1
            statuses.append(starts[0]["status"])
        assert set(statuses) == {200, 500}

    asyncio.run(run())


@pytest.mark.parametrize("options", [{"ignore_eos": True, "max_tokens": 131_000}, {"min_tokens": 10**9}])
def test_what_one_request_asks_for_is_bounded_by_the_model(options: dict[str, Any]) -> None:
    async def run() -> None:
        app = app_of("golden", max_model_len=500)
        limit = {"max_tokens": 10**7} if "max_tokens" in options else {}
        client = Client(body_of(**{**options, **limit}), {"x-mock-itl-ms": "0", "x-mock-ttft-ms": "0"})
        await asyncio.wait_for(app(client.scope, client.receive, client.send), 5)
        answer = json.loads(client.body)
        if limit:
            assert answer["error"]["param"] == "max_tokens"
        else:
            assert answer["usage"]["completion_tokens"] == 499

    asyncio.run(run())


def test_a_seed_or_temperature_0_gives_the_same_words_again() -> None:
    async def run() -> None:
        app = app_of()
        for options in ({"seed": 3}, {"temperature": 0}):
            texts = []
            for _ in range(3):
                client = Client(body_of(**options))
                await asyncio.wait_for(app(client.scope, client.receive, client.send), 5)
                texts.append(json.loads(client.body)["choices"][0]["message"]["content"])
            assert len(set(texts)) == 1
        free = []
        for _ in range(4):
            client = Client(body_of())
            await asyncio.wait_for(app(client.scope, client.receive, client.send), 5)
            free.append(json.loads(client.body)["choices"][0]["message"]["content"])
        assert len(set(free)) > 1

    asyncio.run(run())


def test_a_tool_call_with_ignore_eos_has_its_own_length() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}

    async def run() -> None:
        app = app_of()
        client = Client(body_of(tools=[tool], tool_choice="required", ignore_eos=True, max_tokens=400))
        await asyncio.wait_for(app(client.scope, client.receive, client.send), 5)
        answer = json.loads(client.body)
        assert answer["choices"][0]["finish_reason"] == "tool_calls"
        assert answer["usage"]["completion_tokens"] < 50

    asyncio.run(run())


def test_message_threads_are_refused_in_the_words_the_sdk_understands() -> None:
    async def run() -> None:
        app = app_of()
        asked = {
            "model": "m",
            "max_tokens": 5,
            "messages": [{"role": "user", "content": "Hi"}],
            "thread": {"type": "create"},
        }
        client = Client(json.dumps(asked).encode(), path="/v1/messages")
        await asyncio.wait_for(app(client.scope, client.receive, client.send), 5)
        error = json.loads(client.body)["error"]
        assert error["details"] == {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/messages", "529", "Overloaded"),
        ("/v1/messages", "500", "Internal server error"),
        (PATH, "503", "overloaded"),
    ],
)
def test_a_demanded_error_speaks_the_providers_words(path: str, status: str, words: str) -> None:
    async def run() -> None:
        app = app_of()
        client = Client(body_of(max_tokens=5), {"x-mock-error": status}, path=path)
        await asyncio.wait_for(app(client.scope, client.receive, client.send), 5)
        assert words in json.loads(client.body)["error"]["message"]

    asyncio.run(run())
