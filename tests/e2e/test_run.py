"""Whole runs as a person types them: real processes, real sockets, a real trace."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.records import RecordFile, read_record_file
from harness.store import open_run
from harness.summary import load_run, summarize
from tests.conftest import REPOSITORY, mock_server

pytestmark = pytest.mark.realtime


def harness(*words: str, timeout: float = 110) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *words]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout)


def test_the_azure_trace_is_replayed_request_by_request(shared_data: Path, tmp_path: Path) -> None:
    """Every request of the first 60 s, played four times as fast, with the trace's own token counts."""
    trace, out = shared_data / "azure2023" / "AzureLLMInferenceTrace_conv.csv", tmp_path / "azure"
    done = harness(
        "run", "scenarios/trace_replay.py", "--mock", "hosted", "--trace", str(trace), "--window", "60s", "--speed", "4",
        "--out", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with trace.open() as file:
        rows = list(csv.DictReader(file))
    seconds = [_seconds(row["TIMESTAMP"]) for row in rows]
    window = [row for row, at in zip(rows, seconds, strict=True) if at - seconds[0] < 60]
    num = len(window)
    assert num > 100

    records = _records(out)
    by_index = {int(str(record["request_id"]).rpartition("-")[2]): record for record in records}
    assert sorted(by_index) == list(range(num))
    for index, row in enumerate(window):
        record = by_index[index]
        assert record["outcome"] == "ok"
        assert record["num_prompt_tokens"] == int(row["ContextTokens"])
        assert record["num_output_tokens"] == int(row["GeneratedTokens"])
        assert record["token_source"] == "server"
        assert record["intended_at"] == pytest.approx((seconds[index] - seconds[0]) / 4, abs=1e-5)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["load"]["num_missing"] == 0
    assert summary["load"]["asked_rate"] == pytest.approx(num / 15)
    assert summary["load"]["delivered_rate"] == pytest.approx(num / 15)
    page = (out / "report.html").read_text()
    assert f"{num / 15:.2f}" in page  # asked and delivered rate stand in the report


def test_sigkill_of_the_load_process_loses_no_finished_record(tmp_path: Path) -> None:
    out, ledger = tmp_path / "killed", tmp_path / "ledger.jsonl"
    with mock_server("golden", "--ledger", str(ledger)) as url:
        process = _burst(url, out, rate=60)
        _wait_for(lambda: ledger.read_bytes().count(b'"outcome":"ok"') > 200)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed_at = time.monotonic()
        time.sleep(1.0)  # the mock notices that the others are gone
    found = RecordFile(next(out.glob("records-*.jsonl")))
    kept = {record.request_id for record in read_record_file(found.path, found) if record.outcome == "ok"}
    assert found.num_torn <= 1
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    origin = lines[0]["monotonic_origin"]
    answered = {
        line["client_request_id"]
        for line in lines[1:]
        # An answer whose last byte left just before the kill may not have been read: four processes share the processors.
        if line["outcome"] == "ok" and origin + line["written_at"][-1] < killed_at - 1.0
    }
    assert len(answered) > 50
    assert answered <= kept

    summary = summarize(load_run(open_run(out)))
    assert summary.verdict.answer == "INVALID"
    assert any("no footer" in reason for reason in summary.verdict.reasons)
    assert summary.load.num_missing > 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_keeps_the_requests_that_were_open(tmp_path: Path, signum: signal.Signals) -> None:
    out, ledger = tmp_path / "stopped", tmp_path / "ledger.jsonl"
    with mock_server("golden", "--ledger", str(ledger)) as url:
        process = _burst(url, out, rate=40)
        _wait_for(lambda: ledger.read_bytes().count(b'"outcome":"ok"') > 20)
        process.send_signal(signum)
        assert process.wait(20) == 2  # INVALID: not everything that was asked was sent
        time.sleep(0.5)
    records = _records(out)
    outcomes = {record["outcome"] for record in records}
    assert outcomes == {"ok", "incomplete"}
    assert all(record["error_kind"] == "run_ended" for record in records if record["outcome"] == "incomplete")
    seen = {json.loads(line)["client_request_id"] for line in ledger.read_text().splitlines()[1:]}
    assert seen <= {record["request_id"] for record in records}  # every request the server saw has a record
    assert len(seen) > 40
    assert json.loads((out / "manifest.json").read_text())["ended_how"] == "stopped early"


def test_a_directory_that_holds_a_run_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "kept"
    words = ["run", "scenarios/burst.py", "--mock", "instant", "--rate", "10", "--duration", "2s", "--out", str(out)]
    assert harness(*words).returncode == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    again = harness(*words)
    assert again.returncode == 2
    assert "exists and is not empty" in again.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_answers_that_outlive_the_drain_are_recorded_and_said(tmp_path: Path) -> None:
    out = tmp_path / "drained"
    words = ["run", "scenarios/burst.py", "--mock", "golden", "--rate", "10", "--duration", "2s", "--drain", "0.2s"]
    assert harness(*words, "--out", str(out)).returncode == 1
    manifest = json.loads((out / "manifest.json").read_text())
    records = _records(out)
    assert manifest["ended_how"] == "drain timed out"
    assert len(records) == manifest["num_planned"]
    assert any(record["outcome"] == "incomplete" for record in records)


def test_a_dead_port_is_a_clear_error(tmp_path: Path) -> None:
    done = harness("run", "scenarios/burst.py", "--target", "http://127.0.0.1:9", "--out", str(tmp_path / "dead"))
    assert done.returncode == 2
    assert "nothing answers at http://127.0.0.1:9" in done.stderr
    assert "refused" in done.stderr
    assert not (tmp_path / "dead").exists()


def test_the_report_can_be_made_again(tmp_path: Path) -> None:
    out = tmp_path / "again"
    done = harness(
        "run",
        "scenarios/burst.py",
        "--mock",
        "instant",
        "--rate",
        "30",
        "--duration",
        "4s",
        "--out",
        str(out),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary, page = (out / "summary.json").read_bytes(), (out / "report.html").read_bytes()
    again = harness("report", str(out))
    assert again.returncode == 0
    assert (out / "summary.json").read_bytes() == summary
    assert (out / "report.html").read_bytes() == page


def test_two_runs_of_one_plan_meet_the_same_luck(tmp_path: Path) -> None:
    """The mock plans the same chunks for the same request, whatever the run is called."""
    words = ["run", "scenarios/burst.py", "--mock", "hosted", "--rate", "10", "--duration", "3s", "--seed", "5"]

    def fates_of(name: str) -> dict[str, list[float]]:
        out = tmp_path / name
        assert harness(*words, "--out", str(out)).returncode in (0, 2)  # 2: late on a busy machine, no matter here
        lines = [json.loads(line) for line in (out / "ledger.jsonl").read_text().splitlines()[1:]]
        return {line["client_request_id"]: _fate(line) for line in lines}

    with ThreadPoolExecutor() as pool:
        fates = list(pool.map(fates_of, ("first", "second")))
    assert fates[0].keys() == fates[1].keys()
    for name, fate in fates[0].items():
        assert fates[1][name] == pytest.approx(fate, abs=3e-6)


def _fate(line: dict[str, Any]) -> list[float]:
    """When each chunk was due after the request came, and how many tokens it carried."""
    return [*(at - line["submitted_at"] for at in line["planned_at"]), *line["num_tokens"]]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run", "scenarios/burst.py"], "either --mock NAME_OR_FILE or --target URL"),
        (["run", "scenarios/burst.py", "--mock", "golden", "--target", "http://x"], "either --mock"),
        (["run", "scenarios/brust.py", "--mock", "golden"], "no scenario at scenarios/brust.py"),
        (["run", "scenarios/burst.py", "--mock", "golden", "--rate", "fast"], "'fast' is not a rate"),
        (
            ["run", "scenarios/burst.py", "--mock", "golden", "--duration", "1.5s"],
            "Locust counts whole seconds",
        ),
        (["run", "scenarios/burst.py", "--mock", "no-such"], "there are: a100-32b"),
        (["run", "scenarios/burst.py", "--target", "ftp://x"], "is not the root of an HTTP server"),
        (["run", "scenarios/trace_replay.py", "--mock", "instant"], "give one with --trace FILE"),
        (
            ["run", "scenarios/trace_replay.py", "--mock", "instant", "--trace", "x.csv", "--rate", "5"],
            "use --speed or --scale",
        ),
        (
            ["run", "scenarios/trace_replay.py", "--mock", "instant", "--trace", "nope.csv"],
            "nope.csv: cannot be read",
        ),
        (["report", "nowhere"], "nowhere is not a directory"),
        (["report", "scenarios"], "not a run directory"),
    ],
)
def test_bad_commands_say_what_to_write_instead(words: list[str], complaint: str) -> None:
    done = harness(*words)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_line_of_a_trace_names_file_line_and_column(tmp_path: Path) -> None:
    trace = tmp_path / "bad.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,10,10\n1,ten,10\n")
    done = harness("run", "scenarios/trace_replay.py", "--mock", "instant", "--trace", str(trace))
    assert done.returncode == 2
    assert f"{trace}:3: column prompt_tokens: 'ten' is not a whole number" in done.stderr


