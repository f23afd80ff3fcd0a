"""The edge of the mock over real sockets: rude, slow, numerous and vanishing clients, and an orderly end.

Limits are fractions of a second here. Lower bounds of times are asserted, since a limit must not act early; upper
bounds only as a test's patience.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from harness.clock import monotonic
from mockllm.server.protocol import EdgeLimits, StreamCap
from tests.contract.server import MockServer, eventually

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.few,
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="NOT CHECKED: descriptors are counted in /proc"),
]

CHAT = "/v1/chat/completions"
MIB = 1 << 20
PATIENCE_S = 10.0
LAUNCH = """\
import asyncio, gc, json, resource, sys, threading
from mockllm.deployment import load_deployment
from mockllm.server.protocol import EdgeLimits
from mockllm.server.run import serve

what, limits, max_files = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
if max_files:
    resource.setrlimit(resource.RLIMIT_NOFILE, (max_files, max_files))

def count_tasks():
    for _ in sys.stdin:
        print(sum(type(thing) is asyncio.Task and not thing.done() for thing in gc.get_objects()), flush=True)

threading.Thread(target=count_tasks, daemon=True).start()
serve(
    load_deployment(what), host="127.0.0.1", port=0, seed=1, ledger_path=None,
    ready=lambda url: print(url, flush=True), limits=EdgeLimits(**limits),
)
"""


def profile(floor_s: float, tpot_s: float) -> str:
    return f"""\
name: m
kind: hosted
model: m
summary: Made for one test.
as_of: 2026-11-21
sources: [Made up on purpose.]
max_model_len: 100000000
answer_length: {{median_tokens: 5, sigma: 0}}
latency: {{floor_s: {floor_s}, tpot_median_s: {tpot_s}}}
"""


SLOW, SLOWER, FIREHOSE, NEVER = profile(0.02, 0.02), profile(0.02, 0.2), profile(0, 0.0001), profile(3600, 1)


@dataclass(frozen=True)
class Edge(MockServer):
    """A server process whose insides can be counted."""

    errors: Path

    def num_tasks(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def num_descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def settled(self) -> int:
        """The number of descriptors when nothing is going on."""
        pause(0.2)
        return self.num_descriptors()

    def resident_bytes(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found
        return int(found[1]) * 1024

    def num_running(self) -> float:
        return self.metric("vllm:num_requests_running")

    def stream(self, **fields: object) -> socket.socket:
        """A stream whose first event has come."""
        connection = self.open(chat(stream=True, **fields))
        assert b"data: " in read_until(connection, b"data: ")
        return connection


@contextmanager
def edge(directory: Path, what: str, *, max_files: int = 0, **limits: float) -> Iterator[Edge]:
    """A server of a bundled profile or of one that is written out, in a process of its own."""
    if "\n" in what:
        (directory / "m.yaml").write_text(what, encoding="utf-8")
        what = str(directory / "m.yaml")
    errors = directory / "stderr"
    command = [sys.executable, "-c", LAUNCH, what, json.dumps(limits), str(max_files)]
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=Path(__file__).parents[2],
        )
    assert process.stdout is not None
    with process:
        try:
            announced = process.stdout.readline()
            assert announced.startswith("http://127.0.0.1:"), errors.read_text()
            yield Edge(int(announced.rsplit(":", 1)[1]), process, errors)
            assert "Traceback" not in errors.read_text()
        finally:
            process.kill()


def chat(**fields: object) -> bytes:
    """A whole chat request; `model` and `extra` headers may be given."""
    extra = fields.pop("extra", "")
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "ignore_eos": True, "max_tokens": 100_000}
    data = json.dumps(body | fields).encode()
    return f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n{extra}\r\n".encode() + data


def get(path: str, extra: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode()


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """What comes up to these bytes, or to the end of the connection."""
    data = b""
    while end not in data:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            break
        if not piece:
            break
        data += piece
    return data


def read_all(connection: socket.socket) -> bytes:
    return read_until(connection, b"\0 never in an answer \0")


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One answer with a Content-Length; the connection stays open."""
    head, _, body = read_until(connection, b"\r\n\r\n").partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    return int(status.split()[1]), headers, body


