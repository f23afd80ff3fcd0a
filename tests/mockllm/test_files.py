"""The Files API against the official SDK, and against uploads that mean no good."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx2
import openai
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import FileDeleted, FileObject
from starlette.requests import Request
from starlette.types import Message, Receive

from mockllm.server.batch_work import BatchSettings
from mockllm.server.files import FileStore, _read_form, add_file_routes
from mockllm.wire.errors import ApiError
from tests.contract.sdk import error_of, strict
from tests.mockllm.fake_endpoint import Seconds, http_client

pytestmark = pytest.mark.anyio

LINE = b'{"custom_id": "a", "method": "POST"}\n'
DAY_S = 86_400


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "POST",
    "path": "/v1/files",
    "raw_path": b"/v1/files",
    "query_string": b"",
    "headers": [(b"content-type", b"multipart/form-data; boundary=b")],
    "http_version": "1.1",
    "scheme": "http",
    "server": ("mock.test", 80),
    "client": ("127.0.0.1", 1),
    "root_path": "",
}


class Bench(NamedTuple):
    app: FastAPI
    store: FileStore
    epoch: Seconds
    http: httpx2.AsyncClient
    sdk: openai.AsyncOpenAI


def application(settings: BatchSettings | None = None) -> tuple[FastAPI, FileStore, Seconds]:
    epoch = Seconds()
    store = FileStore(settings or BatchSettings(max_file_bytes=10_000, max_files=5, max_total_bytes=25_000), epoch)
    app = FastAPI()
    add_file_routes(app, store)
    return app, store, epoch


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    app, store, epoch = application()
    async with http_client(app) as http:
        sdk = openai.AsyncOpenAI(api_key="k", base_url="http://mock.test/v1", http_client=http, max_retries=0)
        yield Bench(app, store, epoch, http, sdk)


async def test_a_file_lives_as_the_sdk_expects(bench: Bench) -> None:
    made = await bench.sdk.files.create(file=("requests.jsonl", LINE), purpose="batch")
    shown = strict(FileObject, (await bench.http.get(f"/v1/files/{made.id}")).content)
    assert shown.to_dict() == made.to_dict()
    assert (shown.filename, shown.bytes, shown.purpose, shown.status) == ("requests.jsonl", 37, "batch", "processed")
    assert shown.created_at == bench.epoch.now
    assert (await bench.sdk.files.content(made.id)).content == LINE
    gone = strict(FileDeleted, (await bench.http.delete(f"/v1/files/{made.id}")).content)
    assert (gone.id, gone.deleted) == (made.id, True)
    for ask in (bench.sdk.files.retrieve, bench.sdk.files.content, bench.sdk.files.delete):
        with pytest.raises(openai.NotFoundError, match=f"No such File object: {made.id}"):
            await ask(made.id)


@pytest.mark.parametrize(
    ("purpose", "asked_s", "expires_s"),
    [("batch", None, 30 * DAY_S), ("user_data", None, None), ("batch", 3600, 3600), ("vision", 2_592_000, 2_592_000)],
)
async def test_files_expire_when_they_were_asked_to(
    bench: Bench, purpose: Any, asked_s: int | None, expires_s: int | None
) -> None:
    expiry: Any = openai.omit if asked_s is None else {"anchor": "created_at", "seconds": asked_s}
    made = await bench.sdk.files.create(file=("f.jsonl", LINE), purpose=purpose, expires_after=expiry)
    assert made.expires_at == (None if expires_s is None else made.created_at + expires_s)
    bench.epoch.now += (expires_s or 365 * DAY_S) - 1
    assert await bench.sdk.files.retrieve(made.id)
    if expires_s is not None:
        bench.epoch.now += 1
        with pytest.raises(openai.NotFoundError):
            await bench.sdk.files.retrieve(made.id)
        assert bench.store.all() == []


async def test_lists_are_paged_ordered_and_filtered(bench: Bench) -> None:
    ids = []
    for number in range(5):
        bench.epoch.now += number % 2  # ties in time keep the order in which they came
        purpose: Any = "batch" if number % 2 else "user_data"
        ids.append((await bench.sdk.files.create(file=(f"{number}.jsonl", LINE), purpose=purpose)).id)
    assert [file.id async for file in bench.sdk.files.list(limit=2)] == ids[::-1]
    assert [file.id async for file in bench.sdk.files.list(limit=2, order="asc")] == ids
    assert [file.id async for file in bench.sdk.files.list(purpose="batch", order="asc")] == ids[1::2]
    page = (await bench.http.get("/v1/files", params={"limit": 2, "order": "asc", "after": ids[0]})).json()
    assert (page["object"], page["first_id"], page["last_id"], page["has_more"]) == ("list", ids[1], ids[2], True)
    exact = (await bench.http.get("/v1/files", params={"limit": 5})).json()
    assert (len(exact["data"]), exact["has_more"]) == (5, False)
    end = (await bench.http.get("/v1/files", params={"after": ids[0]})).json()
    assert end == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("order=up", "order"),
        ("after=file-none", "after"),
    ],
)
async def test_a_list_that_cannot_be_is_refused(bench: Bench, query: str, param: str) -> None:
    answer = await bench.http.get(f"/v1/files?{query}")
    assert (answer.status_code, error_of(answer.content).param) == (400, param)


class Refused(NamedTuple):
    name: str
    data: dict[str, str]
    file: tuple[str, bytes] | None = ("f.jsonl", LINE)
    status: int = 400
    param: str | None = None
    code: str | None = None
    says: str = ""


BATCH = {"purpose": "batch"}
REFUSED = [
    Refused("no-file", BATCH, None, param="file", code="missing_required_parameter"),
    Refused("no-purpose", {"x": "y"}, param="purpose", code="missing_required_parameter"),
    Refused("file-as-text", {**BATCH, "file": "text"}, None, param="file", code="missing_required_parameter"),
    Refused("unknown-purpose", {"purpose": "answers"}, param="purpose", code="invalid_value", says="'answers'"),
    Refused("output-purpose", {"purpose": "batch_output"}, param="purpose", code="invalid_value"),
    Refused("wrong-ending", BATCH, ("notes.txt", LINE), says="Invalid file format for Batch API. Must be .jsonl"),
    Refused("no-json", BATCH, ("f.jsonl", b"{malformed json"), says="Must be .jsonl"),
    Refused("json-but-no-object", BATCH, ("f.jsonl", b"[1]\n"), says="Must be .jsonl"),
    Refused("empty-jsonl", BATCH, ("f.jsonl", b""), says="Must be .jsonl"),
    Refused("deep", BATCH, ("f.jsonl", b"[" * 9000), says="Must be .jsonl"),
    Refused("empty", {"purpose": "vision"}, ("f.png", b""), param="file", says="File is empty"),
    Refused("latin-1", BATCH, ("f.jsonl", b'{"a": "\xe9"}'), says="Invalid file for Batch API. Must be utf-8 encoded"),
    Refused("cut-character", BATCH, ("f.jsonl", b'{"a": "x"}\n\xe6\x97'), says="utf-8"),
    Refused("utf-16", {"purpose": "fine-tune"}, ("f.jsonl", '{"a": 1}'.encode("utf-16")), says="utf-8"),
    Refused("too-large", BATCH, ("f.jsonl", LINE + b" " * 10_000), status=413, param="file"),
    Refused("anchor-only", {**BATCH, "expires_after[anchor]": "created_at"}, param="expires_after.seconds"),
    Refused("seconds-only", {**BATCH, "expires_after[seconds]": "3600"}, param="expires_after.anchor"),
    *(
        Refused(
            f"expires-{anchor}-{seconds[:9]}",
            {**BATCH, "expires_after[anchor]": anchor, "expires_after[seconds]": seconds},
            param=param,
            code=code,
        )
        for anchor, seconds, param, code in (
            ("now", "3600", "expires_after.anchor", "invalid_value"),
            ("created_at", "3599", "expires_after.seconds", "integer_below_min_value"),
            ("created_at", "2592001", "expires_after.seconds", "integer_above_max_value"),
            ("created_at", "1e4", "expires_after.seconds", "invalid_type"),
            ("created_at", "-3600", "expires_after.seconds", "invalid_type"),
            ("created_at", "9" * 4000, "expires_after.seconds", "invalid_type"),
        )
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
async def test_an_upload_is_refused_in_the_providers_words(bench: Bench, case: Refused) -> None:
    files = {"file": case.file} if case.file else {"other": ("x", b"x")} if "file" not in case.data else None
    answer = await bench.http.post("/v1/files", data=case.data, files=files)
    error = error_of(answer.content)
    assert answer.status_code == case.status, answer.text
    assert error.param == case.param
    assert case.code in (None, error.code)
    assert case.says in error.message
    assert bench.store.all() == []


async def test_only_files_of_some_purposes_can_be_read_back(bench: Bench) -> None:
    made = await bench.sdk.files.create(file=("f.txt", b"text"), purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="Not allowed to download files of purpose: user_data"):
        await bench.sdk.files.content(made.id)


async def test_the_store_is_bounded_in_count_and_in_bytes(bench: Bench) -> None:
    large = LINE + b'{"x": 1}\n' * 1000
    made = [await bench.sdk.files.create(file=("f.jsonl", large), purpose="batch") for _ in range(2)]
    with pytest.raises(openai.BadRequestError, match="25000 bytes"):
        await bench.sdk.files.create(file=("f.jsonl", large), purpose="batch")
    await bench.sdk.files.delete(made[0].id)
    await bench.sdk.files.create(file=("f.jsonl", large), purpose="batch")
    for _ in range(3):
        await bench.sdk.files.create(file=("f.jsonl", LINE), purpose="batch")
    with pytest.raises(openai.BadRequestError, match="5 files"):
        await bench.sdk.files.create(file=("f.jsonl", LINE), purpose="batch")
    bench.epoch.now += 30 * DAY_S  # what has expired makes room
    await bench.sdk.files.create(file=("f.jsonl", large), purpose="batch")
    assert len(bench.store.all()) == 1


async def test_the_rest_of_a_too_large_upload_is_not_read(bench: Bench) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.jsonl"\r\n\r\n'
    num_read, sent = 0, []

    async def receive() -> Message:
        nonlocal num_read
        num_read += 1
        body = head if num_read == 1 else b" " * 4096
        return {"type": "http.request", "body": body, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    await bench.app(SCOPE, receive, send)
    assert sent[0]["status"] == 413
    assert error_of(sent[1]["body"]).code == "request_too_large"
    assert num_read * 4096 < 10_000 + 64 * 1024 + 3 * 4096


async def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(bench: Bench) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": _PURPOSE + _FILE[:-10], "more_body": True},
        {"type": "http.disconnect"},
    ]
    request = Request({**SCOPE, "app": bench.app}, _receiving(messages))
    answer = await _read_form(request, 10_000)
    assert isinstance(answer, ApiError)
    assert answer.code == "client_disconnected"


@pytest.mark.parametrize(
    "name", ['a";x="b.jsonl', "ünï.jsonl", "a\tb.jsonl", "../../etc/passwd.jsonl", "%0d%0aX: y.jsonl"]
)
async def test_a_file_name_stays_a_name(bench: Bench, name: str) -> None:
    made = await bench.sdk.files.create(file=(name, LINE), purpose="batch")
    answer = await bench.http.get(f"/v1/files/{made.id}/content")
    assert answer.content == LINE
    assert set(answer.headers) == {"content-disposition", "content-type", "content-length"}
    assert answer.headers["content-disposition"].isascii()


def _receiving(messages: list[Message]) -> Receive:
    async def receive() -> Message:
        return messages.pop(0)

    return receive


def _part(disposition: bytes, content: bytes = LINE) -> bytes:
    return b"--b\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\n" + content + b"\r\n"


_PURPOSE = _part(b'name="purpose"', b"batch")
_FILE = _part(b'name="file"; filename="f.jsonl"')
_END = b"--b--\r\n"
_BOUNDARY = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (None, b""),
        ("application/json", b"{}"),
        ("application/x-www-form-urlencoded", b"purpose=batch&file=x"),
        ("application/x-www-form-urlencoded", b"a=1&" * 1000),
        ("application/x-www-form-urlencoded", b"a=" + b"x" * 9000),
        ("multipart/form-data", _PURPOSE + _FILE + _END),
        ("multipart/form-data; boundary=", _PURPOSE + _FILE + _END),
        ("multipart/form-data; boundary=" + "x" * 5000, _PURPOSE + _FILE + _END),
        (_BOUNDARY, b""),
        (_BOUNDARY, _END),
        (_BOUNDARY, b"garbage"),
        (_BOUNDARY, _PURPOSE + _FILE),
        (_BOUNDARY, _PURPOSE + _FILE + b"--b"),
        (_BOUNDARY, _PURPOSE + _FILE + b"--c--\r\n"),
        (_BOUNDARY, _part(b'filename="f.jsonl"') + _END),
        (_BOUNDARY, _part(b"") + _END),
        (_BOUNDARY, b"--b\r\n\r\nno headers\r\n" + _END),
        (_BOUNDARY, b"--b\r\n" + b"A: b\r\n" * 1000 + b"\r\n\r\n" + _END),
        (_BOUNDARY, b"--b\r\nA: " + b"x" * 100_000 + b"\r\n\r\n" + _END),
        (_BOUNDARY, _part(b'name="purpose"', b"x" * 5000) + _END),
        (_BOUNDARY, _PURPOSE * 20 + _FILE + _END),
        (_BOUNDARY, _PURPOSE + _FILE * 2 + _END),
        (_BOUNDARY, _part(b'name="purpose"; filename="p"', b"batch") + _END),
        (_BOUNDARY + "; charset=undefined", _PURPOSE + _FILE + _END),
        (_BOUNDARY + "; charset=punycode", _part(b'name="purpose"', b"\xff-") + _FILE + _END),
        (_BOUNDARY + "; charset=a%00b", _part(b'name="purpose"', b"\xff") + _FILE + _END),
        (_BOUNDARY + "; charset=unicode_escape", _part(b'name="purpose"', b"\\ud800") + _FILE + _END),
        (_BOUNDARY + "; charset=rot13", _part(b'name="purpose"', b"\xff") + _FILE + _END),
    ],
)
async def test_a_hostile_form_is_the_clients_error(bench: Bench, content_type: str | None, body: bytes) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = await bench.http.post("/v1/files", content=body, headers=headers)
    assert answer.status_code in (400, 413), answer.text
    error_of(answer.content)
    assert bench.store.all() == []


async def test_a_surrogate_in_a_name_is_replaced(bench: Bench) -> None:
    body = _PURPOSE + _part(b'name="file"; filename="\\\\ud800.jsonl"') + _END
    answer = await bench.http.post(
        "/v1/files", content=body, headers={"content-type": _BOUNDARY + "; charset=unicode_escape"}
    )
    assert answer.status_code == 200, answer.text
    assert strict(FileObject, answer.content).filename.endswith(".jsonl")


_PIECES = st.sampled_from([_PURPOSE, _FILE, _END, b"--b\r\n", b"\r\n", b"--", _part(b'name="file"')])


@given(
    st.lists(_PIECES | st.binary(max_size=40), max_size=8).map(b"".join),
    st.sampled_from([_BOUNDARY, _BOUNDARY + "; charset=utf-7", "application/x-www-form-urlencoded"]),
)
@settings(max_examples=150, deadline=None)
def test_no_bytes_are_the_servers_fault(body: bytes, content_type: str) -> None:
    app, store, _ = application()

    async def ask() -> httpx2.Response:
        async with http_client(app) as http:
            return await http.post("/v1/files", content=body, headers={"content-type": content_type})

    answer = asyncio.run(ask())
    assert answer.status_code in (200, 400), answer.text
    assert len(store.all()) == (answer.status_code == 200)
    json.loads(answer.content)
