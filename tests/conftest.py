"""Fixtures for all tests. Sockets other than loopback are refused: a test that needs the network is wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest

REPOSITORY = Path(__file__).parents[1]
MARKS = ("realtime", "few", "alone")
_STOLEN = 0.01  # of the processors' time. At 2 % the mock writes every hundredth token 6 ms late, at 5 % 15 ms.


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where only tests with one of our marks are asked for (`-m alone`), files without any are not even imported: importing all
    of them would take longer than many a test."""
    first = (config.getoption("markexpr") or "").split(" ")[0]
    if first not in MARKS or not collection_path.name.startswith("test_"):
        return None
    return None if _says(collection_path, first) else True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in MARKS:
            if item.get_closest_marker(mark) is not None and not _says(item.path, mark):
                raise pytest.UsageError(f"{item.nodeid}: write pytest.mark.{mark} in this file, where it is looked for")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A measurement that went wrong while a hypervisor ran others on our processors says nothing of us. One that went well
    says the same as ever."""
    before = psutil.cpu_times()
    try:
        return (yield)
    except AssertionError as error:
        stolen = _stolen_share(before, psutil.cpu_times())
        if item.get_closest_marker("alone") is None or stolen <= _STOLEN:
            raise
        what = str(error).partition("\n")[0]
        pytest.skip(f"NOT CHECKED: a hypervisor gave {stolen:.0%} of the processors to others meanwhile ({what})")


def _stolen_share(before: Any, after: Any) -> float:
    """The part of the processors' time between two readings of `psutil.cpu_times()` that others had; 0 where none is told."""
    whole = sum(after) - sum(before)
    return (getattr(after, "steal", 0.0) - getattr(before, "steal", 0.0)) / whole if whole > 0 else 0.0


@cache
def _says(path: Path, mark: str) -> bool:
    return f"pytest.mark.{mark}" in path.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1", "localhost")):
            raise AssertionError(f"a test tried to reach {address[0]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("LOCUST_", "HARNESS_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The measured data that tests compare with; it is not part of the repository."""
    path = REPOSITORY.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"NOT CHECKED: measured data is not at {path}")
    return path


@contextmanager
def mock_server(what: str, *options: str) -> Iterator[str]:
    """A mock in a process of its own on a free port; yields its URL."""
    command = [sys.executable, "-m", "mockllm", "serve", what, "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    try:
        assert process.stdout is not None
        announced = process.stdout.readline().split()
        assert "at" in announced, "the mock did not start"
        yield announced[announced.index("at") + 1]
    finally:
        process.terminate()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()
