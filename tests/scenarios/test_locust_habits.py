"""What -u, -r and -t mean in an open loop, by stock Locust: each does what the help says, none is ignored."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.store import open_run
from harness.summary import RunData, load_run, summarize
from tests.conftest import REPOSITORY, mock_server

pytestmark = pytest.mark.realtime


def locust(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locust", *words]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)


def burst(url: str, out: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], RunData]:
    done = locust("-f", "scenarios/burst.py", "--headless", "--host", url, "--out", str(out), *words)
    return done, load_run(open_run(out))


def test_r_is_the_arrival_rate_and_t_the_length_of_the_plan(tmp_path: Path) -> None:
    with mock_server("instant") as url:
        done, run = burst(url, tmp_path / "run", "-r", "50", "-t", "3s", "--gaps", "constant", "--burst-factor", "1")
    assert done.returncode == 0, done.stderr
    assert run.manifest.num_planned == 150
    assert run.manifest.duration_s == 3
    assert run.table["intended_at"].max() < 3
    assert summarize(run).load.delivered_rate == pytest.approx(50)
    assert "PASS" in done.stdout
    assert str(tmp_path / "run") in done.stdout


def test_u_is_the_most_requests_in_flight_and_the_rest_is_counted(tmp_path: Path) -> None:
    with mock_server("golden") as url:
        done, run = burst(url, tmp_path / "run", "-u", "3", "-r", "40", "-t", "3s")
    summary = summarize(run)
    assert summary.instrument.max_in_flight == 3
    refused = summary.load.outcomes["refused"]
    assert refused > 0
    assert summary.load.num_sent + refused == summary.load.num_planned == len(run.table)  # scheduled = sent + refused
    assert done.returncode == 2  # the asked load was not delivered: INVALID
    assert "INVALID" in done.stdout
    assert run.manifest.max_in_flight == 3


def test_without_u_the_cap_is_stated_in_the_manifest(tmp_path: Path) -> None:
    with mock_server("instant") as url:
        _, run = burst(url, tmp_path / "run", "-t", "2s", "--processes", "1")
    assert run.manifest.max_in_flight == 1000
    assert run.manifest.num_workers == 1


def test_two_workers_share_the_plan_without_gap_or_overlap(tmp_path: Path) -> None:
    with mock_server("instant") as url:
        done, run = burst(
            url,
            tmp_path / "run",
            "-r",
            "40",
            "-t",
            "3s",
            "--processes",
            "2",
            "--master-bind-host",
            "127.0.0.1",
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(run.files) == 2
    assert sorted(int(name.rpartition("-")[2]) for name in run.table.request_ids) == list(
        range(run.manifest.num_planned)
    )
    assert summarize(run).verdict.answer == "PASS"


def test_trace_replay_refuses_a_rate_and_is_cut_by_t(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{n / 10},5,3\n" for n in range(100)))
    words = ["-f", "scenarios/trace_replay.py", "--headless", "--trace", str(trace)]
    with mock_server("instant") as url:
        refused = locust(*words, "--host", url, "-r", "5")
        nothing = locust(*words, "--host", url, "-t", "0s")
        cut = locust(*words, "--host", url, "-t", "2s", "--out", str(tmp_path / "run"))
    assert refused.returncode == 2
    assert "use --speed or --scale" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert nothing.returncode == 2
    assert "a run of 0 s holds nothing" in nothing.stderr
    assert cut.returncode == 0, cut.stderr
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["num_planned"] == 20
    assert manifest["plan"]["cut_at_s"] == 2
    assert manifest["plan"]["planned_duration_s"] == pytest.approx(9.9)


def test_the_help_says_it() -> None:
    text = " ".join(locust("-f", "scenarios/burst.py", "--scenario-help").stdout.split())
    assert "-r is the arrival rate" in text
    assert "-u the most requests in flight" in text
    assert "-t how long the plan runs" in text
    assert "-r is the quiet rate" in text


def test_no_host_is_a_usage_error() -> None:
    done = locust("-f", "scenarios/burst.py", "--headless")
    assert done.returncode == 2
    assert "give its root with --host" in done.stderr


def test_an_unknown_server_is_a_clear_error() -> None:
    done = locust("-f", "scenarios/burst.py", "--headless", "--host", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert "nothing answers at http://127.0.0.1:9" in done.stderr


def test_the_web_ui_starts_the_same_run(tmp_path: Path) -> None:
    """With a web UI -u, -r and -t are the command line's; the form, which cannot leave a field empty, hides them."""
    with mock_server("instant") as url:
        words = ["-f", "scenarios/burst.py", "--host", url, "-r", "20", "-t", "2s", "--out", str(tmp_path / "run")]
        done = locust(*words, "--autostart", "--autoquit", "0", "--web-host", "127.0.0.1", "--web-port", "18089")
    run = load_run(open_run(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert run.manifest.duration_s == 2
    assert len(run.table) == run.manifest.num_planned > 20  # 20 a second, Poisson


def test_a_scenario_that_needs_all_answers_refuses_workers(tmp_path: Path) -> None:
    scenario = tmp_path / "whole.py"
    scenario.write_text(
        "from scenarios.burst import BurstUser, add_options\n"
        "class WholeUser(BurstUser):\n"
        "    one_process = True\n"
        "del BurstUser\n"
    )
    done = locust("-f", str(scenario), "--headless", "--host", "http://127.0.0.1:9", "--processes", "2")
    assert done.returncode == 2
    assert "WholeUser needs all answers in one process: run it without workers" in done.stderr


def test_users_are_not_picked_in_the_web_ui() -> None:
    done = locust("-f", "scenarios/burst.py", "--host", "http://127.0.0.1:9", "--class-picker", "--web-port", "0")
    assert done.returncode == 2
    assert "--class-picker would start users without their plan" in done.stderr
