"""Scenarios whose load follows from the answers: the effect that each exists for, in virtual time, and one short run by Locust."""

from __future__ import annotations

import socket
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from harness.arrivals.curves import steady
from harness.goodput import goodput
from harness.objectives import parse_objective
from harness.reactive.capacity_report import capacity_of
from harness.reactive.turns import sessions_of
from harness.records import RequestRecord
from harness.store import open_run
from harness.summary import load_run
from harness.virtual import Simulation, run_in_virtual_time
from harness.workloads.synthetic import conversations
from tests.conftest import mock_server
from tests.harness.reactive import queue_profile
from tests.scenarios.running import locust, rehearse

_LIMITED = """
summary: a provider with quotas
models:
  - {name: limited, profile: instant, limits: {requests: 1200/min, tokens: 600000/min, burst: 1s}}
"""


def rehearsed(deployment: str, scenario: str, out: Path, *words: str) -> str:
    """A scenario in virtual time; returns its own answer, as it is kept with the run."""
    done = rehearse(deployment, scenario, out, "--gaps-of", "0", *words)  # of tokens nothing is asked
    assert done.returncode == 0, done.stderr
    return "\n".join(open_run(out).conclusion())


def records_of(out: Path) -> list[RequestRecord]:
    return list(open_run(out).records([]))


# -- effects, in virtual time --------------------------------------------------------------------------------------------


def test_more_clients_than_a_server_can_serve_wait_longer_and_get_no_more(tmp_path: Path) -> None:
    profile = tmp_path / "queue.yaml"
    profile.write_text(queue_profile(4, 0.01))
    rates, waits = [], []
    for num in (8, 16):
        out = tmp_path / f"run-{num}"
        rehearsed(str(profile), "closed_loop", out, "--clients", str(num), "-t", "20m", "--think", "exponential:1s")
        records = records_of(out)
        rates.append(len(records) / 1200)
        waits.append(float(np.mean([(each.done_at or np.nan) - each.intended_at for each in records])))
        assert rates[-1] * (waits[-1] + 1.0) == pytest.approx(num, rel=0.02)  # N = X (R + Z)
    assert rates[1] == pytest.approx(rates[0], rel=0.03)
    assert waits[1] > 1.8 * waits[0]


def test_turns_grow_and_the_cache_takes_the_growth(tmp_path: Path) -> None:
    words = ("-r", "0.2", "-t", "20m", "--turns", "8", "--tool-tokens", "1500")
    said = rehearsed("h100-8b", "multi_turn_agents", tmp_path / "run", *words)
    found = sessions_of(records_of(tmp_path / "run"))
    assert found.num_broken == 0
    turns = [turn for turn in found.turns if turn.num >= 30]
    prompts = [turn.mean_prompt_tokens or 0.0 for turn in turns]
    assert prompts[5] > 3 * prompts[0]
    assert (turns[5].ttft_p50_s or 9.0) < 2 * (turns[1].ttft_p50_s or 0.0)
    assert (turns[5].cached_share or 0.0) > max(0.6, turns[1].cached_share or 1.0)
    assert f"{found.num} sessions: 0 ended early" in said
    assert "TTFT p50 ms" in said


def test_the_capacity_is_the_one_that_fixed_rates_show(tmp_path: Path) -> None:
    """Brute force: at the found rate the objective is met by 95 of 100 requests, a little above the bound it is not."""
    words = ("-r", "4", "-t", "2h", "--probe", "1m", "--objective", "ttft<500ms")
    said = rehearsed("h100-8b", "capacity", tmp_path / "run", *words)
    directory = open_run(tmp_path / "run")
    found = capacity_of(directory.manifest().plan, directory.records([]))
    assert found.kind == "found"
    assert found.low is not None
    assert found.high is not None
    assert f"capacity {found.low:g}/s: there at least 95% of the requests meet ttft<0.5s" in said
    shares = []
    for place, rate in enumerate((found.low / 1.05, found.high * 1.05)):
        plan = conversations(steady(rate, 300.0), "poisson", 77 + place)
        out = tmp_path / f"fixed-{place}"
        run_in_virtual_time(Simulation("h100-8b", plan, "fixed", num_with_gaps=0), out, lambda *_: None)
        counted = goodput(load_run(open_run(out)).table, {"": parse_objective("ttft<500ms")}, 300.0)
        assert counted is not None
        shares.append(counted.share or 0.0)
    assert shares[0] >= 0.95 > shares[1]


