"""A web UI starts several runs in one process: each is concluded when it stops, and has a directory of its own."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest

from harness.store import open_run
from harness.summary import load_run, summarize
from tests.survival.pace import NUM
from tests.survival.swarms import ended, free_port, listening, server, swarm, wait_for

pytestmark = pytest.mark.realtime


def test_two_runs_one_after_the_other(tmp_path: Path) -> None:
    out, port = tmp_path / "run", free_port()
    again = out.with_name("run-2")
    with server(tmp_path) as mock, swarm(out) as run:
        web = ["--web-port", str(port), "--host", mock.url, "--out", str(out), "--autostart"]
        ports = ["--master-bind-port", str(run.port), "--master-port", str(run.port)]
        process = run.start(*web, *ports, "--processes", "2", headless=False)
        wait_for((out / "summary.json").exists)
        wait_for(lambda: _ask(port, "/stats/requests")["state"] in ("stopped", "ready"))
        _ask(port, "/swarm", b"host=" + mock.url.encode())
        wait_for((again / "summary.json").exists)
        assert process.poll() is None  # concluded while the process goes on
        assert listening(process) == {"127.0.0.1"}
        process.terminate()
        code, output = ended(process)
    assert code == 0, output
    for path in (out, again):
        data = load_run(open_run(path))
        assert summarize(data).verdict.answer == "PASS", output
        assert len(data.table) == NUM
        assert data.manifest.ended_how == "complete"
    assert output.count("PASS") == 2
    assert json.loads((again / "manifest.json").read_text())["run_id"] == "run-2"


def _ask(port: int, path: str, form: bytes | None = None) -> dict[str, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", form, timeout=10) as answer:
            found: dict[str, str] = json.load(answer)
            return found
    except URLError:
        return {"state": ""}
