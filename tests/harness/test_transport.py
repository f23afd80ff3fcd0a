"""Connections, stamps, retries and clients that leave or read slowly, over real sockets on loopback."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.harness.wire import END, LAST, STREAM, Client, chunked, content, read_request, serving

pytestmark = pytest.mark.realtime

_GOOD = STREAM + chunked(content()) + chunked(content()) + chunked(END) + LAST
_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux stamps what it receives")


def _again_and_again(connection: socket.socket, number: int) -> None:
    while read_request(connection):
        connection.sendall(_GOOD)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client() as asking:
        yield asking


# -- connections -----------------------------------------------------------------------------------------


def test_a_connection_is_kept_alive(client: Client) -> None:
    with serving(_again_and_again) as server:
        first, *later = client.ask(server, num_requests=4)
    assert server.num_connections == 1
    assert first["connected_at"] >= first["sent_at"]
    assert [record["connected_at"] for record in later] == [None] * 3  # nothing was connected
    assert {record["outcome"] for record in (first, *later)} == {"ok"}


def test_fresh_connections(client: Client) -> None:
    with serving(_again_and_again) as server:
        records = client.ask(server, num_requests=4, fresh=True)
    assert server.num_connections == 4
    for record in records:
        assert record["sent_at"] <= record["connected_at"] <= record["first_byte_at"]
        assert (record["outcome"], record["num_stale_sockets"]) == ("ok", 0)


def test_a_connection_that_died_idle_is_replaced_once(client: Client) -> None:
    """The server closes when the second request comes, as one does whose idle time is up at that very moment."""

    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(_GOOD)
        read_request(connection)

    with serving(serve) as server:
        records = client.ask(server, num_requests=3)
    assert server.num_connections == 3
    assert [record["outcome"] for record in records] == ["ok"] * 3
    assert [record["num_stale_sockets"] for record in records] == [0, 1, 1]
    assert [record["num_attempts"] for record in records] == [1, 2, 2]
    assert all(record["sent_at"] <= record["connected_at"] for record in records)


def test_never_a_second_replacement(client: Client) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        if number == 0:
            connection.sendall(_GOOD)
            read_request(connection)

    with serving(serve) as server:
        _, record = client.ask(server, num_requests=2)
    assert server.num_connections == 2
    assert (record["outcome"], record["error_kind"]) == ("failed", "closed_before_headers")
    assert (record["num_stale_sockets"], record["num_attempts"]) == (1, 2)


def test_a_socket_that_the_server_closed_long_ago_is_no_attempt(client: Client) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(_GOOD)

    with serving(serve) as server:
        records = client.ask(server, num_requests=2, between_s=0.2)
    assert [(record["outcome"], record["num_attempts"]) for record in records] == [("ok", 1)] * 2
    assert [record["num_stale_sockets"] for record in records] == [0, 0]


def test_proxies_of_the_environment_are_not_used() -> None:
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")
    with serving(_again_and_again) as server, Client(proxies) as proxied:
        (record,) = proxied.ask(server)
    assert record["outcome"] == "ok"


def test_certificates_are_verified_and_tls_has_no_stamps(client: Client, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("NOT CHECKED: no openssl to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(_again_and_again, lambda connection: context.wrap_socket(connection, server_side=True)) as server:
        (unknown,) = client.ask(server, scheme="https")
        with Client({"SSL_CERT_FILE": str(certificate)}) as trusting:
            (known,) = trusting.ask(server, scheme="https")
    assert (unknown["outcome"], unknown["error_kind"]) == ("failed", "unreachable")
    assert "certificate" in unknown["error_text"].lower()
    assert (known["outcome"], known["num_chunks"], known["read_lag_s"]) == ("ok", 2, None)


# -- when bytes came -------------------------------------------------------------------------------------


def _paced(written: list[float], gap_s: float, num: int = 6):  # type: ignore[no-untyped-def]
    """Serves one answer of `num` words, `gap_s` apart, and writes down when."""

    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(STREAM)
        for _ in range(num):
            time.sleep(gap_s)
            written.append(time.monotonic())
            connection.sendall(chunked(content()))
        time.sleep(gap_s)
        connection.sendall(chunked(END) + LAST)

    return serve


@_LINUX
@pytest.mark.alone
def test_a_busy_process_stamps_what_waited_for_it_as_it_came(client: Client) -> None:
    """Nobody reads for 90 ms, and one chunk waits: its stamp is the kernel's."""
    written: list[float] = []
    with serving(_paced(written, 0.1, num=3)) as server:
        (record,) = client.ask(server, hog_after_s=0.06, hog_s=0.09)
    assert record["outcome"] == "ok"
    assert record["first_token_at"] == pytest.approx(written[0], abs=0.001)
    assert record["read_lag_s"] > 0.02
    assert record["doubt"] is None


