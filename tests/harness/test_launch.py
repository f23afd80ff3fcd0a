"""The Locust command of a run, and words for what cannot be run."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import TargetError, UsageError
from harness.launch import Launch, explain_exit, require_file
from tests.harness.builders import LAW

_PLAIN = [
    *(
        sys.executable,
        "-m",
        "locust",
        "-f",
        "scenarios/burst.py",
        "--headless",
        "--only-summary",
        "--progress",
    ),
    *("--host", "http://127.0.0.1:8000", "--out", "runs/x", "--seed", "0", "--loglevel", "WARNING"),
]


def _launch(**fields: Any) -> Launch:
    return Launch(Path("scenarios/burst.py"), Path("runs/x"), "http://127.0.0.1:8000", **fields)


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({}, []),
        ({"rate": 20.0}, ["-r", "20"]),
        ({"rate": 0.25}, ["-r", "0.25"]),
        ({"duration_s": 60.0}, ["-t", "60s"]),
        ({"duration_s": 5400.0}, ["-t", "5400s"]),
        ({"users": 50}, ["-u", "50"]),
        ({"model": "m 1"}, ["--model", "m 1"]),
        ({"passed_on": ("--burst-factor", "8", "--whole")}, ["--burst-factor", "8", "--whole"]),
        (
            {"rate": 2.5, "duration_s": 1.0, "users": 1, "model": "m", "passed_on": ("--trace", "a b.csv")},
            ["-r", "2.5", "-t", "1s", "-u", "1", "--model", "m", "--trace", "a b.csv"],
        ),
    ],
)
def test_the_command(fields: dict[str, Any], more: list[str]) -> None:
    assert _launch(**fields).command() == _PLAIN + more


def test_the_seed() -> None:
    command = _launch(seed=17).command()
    assert command[command.index("--seed") + 1] == "17"


@LAW
@given(st.floats(1e-6, 1e6))
def test_the_rate_arrives_as_it_was_asked_for(rate: float) -> None:
    command = _launch(rate=rate).command()
    assert float(command[command.index("-r") + 1]) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize(
    ("duration_s", "instead"), [(0.5, "1s"), (0.001, "1s"), (1.4, "1s"), (1.6, "2s"), (90.25, "90s")]
)
def test_a_fraction_of_a_second_is_refused_with_what_to_write(duration_s: float, instead: str) -> None:
    with pytest.raises(UsageError) as caught:
        _launch(duration_s=duration_s).command()
    assert f"--duration {duration_s:g}s" in str(caught.value)
    assert "whole seconds" in str(caught.value)
    assert str(caught.value).endswith(f"write {instead}")


def test_a_scenario_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no scenario at .*nothing\.py"):
        require_file(tmp_path / "nothing.py")
    with pytest.raises(UsageError, match="no scenario at"):
        require_file(tmp_path)
    (tmp_path / "some.py").write_text("")
    require_file(tmp_path / "some.py")


def test_a_scenario_that_did_not_run_is_explained() -> None:
    failure = explain_exit(3)
    assert isinstance(failure, TargetError)
    assert "exit code 3" in str(failure)
    assert "SIGTERM" in str(explain_exit(-15))


@pytest.mark.realtime
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's word for it is Linux's")
def test_what_was_started_ends_with_who_started_it(tmp_path: Path) -> None:
    """SIGKILL of `harness run`: neither the mock, which would serve for ever, nor the load is left."""
    child = "import os, signal, sys; open(sys.argv[1], 'w').write(str(os.getpid())); signal.pause()"
    parent = f"import sys; from harness.launch import _run; _run([sys.executable, '-c', {child!r}, sys.argv[1]])"
    told = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", parent, str(told)]) as process:
        until = time.monotonic() + 20
        while not (told.exists() and told.read_text()) and time.monotonic() < until:
            time.sleep(0.02)
        pid = int(told.read_text())
        process.kill()
    while (alive := Path(f"/proc/{pid}/stat").exists() and not _is_zombie(pid)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
