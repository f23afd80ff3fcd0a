"""Whatever happens to the processes of a run: the totals are right, or the run is INVALID and says so with its exit code."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.records import RecordFile, read_record_file
from tests.survival.pace import EVERY_S, NUM
from tests.survival.swarms import Server, Swarm, are_gone, ended, server, swarm, wait_for, workers_of

pytestmark = pytest.mark.realtime

_TWO = ("--processes", "2")


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("mock")) as found:
        yield found


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Swarm]:
    with swarm(tmp_path / tmp_path.name) as found:
        yield found


def test_a_stop_with_streams_in_flight_leaves_a_record_of_each(mock: Server, run: Swarm) -> None:
    before = len(mock.entries())
    master = run.start_master(mock.url, *_TWO)
    run.wait_for_records(10)
    master.send_signal(signal.SIGTERM)
    code, output = ended(master)
    assert code == 2, output
    outcomes = [record.outcome for record in run.records()]
    assert set(outcomes) == {"ok", "incomplete"}
    assert all(file.problems == [] for file in run.data().files)
    wait_for(lambda: len(mock.entries()) - before >= len(outcomes), 5)
    assert len(mock.entries()) - before == len(outcomes)  # whatever the server saw has a record
    manifest = run.data().manifest
    assert (manifest.ended_how, manifest.stop_reason, manifest.lost_workers) == ("stopped early", "SIGTERM", [])
    assert run.summary().verdict.reasons[0].startswith("the run was stopped after")


def test_a_killed_worker_makes_the_run_invalid_and_takes_no_finished_record_along(mock: Server, run: Swarm) -> None:
    master = run.start_master(mock.url, *_TWO)
    run.wait_for_records(10)
    victim = workers_of(master)[0]
    kept = [record.request_id for record in run.records()]
    victim.kill()
    code, output = ended(master)
    assert code == 2, output
    assert "fell silent" in output
    summary, manifest = run.summary(), run.data().manifest
    assert summary.verdict.answer == "INVALID"
    assert [f"pid {victim.pid}" in reason for reason in manifest.lost_workers] == [True]
    assert manifest.ended_how == "workers were lost"
    assert set(kept) <= {record.request_id for record in run.records()}
    other = [file for file in run.data().files if not file.problems]
    assert [file.num_records for file in other] == [NUM // 2]  # the other worker has done its whole share


@pytest.mark.parametrize("is_there", [False, True], ids=["before it connects", "before it has begun"])
def test_nobody_waits_for_a_worker_that_died_before_the_run(mock: Server, run: Swarm, is_there: bool) -> None:
    master = run.start_master(mock.url, *_TWO)
    wait_for(lambda: len(workers_of(master)) == 2 and (not is_there or run.out.is_dir()))
    workers_of(master)[0].kill()
    code, output = ended(master, 20)
    assert code == 2, output
    assert any(words in output for words in ("ended before the run", "died before the run", "fell silent 0.0 s")), (
        output
    )


def test_a_worker_that_is_told_to_quit_closes_its_file_and_the_run_is_invalid(mock: Server, run: Swarm) -> None:
    master = run.start_master(mock.url, *_TWO)
    run.wait_for_records(10)
    workers_of(master)[0].terminate()
    code, output = ended(master)
    assert code == 2, output
    assert all(file.problems == [] for file in run.data().files)
    manifest = run.data().manifest
    assert len(manifest.lost_workers) == 1
    assert "before its share was done" in manifest.lost_workers[0]
    assert {record.outcome for record in run.records()} == {"ok", "incomplete"}
    assert run.summary().verdict.answer == "INVALID"


def test_lost_messages_change_no_total(mock: Server, run: Swarm) -> None:
    code, output = ended(run.start_master(mock.url, *_TWO, scenario="lossy"))
    assert code == 0, output
    assert sorted(_index(record.request_id) for record in run.records()) == list(range(NUM))


def test_a_stopped_worker_holds_nobody_up_and_is_not_left_behind(mock: Server, run: Swarm) -> None:
    master = run.start_master(mock.url, *_TWO)
    run.wait_for_records(10)
    workers = workers_of(master)
    workers[0].suspend()
    code, output = ended(master, 20)
    assert code == 2, output
    assert "fell silent" in output
    wait_for(lambda: are_gone(workers), 3)
    assert run.summary().verdict.answer == "INVALID"


def test_a_worker_that_was_stopped_for_a_while_sends_no_more_when_it_goes_on(mock: Server, run: Swarm) -> None:
    master = run.start_master(mock.url, *_TWO, "-t", "6s")
    run.wait_for_records(10)
    victim = workers_of(master)[0]
    victim.suspend()
    stopped_at = time.monotonic() - run.origin()
    time.sleep(2.5)
    victim.resume()
    code, output = ended(master)
    assert code == 2, output
    files = [file for file in run.data().files if file.header is not None and file.header.pid == victim.pid]
    assert files[0].problems == []  # it still closed its file
    victims = list(read_record_file(files[0].path, RecordFile(files[0].path)))
    sent_until = max(record.sent_at for record in victims if record.sent_at is not None)
    assert sent_until - stopped_at < 0.2, "arrivals of the time in which it stood still were caught up on"
    assert run.summary().verdict.answer == "INVALID"


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_the_load_stops_when_the_master_is_gone(mock: Server, run: Swarm, signum: signal.Signals) -> None:
    master = run.start_master(mock.url, *_TWO, "-t", "8s")
    run.wait_for_records(20)
    workers = workers_of(master)
    gone_at = time.monotonic()
    master.send_signal(signum)
    wait_for(lambda: all(b'"kind":"footer"' in path.read_bytes() for path in run.record_files()), 4)
    time.sleep(1.0)
    assert max(mock.submitted()) - gone_at < 2.0
    if signum == signal.SIGSTOP:
        master.send_signal(signal.SIGCONT)
        code, output = ended(master)
        assert code == 2, output
    else:
        wait_for(lambda: are_gone(workers), 5)
    assert all(file.problems == [] for file in run.data().files)
    assert {record.outcome for record in run.records()} == {"ok", "incomplete"}
    assert run.summary().verdict.answer == "INVALID"


@pytest.mark.parametrize("words", [(), _TWO], ids=["alone", "two workers"])
def test_a_full_disk_stops_the_load_at_once(mock: Server, run: Swarm, words: tuple[str, ...]) -> None:
    """A limit on the size of a file is to the writer what a full disk is: the write is short, the next one fails."""
    before = len(mock.entries())

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    master = run.start_master(mock.url, *words, preexec_fn=limit)
    code, output = ended(master)
    assert code == 2, output
    assert "is the disk full?" in output
    assert len(mock.entries()) - before < NUM * 0.9
    data = run.data()  # what is on disk can be read
    assert len(data.table) > 2
    assert any(file.problems for file in data.files)
    assert run.summary().verdict.answer == "INVALID"


def _index(request_id: str) -> int:
    return int(request_id.rpartition("-")[2])


assert EVERY_S * NUM == 2.0
assert psutil.LINUX, "these tests send signals to forked processes"
