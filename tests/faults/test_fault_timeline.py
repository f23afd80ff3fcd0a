"""The mock's faults on the wire: what a raw socket sees, and what the load side calls it. No good request is harmed.

One server has a model for each kind of fault, and one that is good; all of them are asked by one client process.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.clock import monotonic
from mockllm.stack.fault_kinds import KINDS
from tests.contract.server import MockServer, serve
from tests.faults.test_faults import ask_all

pytestmark = [pytest.mark.realtime, pytest.mark.few]

# Kind, its keys, and how the load side judges a stream and a whole answer.
OK, CLOSED = ("ok", None), ("cut", "closed_mid_answer")
RESET = ("failed", "reset_before_headers")
SCRIPT: dict[str, tuple[str, tuple[str, str | None], tuple[str, str | None]]] = {
    "outage": ("", ("failed", "http_503"), ("failed", "http_503")),
    "refuse_connections": ("", RESET, RESET),
    "reset": ("", RESET, RESET),
    "errors": ("status: 500", ("failed", "http_500"), ("failed", "http_500")),
    "rate_limit_storm": ("retry_after: 2s", ("throttled", "http_429"), ("throttled", "http_429")),
    "slow_first_token": ("delay: 500ms", OK, OK),
    "brownout": ("factor: 3", OK, OK),
    "stall": ("for: 1ms", OK, OK),
    "cut": ("after_tokens: 5", CLOSED, CLOSED),
    "truncate": ("after_tokens: 5", ("cut", "no_end"), ("failed", "bad_json")),
    "in_band_error": ("after_tokens: 5", ("failed", "in_band_error"), ("failed", "http_500")),
    "garbled": ("after_tokens: 5", ("failed", "bad_json"), ("failed", "bad_json")),
    "duplicate_finish": ("", ("failed", "two_finishes"), OK),
    "slow_headers": ("delay: 400ms", OK, OK),
}
NUM_GOOD = 20
OTHER_PROTOCOLS = ["openai-completions", "openai-responses", "anthropic-messages"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockServer]:
    """`golden` is known timings: the first token after 200 ms, then one every 20 ms."""
    path: Path = tmp_path_factory.mktemp("faults") / "faults.yaml"
    lines = ["models:", "  - {name: good, profile: golden}", "  - {name: struck_by_hand, profile: golden}"]
    lines += [f"  - {{name: {kind}, profile: golden}}" for kind in SCRIPT]
    lines += ["faults:", *(f"  - {{kind: {kind}, model: {kind}, {keys}}}" for kind, (keys, _, _) in SCRIPT.items())]
    path.write_text("\n".join(lines).replace(", }", "}"))
    with serve(path) as running:
        yield running


@pytest.fixture(scope="module")
def told(server: MockServer) -> dict[str, dict[str, Any]]:
    """What the client process recorded, by `kind` and `kind-whole`."""
    common = {
        "url": server.url,
        "read_s": 10.0,
        "between_s": 0.0,
        "end_after_s": 10.0,
        "num_requests": 1,
        "timed": False,
        "protocol": "openai-chat",
    }
    jobs = [{**common, "name": kind, "model": kind, "stream": True} for kind in SCRIPT]
    jobs += [{**common, "name": f"{kind}-whole", "model": kind, "stream": False} for kind in SCRIPT]
    jobs += [
        {**common, "name": f"{kind}-{protocol}", "model": kind, "stream": True, "protocol": protocol}
        for kind in SCRIPT
        for protocol in OTHER_PROTOCOLS
    ]
    jobs += [{**common, "name": f"good-{n}", "model": "good", "stream": n % 2 > 0} for n in range(NUM_GOOD)]
    return ask_all(jobs)


def test_every_kind_is_here() -> None:
    assert set(SCRIPT) == set(KINDS)


@pytest.mark.parametrize("kind", SCRIPT)
def test_the_load_side_calls_it_by_its_name(told: dict[str, dict[str, Any]], kind: str) -> None:
    _, *expected = SCRIPT[kind]
    for name, (outcome, error_kind) in zip((kind, f"{kind}-whole"), expected, strict=True):
        (record,) = told[name]["records"]
        assert (record["outcome"], record["error_kind"]) == (outcome, error_kind), record["error_text"]


@pytest.mark.parametrize("protocol", OTHER_PROTOCOLS)
@pytest.mark.parametrize("kind", SCRIPT)
def test_it_has_that_name_in_every_protocol(told: dict[str, dict[str, Any]], kind: str, protocol: str) -> None:
    (record,) = told[f"{kind}-{protocol}"]["records"]
    assert (record["outcome"], record["error_kind"]) == SCRIPT[kind][1], record["error_text"]


def test_no_good_request_is_harmed(told: dict[str, dict[str, Any]]) -> None:
    records = [told[f"good-{n}"]["records"][0] for n in range(NUM_GOOD)]
    assert [(record["outcome"], record["num_attempts"]) for record in records] == [("ok", 1)] * NUM_GOOD
    streams = [record for record in records if record["stream"]]
    assert max(record["first_token_at"] - record["sent_at"] for record in streams) < 0.5


@pytest.mark.parametrize(("kind", "least_s"), [("slow_first_token", 0.7), ("brownout", 0.6), ("slow_headers", 0.6)])
def test_what_is_only_slow_is_so_slow(told: dict[str, dict[str, Any]], kind: str, least_s: float) -> None:
    """A good first token takes 200 ms."""
    (record,) = told[kind]["records"]
    ttft = record["first_token_at"] - record["sent_at"]
    assert least_s <= ttft < least_s + 0.4
    if kind == "slow_headers":
        assert record["first_byte_at"] - record["sent_at"] < 0.5


# -- raw sockets -------------------------------------------------------------------------------------------------------


def request(model: str, path: str = "/v1/chat/completions", *, stream: bool = True) -> bytes:
    body = {"model": model, "stream": stream, "max_tokens": 30, "messages": [{"role": "user", "content": "hi"}]}
    if path == "/v1/completions":
        body["prompt"] = body.pop("messages")[0]["content"]  # type: ignore[index]
    if path == "/v1/responses":
        body["input"] = body.pop("messages")
        body["max_output_tokens"] = body.pop("max_tokens")
    data = json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(data), data)


PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]
LAST = b"0\r\n\r\n"  # the last piece of a body in pieces


def read(connection: socket.socket, until: bytes = b"\x00") -> tuple[bytes, str]:
    """Bytes up to `until` or to the end, and which end: `closed`, `reset` or `open`."""
    data = b""
    while until not in data:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return data, "reset"
        if not piece:
            return data, "closed"
        data += piece
    return data, "open"


@contextmanager
def asked(server: MockServer, model: str, path: str = PATHS[0], *, stream: bool = True) -> Iterator[socket.socket]:
    with closing(server.open(request(model, path, stream=stream))) as connection:
        yield connection


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["reset", "refuse_connections"])
def test_a_reset_is_a_reset(server: MockServer, kind: str, path: str) -> None:
    with asked(server, kind, path) as connection:
        assert read(connection) == (b"", "reset")
    with closing(server.open(request("good", path, stream=False))) as connection:  # also on a connection that was good
        assert read(connection, b"}")[0].startswith(b"HTTP/1.1 200 OK")
        connection.sendall(request(kind, path))
        assert read(connection)[1] == "reset"


@pytest.mark.parametrize("path", PATHS)
def test_a_cut_closes_in_the_middle_and_a_truncation_in_order(server: MockServer, path: str) -> None:
    with asked(server, "cut", path) as connection:
        data, end = read(connection)
        assert (end, data.startswith(b"HTTP/1.1 200 OK"), data.endswith(LAST)) == ("closed", True, False)
    with asked(server, "truncate", path) as connection:
        data, end = read(connection, LAST)
        assert (end, data.startswith(b"HTTP/1.1 200 OK"), b"[DONE]" in data) == ("open", True, False)
        connection.sendall(request("good", path))  # the connection itself is sound
        assert read(connection, LAST)[1] == "open"


def test_a_garbled_event_is_one_event(server: MockServer) -> None:
    with asked(server, "garbled") as connection:
        data, end = read(connection, LAST)
    broken = []
    for event in re.findall(rb"data: (.*)\n", data):
        try:
            assert event == b"[DONE]" or json.loads(event)
        except ValueError:
            broken.append(event)
    assert (end, len(broken), data.count(b"[DONE]")) == ("open", 1, 1)


def test_headers_drip_and_the_connection_is_good_for_more(server: MockServer) -> None:
    with asked(server, "slow_headers") as connection:
        connection.sendall(request("good"))  # pipelined: it waits until the first one is answered
        first, sizes, head, began = monotonic(), [], b"", None
        while b"\r\n\r\n" not in head:
            piece = connection.recv(65536)
            began = began or monotonic()
            head += piece
            sizes.append(len(piece))
        assert began is not None
        assert began - first < 0.35
        assert 0.35 <= monotonic() - began < 0.8
        assert len(sizes) > 50, "a few bytes at a time"
        rest, _ = read(connection, LAST)
        while rest.count(LAST) < 2:
            rest += read(connection, LAST)[0]
        assert rest.count(b"HTTP/1.1 200 OK") == 1
        assert rest.count(b"[DONE]") == 2


def test_a_client_that_leaves_while_headers_drip_frees_its_place(server: MockServer) -> None:
    with asked(server, "slow_headers") as connection:
        connection.recv(1)
    assert server.healthy()
    with asked(server, "good") as connection:
        assert read(connection, LAST)[1] == "open"


@pytest.mark.parametrize("status", [503, "reset"])
def test_an_outage_by_hand_cuts_what_is_on_its_way(server: MockServer, status: Any) -> None:
    fault = {"kind": "outage", "model": "struck_by_hand", "status": status}
    with asked(server, "struck_by_hand") as seen, asked(server, "good") as good:
        head = read(seen, b'"content":"')[0]
        with asked(server, "struck_by_hand", stream=False) as unseen:
            added = json.loads(server.ask("POST", "/mock/faults", json.dumps(fault).encode()).body)["faults"]
            data, end = read(unseen, b"}}") if status == 503 else read(unseen)
            assert (data[:12], end) == ((b"HTTP/1.1 503", "open") if status == 503 else (b"", "reset"))
        data, end = read(seen)
        assert (end, (head + data).endswith(LAST)) == ("closed", False)
        assert read(good, LAST)[1] == "open"
    server.ask("DELETE", f"/mock/faults/{added[0]['id']}")
    with asked(server, "struck_by_hand") as connection:
        assert read(connection, LAST)[1] == "open"


def test_a_stall_by_hand_holds_the_tokens_back(server: MockServer) -> None:
    fault = {"kind": "stall", "model": "struck_by_hand", "for": "700ms"}
    with asked(server, "struck_by_hand") as connection:
        read(connection, b'"content":"')
        before = monotonic()
        server.ask("POST", "/mock/faults", json.dumps(fault).encode())
        ordered, silence, at = monotonic(), 0.0, monotonic()
        while True:
            piece = connection.recv(65536)
            now = monotonic()
            silence, at = max(silence, now - at), now
            if LAST in piece:
                break
        assert silence >= 0.65
        assert silence <= 0.7 + (ordered - before) + 0.2


def test_the_ledger_says_who_was_struck(server: MockServer, told: dict[str, dict[str, Any]]) -> None:
    entries = {entry["client_request_id"]: entry for entry in server.ledger()}
    for kind in SCRIPT:
        name = f"faults: {kind} (fault-{list(SCRIPT).index(kind) + 1})"
        assert entries[f"{kind}-0"]["notes"] == ([] if kind == "stall" else [name])
    assert all(not entries[f"good-{n}-0"]["notes"] for n in range(NUM_GOOD))
    dripped = entries["slow_headers-0"]
    late = [written - planned for planned, written in zip(dripped["planned_at"], dripped["written_at"], strict=True)]
    assert max(late) < 0.1, "the plan knows of the fault: nothing of it is the mock's own lateness"
