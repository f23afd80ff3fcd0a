"""Importing does nothing: no thread, no file, no socket, no patched standard library, and no extra that is not needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

_PROBE = """
import json, sys, threading, socket
before = (threading.active_count(), socket.socket)
import {module}
print(json.dumps({{
    "patched": socket.socket is not before[1],
    "threads": threading.active_count() - before[0],
    "loaded": sorted(name for name in ("locust", "gevent", "plotly", "pandas", "uvicorn", "fastapi") if name in sys.modules),
}}))
"""


@pytest.mark.parametrize(
    ("module", "loaded"),
    [
        ("mockllm", []),
        ("mockllm.cli", []),
        ("mockllm.wire", []),
        ("mockllm.simulate", []),
        ("harness", []),
        ("harness.cli", []),
        ("harness.summary", []),
        ("harness.workloads.traces", []),
        ("harness.virtual", []),
        ("reports", ["pandas", "plotly"]),
    ],
)
def test_importing_has_no_effect(module: str, loaded: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROBE.format(module=module)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"patched": False, "threads": 0, "loaded": loaded}
    assert done.stderr == ""
