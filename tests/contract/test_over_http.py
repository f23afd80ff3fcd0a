"""The server over real HTTP on loopback: the official SDK as client, then clients that no SDK would be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from mockllm.wire.errors import ApiError
from mockllm.wire.openai_chat import parse

from .hostile import HOSTILE, Hostile
from .sdk import error_of
from .server import MockServer, eventually, serve

pytestmark = pytest.mark.realtime

O200K = pytest.importorskip("quicktok").get_encoding("o200k_base")
CHAT = "/v1/chat/completions"
MIB = 1 << 20
NEVER = """\
name: never
kind: hosted
model: never
summary: The first token comes after an hour.
as_of: 2026-11-21
sources: [Made up on purpose.]
max_model_len: 1000
answer_length: {median_tokens: 5, sigma: 0}
latency: {floor_s: 3600, tpot_median_s: 1}
"""


def count(text: str) -> int:
    """Tokens by a tokenizer that nothing under test uses; text is only text, whatever it spells."""
    return len(O200K.encode_ordinary(text))


def chat(**fields: object) -> bytes:
    return json.dumps({"model": "instant", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def http(method: str, path: str, body: bytes = b"", extra: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode("latin-1") + body


@pytest.fixture(scope="module")
def instant() -> Iterator[MockServer]:
    with serve("instant") as server:
        yield server
        assert server.healthy()


@pytest.fixture(scope="module")
def golden() -> Iterator[MockServer]:
    with serve("golden") as server:
        yield server
        assert server.healthy()


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockServer]:
    path: Path = tmp_path_factory.mktemp("profile") / "never.yaml"
    path.write_text(NEVER, encoding="utf-8")
    with serve(path, kill=True) as server:
        yield server


@pytest.fixture(scope="module")
def client(instant: MockServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{instant.url}/v1", api_key="unused", max_retries=0, timeout=20) as sdk:
        yield sdk


# -- the official client ---------------------------------------------------------------------------------


def test_a_stream(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="instant",
        messages=[{"role": "user", "content": "Say something."}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].choices == []
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.prompt_tokens == count("Say something.")
    assert usage.completion_tokens == count(text) == 16  # the profile's answer length
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_stream_without_usage(client: OpenAI) -> None:
    stream = client.chat.completions.create(model="instant", messages=[{"role": "user", "content": "hi"}], stream=True)
    chunks = list(stream)
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_through_the_sdks_own_accumulator(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="instant", messages=[{"role": "user", "content": "hi"}], stream_options={"include_usage": True}
    ) as stream:
        answer = stream.get_final_completion()
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert count(answer.choices[0].message.content or "") == answer.usage.completion_tokens == 16


def test_a_whole_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="instant", messages=[{"role": "user", "content": "hi"}])
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == count("hi")
    assert answer.usage.completion_tokens == count(choice.message.content or "") == 16


@pytest.mark.parametrize("limit", [1, 2, 15])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_limit_ends_the_answer(client: OpenAI, limit: int, name: str) -> None:
    answer = client.chat.completions.create(
        model="instant", messages=[{"role": "user", "content": "hi"}], extra_body={name: limit}
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == count(answer.choices[0].message.content or "") == limit


@pytest.mark.parametrize("limit", [16, 17, 131_072])
def test_a_limit_that_is_not_reached_changes_nothing(client: OpenAI, limit: int) -> None:
    answer = client.chat.completions.create(
        model="instant", messages=[{"role": "user", "content": "hi"}], extra_body={"max_tokens": limit}
    )
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("num", [1, 40, 3000])
def test_an_exact_length_is_exact_by_another_tokenizer(client: OpenAI, num: int) -> None:
    answer = client.chat.completions.create(
        model="instant",
        messages=[{"role": "user", "content": "hi"}],
        extra_body={"max_tokens": num, "ignore_eos": True},
    )
    assert answer.choices[0].finish_reason == "length"
    assert count(answer.choices[0].message.content or "") == num


@pytest.mark.parametrize(
    "prompt",
    [
        "The quick brown fox jumps over the lazy dog.",
        "naïve Zürich 日本語のテキスト العربية \U0001f389",
        "def f(x):\n\treturn x  +  1\r\n" * 40,
        " " * 300 + "\n" * 20,
        "nul \x00 separators \u2028\u2029 marks \ufeff",
        "1234567890" * 100,
        "<|endoftext|> is how it ends",
    ],
    ids=["english", "scripts", "code", "blanks", "controls", "digits", "special"],
)
def test_prompt_tokens_are_honest(client: OpenAI, prompt: str) -> None:
    answer = client.chat.completions.create(
        model="instant",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": prompt}]},
        ],
    )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == count("Be brief.") + count(prompt)


def test_models(client: OpenAI) -> None:
    models = client.models.list().data
    assert [model.id for model in models] == ["instant"]
    assert models[0].object == "model"
    assert client.models.retrieve("instant") == models[0]


def test_a_model_that_is_not_there(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as retrieved:
        client.models.retrieve("no-such")
    assert retrieved.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as asked:
        client.chat.completions.create(model="no-such", messages=[{"role": "user", "content": "hi"}])
    assert (asked.value.code, asked.value.type) == ("model_not_found", "invalid_request_error")
    assert "no-such" in asked.value.message


@pytest.mark.parametrize("stream", [True, False])
def test_a_bad_request_is_the_sdks_bad_request(client: OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="instant", messages=[{"role": "user", "content": "hi"}], max_tokens=0, stream=stream
        )
    assert refused.value.status_code == 400
    assert (refused.value.param, refused.value.type) == ("max_tokens", "invalid_request_error")


@pytest.mark.parametrize("stream", [True, False])
def test_a_prompt_longer_than_the_context(client: OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="instant", messages=[{"role": "user", "content": " word" * 1_000_001}], stream=stream
        )
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")


def test_one_request_id_in_header_and_body(instant: MockServer) -> None:
    answer = instant.ask("POST", CHAT, chat())
    unique = answer.headers["x-request-id"].removeprefix("req_")
    assert unique
    assert json.loads(answer.body)["id"] == f"chatcmpl-{unique}"


def test_a_stream_declares_itself(instant: MockServer) -> None:
    answer = instant.ask("POST", CHAT, chat(stream=True))
    assert answer.status == 200
    assert answer.headers["content-type"].split(";")[0] == "text/event-stream"
    assert "content-encoding" not in answer.headers
    assert answer.body.endswith(b"data: [DONE]\n\n")


# -- hostile requests ------------------------------------------------------------------------------------

SMALL = [hostile for hostile in HOSTILE if len(hostile.body) < MIB]


@pytest.mark.parametrize("hostile", SMALL, ids=[hostile.name for hostile in SMALL])
def test_a_hostile_body_over_http(instant: MockServer, hostile: Hostile) -> None:
    answer = instant.ask("POST", CHAT, hostile.body, {"Content-Type": "application/json"})
    refusal = parse(hostile.body)
    assert isinstance(refusal, ApiError)
    assert answer.status == refusal.status
    assert answer.headers["content-type"] == "application/json"
    assert error_of(answer.body).param == hostile.param


def test_hostile_bodies_leave_nothing_behind(instant: MockServer) -> None:
    assert instant.metric("vllm:num_requests_running") == 0
    assert instant.healthy()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/", 404),
        ("POST", "/v1/completion", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/models/no%2Fsuch", 404),
        ("GET", "/v1/models/%00%ff%fe", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/" + "a" * 8000, 404),
        ("GET", "/docs", 404),
        ("GET", CHAT, 405),
        ("PUT", CHAT, 405),
        ("DELETE", CHAT, 405),
        ("PATCH", "/health", 405),
        ("POST", "/v1/models", 405),
        ("DELETE", "/mock/ledger", 405),
        ("POST", "/metrics", 405),
    ],
)
def test_a_wrong_path_or_method(instant: MockServer, method: str, path: str, status: int) -> None:
    answer = instant.ask(method, path)
    assert answer.status == status
    assert error_of(answer.body).type == "invalid_request_error"


def test_a_405_says_what_is_allowed(instant: MockServer) -> None:
    assert "POST" in instant.ask("GET", CHAT).headers["allow"]


GARBAGE = {
    "words": b"GARBAGE\r\n\r\n",
    "zeros": b"\x00" * 200 + b"\r\n\r\n",
    "tls-hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100 + b"\r\n\r\n",
    "http-9": b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "h2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown-method": b"BREW /pot HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "high-bytes-in-path": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "negative-length": b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    "two-lengths": b"POST "
    + CHAT.encode()
    + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
    "length-and-chunks": b"POST "
    + CHAT.encode()
    + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad-chunk-size": b"POST "
    + CHAT.encode()
    + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "header-without-colon": b"GET /health HTTP/1.1\r\nnonsense\r\n\r\n",
    "nul-in-header": b"GET /health HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
}


@pytest.mark.parametrize("data", list(GARBAGE.values()), ids=list(GARBAGE))
def test_garbage_instead_of_http(instant: MockServer, data: bytes) -> None:
    status = instant.raw_status(data)
    assert status is None or 400 <= status < 500
    assert instant.healthy()


ODD = {
    "http-1.0": b"GET /health HTTP/1.0\r\n\r\n",
    "absolute-form": b"GET http://elsewhere/health HTTP/1.1\r\nHost: elsewhere\r\n\r\n",
    "trailing-slash": http("POST", f"{CHAT}/", chat()),
    "head": b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "options": b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "openapi": b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "gzip-body": http("POST", CHAT, b"\x1f\x8b\x08\x00\x00", "Content-Encoding: gzip\r\n"),
    "text-body": http("POST", CHAT, chat(), "Content-Type: text/plain; charset=latin-1\r\n"),
    "odd-request-id": http("POST", CHAT, chat(), 'X-Client-Request-Id: \xff"}\\u0000\t\r\n'),
    "long-request-id": http("POST", CHAT, chat(), f"X-Client-Request-Id: {'x' * 30_000}\r\n"),
    "many-headers": http("POST", CHAT, chat(), "".join(f"X-{number}: y\r\n" for number in range(500))),
    "long-query": b"GET /health?" + b"a" * 30_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("data", list(ODD.values()), ids=list(ODD))
def test_odd_but_legal_http_is_no_server_error(instant: MockServer, data: bytes) -> None:
    status = instant.raw_status(data)
    assert status is not None
    assert status < 500


def test_the_same_client_request_id_at_the_same_time(instant: MockServer) -> None:
    request = http("POST", CHAT, chat(stream=True), "X-Client-Request-Id: twice\r\nConnection: close\r\n")
    connections = [instant.open(request) for _ in range(20)]
    bodies = []
    for connection in connections:
        with connection:
            body = b""
            while piece := connection.recv(65536):
                body += piece
        bodies.append(body)
    assert all(body.startswith(b"HTTP/1.1 200 ") and b"data: [DONE]" in body for body in bodies)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_requests_in_one_write_are_answered_in_order(instant: MockServer, stream: bool) -> None:
    requests = [http("POST", CHAT, chat(stream=stream, max_tokens=num, ignore_eos=True)) for num in (3, 2, 1)]
    last = http("GET", "/health", extra="Connection: close\r\n")
    with instant.open(b"".join([*requests, last])) as connection:
        body = b""
        while piece := connection.recv(65536):
            body += piece
    assert body.count(b"HTTP/1.1 200 ") == 4
    assert body.endswith(b'{"status":"ok"}')
    assert body.count(b"data: [DONE]") == (3 if stream else 0)
    assert body.count(b'"finish_reason":"length"') == 3


@pytest.mark.parametrize("chunked", [False, True], ids=["with-length", "chunked"])
def test_a_body_over_the_limit(instant: MockServer, chunked: bool) -> None:
    size = 33 * MIB
    if chunked:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        body = f"{head}{size:x}\r\n".encode() + b" " * size + b"\r\n0\r\n\r\n"
    else:
        body = http("POST", CHAT, b" " * size)
    assert instant.raw_status(body) == 413
    assert instant.healthy()


def test_a_body_just_under_the_limit_is_read(instant: MockServer) -> None:
    body = chat()
    answer = instant.ask("POST", CHAT, body + b" " * (32 * MIB - len(body)))
    assert answer.status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST",
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: loc",
        http("POST", CHAT, chat())[:-1],
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n{",
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
    ],
    ids=[
        "nothing",
        "half-a-method",
        "half-a-head",
        "all-but-one-byte",
        "a-terabyte-promised",
        "half-a-chunk",
    ],
)
def test_half_a_request_then_gone(instant: MockServer, sent: bytes) -> None:
    for _ in range(20):
        instant.open(sent).close()
    assert instant.healthy()
    assert instant.metric("vllm:num_requests_running") == 0


# -- clients that go away --------------------------------------------------------------------------------


def leaving(model: str, tag: str, number: int, *, stream: bool = True, max_tokens: int = 5000) -> bytes:
    """A request of a client that will go away; at golden its answer takes 100 s, so it is still open."""
    body = chat(model=model, stream=stream, max_tokens=max_tokens, ignore_eos=True)
    return http("POST", CHAT, body, f"X-Client-Request-Id: {tag}-{number}\r\n")


def entries_of(server: MockServer, tag: str) -> list[dict[str, object]]:
    return [entry for entry in server.ledger() if str(entry["client_request_id"]).startswith(f"{tag}-")]


def num_running(server: MockServer) -> float:
    return server.metric("vllm:num_requests_running")


def test_two_hundred_clients_vanish_in_mid_stream(golden: MockServer) -> None:
    before = golden.metric('mock_requests_total{outcome="cancelled"}')
    connections = [golden.open(leaving("golden", "mid", number)) for number in range(200)]
    for connection in connections:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")  # headers leave with the first token
    assert num_running(golden) == 200
    for connection in connections:
        connection.close()
    assert eventually(lambda: num_running(golden) == 0, within_s=5)
    assert eventually(lambda: len(entries_of(golden, "mid")) == 200, within_s=5)
    entries = entries_of(golden, "mid")
    assert {entry["outcome"] for entry in entries} == {"cancelled"}
    assert all(1 <= int(str(entry["num_output_tokens"])) < 5000 for entry in entries)
    assert golden.metric('mock_requests_total{outcome="cancelled"}') - before == 200
    assert golden.healthy()


def test_clients_that_vanish_before_the_first_token_are_cancelled(golden: MockServer) -> None:
    connections = [golden.open(leaving("golden", "early", number)) for number in range(20)]
    assert eventually(lambda: num_running(golden) == 20, within_s=5)
    for connection in connections:
        connection.close()
    assert eventually(lambda: len(entries_of(golden, "early")) == 20, within_s=5)
    assert {entry["outcome"] for entry in entries_of(golden, "early")} == {"cancelled"}
    assert num_running(golden) == 0


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_vanished_client_stops_waiting_at_once(never: MockServer, stream: bool) -> None:
    before, tag = num_running(never), f"waits-{stream}"
    with never.open(leaving("never", tag, 0, stream=stream, max_tokens=500)):
        assert eventually(lambda: num_running(never) == before + 1, within_s=5)
    assert eventually(lambda: num_running(never) == before, within_s=1.5)
    assert [entry["outcome"] for entry in entries_of(never, tag)] == ["cancelled"]


def test_clients_that_read_slowly_hold_nobody_up(golden: MockServer) -> None:
    idle = [golden.open(leaving("golden", "slow", number)) for number in range(20)]
    try:
        answer = golden.ask("POST", CHAT, chat(model="golden", max_tokens=5))
        assert answer.status == 200
    finally:
        for connection in idle:
            connection.close()


def test_no_answer_was_a_server_error(instant: MockServer, golden: MockServer) -> None:
    for server in (instant, golden):
        statuses = {entry["status"] for entry in server.ledger()}
        assert not {status for status in statuses if isinstance(status, int) and status >= 500}
        assert server.healthy()