@_LINUX
@pytest.mark.alone
def test_chunks_that_the_kernel_merged_are_doubtful(client: Client) -> None:
    """Nobody reads while three chunks come: the first may have come at any time since."""
    written: list[float] = []
    with serving(_paced(written, 0.03)) as server:
        (record,) = client.ask(server, hog_after_s=0.015, hog_s=0.1)
    assert record["outcome"] == "ok"
    assert record["num_merged_chunks"] >= 2
    assert record["doubt"] == "merged_first_token"
    assert record["first_token_at"] > written[0] + 0.02  # wrong, and known to be
    last = record["first_token_at"] + sum(record["token_gaps_s"])
    assert last == pytest.approx(written[-1], abs=0.001)


# -- the server asks us to wait --------------------------------------------------------------------------


def _throttles(num: int, headers: bytes):  # type: ignore[no-untyped-def]
    """Refuses `num` times, then answers."""
    seen = []

    def serve(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            seen.append(time.monotonic())
            refusal = b"HTTP/1.1 429 Too Many Requests\r\n" + headers + b"Content-Length: 2\r\n\r\n{}"
            connection.sendall(refusal if len(seen) <= num else _GOOD)

    return serve, seen


def test_a_retry_waits_as_long_as_the_server_says(client: Client) -> None:
    serve, seen = _throttles(2, b"retry-after-ms: 150\r\n")
    with serving(serve) as server:
        (record,) = client.ask(server, retries=3)
    assert (record["outcome"], record["status"], record["num_attempts"]) == ("ok", 200, 3)
    assert all(0.15 <= gap < 0.4 for gap in (after - before for before, after in pairwise(seen)))
    assert 0.3 <= record["throttled_s"] <= seen[-1] - seen[0]
    assert record["sent_at"] <= seen[0]  # the user has waited since the first attempt
    assert record["num_stale_sockets"] == 0


@pytest.mark.parametrize(
    ("retries", "headers", "num_seen"),
    [
        (0, b"retry-after-ms: 10\r\n", 1),
        (1, b"retry-after-ms: 10\r\n", 2),
        (3, b"", 1),
        (3, b"retry-after-ms: 10\r\nx-should-retry: false\r\n", 1),
    ],
)
def test_what_stays_throttled(client: Client, retries: int, headers: bytes, num_seen: int) -> None:
    serve, seen = _throttles(9, headers)
    with serving(serve) as server:
        (record,) = client.ask(server, retries=retries)
    assert (record["outcome"], record["status"], record["num_attempts"]) == ("throttled", 429, num_seen)
    assert len(seen) == num_seen
    assert (record["throttled_s"] is None) is (num_seen == 1)


def test_a_run_that_ends_while_we_wait_leaves_a_throttled_request(client: Client) -> None:
    serve, seen = _throttles(9, b"retry-after: 30\r\n")
    with serving(serve) as server:
        (record,) = client.ask(server, retries=3, kill_after_s=0.5)
    assert (record["outcome"], record["num_attempts"], len(seen)) == ("throttled", 1, 1)
    assert 0.2 < record["throttled_s"] < 1.0


# -- conduct ---------------------------------------------------------------------------------------------


def _endless(told: list[float]):  # type: ignore[no-untyped-def]
    """Sends a word every 20 ms until the client goes away."""

    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(STREAM)
        began = time.monotonic()
        try:
            for _ in range(500):
                connection.sendall(chunked(content()))
                time.sleep(0.02)
        finally:
            told.append(time.monotonic() - began)

    return serve


@pytest.mark.parametrize(
    ("conduct", "text", "gone_after_s"),
    [({"leave_after_s": 0.3}, "after 0.3 s", 0.3), ({"leave_after_tokens": 10}, "after 10 chunks", 0.2)],
)
def test_a_client_that_leaves(client: Client, conduct: dict[str, float], text: str, gone_after_s: float) -> None:
    told: list[float] = []
    with serving(_endless(told)) as server:
        (record,) = client.ask(server, conduct=conduct)
    assert (record["outcome"], record["error_kind"], record["error_text"]) == ("left", "client_left", text)
    assert told[0] == pytest.approx(gone_after_s, abs=0.15)  # the server feels it
    assert record["num_chunks"] >= 9
    assert record["first_token_at"] is not None
    if "leave_after_tokens" in conduct:
        assert record["num_chunks"] == 10


def test_a_client_that_would_have_left_later_stays(client: Client) -> None:
    with serving(_again_and_again) as server:
        (record,) = client.ask(server, conduct={"leave_after_s": 9.0, "leave_after_tokens": 50})
    assert (record["outcome"], record["num_chunks"]) == ("ok", 2)


def test_a_slow_reader_holds_the_server_back(client: Client) -> None:
    """8 MB at 4 MB/s: far more than the buffers between them hold, so that the server must wait."""
    told: list[float] = []
    words, num = content("word " * 10_000), 160

    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        began = time.monotonic()
        connection.sendall(STREAM)
        for _ in range(num):
            connection.sendall(chunked(words))
        told.append(time.monotonic() - began)
        connection.sendall(chunked(END) + LAST)

    with serving(serve) as server:
        (slow,) = client.ask(server, conduct={"read_bytes_per_s": 4e6})
        (quick,) = client.ask(server)
    assert (slow["outcome"], quick["outcome"]) == ("ok", "ok")
    assert slow["num_chunks"] == quick["num_chunks"] == num
    size = num * len(chunked(words))
    assert slow["done_at"] - slow["sent_at"] >= 0.98 * size / 4e6
    assert told[0] > 0.8 * size / 4e6  # backpressure
    assert quick["done_at"] - quick["sent_at"] < 0.5 * (slow["done_at"] - slow["sent_at"])
    assert slow["doubt"] is None  # slow on purpose


# -- the end of an answer --------------------------------------------------------------------------------

_LATER = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate"


@pytest.mark.parametrize("surplus", [_GOOD, _LATER, b"no HTTP at all"], ids=["another", "408", "garbage"])
def test_what_follows_an_answer_in_the_same_read_is_none_of_it(client: Client, surplus: bytes) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        while read_request(connection):
            connection.sendall(_GOOD + surplus)

    with serving(serve) as server:
        records = client.ask(server, num_requests=2)
    assert [(record["outcome"], record["status"], record["num_chunks"]) for record in records] == [("ok", 200, 2)] * 2
    assert server.num_connections == 2  # nobody knows whose answer would come next


def test_a_trailer_is_no_header(client: Client) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(_GOOD[:-2] + b"X-Request-Id: trailer\r\nX-Last: 1\r\n\r\n")

    with serving(serve) as server:
        (record,) = client.ask(server)
    assert (record["outcome"], record["server_request_id"]) == ("ok", None)


def test_a_connection_that_ends_after_an_answer_of_no_class_is_no_endless_loop(client: Client) -> None:
    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 099 What\r\nContent-Length: 0\r\n\r\n")

    with serving(serve) as server:
        (record,) = client.ask(server)
    assert (record["outcome"], record["error_kind"]) == ("failed", "closed_before_headers")


def test_a_refusal_before_the_whole_request_was_sent_is_heard(client: Client) -> None:
    """A gateway answers 413 to the head and closes: what is still being sent then meets a reset."""

    def serve(connection: socket.socket, number: int) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")

    with serving(serve) as server:
        records = client.ask(server, num_requests=2, num_words=3_000_000)
    assert [(record["error_kind"], record["status"]) for record in records] == [("http_413", 413)] * 2
    assert server.num_connections == 2


def test_what_our_own_machine_has_not_got_is_no_failure_of_the_server() -> None:
    """Forty requests at once and descriptors for fewer: those without one were never sent."""

    def serve(connection: socket.socket, number: int) -> None:
        read_request(connection)
        time.sleep(1.0)
        connection.sendall(_GOOD)

    with serving(serve) as server, Client() as poor:
        records = poor.ask(server, num_requests=40, at_once=True, num_descriptors=30)
    ok = [record for record in records if record["outcome"] == "ok"]
    kept = [record for record in records if record["outcome"] == "refused"]
    assert len(ok) == server.num_connections > 10
    assert len(ok) + len(kept) == 40
    assert {(record["error_kind"], record["sent_at"], record["done_at"]) for record in kept} == {
        ("no_socket", None, None)
    }


# -- the end of a run ------------------------------------------------------------------------------------


def test_a_kill_while_a_long_answer_is_parsed_loses_nothing(client: Client) -> None:
    """Parsing pauses now and then to let others read; a kill that comes then waits for the record."""
    (record,) = client.ask(kill_in_pause=500)
    assert (record["outcome"], record["num_chunks"], record["finish_reason"]) == ("ok", 500, "stop")
    assert record["steps"] == ["record"]  # and then it was over
