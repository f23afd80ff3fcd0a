"""Running a scenario from start to verdict: the mock and Locust are processes of their own, started and ended here."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess  # only our own programs are started, never a shell
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.clock import monotonic
from harness.errors import HarnessError, TargetError, UsageError
from harness.gpu.sources import Sources

__all__ = ["Launch", "MockServer", "run_locust", "run_rehearsal", "start_mock", "start_sampler"]

_MOCK_START_S = 30.0
_STOP_S = 10.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run. `passed_on` are further options for Locust and the scenario, as words."""

    scenario: Path
    out: Path
    host: str
    rate: float | None = None
    duration_s: float | None = None
    users: int | None = None
    seed: int = 0
    model: str | None = None
    passed_on: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """The Locust command; the same that a person could type."""
        command = [
            sys.executable,
            "-m",
            "locust",
            "-f",
            str(self.scenario),
            "--headless",
            "--only-summary",
            "--progress",
        ]
        command += [
            "--host",
            self.host,
            "--out",
            str(self.out),
            "--seed",
            str(self.seed),
            "--loglevel",
            "WARNING",
        ]
        if self.rate is not None:
            command += ["-r", f"{self.rate:.10g}"]
        if self.duration_s is not None:
            command += ["-t", _whole_seconds(self.duration_s)]
        if self.users is not None:
            command += ["-u", str(self.users)]
        if self.model is not None:
            command += ["--model", self.model]
        return [*command, *self.passed_on]


def _whole_seconds(seconds: float) -> str:
    if seconds != int(seconds):
        raise UsageError(f"--duration {seconds:g}s: Locust counts whole seconds; write {max(1, round(seconds))}s")
    return f"{int(seconds)}s"


@dataclass(frozen=True, slots=True)
class MockServer:
    """A mock that runs as a child process."""

    process: subprocess.Popen[str]
    url: str


@contextmanager
def start_mock(what: str, *, ledger: Path, seed: int) -> Iterator[MockServer]:
    """Serve a profile or deployment on a free port of this machine until the block ends.

    Raises TargetError when it does not start; the mock's own words are on stderr by then.
    """
    command = [
        sys.executable,
        "-m",
        "mockllm",
        "serve",
        what,
        "--port",
        "0",
        "--ledger",
        str(ledger),
        "--seed",
        str(seed),
    ]
    # A session of its own: Ctrl-C ends the load, and only then, by us, the server that answers it.
    process = subprocess.Popen(  # noqa: S603
        command,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_die_with_us(),  # noqa: PLW1509 - ctypes was loaded before
    )
    try:
        yield MockServer(process, _url(process, what))
    finally:
        _stop(process)


def _url(process: subprocess.Popen[str], what: str) -> str:
    """The URL the mock announces once it accepts connections: `mockllm: NAME at URL (…)`."""
    assert process.stdout is not None
    deadline = monotonic() + _MOCK_START_S
    while monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.2)[0]:
            words = process.stdout.readline().split()
            if "at" in words:
                return words[words.index("at") + 1]
        if process.poll() is not None:
            raise TargetError(f"the mock {what!r} did not start (exit code {process.returncode})")
    raise TargetError(f"the mock {what!r} did not say within {_MOCK_START_S:g} s that it is ready")


@contextmanager
def start_sampler(sources: Sources, *, out: Path, every_s: float = 1.0) -> Iterator[None]:
    """Read GPUs and the server's own figures into `out` until the block ends; nothing is started where there is no source.

    Whether it could read anything, and why not, stands in the file: a run without GPU figures is a run. Start it after the mock
    and before the load, so that its last reading follows the last request. What GPUs show are means over about a second, so a
    faster beat shows nothing new, and each page costs its server some milliseconds.
    """
    if not sources:
        yield
        return
    command = [sys.executable, "-m", "harness.gpu.sampler", "--out", str(out), "--every", f"{every_s:g}"]
    command += ["--parent", str(os.getpid()), *sources.words()]
    # Without the key: it goes to the server under test and to nobody else.
    environment = {name: value for name, value in os.environ.items() if name != "HARNESS_API_KEY"}
    process = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603
    try:
        yield
    finally:
        _stop(process)


def run_locust(launch: Launch) -> int:
    """Run Locust to its end and return its exit code. SIGTERM is passed on; SIGINT reaches it by itself."""
    return _run(launch.command())


def run_rehearsal(deployment: str, words: list[str]) -> int:
    """Simulate a scenario to its end and return the exit code: 0 when a run was written."""
    return _run([sys.executable, "-m", "harness.swarm.rehearsal", deployment, *words])


def _run(command: list[str]) -> int:
    process = subprocess.Popen(command, preexec_fn=_die_with_us())  # noqa: S603, PLW1509
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return _wait(process)
    finally:
        signal.signal(signal.SIGTERM, before)
        _stop(process)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end; Ctrl-C goes to the whole terminal, so the child ends its run in order while we wait."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def _die_with_us() -> Callable[[], None] | None:
    """What a child does first, so that the kernel asks it to end when this process dies, however that dies: a mock would serve
    for ever, a load go on with nobody to judge it. Linux only; None elsewhere."""
    if sys.platform != "linux":
        return None
    system, us = ctypes.CDLL(None), os.getpid()  # loaded here: after the fork as little as possible may happen

    def before_exec() -> None:
        system.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != us:  # it died just now
            os.kill(os.getpid(), signal.SIGTERM)

    return before_exec


def _stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End a child of ours: politely, then not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def require_file(path: Path) -> None:
    """Raises UsageError when the scenario is not there."""
    if not path.is_file():
        raise UsageError(f"no scenario at {path}; there are some in scenarios/")


def explain_exit(code: int) -> HarnessError:
    """Why Locust ended without a run. A negative code is the signal that ended it."""
    if code < 0:
        return TargetError(f"the scenario was ended by {signal.Signals(-code).name} before there was a run")
    return TargetError(f"the scenario did not run (exit code {code}); the reason stands above")
