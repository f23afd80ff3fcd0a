"""The mock and the suites as processes: one server a suite, ended by its own id."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conformance.sandbox import Sandbox
from conformance.suites import Suite

__all__ = ["run_suite"]

# Any name is served, at once. What has to be at work for a while is asked of `slow`.
_DEPLOYMENT = """\
models:
  - {name: "*", profile: instant}
  - {name: slow, profile: hosted}
"""
_START_S = 60.0
_STOP_S = 10.0
_SUITE_S = 900
_TEST_S = 60
_NUM_WORKERS = 2


def run_suite(suite: Suite, sandbox: Sandbox, folder: Path) -> list[dict[str, Any]]:
    """What became of each test; see `plugin.py` for the fields.

    Raises RuntimeError when the server does not start or the suite does not run to its end.
    """
    outcomes = folder / f"{suite.sdk}.jsonl"
    outcomes.unlink(missing_ok=True)
    deployment = folder / "deployment.yaml"
    deployment.write_text(_DEPLOYMENT)
    with _mock(deployment) as url:
        _pytest(suite, sandbox, url + suite.prefix, outcomes)
    return [json.loads(line) for line in outcomes.read_text().splitlines()]


def _pytest(suite: Suite, sandbox: Sandbox, url: str, outcomes: Path) -> None:
    command = [str(sandbox.python), "-m", "pytest", "-q", "--tb=no", "-n", str(_NUM_WORKERS)]
    command += ["--timeout", str(_TEST_S), "-p", "no:cacheprovider", "-p", "conformance.plugin"]
    command += [f"tests/api_resources/{path}" for path in suite.paths]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_"))},
        "PYTHONPATH": str(sandbox.plugins),
        "TEST_API_BASE_URL": url,
        "CONFORMANCE_SDK": suite.sdk,
        "CONFORMANCE_OUT": str(outcomes),
    }
    log = outcomes.with_suffix(".log")
    with log.open("wb") as written:
        done = subprocess.run(  # noqa: S603 - our own words, never a shell
            command,
            cwd=sandbox.sources[suite.sdk],
            env=environment,
            stdout=written,
            stderr=subprocess.STDOUT,
            timeout=_SUITE_S,
            check=False,
        )
    if done.returncode not in (0, 1):  # 1: tests have failed, which the matrix shows
        words = " | ".join(log.read_text(errors="replace").split("\n")[-6:])
        raise RuntimeError(f"the suite of {suite.sdk} ended with exit code {done.returncode}: {words}")


@contextmanager
def _mock(deployment: Path) -> Iterator[str]:
    """The root URL of a mock on a free port of this machine, until the block ends."""
    command = [sys.executable, "-m", "mockllm", "serve", str(deployment), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        yield _announced(process)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)
        if process.stdout:
            process.stdout.close()


def _announced(process: subprocess.Popen[str]) -> str:
    """The URL in the line that the mock writes once it accepts connections."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], _START_S)[0]:
        raise RuntimeError(f"the mock has not started after {_START_S:g} s")
    words = process.stdout.readline().split()
    if "at" not in words:
        raise RuntimeError("the mock did not start; its own words are above")
    return words[words.index("at") + 1]