def refused(connection: socket.socket, status: int) -> dict[str, Any]:
    """The error of an answer that must be complete, in the provider's shape, and the last on its connection."""
    found, headers, body = read_answer(connection)
    assert found == status
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/json"
    assert read_all(connection) == b""
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def send_for_ever(connection: socket.socket, piece: bytes, most: int, look: Callable[[], None] = lambda: None) -> int:
    """Send until the peer has had enough, or `most` bytes. How many were taken."""
    sent = 0
    with suppress(BrokenPipeError, ConnectionResetError):
        while sent < most:
            connection.sendall(piece)
            sent += len(piece)
            look()
    return sent


def pause(seconds: float) -> None:
    Event().wait(seconds)


def vanish(connection: socket.socket, how: str) -> None:
    """Close like a process that ended (fin), or like one whose machine lost interest (rst)."""
    if how == "rst":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# -- slow clients --------------------------------------------------------------------------------------

HEADER_S, BODY_S, IDLE_S, STALL_S = 0.4, 0.5, 0.9, 0.5


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    times: dict[str, Any] = {
        "header_s": HEADER_S,
        "body_s": BODY_S,
        "idle_s": IDLE_S,
        "write_stall_s": STALL_S,
        "linger_s": 0.2,
    }
    with edge(tmp_path_factory.mktemp("strict"), "instant", **times) as server:
        assert server.healthy()
        yield server
        assert server.healthy()


HALF_HEAD = get("/health")[:-4]
HALF_BODY = chat()[:-1]
CHUNKED = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n".encode()


def test_a_silent_connection_is_closed_without_a_word(strict: Edge) -> None:
    began = monotonic()
    with strict.open(b"", PATIENCE_S) as connection:
        assert read_all(connection) == b""
    assert monotonic() - began >= 0.9 * HEADER_S


@pytest.mark.parametrize(
    ("sent", "limit_s"),
    [
        (b"G", HEADER_S),
        (b"\r\n", HEADER_S),
        (HALF_HEAD, HEADER_S),
        (HALF_BODY, BODY_S),
        (CHUNKED + b"\r\nff\r\n{", BODY_S),
        (CHUNKED + b"\r\n1\r\n{\r\n0\r\nTrailer: ", BODY_S),
        (chat(extra="Expect: 100-continue\r\n").split(b"\r\n\r\n")[0] + b"\r\n\r\n", BODY_S),
    ],
    ids=["a-letter", "a-line-end", "half-a-head", "half-a-body", "half-a-chunk", "half-a-trailer", "never-continues"],
)
def test_half_a_request_is_answered_408(strict: Edge, sent: bytes, limit_s: float) -> None:
    began = monotonic()
    with strict.open(sent, PATIENCE_S) as connection:
        if b"100-continue" in sent:
            assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        error = refused(connection, 408)
    assert monotonic() - began >= 0.9 * limit_s
    assert (error["type"], error["code"]) == ("invalid_request_error", "request_timeout")


@pytest.mark.parametrize(
    ("start", "drop"), [(HALF_HEAD + b"\r\nX-Slow: ", b"z"), (CHUNKED + b"\r\nffff\r\n", b" ")], ids=["head", "body"]
)
def test_a_drip_does_not_put_the_deadline_off(strict: Edge, start: bytes, drop: bytes) -> None:
    with strict.open(start, 0.05) as connection:
        for _ in range(100):
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(drop)
            with suppress(TimeoutError):
                assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")
                return
    pytest.fail("it dripped for five seconds")


def test_an_idle_connection_is_kept_longer_than_a_silent_one(strict: Edge) -> None:
    with strict.open(get("/health"), PATIENCE_S) as connection:
        assert read_answer(connection)[0] == 200
        began = monotonic()
        assert read_all(connection) == b""
    assert monotonic() - began >= 0.9 * IDLE_S


def test_the_deadline_holds_for_every_request_of_a_connection(strict: Edge) -> None:
    with strict.open(get("/health"), PATIENCE_S) as connection:
        assert read_answer(connection)[0] == 200
        pause(0.6 * IDLE_S)
        connection.sendall(chat(model="instant", max_tokens=1))
        assert read_answer(connection)[0] == 200
        pause(0.6 * IDLE_S)
        began = monotonic()
        connection.sendall(HALF_HEAD)
        assert refused(connection, 408)["code"] == "request_timeout"
        assert monotonic() - began >= 0.9 * HEADER_S


