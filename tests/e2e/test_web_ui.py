"""Locust's web UI while a run goes and after it: the live numbers are those of the records, and a browser shows them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest

from harness.quantiles import distribution
from harness.store import open_run
from harness.summary import RunData, load_run, samples, summarize
from tests.browser import rendered
from tests.conftest import REPOSITORY, mock_server

pytestmark = pytest.mark.realtime

_HOSTILE = "<img src=x onerror=alert(1)>"
_CANARY = "sk-canary-4711"
_DEPLOYMENT = f"""\
seed: 1
summary: A model whose name would like to be markup.
models:
  - {{name: "{_HOSTILE}", profile: golden}}
"""


@contextmanager
def web_ui(target: str, out: Path, *words: str, starts: bool = True) -> Iterator[str]:
    """Stock Locust with its web UI; yields the UI's root."""
    port, master_port = _free_port(), _free_port()
    command = [sys.executable, "-m", "locust", "-f", "scenarios/burst.py", "--host", target, "--out", str(out)]
    command += ["--web-port", str(port), "--master-bind-port", str(master_port)]
    command += ["--master-port", str(master_port), "--loglevel", "WARNING", *words]
    if starts:
        command.append("--autostart")
    environment = {**os.environ, "HARNESS_API_KEY": _CANARY}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _get(url: str) -> bytes:
    with urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def _states(root: str, limit_s: float = 40.0) -> Iterator[dict[str, Any]]:
    """What the page is told, a few times a second, until the run is over."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        state = _state(root)
        if "course" in state:
            yield state
        if state["state"] == "over":
            return
        time.sleep(0.3)
    raise AssertionError("the run did not end in time")


def _agrees(state: dict[str, Any], run: RunData) -> None:
    """The last live numbers against the fold of the records."""
    summary = summarize(run)
    assert {name: num for name, num in summary.load.outcomes.items() if num} == state["outcomes"]
    assert state["num_sent"] == summary.load.num_sent
    assert state["num_in_flight"] == 0
    assert state["num_output_tokens"] == summary.tokens.num_output
    assert state["output_rate"] == pytest.approx(summary.tokens.output_rate)
    assert state["course"]["num_planned"] == run.manifest.num_planned
    for name, (values, weights) in samples(run.table).items():
        if name not in state["latencies"]:
            continue
        exact, live = distribution(values, weights), state["latencies"][name]
        assert live["num"] == exact.num
        assert live["maximum"] == pytest.approx(exact.maximum)
        for percent, value in exact.percentiles.items():
            near = None if value is None else pytest.approx(value, rel=0.01, abs=1e-5)
            assert live["percentiles"][percent] == near
    ttft = run.table["first_token_at"] - run.table["intended_at"]
    good = run.table.is_outcome("ok") & (ttft <= 0.06)
    assert state["num_good"] == int(good.sum())
    assert state["num_judged"] == len(run.table)
    lag = run.table["sent_at"] - run.table["intended_at"]
    assert state["instrument"]["send_lag"]["maximum"] == pytest.approx(float(np.nanmax(lag)))


def test_the_live_numbers_are_those_of_the_records(tmp_path: Path) -> None:
    deployment, out = tmp_path / "hostile.yaml", tmp_path / "run"
    deployment.write_text(_DEPLOYMENT)
    words = (
        "-r",
        "60",
        "-t",
        "4s",
        "--drain",
        "1s",
        "--burst-every",
        "2s",
        "--burst-for",
        "500ms",
        "--objective",
        "ttft<60ms",
    )
    with mock_server(str(deployment)) as target, web_ui(target, out, *words) as root:
        states = list(_states(root))
        page, console = rendered(f"{root}/llm/", tmp_path / "profile", waits_ms=3000)
        tab, _ = rendered(f"{root}/?tab=llm", tmp_path / "profile", waits_ms=5000)
        all_points = json.loads(_get(f"{root}/llm/live.json?after=nonsense"))["series"]
        no_point = json.loads(_get(f"{root}/llm/live.json?after={all_points[-1][0]}"))["series"]
        index = _get(f"{root}/").decode()
        rows = json.loads(_get(f"{root}/stats/requests"))
        everything = "".join(
            _get(f"{root}/{path}").decode() for path in ("", "llm/live.json", "stats/requests", "logs")
        )
        headers = urlopen(f"{root}/llm/", timeout=10).headers
    going = [state for state in states if state["state"] == "running"]
    assert len(going) > 3
    assert any(state["num_in_flight"] > 0 for state in going)
    assert all(earlier["num_ended"] <= later["num_ended"] for earlier, later in pairwise(states))
    assert all(0 <= state["left_s"] <= 4 for state in going)
    _agrees(states[-1], load_run(open_run(out)))
    points = [dict(zip(states[-1]["series_names"], row, strict=True)) for row in states[-1]["series"]]
    assert len(points) == len(all_points) >= 4
    assert no_point == []  # a page asks only for what it does not have
    assert max(point["num_in_flight"] for point in points) > 0

    ended = f"{states[-1]['num_ended']:,}"
    assert console == []  # no error in its script, and nothing that its own policy had to keep out
    assert f'<dt>requests ended</dt><dd class="value">{ended}</dd>' in page
    assert page.count("<path") > 4
    assert "VALID" in page or "DEGRADED" in page
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert 'src="./llm/?inside"' in tab  # the charts, in Locust's own page
    assert "Metric (ms)" in tab
    assert rows["extended_stats"][0]["data"][0]["num"] == f"{states[-1]['latencies']['ttft']['num']:,}"
    form = json.JSONDecoder().raw_decode(index.partition("window.templateArgs = ")[2])[0]["extra_options"]
    assert form["burst_every"]["default_value"] == 2.0  # the scenario's own options, with what the command line said
    assert {"seed", "objective"} <= set(form)
    # What is read from the command line alone, or would lift a guard, is not offered.
    assert not {"protocol", "prompts", "out", "progress", "allow_host", "budget", "processes"} & set(form)
    assert _CANARY not in everything
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")


def test_the_master_shows_all_workers_together(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = (
        "-r",
        "60",
        "-t",
        "3s",
        "--drain",
        "1s",
        "--burst-factor",
        "1",
        "--objective",
        "ttft<60ms",
        "--processes",
        "2",
    )
    with mock_server("golden") as target, web_ui(target, out, *words) as root:
        states = list(_states(root))
    run = load_run(open_run(out))
    assert len(run.files) == 2
    assert states[-1]["course"]["num_workers"] == 2
    _agrees(states[-1], run)


def test_the_form_starts_one_run_after_another(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with (
        mock_server("instant") as target,
        web_ui(target, out, "-r", "20", "-t", "1s", "--drain", "1s", starts=False) as root,
    ):
        _until(lambda: _state(root) == {"state": "none"})
        urlopen(f"{root}/swarm", data=f"host={target}&burst_factor=-1".encode(), timeout=10).close()
        _until(lambda: _state(root) == {"state": "none", "trouble": "burst factor -1 must be positive and finite"})
        for number, factor in enumerate(("3", "2"), 1):
            name = "run" if number == 1 else f"run-{number}"
            urlopen(f"{root}/swarm", data=f"host={target}&burst_factor={factor}".encode(), timeout=10).close()
            _until(partial(_has_ended, root, name))
    for name, asked in (("run", 3.0), ("run-2", 2.0)):
        run = load_run(open_run(tmp_path / name))
        assert run.manifest.options["burst_factor"] == asked
        assert len(run.table) == run.manifest.num_planned > 10


def _has_ended(root: str, name: str) -> bool:
    state = _state(root)
    return bool(state["state"] == "over" and state["course"]["run_id"] == name)


def _state(root: str) -> dict[str, Any]:
    try:
        return dict(json.loads(_get(f"{root}/llm/live.json")))
    except OSError:  # it does not listen yet
        return {"state": "not there"}


def _until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)