def test_quotas_are_found_at_the_price_of_a_few_refusals(tmp_path: Path) -> None:
    deployment = tmp_path / "limited.yaml"
    deployment.write_text(
        _LIMITED.replace("1200/min", "90/min").replace("600000/min", "45000/min").replace("1s", "60s")
    )
    said = rehearsed(str(deployment), "limit_discovery", tmp_path / "run", "-t", "1h").splitlines()
    measured = {line.split()[0]: float(line.split()[3].replace(",", "")) for line in said if " a minute " in line}
    assert measured == {"requests": pytest.approx(90, rel=0.1), "tokens": pytest.approx(45_000, rel=0.1)}
    assert sum(record.outcome == "throttled" for record in records_of(tmp_path / "run")) <= 5


# -- by stock Locust -----------------------------------------------------------------------------------------------------


@pytest.mark.realtime
def test_a_closed_loop_by_locust(tmp_path: Path) -> None:
    with mock_server("instant") as url:
        done = locust(url, "closed_loop", tmp_path / "run", "--clients", "3", "--think", "100ms", "-t", "2s")
    assert done.returncode == 0, done.stdout + done.stderr
    records = sorted(records_of(tmp_path / "run"), key=lambda each: each.intended_at)
    by_client: dict[str, list[RequestRecord]] = {}
    for record in records:
        by_client.setdefault(record.tenant or "", []).append(record)
    assert set(by_client) == {"client-0", "client-1", "client-2"}
    for each in by_client.values():
        assert len(each) >= 10
        for before, after in pairwise(each):
            assert after.intended_at - (before.done_at or 0.0) == pytest.approx(0.1, abs=0.001)


@pytest.mark.realtime
def test_sessions_by_locust_repeat_what_was_really_heard(tmp_path: Path) -> None:
    words = ("-r", "3", "-t", "3s", "--turns", "4", "--think", "100ms", "--tool-time", "100ms")
    with mock_server("instant") as url:
        done = locust(url, "multi_turn_agents", tmp_path / "run", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ended early by a turn that was not ok" in done.stdout
    records = records_of(tmp_path / "run")
    later = [record for record in records if "." in record.request_id.rpartition("-")[2]]
    assert len(later) >= 10
    # The server counts the history that it was sent: the answers that it gave, word for word.
    off = [abs((each.num_prompt_tokens or 0) - (each.planned_prompt_tokens or 0)) for each in records]
    assert max(off) <= 0.01 * max(each.planned_prompt_tokens or 0 for each in records)


@pytest.mark.realtime
def test_a_capacity_search_by_locust(tmp_path: Path) -> None:
    words = (
        "-r",
        "100",
        "--highest",
        "100",
        "--probe",
        "1s",
        "--settle",
        "200ms",
        "-t",
        "10s",
        "--objective",
        "e2e<2s",
    )
    with mock_server("instant") as url:
        done = locust(url, "capacity", tmp_path / "run", *words)
    assert "capacity at least 100/s: there at least 95% of the requests meet e2e<2s" in done.stdout, (
        done.stdout + done.stderr
    )
    manifest = open_run(tmp_path / "run").manifest()
    assert manifest.ended_how == "complete"
    assert (manifest.ended_at or 99.0) < 6.0  # it ends with its answer, not with -t


@pytest.mark.realtime
def test_limits_by_locust_are_read_from_the_headers(tmp_path: Path) -> None:
    deployment = tmp_path / "limited.yaml"
    deployment.write_text(_LIMITED)
    with mock_server(str(deployment)) as url:
        done = locust(url, "limit_discovery", tmp_path / "run", "-r", "60", "-t", "4s", "--window", "1s")
    requests = next(line for line in done.stdout.splitlines() if line.strip().startswith("requests a minute"))
    assert requests.split()[4] == "1,200", done.stdout
    refused = [record for record in records_of(tmp_path / "run") if record.outcome == "throttled"]
    assert 1 <= len(refused) <= 3  # one, and what was under way
    assert {record.phase for record in refused} == {"small 1, 60/s, stated 1200/min"}


@pytest.mark.realtime
@pytest.mark.parametrize("scenario", ["capacity", "limit_discovery"])
def test_a_search_cannot_be_shared_by_workers(scenario: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = ("--master", "--expect-workers", "2", "--master-bind-host", "127.0.0.1", "--master-bind-port", port)
    done = locust("http://127.0.0.1:9", scenario, tmp_path / "run", "-t", "5s", *words)
    assert done.returncode == 2
    assert "one process" in done.stderr