# -- too much --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "piece", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: ", b"a" * 65536, 431),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n", b"a" * 65536, 431),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n", b"a: b\r\n" * 10_000, 431),
        (b"GET /", b"a" * 65536, 414),
        (b"", b"\r\n" * 32768, 431),
        (CHUNKED + b"\r\n1\r\n{\r\n0\r\nX-Trailer: ", b"a" * 65536, 431),
        (CHUNKED + b"\r\n1;extension=", b"a" * 65536, 431),
        (CHUNKED + b"Content-Type: x\r\n\r\n1\r\n{\r\n0\r\n", b"a: b\r\n" * 10_000, 431),
    ],
    ids=["value", "name", "lines", "url", "line-ends", "trailer", "chunk-extension", "trailers"],
)
def test_an_endless_head_is_refused_and_not_stored(strict: Edge, start: bytes, piece: bytes, status: int) -> None:
    before = strict.resident_bytes()
    most = [before]
    with strict.open(start, PATIENCE_S) as connection:
        send_for_ever(connection, piece, 64 * MIB, lambda: most.append(strict.resident_bytes()))
        most.append(strict.resident_bytes())
        answer = read_all(connection)
    assert answer == b"" or answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert max(most) - before < 4 * MIB
    assert strict.healthy()


def many(num: int) -> str:
    return "".join(f"X-{number}: y\r\n" for number in range(num))


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (get("/health", many(99)), 200, None),
        (get("/health", many(100)), 431, "headers_too_large"),
        (get("/health", many(5000)), 431, "headers_too_large"),
        (get("/health", f"X: {'a' * 16_000}\r\n"), 200, None),
        (get("/health", f"X: {'a' * 16_384}\r\n"), 431, "headers_too_large"),
        (get("/health", f"X: {'a' * 65_536}\r\n"), 431, "headers_too_large"),
        (get("/health?" + "a" * 8_000), 200, None),
        (get("/health?" + "a" * 8_192), 414, "url_too_long"),
        (get("/health?" + "a" * 70_000), 414, "url_too_long"),
    ],
    ids=["100", "101", "5001", "16-KB", "over-16-KB", "64-KB-at-once", "8-KB-url", "over-8-KB-url", "70-KB-url"],
)
def test_the_size_of_a_head(strict: Edge, data: bytes, status: int, code: str | None) -> None:
    with strict.open(data, PATIENCE_S) as connection:
        if code is None:
            assert read_answer(connection)[0] == status
        else:
            assert refused(connection, status)["code"] == code


def test_a_large_head_behind_a_large_body_in_one_read(strict: Edge) -> None:
    first = chat(model="instant", max_tokens=1, user="u" * 30_000)
    with strict.open(first + get("/health", f"X: {'a' * 20_000}\r\n"), PATIENCE_S) as connection:
        answers = read_all(connection)
    assert b'"status":"ok"' not in answers


@pytest.mark.parametrize("extra", ["", "Expect: 100-continue\r\n"], ids=["plain", "expect"])
def test_a_body_that_is_declared_too_large_is_not_waited_for(strict: Edge, extra: str) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {32 * MIB + 1}\r\n{extra}\r\n".encode()
    with strict.open(head, PATIENCE_S) as connection:
        assert refused(connection, 413)["code"] == "request_too_large"


def test_a_client_that_sends_everything_first_sees_the_refusal(patient: Edge) -> None:
    """Closing at once would reset its connection while it sends."""
    assert patient.ask("POST", CHAT, b" " * (33 * MIB)).status == 413


def test_an_error_has_the_shape_that_the_clients_provider_gives_it(strict: Edge) -> None:
    request = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {33 * MIB}\r\n\r\n".encode()
    with strict.open(request, PATIENCE_S) as connection:
        status, _, body = read_answer(connection)
    answer = json.loads(body)
    assert (status, answer["type"], answer["error"]["type"]) == (413, "error", "request_too_large")
    assert answer["request_id"].startswith("req_")


