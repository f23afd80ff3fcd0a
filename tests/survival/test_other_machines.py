"""Workers that share no disk with the master, and no clock: their records are fetched, their instants are the master's."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from harness.records import Header
from tests.survival.pace import NUM
from tests.survival.swarms import Server, Swarm, ended, server, swarm, wait_for

pytestmark = pytest.mark.realtime

_ELSEWHERE = {"SURVIVAL_ELSEWHERE": "1"}


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Server]:
    with server(tmp_path) as found:
        yield found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Swarm]:
    with swarm(tmp_path / "run") as found:
        yield found


def test_a_worker_with_another_clock_sends_at_the_same_instants(mock: Server, run: Swarm, tmp_path: Path) -> None:
    """Its monotonic clock is 5,000 s ahead, its wall clock a minute slow. In truth both run here: the ledger sees it."""
    master = run.start_master(mock.url, "--master", "--expect-workers", "2")
    run.start_worker()
    away = run.start_worker(scenario="elsewhere", environment=_ELSEWHERE, cwd=tmp_path)
    code, output = ended(master)
    assert code == 0, output
    ended(away)
    data = run.data()
    assert sorted(int(name.rpartition("-")[2]) for name in data.table.request_ids) == list(range(NUM))
    assert all(file.problems == [] for file in data.files)
    assert len(list(run.out.glob("samples-*.jsonl"))) == 2
    near, far = sorted(_headers(run), key=lambda header: header.boot_id == "another-boot")
    assert (near.clock_offset_s, near.clock_error_s) == (0.0, 0.0)
    assert far.boot_id == "another-boot"
    assert far.clock_offset_s is not None
    assert far.clock_error_s is not None
    assert far.clock_offset_s == pytest.approx(-5000.0, abs=0.005)
    assert abs(far.clock_offset_s + 5000.0) <= far.clock_error_s
    assert far.origin_monotonic - 5000.0 == pytest.approx(near.origin_monotonic, abs=0.005)
    submitted = {entry["client_request_id"]: mock.origin() + entry["submitted_at"] for entry in mock.entries()}
    for record in run.records():
        assert record.sent_at is not None
        late = submitted[record.request_id] - (near.origin_monotonic + record.sent_at)
        assert -0.005 < late < 0.25  # a request comes after it was sent, by the origin's clock
    # What was fetched whole need not stay there; the worker clears it away once it is told.
    wait_for(lambda: not list((tmp_path / "runs").iterdir()))
    assert data.truth is None or data.truth.num_matched == 0  # two boots: no comparison by clock


def test_what_cannot_be_fetched_is_named_with_its_place(mock: Server, run: Swarm, tmp_path: Path) -> None:
    master = run.start_master(mock.url, "--master", "--expect-workers", "1")
    away = run.start_worker(scenario="elsewhere", environment=_ELSEWHERE, cwd=tmp_path)
    wait_for(lambda: any(path.read_bytes().count(b"\n") > 5 for path in (tmp_path / "runs").glob("*/records-*.jsonl")))
    away.kill()
    code, output = ended(master)
    assert code == 2, output
    (lost,) = run.data().manifest.lost_workers
    assert "fell silent" in lost
    (spool,) = (tmp_path / "runs").iterdir()
    assert str(spool) in lost
    assert len(next(spool.glob("records-*.jsonl")).read_bytes().splitlines()) > 5
    assert run.summary().verdict.answer == "INVALID"


def test_workers_in_two_networks_of_their_own(tmp_path: Path) -> None:
    """Two network namespaces, each tied to this one by a virtual cable; and no disk and no clock in common."""
    with _networks(2) as (names, own), server(tmp_path, host=own) as mock, swarm(tmp_path / "run") as run:
        master = run.start_master(mock.url, "--master", "--expect-workers", "2", "--master-bind-host", "0.0.0.0")
        away = [
            run.start_worker(
                scenario="elsewhere", environment=_ELSEWHERE, cwd=_made(tmp_path / name), host=own, network=name
            )
            for name in names
        ]
        code, output = ended(master)
        assert code == 0, output
        assert "without authentication" in output
        assert [ended(worker)[0] for worker in away] == [0, 0]
        assert sorted(int(record.request_id.rpartition("-")[2]) for record in run.records()) == list(range(NUM))
        assert [record.outcome for record in run.records()] == ["ok"] * NUM
        assert all(file.problems == [] for file in run.data().files)
        assert all(header.clock_offset_s == pytest.approx(-5000.0, abs=0.005) for header in _headers(run))
        # the mock writes down whom it hears: both networks have sent
        assert {header.worker_index for header in _headers(run)} == {0, 1}


@contextmanager
def _networks(num: int) -> Iterator[tuple[list[str], str]]:
    """Network namespaces with a way to this one; yields their names and the address by which all of them reach it."""
    tag = uuid4().hex[:6]
    names = [f"llm{tag}{number}" for number in range(num)]
    try:
        for number, name in enumerate(names):
            try:
                _ip("netns", "add", name)
                _ip("link", "add", f"v{tag}{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
                _ip("addr", "add", f"10.231.{number}.1/24", "dev", f"v{tag}{number}")
                _ip("link", "set", f"v{tag}{number}", "up")
                for words in (f"addr add 10.231.{number}.2/24 dev eth0", "link set eth0 up", "link set lo up"):
                    _ip("-n", name, *words.split())
                _ip("-n", name, "route", "add", "default", "via", f"10.231.{number}.1")
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"NOT CHECKED: this kernel or user may make no network namespaces ({error})")
        yield names, "10.231.0.1"
    finally:
        for name in names:
            if shutil.which("ip") is not None:
                subprocess.run(
                    ["ip", "netns", "delete", name], check=False, capture_output=True
                )  # its cable goes with it


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _headers(run: Swarm) -> list[Header]:
    headers = [file.header for file in run.data().files]
    return [header for header in headers if header is not None]
