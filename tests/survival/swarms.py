"""Whole swarms as processes, to be hurt: a mock with its ledger, a master, its workers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from harness.records import RequestRecord
from harness.store import open_run
from harness.summary import RunData, Summary, load_run, summarize
from tests.conftest import REPOSITORY, mock_server

PROFILE = """\
name: steady
kind: hosted
model: steady
summary: One token every 30 ms after 50 ms.
as_of: 2026-11-21
sources: [made up for the tests]
max_model_len: 100000
answer_length: {median_tokens: 16, sigma: 0}
latency: {floor_s: 0.05, tpot_median_s: 0.03}
"""


@dataclass
class Server:
    """A mock, and what it wrote down."""

    url: str
    ledger: Path

    def entries(self) -> list[dict[str, Any]]:
        """The ledger's lines, but for its header; an answer is there once it has ended."""
        lines = self.ledger.read_text().splitlines()[1:]
        return [json.loads(line) for line in lines]

    def origin(self) -> float:
        return float(json.loads(self.ledger.read_text().splitlines()[0])["monotonic_origin"])

    def submitted(self) -> list[float]:
        """When each request came, by the machine's monotonic clock."""
        return sorted(self.origin() + entry["submitted_at"] for entry in self.entries())


@contextmanager
def server(tmp_path: Path, host: str = "127.0.0.1") -> Iterator[Server]:
    """A mock of known pace in a process of its own."""
    profile, ledger = tmp_path / "steady.yaml", tmp_path / "ledger.jsonl"
    profile.write_text(PROFILE)
    with mock_server(str(profile), "--ledger", str(ledger), "--host", host) as url:
        yield Server(url, ledger)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Swarm:
    """Processes of one run. All end with the test."""

    out: Path
    port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(
        self,
        *words: str,
        scenario: str = "steady",
        cwd: Path = REPOSITORY,
        network: str | None = None,
        headless: bool = True,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Locust in a process of its own, in another network namespace if one is named."""
        command = [] if network is None else ["ip", "netns", "exec", network]
        command += [sys.executable, "-m", "locust", "-f", str(REPOSITORY / "tests" / "survival" / f"{scenario}.py")]
        # Who knows the commit asks no git, which would be a child beside the workers for a moment.
        known = {"PYTHONPATH": str(REPOSITORY), "GITHUB_SHA": "0" * 40}
        environment = {**os.environ, **known, **options.pop("environment", {})}
        process = subprocess.Popen(
            [*command, *(["--headless"] if headless else []), *words],
            cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def start_master(self, url: str, *words: str, **options: Any) -> subprocess.Popen[str]:
        ports = ["--master-bind-port", str(self.port), "--master-port", str(self.port)]
        return self.start("--host", url, "--out", str(self.out), "--only-summary", *ports, *words, **options)

    def start_worker(self, *words: str, host: str = "127.0.0.1", **options: Any) -> subprocess.Popen[str]:
        return self.start("--worker", "--master-host", host, "--master-port", str(self.port), *words, **options)

    def data(self) -> RunData:
        return load_run(open_run(self.out))

    def summary(self) -> Summary:
        return summarize(self.data())

    def records(self) -> list[RequestRecord]:
        return list(open_run(self.out).records([]))

    def wait_for_records(self, num: int, limit_s: float = 30.0) -> None:
        """Wait until so many requests have ended."""
        wait_for(
            lambda: sum(path.read_bytes().count(b'"kind":"request"') for path in self.record_files()) >= num, limit_s
        )

    def origin(self) -> float:
        """The run's instant zero by the machine's monotonic clock."""
        header = self.data().files[0].header
        assert header is not None
        return header.origin_monotonic

    def record_files(self) -> list[Path]:
        return sorted(self.out.glob("records-*.jsonl")) if self.out.is_dir() else []

    def end(self) -> None:
        for process in self.processes:
            for child in _children(process):
                child.kill()
            process.kill()
            process.communicate()


@contextmanager
def swarm(out: Path) -> Iterator[Swarm]:
    found = Swarm(out)
    try:
        yield found
    finally:
        found.end()


def ended(process: subprocess.Popen[str], limit_s: float = 40.0) -> tuple[int, str]:
    """Exit code and everything that was printed, once a process has ended."""
    output, _ = process.communicate(timeout=limit_s)
    return process.returncode, output


def workers_of(master: subprocess.Popen[str]) -> list[psutil.Process]:
    """The forked workers of a master."""
    return psutil.Process(master.pid).children()


def listening(process: subprocess.Popen[str]) -> set[str]:
    """The addresses on which a process accepts connections."""
    sockets = psutil.Process(process.pid).net_connections("tcp")
    return {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}


def are_gone(processes: Sequence[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


def wait_for(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


def _children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
