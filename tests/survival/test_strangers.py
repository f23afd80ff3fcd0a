"""What comes by the port for workers from somebody who is none: it changes nothing, and learns no secret."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from tests.survival.pace import NUM
from tests.survival.swarms import Server, Swarm, ended, listening, server, swarm, wait_for

pytestmark = pytest.mark.realtime

_KEY = "sk-canary-8d1f27b40c"


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Server]:
    with server(tmp_path) as found:
        yield found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Swarm]:
    with swarm(tmp_path / "run") as found:
        yield found


class _Stranger:
    """Somebody at the port."""

    def __init__(self, port: int, name: bytes) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, name)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(f"tcp://127.0.0.1:{port}")

    def send(self, *parts: bytes) -> None:
        self._socket.send_multipart(parts)

    def say(self, kind: Any, data: Any, name: Any) -> None:
        self.send(msgspec.msgpack.encode((kind, data, name)))

    def hear(self, timeout_s: float) -> bytes | None:
        return self._socket.recv() if self._socket.poll(round(timeout_s * 1e3)) else None

    def close(self) -> None:
        self._socket.close()
        self._context.term()


def test_nonsense_and_forgery_change_no_total(mock: Server, run: Swarm) -> None:
    master = run.start_master(mock.url, "--processes", "2")
    run.wait_for_records(4)
    assert listening(master) == {"127.0.0.1"}  # nobody asked for more
    stranger = _Stranger(run.port, b"stranger")
    for parts in (b"",), (b"\xc1",), (b"\xff" * 40,), (b"{}", b"{}"), (b"a", b"b", b"c"), (msgspec.msgpack.encode(7),):
        stranger.send(*parts)
    stats = {"stats": [], "stats_total": {"num_requests": 10**6}, "errors": {}, "user_classes_count": {"X": 9}}
    for data in (None, 7, b"", b"\x81", stats, {"state": 5}, ["x"] * 9):
        for kind in (
            *(
                "stats",
                "heartbeat",
                "spawning",
                "spawning_complete",
                "client_stopped",
                "exception",
                "logs",
                "locustfile",
            ),
            *("harness_beat", "harness_piece", "harness_echo", "nobody_knows", 9, None, ["list"]),
        ):
            stranger.say(kind, data, "stranger")
            stranger.say(kind, data, "another")
            stranger.say(kind, data, None)
    code, output = ended(master)
    stranger.close()
    assert code == 0, output
    assert sorted(int(record.request_id.rpartition("-")[2]) for record in run.records()) == list(range(NUM))
    assert run.summary().verdict.answer == "PASS"
    assert run.data().manifest.lost_workers == []


def test_a_worker_that_comes_late_gets_no_share(mock: Server, run: Swarm) -> None:
    master = run.start_master(mock.url, "--processes", "2", "-t", "5s")
    run.wait_for_records(4)
    late = run.start_worker()
    code, output = ended(master)
    assert code == 0, output
    assert "it gets no share of it" in output
    assert len(run.record_files()) == 2
    assert len(run.records()) == 100
    late.send_signal(signal.SIGKILL)


def test_the_key_is_told_to_no_worker(mock: Server, run: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of our own making writes down everything that it is sent."""
    monkeypatch.setenv("HARNESS_API_KEY", _KEY)
    master = run.start_master(mock.url, "--master", "--expect-workers", "1")
    heard = []
    worker = _Stranger(run.port, b"worker")
    version = metadata.version("locust")
    worker.say("client_ready", version, "worker")

    def told_to_spawn() -> bool:
        message = worker.hear(0.2)
        if message is not None:
            heard.append(message)
        return any(b"harness_settings" in each for each in heard)

    wait_for(told_to_spawn)
    worker.say("locustfile", {"version": version}, "worker")
    while (message := worker.hear(0.5)) is not None:
        heard.append(message)
    worker.close()
    assert any(b"LLMUser" in each for each in heard)
    assert not any(_KEY.encode() in each for each in heard)
    master.kill()
    _, output = ended(master)
    assert _KEY not in output
    assert _KEY not in (run.out / "manifest.json").read_text()
