"""A canary in every channel: the key of the API stands in no output, whatever the server, a scenario or a crash says of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.realtime

KEY = "canary-7f3a91b2e4d5c6f8-0a1b"
TRACE_OF_KEY = b"7f3a91b2"  # also in a piece of it
ENVIRONMENT = {**os.environ, "HARNESS_API_KEY": KEY}

_CRASHING = """\
import os
from harness.arrivals.pacing import Piece
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.workloads.synthetic import Lognormal, SyntheticPlan


class Crashing(LLMUser):
    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        return SyntheticPlan([Piece(0, 2, 10, "x")], "constant", Lognormal(30, 0.5, 90), Lognormal(9, 0.5, 20), 0)

    def body(self, arrival):
        print("asking with", os.environ["HARNESS_API_KEY"])
        raise ValueError("cannot ask with " + os.environ["HARNESS_API_KEY"])
"""


class _Echo(BaseHTTPRequestHandler):
    """Says the key back in turn: in an error, in the stream, in names and in headers."""

    protocol_version = "HTTP/1.1"
    turns = count()

    def do_GET(self) -> None:
        self._answer(200, json.dumps({"data": [{"id": "m"}]}).encode(), "application/json")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        said = self.headers["Authorization"]
        assert KEY in said
        turn = next(self.turns) % 4
        if turn == 0:
            # The error text is cut to length: somewhere in the middle of the key.
            body = json.dumps({"error": {"message": "x" * 170 + f" incorrect key: {said}" * 40}})
            self._answer(400, body.encode(), "application/json")
        elif turn == 1:
            error = json.dumps({"error": {"message": f"no such key: {said}", "code": said}})
            self._answer(200, f"data: {error}\n\n".encode(), "text/event-stream")
        elif turn == 2:
            self._answer(200, f"data: {{not JSON {said}\n\n".encode(), "text/event-stream")
        else:
            chunk = {"model": KEY, "choices": [{"delta": {"content": said}, "finish_reason": None}]}
            end = {"model": KEY, "choices": [{"delta": {}, "finish_reason": KEY}]}
            lines = "".join(f"data: {json.dumps(event)}\n\n" for event in (chunk, end))
            self._answer(200, f"{lines}data: [DONE]\n\n".encode(), "text/event-stream")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name in ("X-Request-Id", "X-Mock-Replica", "X-Mock-Cache", "X-Echo"):
            self.send_header(name, KEY)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _start(words: list[str], cwd: Path = REPOSITORY) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", *words], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT
    )


def _said(process: subprocess.Popen[bytes], *, code: int | None = None) -> bytes:
    said, _ = process.communicate(timeout=60)
    assert code is None or process.returncode == code, said.decode()
    return said


def test_a_run_a_crash_and_the_help_do_not_say_the_key(echo: str, tmp_path: Path) -> None:
    crashing = tmp_path / "crashing.py"
    crashing.write_text(_CRASHING)
    out, crashed = tmp_path / "run", tmp_path / "crashed"
    run = ["harness", "run", "scenarios/burst.py", "--target", echo, "--rate", "20", "--duration", "2s"]
    crash = ["locust", "-f", str(crashing), "--headless", "--host", echo, "-t", "2s"]
    processes = {
        "run": _start([*run, "--out", str(out)]),
        "crash": _start([*crash, "--out", str(crashed), "--loglevel", "DEBUG"]),
        "help": _start(["locust", "-f", "scenarios/burst.py", "--help"]),
        "scenario help": _start(["locust", "-f", "scenarios/burst.py", "--scenario-help"]),
    }
    said = {name: _said(process) for name, process in processes.items()}
    assert b"cannot ask with [secret]" in said["crash"]  # the channel was there, and so was the canary
    assert b"asking with [secret]" in said["crash"]
    written = {path.name: path.read_bytes() for folder in (out, crashed) for path in folder.iterdir()}
    assert {"manifest.json", "summary.json", "report.html"} <= written.keys()
    records = b"".join(content for name, content in written.items() if name.startswith("records-"))
    assert records.count(b"[secret]") > 20
    _assert_silent(said | written)


def test_the_key_does_not_travel_between_processes_nor_to_the_web_page(echo: str, tmp_path: Path) -> None:
    """A relay between master and workers writes down every byte of Locust's messages."""
    master_port, web_port = _free_port(), _free_port()
    out, heard = tmp_path / "run", bytearray()
    common = ["locust", "-f", "scenarios/burst.py"]
    with ExitStack() as stack:
        relay_port = stack.enter_context(_relay(master_port, heard))
        words = ["--master", "--master-bind-port", str(master_port), "--web-port", str(web_port), "--host", echo]
        words += ["--autostart", "--expect-workers", "2", "-r", "20", "-t", "3s", "--out", str(out)]
        processes = [_start([*common, *words])]
        processes += [
            _start([*common, "--worker", "--master-host", "127.0.0.1", "--master-port", str(relay_port)])
            for _ in range(2)
        ]
        for process in processes:
            stack.callback(process.kill)  # does nothing to one that has ended
        _wait_for(lambda: any(path.stat().st_size > 5000 for path in out.glob("records-*")), processes[0])
        pages = {path: _get(web_port, path) for path in _PAGES}
        lines = {f"ps {pid}": _command_line(pid) for pid in [process.pid for process in processes]}
        _wait_for((out / "summary.json").exists, processes[0])
        pages |= {f"{path} after": _get(web_port, path) for path in _PAGES}
        for process in reversed(processes):
            process.terminate()
        said = {f"process {number}": _said(process) for number, process in enumerate(processes)}
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    assert b"harness_settings" in heard  # the options did travel
    assert len(heard) > 5000
    assert b"locust" in pages["/"].lower()
    _assert_silent({"messages": bytes(heard)} | pages | lines | said | written)


_PAGES = ("/", "/stats/requests", "/stats/report", "/stats/failures/csv", "/exceptions", "/tasks", "/logs", "/llm", "/llm/live.json")  # fmt: skip


@pytest.mark.parametrize(
    "target", [f"http://user:{KEY}@127.0.0.1:9", f"http://127.0.0.1:9/?key={KEY}", f"http://127.0.0.1:9#{KEY}"]
)
def test_a_key_in_the_url_is_refused_before_it_reaches_another_command_line(target: str, tmp_path: Path) -> None:
    said = _said(
        _start(["harness", "run", "scenarios/burst.py", "--target", target, "--out", str(tmp_path / "run")]), code=2
    )
    assert b"HARNESS_API_KEY" in said
    _assert_silent({"output": said})


def _assert_silent(channels: dict[str, bytes]) -> None:
    leaks = {name: content for name, content in channels.items() if TRACE_OF_KEY in content}
    for name, content in leaks.items():
        at = content.index(TRACE_OF_KEY)
        print(f"{name}: …{content[max(0, at - 200) : at + 60]!r}…")
    assert not leaks, f"the key stands in {sorted(leaks)}"


def _get(port: int, path: str) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        return error.read()


def _command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@contextmanager
def _relay(port: int, heard: bytearray) -> Iterator[int]:
    """Listens on a free port and passes every byte on to `port` and back, writing them down."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                heard.extend(data)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

    def accept() -> None:
        while True:
            try:
                here, _ = listener.accept()
            except OSError:
                return
            try:
                there = socket.create_connection(("127.0.0.1", port))
            except OSError:  # the master is not there yet; the worker comes again
                here.close()
                continue
            for ends in ((here, there), (there, here)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def _wait_for(condition, process: subprocess.Popen[bytes]) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + 30
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            said, _ = process.communicate()
            raise AssertionError(said.decode())
        time.sleep(0.05)