def test_a_declared_300_mb_body_costs_no_memory(strict: Edge) -> None:
    before = strict.resident_bytes()
    most = [before]
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {300 * MIB}\r\n\r\n".encode()
    with strict.open(head, PATIENCE_S) as connection:
        sent = send_for_ever(connection, b" " * MIB, 300 * MIB, lambda: most.append(strict.resident_bytes()))
        most.append(strict.resident_bytes())
        answer = read_all(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 300 * MIB or answer
    assert max(most) - before < 4 * MIB


# -- not HTTP --------------------------------------------------------------------------------------------


def post(*lines: str, body: bytes = b"{}") -> bytes:
    return "\r\n".join([f"POST {CHAT} HTTP/1.1", *lines, "", ""]).encode() + body


MALFORMED = {
    "no-host": b"GET /health HTTP/1.1\r\n\r\n",
    "two-hosts": b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "length-then-chunks": post("Host: x", "Content-Length: 2", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunks-then-length": post("Host: x", "Transfer-Encoding: chunked", "Content-Length: 2", body=b"0\r\n\r\n"),
    "two-lengths": post("Host: x", "Content-Length: 2", "Content-Length: 3"),
    "same-length-twice": post("Host: x", "Content-Length: 2", "Content-Length: 2"),
    "length-list": post("Host: x", "Content-Length: 2, 2"),
    "signed-length": post("Host: x", "Content-Length: +2"),
    "hexadecimal-length": post("Host: x", "Content-Length: 0x2"),
    "length-over-64-bits": post("Host: x", "Content-Length: 36893488147419103232"),
    "chunked-not-last": post("Host: x", "Transfer-Encoding: chunked, gzip", body=b"2\r\n{}\r\n0\r\n\r\n"),
    "chunk-over-64-bits": post("Host: x", "Transfer-Encoding: chunked", body=b"fffffffffffffffff\r\n"),
    "folded-line": b"GET /health HTTP/1.1\r\nHost: x\r\nX-Fold: a\r\n b\r\n\r\n",
    "first-line-folded": b"GET /health HTTP/1.1\r\n Host: x\r\n\r\n",
    "blank-before-colon": b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n",
    "bare-line-feeds": b"GET /health HTTP/1.1\nHost: x\n\n",
    "bare-carriage-return": b"GET /health HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
    "nul": b"GET /health HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
    "http-0.9": b"GET /health\r\n\r\n",
    "connect": b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\n\r\n",
    "h2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls-hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
}


@pytest.mark.parametrize("data", list(MALFORMED.values()), ids=list(MALFORMED))
def test_what_is_not_http_is_answered_400(strict: Edge, data: bytes) -> None:
    with strict.open(data, PATIENCE_S) as connection:
        error = refused(connection, 400)
    assert (error["type"], error["code"]) == ("invalid_request_error", "malformed_request")


def test_http_1_0_needs_no_host(strict: Edge) -> None:
    with strict.open(b"GET /health HTTP/1.0\r\n\r\n", PATIENCE_S) as connection:
        assert read_answer(connection)[0] == 200


def test_an_upgrade_is_answered_as_if_it_had_not_been_asked_for(strict: Edge) -> None:
    for protocol in ("websocket", "h2c"):
        upgrade = f"Connection: Upgrade\r\nUpgrade: {protocol}\r\nSec-WebSocket-Version: 13\r\n"
        with strict.open(get("/health", upgrade) + b"\0\1\2", PATIENCE_S) as connection:
            status, _, body = read_answer(connection)
            assert (status, body) == (200, b'{"status":"ok"}')
            assert read_all(connection) == b""


def test_a_trailer_is_no_header(strict: Edge) -> None:
    body = chat(model="instant", max_tokens=1).split(b"\r\n\r\n", 1)[1]
    chunks = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\nX-Client-Request-Id: smuggled\r\n\r\n"
    with strict.open(CHUNKED + b"\r\n" + chunks, PATIENCE_S) as connection:
        assert read_answer(connection)[0] == 200
    assert strict.ledger()[-1]["client_request_id"] is None


def test_garbage_behind_a_request_does_not_enter_its_answer(patient: Edge) -> None:
    with patient.stream() as connection:
        connection.sendall(b"GARBAGE\r\n\r\n")
        assert b"HTTP/1.1 400 " not in read_all(connection)
    assert eventually(lambda: patient.num_running() == 0, PATIENCE_S)


# -- clients that do not read ------------------------------------------------------------------------------


def test_a_client_that_never_reads_is_dropped_and_its_sequence_cancelled(tmp_path: Path) -> None:
    with edge(tmp_path, FIREHOSE, write_stall_s=STALL_S) as server:
        server.stream(max_tokens=2).close()
        before = server.settled()
        with server.open(chat(stream=True, max_tokens=1_000_000)):  # 100 s long
            assert eventually(lambda: server.num_running() == 1, PATIENCE_S)
            assert eventually(lambda: server.num_running() == 0, 30)
            assert eventually(lambda: server.num_descriptors() == before, PATIENCE_S)
        assert server.ledger()[-1]["outcome"] == "cancelled"


@pytest.mark.parametrize("extra", ["", "Connection: close\r\n"], ids=["kept", "closing"])
def test_an_answer_that_nobody_takes_frees_its_connection(strict: Edge, extra: str) -> None:
    """The answer is complete as far as the application knows: 13 MB wait in the transport."""
    before = strict.settled()
    with strict.open(chat(model="instant", stream=True, max_tokens=60_000, extra=extra)):
        assert eventually(lambda: strict.num_descriptors() == before + 1, PATIENCE_S)
        assert eventually(lambda: strict.num_descriptors() == before, PATIENCE_S)


def test_a_slow_reader_gets_everything(strict: Edge) -> None:
    request = chat(model="instant", stream=True, max_tokens=60_000, extra="Connection: close\r\n")
    began, answer = monotonic(), b""
    with strict.open(request, PATIENCE_S) as connection:
        while piece := connection.recv(MIB // 2):
            answer += piece
            pause(0.05)
    assert monotonic() - began > 2 * STALL_S
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert answer.count(b"data: ") == 60_000 + 3  # role, finish, [DONE]


# -- clients that go away ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """The limits of real life: none of them is what ends a connection here."""
    with edge(tmp_path_factory.mktemp("patient"), SLOWER) as server:
        yield server


WHOLE = chat(max_tokens=1_000)
STREAM = chat(stream=True)
# What a client sends, and what it sends when the server is at work on that.
LEAVING: dict[str, tuple[bytes, bytes]] = {
    "silent": (b"", b""),
    "in-the-head": (HALF_HEAD, b""),
    "in-the-body": (HALF_BODY, b""),
    "in-a-chunk": (CHUNKED + b"\r\nff\r\n{", b""),
    "before-a-whole-answer": (WHOLE, b""),
    "in-a-stream": (STREAM, b""),
    "in-a-stream-with-another-behind-it": (STREAM, STREAM),
    "in-a-stream-with-half-of-another": (STREAM + HALF_BODY, b""),
    "with-two-whole-answers-to-come": (WHOLE + WHOLE, b""),
    "with-another-whole-answer-asked-for": (WHOLE, WHOLE),
}


def allow_files(num: int) -> None:
    """Make room for this many descriptors in the test itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < num:
        if hard != resource.RLIM_INFINITY and hard < num:
            pytest.skip(f"NOT CHECKED: {num} open files are needed and only {hard} allowed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (num, hard))


def test_500_vanishing_clients_leave_nothing_behind(patient: Edge) -> None:
    allow_files(2_000)
    patient.stream(max_tokens=2).close()  # what the server makes once is made
    descriptors, tasks = patient.settled(), patient.num_tasks()
    num_before = len(patient.ledger())
    gone = []
    for number in range(500):
        where = list(LEAVING)[number % len(LEAVING)]
        gone.append((where, patient.open(LEAVING[where][0])))
    for where, connection in gone:
        if where.startswith("in-a-stream"):
            assert b"data: " in read_until(connection, b"data: ")
    for where, connection in gone:
        connection.sendall(LEAVING[where][1])
    assert eventually(lambda: patient.num_running() == 300, PATIENCE_S)
    assert patient.num_descriptors() >= descriptors + 500
    for number, (_, connection) in enumerate(gone):
        vanish(connection, "rst" if number // len(LEAVING) % 2 else "fin")
    assert eventually(lambda: patient.num_running() == 0, PATIENCE_S)
    assert eventually(lambda: patient.num_descriptors() <= descriptors, PATIENCE_S)
    assert eventually(lambda: patient.num_tasks() <= tasks, PATIENCE_S)
    entries = patient.ledger()[num_before:]
    assert {entry["outcome"] for entry in entries} == {"cancelled"}
    assert len(entries) == 300


def test_requests_sent_far_ahead_of_their_answers_end_the_connection(patient: Edge) -> None:
    with patient.stream() as connection:
        connection.sendall(get("/health") * 16)
        pause(0.1)
        assert patient.num_running() == 1
        connection.sendall(get("/health"))
        read_all(connection)
    assert eventually(lambda: patient.num_running() == 0, PATIENCE_S)


# -- too many clients --------------------------------------------------------------------------------------

MAX_CONNECTIONS, NUM_RESERVED, MAX_STREAMS = 12, 4, 6


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    caps: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "num_reserved": NUM_RESERVED,
        "max_streams": MAX_STREAMS,
    }
    with edge(tmp_path_factory.mktemp("small"), SLOW, **caps) as server:
        server.stream(max_tokens=2).close()
        yield server


@pytest.fixture
def crowded(small: Edge) -> Iterator[tuple[Edge, ExitStack]]:
    """A server that a few clients fill, and a place for these."""
    before = small.settled()
    with ExitStack() as clients:
        yield small, clients
    assert eventually(lambda: small.num_descriptors() <= before, PATIENCE_S)
    assert small.num_running() == 0


def test_health_is_reachable_when_everything_is_taken(crowded: tuple[Edge, ExitStack]) -> None:
    server, clients = crowded
    streams = [clients.enter_context(server.stream()) for _ in range(MAX_STREAMS)]
    silent = [clients.enter_context(server.open(b"")) for _ in range(MAX_CONNECTIONS - MAX_STREAMS + 50)]
    for path in ("/health", "/metrics", "/mock/ledger", "/health?deep=1") * 3:
        answer = server.ask("GET", path)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
    for request in (chat(), get("/v1/models"), get("/healthy"), get("/")):
        with server.open(request, PATIENCE_S) as connection:
            status, headers, body = read_answer(connection)
        assert (status, headers["connection"]) == (503, "close")
        assert int(headers["retry-after"]) >= 1
        assert json.loads(body)["error"]["code"] == "too_many_connections"
    # Those within the cap were not touched, those above it made room for one another.
    assert server.num_running() == MAX_STREAMS
    told = [connection for connection in silent if _has_something(connection)]
    assert len(told) >= 50 - NUM_RESERVED
    assert not set(told) & set(silent[: MAX_CONNECTIONS - MAX_STREAMS])
    assert all(refused(connection, 503)["type"] == "service_unavailable_error" for connection in told)
    for connection in streams:
        connection.close()
    assert eventually(lambda: server.ask("GET", "/v1/models").status == 200, PATIENCE_S)


def _has_something(connection: socket.socket) -> bool:
    connection.settimeout(0)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        connection.settimeout(PATIENCE_S)


def test_a_connection_above_the_cap_takes_a_place_that_becomes_free(crowded: tuple[Edge, ExitStack]) -> None:
    server, clients = crowded
    first, *_ = [clients.enter_context(server.open(b"")) for _ in range(MAX_CONNECTIONS)]
    above = clients.enter_context(server.open(b""))
    num = server.settled()
    first.close()
    assert eventually(lambda: server.num_descriptors() == num - 1, PATIENCE_S)
    above.sendall(chat(stream=True))
    assert b"HTTP/1.1 200 " in read_until(above, b"data: ")


@pytest.mark.parametrize("whole", [False, True], ids=["streams", "whole-answers"])
def test_streams_are_capped_apart_from_connections(crowded: tuple[Edge, ExitStack], whole: bool) -> None:
    server, clients = crowded
    request = WHOLE if whole else STREAM
    taken = [clients.enter_context(server.open(request)) for _ in range(MAX_STREAMS)]
    assert eventually(lambda: server.num_running() == MAX_STREAMS, PATIENCE_S)
    with server.open(chat(), PATIENCE_S) as connection:
        for _ in range(2):  # the connection is kept: it is not the one too many
            status, headers, body = read_answer(connection)
            assert (status, json.loads(body)["error"]["type"]) == (503, "service_unavailable_error")
            assert int(headers["retry-after"]) >= 1
            connection.sendall(chat(max_tokens=1))
        assert server.healthy()
        assert server.num_running() == MAX_STREAMS
        for other in taken:
            vanish(other, "rst")
        assert eventually(lambda: server.num_running() == 0, PATIENCE_S)
        read_answer(connection)
        connection.sendall(chat(max_tokens=1))
        assert read_answer(connection)[0] == 200


def test_no_more_connections_than_descriptors(tmp_path: Path) -> None:
    """A process that runs out of descriptors cannot accept, and so not answer a health check."""
    allow_files(1_000)
    with edge(tmp_path, SLOW, max_files=256) as server, ExitStack() as clients:
        for _ in range(400):
            clients.enter_context(server.open(b""))
        assert server.healthy()
        assert server.num_descriptors() < 256
        assert "raise `ulimit -n`" in server.errors.read_text()


def test_a_stream_cap_counts_what_it_refuses() -> None:
    cap = StreamCap(2)
    assert [cap.enter() for _ in range(4)] == [True, True, False, False]
    cap.leave()
    assert cap.enter()
    assert (cap.num_running, cap.num_refused) == (2, 2)


# -- the end -----------------------------------------------------------------------------------------------


def stopping(server: Edge) -> bool:
    """Whether the listener is closed."""
    try:
        server.open(b"").close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_stop_lets_streams_finish_and_turns_new_requests_away(tmp_path: Path) -> None:
    grace_s = EdgeLimits().grace_s
    with edge(tmp_path, SLOW) as server, ExitStack() as clients:
        streams = [clients.enter_context(server.stream(max_tokens=50)) for _ in range(3)]  # a second
        whole = clients.enter_context(server.open(chat(max_tokens=50)))
        kept = [clients.enter_context(server.open(get("/health"))) for _ in range(4)]
        assert [read_answer(connection)[0] for connection in kept] == [200] * 4
        asked_at = monotonic()
        server.process.terminate()
        assert eventually(lambda: stopping(server), PATIENCE_S)
        health, completion, metrics, _ = kept
        health.sendall(get("/health"))
        status, headers, body = read_answer(health)
        assert (status, headers["connection"], body) == (503, "close", b'{"status":"stopping"}')
        completion.sendall(chat())
        assert refused(completion, 503)["code"] == "stopping"
        metrics.sendall(get("/metrics"))
        assert read_answer(metrics)[0] == 200
        assert server.process.poll() is None
        assert all(read_all(stream).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for stream in streams)
        assert read_answer(whole)[0] == 200
        assert server.process.wait(PATIENCE_S) == -signal.SIGTERM
        assert monotonic() - asked_at < grace_s  # nobody waits for idle connections


def test_a_stop_cuts_what_takes_too_long(tmp_path: Path) -> None:
    with edge(tmp_path, SLOW, grace_s=0.3) as server, ExitStack() as clients:
        stream = clients.enter_context(server.stream())
        asked_at = monotonic()
        server.process.terminate()
        received = read_all(stream)
        assert monotonic() - asked_at >= 0.3
        assert received
        assert b"[DONE]" not in received
        assert not received.endswith(b"0\r\n\r\n")
        assert server.process.wait(PATIENCE_S) == -signal.SIGTERM


def test_a_stop_answers_those_who_still_wait(tmp_path: Path) -> None:
    with edge(tmp_path, NEVER, grace_s=0.2) as server, ExitStack() as clients:
        waiting = [clients.enter_context(server.open(chat(stream=stream))) for stream in (True, False)]
        assert eventually(lambda: server.num_running() == 2, PATIENCE_S)
        server.process.terminate()
        assert [refused(connection, 503)["code"] for connection in waiting] == ["stopping"] * 2
        assert server.process.wait(PATIENCE_S) == -signal.SIGTERM


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(tmp_path: Path, second: signal.Signals) -> None:
    with edge(tmp_path, FIREHOSE, grace_s=60) as server, ExitStack() as clients:
        clients.enter_context(server.stream(max_tokens=1_000_000))
        server.process.terminate()
        assert eventually(lambda: stopping(server), PATIENCE_S)
        pause(0.2)
        assert server.process.poll() is None
        server.process.send_signal(second)
        assert server.process.wait(PATIENCE_S) == -second


def test_a_client_that_does_not_read_cannot_put_off_the_end(tmp_path: Path) -> None:
    with edge(tmp_path, "instant", grace_s=0.2) as server, ExitStack() as clients:
        before = server.settled()
        clients.enter_context(server.open(chat(model="instant", stream=True, max_tokens=60_000)))
        assert eventually(lambda: server.num_descriptors() > before, PATIENCE_S)
        server.process.terminate()
        assert server.process.wait(PATIENCE_S) == -signal.SIGTERM
