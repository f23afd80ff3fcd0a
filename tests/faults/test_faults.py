"""The load side against a server with every fault we know: each must come out in its class, under its label.

All faults are asked by one client process at the same time; what it prints is compared here.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .catalogue import FAULTS, Fault
from .server import FaultServer, closed_port, running
from .transcripts import good_text

pytestmark = pytest.mark.realtime

ASK = Path(__file__).parent / "ask.py"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Told:
    """What the client process found out, by fault, and the server it talked to."""

    results: dict[str, dict[str, Any]]
    server: FaultServer


def job(fault: Fault, url: str) -> dict[str, Any]:
    return {
        "name": fault.name,
        "url": url,
        "protocol": fault.protocol,
        "model": "m",
        "stream": fault.stream,
        "read_s": fault.read_s,
        "between_s": fault.between_s,
        "end_after_s": fault.end_after_s,
        "num_requests": len(fault.expected),
        "timed": fault.timed,
    }


def ask_all(jobs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    asked = subprocess.run(
        [sys.executable, str(ASK)],
        input="\n".join(map(json.dumps, jobs)),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert asked.returncode == 0, asked.stderr[-4000:]
    results = map(json.loads, asked.stdout.splitlines())
    return {result["name"]: result for result in results}


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    scripts = {fault.name: fault.answers for fault in FAULTS}
    with running(scripts) as server, closed_port() as port:
        jobs = [job(fault, f"http://127.0.0.1:{server.port}/{fault.name}") for fault in FAULTS]
        refused = job(FAULTS[0], f"http://127.0.0.1:{port}") | {"name": "refused"}
        yield Told(ask_all([*jobs, refused]), server)


ROWS = [pytest.param(fault, id=fault.name) for fault in FAULTS]


@pytest.mark.parametrize("fault", ROWS)
def test_a_fault_comes_out_in_its_class(told: Told, fault: Fault) -> None:
    result = told.results[fault.name]
    for record, expected in zip(result["records"], fault.expected, strict=True):
        assert {name: record[name] for name in expected} == expected, record["error_text"]
    for said, text in zip(result["texts"], fault.texts or [], strict=False):
        assert text is None or said == text
    if fault.num_requests_seen is not None:
        assert len(told.server.heads[fault.name]) == fault.num_requests_seen


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.bounds], ids=lambda fault: fault.name)
def test_tokens_are_stamped_when_they_arrive(told: Told, fault: Fault) -> None:
    (record,) = told.results[fault.name]["records"]
    measured = {"ttft": record["first_token_at"] - record["sent_at"], "first_gap": record["token_gaps_s"][0]}
    for name, (low, high) in fault.bounds.items():
        assert low <= measured[name] <= high, measured


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_instants_are_in_order(told: Told, fault: Fault) -> None:
    for record in told.results[fault.name]["records"]:
        names = [
            "intended_at",
            "sent_at",
            "connected_at",
            "first_byte_at",
            "first_token_at",
            "last_token_at",
            "done_at",
        ]
        instants = [record[name] for name in names if record[name] is not None]
        if record["first_token_at"] is None or record["stream"]:
            assert instants == sorted(instants)


def test_a_refused_connection(told: Told) -> None:
    (record,) = told.results["refused"]["records"]
    assert (record["outcome"], record["error_kind"], record["num_attempts"]) == ("failed", "unreachable", 1)
    assert record["status"] is record["connected_at"] is record["first_byte_at"] is None
    assert record["done_at"] is not None


def test_no_good_stream_has_a_false_label(told: Told) -> None:
    good = [fault.name for fault in FAULTS if fault.name.startswith("good-")]
    labels = {
        (name, record["outcome"], record["error_kind"]) for name in good for record in told.results[name]["records"]
    }
    assert {label for label in labels if label[1:] != ("ok", None)} == set()


def test_no_broken_answer_passes_for_a_good_one(told: Told) -> None:
    broken = [fault for fault in FAULTS if not fault.name.startswith("good-")]
    passed = {
        fault.name
        for fault in broken
        for record, expected in zip(told.results[fault.name]["records"], fault.expected, strict=True)
        if record["outcome"] == "ok" and expected["outcome"] != "ok"
    }
    assert passed == set()


def test_the_request_that_was_sent(told: Told) -> None:
    (head,) = told.server.heads["good-lf"]
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
    assert line == "POST /good-lf/v1/chat/completions HTTP/1.1"
    assert headers["host"] == f"127.0.0.1:{told.server.port}"
    assert headers["accept-encoding"] == "identity"
    assert headers["x-client-request-id"] == "good-lf-0"
    assert len(headers) == len(fields)


def test_the_host_of_an_ipv6_target() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("no IPv6 on loopback here")
    fault = next(fault for fault in FAULTS if fault.name == "good-lf")
    with running({"six": fault.answers}, "::1") as server:
        result = ask_all([job(fault, f"http://[::1]:{server.port}/six") | {"name": "six"}])["six"]
        assert result["records"][0]["outcome"] == "ok"
        assert f"Host: [::1]:{server.port}".encode() in server.heads["six"][0].split(b"\r\n")


def test_the_catalogue_is_wide() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 60
    assert b"\xf0\x9f\x8e\x89" in good_text(), "the good stream must hold characters of several bytes"