def _burst(url: str, out: Path, *, rate: int) -> subprocess.Popen[bytes]:
    """Stock Locust with the burst scenario, left running."""
    command = [sys.executable, "-m", "locust", "-f", "scenarios/burst.py", "--headless", "--only-summary"]
    command += ["--host", url, "-r", str(rate), "-t", "30s", "--out", str(out)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _records(out: Path) -> list[dict[str, object]]:
    return list(_lines(out))


def _lines(out: Path) -> Iterator[dict[str, object]]:
    for path in out.glob("records-*.jsonl"):
        for line in path.read_text().splitlines():
            value = json.loads(line)
            if value["kind"] == "request":
                yield value


def _seconds(text: str) -> float:
    hours, minutes, seconds = text.split()[1].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _wait_for(condition, limit: float = 30.0) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


assert os.name == "posix", "these tests send signals"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "harness", "run", "scenarios/burst.py", "--mock", "instant"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "file" / "run")], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"harness: cannot create {tmp_path / 'file' / 'run'}")
    assert len(done.stderr.splitlines()) == 1


def test_sigterm_while_the_mock_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "harness",
        "run",
        "scenarios/burst.py",
        "--mock",
        "golden",
        "--out",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ledger = tmp_path / ".run.ledger.jsonl"
    _wait_for(ledger.exists)  # the mock has begun
    process.terminate()
    assert process.wait(30) not in (0, -signal.SIGTERM)
    assert list(tmp_path.iterdir()) == []
