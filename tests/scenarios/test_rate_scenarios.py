"""Scenarios of a rate: in virtual time each shows the effect it exists for; by stock Locust each runs as it stands."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.delivery import judge_delivery, measure_delivery
from harness.records import RequestRecord
from harness.store import open_run
from harness.summary import load_run
from tests.conftest import mock_server
from tests.scenarios.running import locust, rehearse

_LIMITED = """
models: [{name: assistant, profile: h100-8b}]
stack: [{priority_queue: {workers: 48, length: 40}}]
"""
_SCALED = """
models:
  - name: assistant
    profile: h100-8b
    replicas:
      balance: least_tokens
      autoscale: {policy: reactive, min: 1, max: 4, signal: requests, target: 10, interval: 15s, stabilization: 1m}
      cold_start: {decision: 15s, provision: 60s, driver: 0s, image: 0s, init: 35s, warm_node: false}
"""


class Seen:
    """A simulated run, and what is looked at in it."""

    def __init__(self, path: Path, *words: str) -> None:
        self.run = load_run(open_run(path))
        self.records: list[RequestRecord] = list(self.run.directory.records([]))
        assert len(self.records) == self.run.manifest.num_planned
        assert judge_delivery(measure_delivery(self.run.table, self.run.manifest)) == []

    @property
    def phases(self) -> list[str | None]:
        ordered = sorted(self.records, key=lambda each: each.intended_at)
        return list(dict.fromkeys(each.phase for each in ordered))

    def of(self, phase: str) -> list[RequestRecord]:
        return [each for each in self.records if each.phase == phase]

    def rate(self, phase: str, seconds: float) -> float:
        return len(self.of(phase)) / seconds

    def ttft(self, phase: str, percent: float) -> float:
        found = [
            each.first_token_at - each.intended_at
            for each in self.of(phase)
            if each.outcome == "ok" and each.first_token_at is not None
        ]
        return float(np.percentile(found, percent))

    def share(self, phase: str, outcome: str) -> float:
        return sum(each.outcome == outcome for each in self.of(phase)) / len(self.of(phase))


def simulated(deployment: str, scenario: str, tmp_path: Path, *words: str) -> Seen:
    done = rehearse(deployment, scenario, tmp_path / "run", *words, "--gaps-of", "0")  # of tokens nothing is asked
    assert done.returncode == 0, done.stderr
    return Seen(tmp_path / "run")


# -- effects, in virtual time ----------------------------------------------------------------------------


def test_sustained_is_flat_below_the_limit_and_drifts_above_it(tmp_path: Path) -> None:
    words = ["-t", "3m", "--seed", "4", "-r"]
    below = simulated("h100-8b", "sustained", tmp_path / "below", *words, "8")
    assert below.phases == ["first third", "second third", "last third"]
    assert below.ttft("last third", 50) == pytest.approx(below.ttft("first third", 50), rel=0.25)
    above = simulated("h100-8b", "sustained", tmp_path / "above", *words, "30")
    assert above.ttft("last third", 50) > 5 * above.ttft("first third", 50)
    assert above.ttft("last third", 50) > 50 * below.ttft("last third", 50)


def test_sustained_can_be_the_sum_of_many_clients(tmp_path: Path, shared_data: Path) -> None:
    table = shared_data / "servegen" / "servegen_clients.csv"
    words = ["--clients", str(table), "--clients-of", "language/m-large", "-r", "6", "-t", "5m"]
    seen = simulated("h100-8b", "sustained", tmp_path, *words)
    assert len({each.tenant for each in seen.records}) > 20
    assert {each.class_name for each in seen.records} == {"language/m-large"}
    dispersion = measure_delivery(seen.run.table, seen.run.manifest).asked.dispersion["1"]
    assert dispersion is not None
    assert dispersion > 1.5


def test_a_ramp_shows_where_latency_leaves_the_floor(tmp_path: Path) -> None:
    seen = simulated("h100-8b", "ramp", tmp_path, "-r", "40", "-t", "4m", "--ramp-steps", "4")
    names = ["step 1, 10/s", "step 2, 20/s", "step 3, 30/s", "step 4, 40/s"]
    assert seen.phases == names
    assert [seen.rate(name, 60) for name in names] == pytest.approx([10, 20, 30, 40], rel=0.2)
    medians = [seen.ttft(name, 50) for name in names]
    assert medians == sorted(medians)
    assert medians[0] < 0.1
    assert medians[3] > 100 * medians[0]
    # The server's limit: the rate of the answers stops growing with the rate of the questions.
    done = np.array([each.done_at for each in seen.records])
    answered = [((done >= at) & (done < at + 60)).sum() / 60 for at in (60, 180)]
    assert answered[0] > 14
    assert answered[1] < 0.75 * 40


def test_a_ramp_without_steps_is_a_slope(tmp_path: Path) -> None:
    seen = simulated("instant", "ramp", tmp_path, "-r", "20", "-t", "100s", "--ramp-hold", "20s", "--gaps", "constant")
    assert seen.phases == ["ramp", "hold"]
    at = np.array([each.intended_at for each in seen.of("ramp")])
    assert np.histogram(at, [0, 20, 40, 60, 80])[0] == pytest.approx([50, 150, 250, 350], abs=1)  # of t²/8
    assert seen.rate("hold", 20) == pytest.approx(20, abs=0.1)


def test_a_spike_hurts_and_is_over(tmp_path: Path) -> None:
    seen = simulated("h100-8b", "spike", tmp_path, "-r", "8", "-t", "4m", "--spike-at", "60s", "--spike-for", "10s")
    assert seen.phases == ["before", "spike", "after"]
    assert seen.rate("spike", 10) == pytest.approx(80, rel=0.2)
    before = seen.ttft("before", 50)
    assert seen.ttft("spike", 50) > 50 * before
    last = [
        each.first_token_at - each.intended_at
        for each in seen.of("after")
        if each.intended_at > 180 and each.first_token_at is not None
    ]
    assert np.median(last) < 2 * before


def test_every_burst_hurts_and_echoes(tmp_path: Path) -> None:
    words = ["--burst-factor", "8", "--burst-every", "60s", "--burst-for", "5s"]
    seen = simulated("h100-8b", "burst", tmp_path, "-r", "5", "-t", "3m", *words)
    assert {each.phase for each in seen.records} == {"quiet", "burst"}
    assert seen.rate("burst", 15) == pytest.approx(40, rel=0.2)
    quiet = [each for each in seen.of("quiet") if each.intended_at % 60 < 27 and each.first_token_at is not None]
    before = np.median([each.first_token_at - each.intended_at for each in quiet if each.first_token_at is not None])
    assert seen.ttft("burst", 90) > 10 * before
    # The echo: whoever comes in the seconds after a burst waits behind it, and a quarter of a minute later nobody does.
    behind, later = (
        np.median(
            [
                each.first_token_at - each.intended_at
                for each in seen.records
                if start < each.intended_at % 60 < start + 3 and each.first_token_at is not None
            ]
        )
        for start in (32.5, 50.0)
    )
    assert behind > 3 * before > 1.5 * later


def test_a_replayed_trace_is_the_trace(tmp_path: Path, shared_data: Path) -> None:
    """Instants, lengths and shared prefixes of a window of Mooncake's trace; most of what can be reused is reused."""
    path = shared_data / "mooncake" / "conversation_trace.jsonl"
    seen = simulated("h100-8b", "trace_replay", tmp_path, "--trace", str(path), "--window", "60s")
    rows = [row for line in path.read_text().splitlines() if (row := json.loads(line))["timestamp"] < 60_000]
    ordered = sorted(seen.records, key=lambda each: int(each.request_id.rpartition("-")[2]))
    assert [each.planned_prompt_tokens for each in ordered] == [row["input_length"] for row in rows]
    assert [each.planned_output_tokens for each in ordered] == [row["output_length"] for row in rows]
    instants = [row["timestamp"] / 1000 for row in rows]
    assert [each.intended_at for each in ordered] == pytest.approx(instants, abs=3.0)  # the trace's bins are 3 s wide
    known: set[int] = set()
    reusable = 0
    for row in rows:
        shared = next((place for place, name in enumerate(row["hash_ids"]) if name not in known), len(row["hash_ids"]))
        reusable += min(512 * shared, row["input_length"])
        known.update(row["hash_ids"])
    cached = sum(each.num_cached_tokens or 0 for each in ordered)
    assert 0.5 * reusable < cached <= reusable


def test_ten_times_the_load_sheds_where_there_are_limits_and_drowns_where_there_are_none(tmp_path: Path) -> None:
    limited = tmp_path / "limited.yaml"
    limited.write_text(_LIMITED)
    words = ["-r", "5", "-t", "2m"]
    graceful = simulated(str(limited), "ten_times", tmp_path / "with", *words)
    assert graceful.phases == ["expected", "10 times", "expected again"]
    assert graceful.share("10 times", "throttled") > 0.3
    assert graceful.share("10 times", "ok") > 0.2
    assert {each.outcome for each in graceful.records} == {"ok", "throttled"}
    assert graceful.share("expected", "ok") == 1
    drowned = simulated("h100-8b", "ten_times", tmp_path / "without", *words)
    assert drowned.share("10 times", "ok") == 1  # in the end
    # Whoever is served is served in time: the queue is at most forty long.
    assert graceful.ttft("10 times", 99) < 10
    assert drowned.ttft("10 times", 50) > 3 * graceful.ttft("10 times", 99)
    assert graceful.ttft("expected again", 50) < 1 < drowned.ttft("expected again", 50)


def test_ten_times_refuses_more_than_was_allowed(tmp_path: Path) -> None:
    done = rehearse("h100-8b", "ten_times", tmp_path / "run", "-r", "100", "-t", "10m")
    assert done.returncode == 2
    assert "about 330,000 requests would be sent, more than 50,000" in done.stderr
    assert not (tmp_path / "run").exists()


def test_replicas_follow_the_load_after_a_cold_start(tmp_path: Path) -> None:
    deployment = tmp_path / "scaled.yaml"
    deployment.write_text(_SCALED)
    seen = simulated(str(deployment), "autoscale", tmp_path, "-r", "10", "-t", "20m", "--low", "0.2", "--seed", "2")
    assert seen.phases == ["low", "up", "high", "down", "low again"]
    pool = json.loads((tmp_path / "run" / "stack.json").read_text())["state"]["models"][0]["pool"]
    changes: list[dict[str, Any]] = pool["changes"]
    first = changes[0]
    assert (first["from"], first["at"] > 120) == (1, True)  # `up` begins at 2 min
    assert max(change["to"] for change in changes) >= 2
    assert changes[-1]["to"] == 1  # and back
    # Nobody is served by a second replica before it was decided on and started: 15 + 60 + 35 s, and its weights.
    served = [each.intended_at for each in seen.records if each.replica not in (None, "assistant-0")]
    assert min(served) > first["at"] + 60 + 35
    assert {each.replica for each in seen.of("low")} == {"assistant-0"}
    assert len({each.replica for each in seen.of("high")}) >= 2
    assert all(each.outcome == "ok" for each in seen.records)


def test_a_day_is_a_shape_of_autoscale(tmp_path: Path) -> None:
    seen = simulated("instant", "autoscale", tmp_path, "-r", "10", "-t", "10m", "--shape", "day", "--gaps", "constant")
    assert seen.phases == ["night", "morning", "afternoon", "evening"]
    at = np.array([each.intended_at for each in seen.records])
    busiest = int(np.argmax(np.histogram(at, np.arange(0, 601, 25))[0]))  # an hour is 25 s
    assert busiest in (14, 15)
    assert len(at) == pytest.approx(600 * 5.5, abs=1)


def test_an_outage_of_the_first_provider_loses_nobody(tmp_path: Path) -> None:
    seen = simulated("failover", "failover", tmp_path, "--model", "assistant", "-r", "2", "-t", "8m")
    assert seen.phases == ["before", "outage", "after"]
    assert seen.share("outage", "ok") == seen.share("after", "ok") == 1
    # What had begun when the provider died was cut, and nothing else: it began before, and ended at that instant.
    hurt = [each for each in seen.records if each.outcome != "ok"]
    assert {each.outcome for each in hurt} <= {"cut"}
    assert all(each.done_at == pytest.approx(180, abs=0.1) and each.phase == "before" for each in hurt)
    during = {each.model_served for each in seen.of("outage")}
    assert "first" not in during
    assert "second" in during
    late = [each.model_served for each in seen.of("after") if each.intended_at > 360]
    assert late.count("first") > 0.95 * len(late)
    assert seen.ttft("outage", 50) > 1.2 * seen.ttft("before", 50)


@pytest.mark.parametrize(
    ("scenario", "words", "rule"),
    [
        ("sustained", ["--clients", "nowhere.csv"], "nowhere.csv: cannot be read"),
        ("sustained", ["--clients", "x.csv", "--gaps", "gamma:2"], "--gaps gamma:2 has no meaning here"),
        ("ramp", ["--ramp-steps", "-1"], "--ramp-steps -1 must be 1 to 1000"),
        ("ten_times", ["--times", "1"], "--times 1 is no overload"),
        ("autoscale", ["--low", "1"], "--low 1 is not between 0 and 1"),
        ("failover", ["-t", "4m"], "the outage ends at 300 s, and the run at 240 s"),
        ("burst", ["--gaps", "gamma"], "write poisson, constant, gamma:CV or weibull:CV"),
    ],
)
def test_options_that_cannot_be_are_named(tmp_path: Path, scenario: str, words: list[str], rule: str) -> None:
    done = rehearse("instant", scenario, tmp_path / "run", *words)
    assert done.returncode == 2
    assert rule in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


# -- by stock Locust -------------------------------------------------------------------------------------

_LIVE = {
    "sustained": ["-r", "50", "-t", "1s", "--gaps", "gamma:2"],
    "ramp": ["-r", "30", "-t", "1s", "--ramp-from", "10", "--ramp-hold", "250ms"],
    "spike": ["-r", "20", "-t", "1s", "--spike-for", "200ms", "--spike-factor", "9"],
    "ten_times": ["-r", "12", "-t", "1s", "--times", "6"],
    "autoscale": ["-r", "60", "-t", "1s", "--gaps", "constant"],
    "failover": ["-r", "40", "-t", "1s", "--outage-at", "250ms", "--outage-for", "500ms"],
}
_PHASES = {
    "sustained": ["first third", "second third", "last third"],
    "ramp": ["ramp", "hold"],
    "spike": ["before", "spike", "after"],
    "ten_times": ["expected", "6 times", "expected again"],
    "autoscale": ["low", "up", "high", "down", "low again"],
    "failover": ["before", "outage", "after"],
}


@pytest.mark.realtime
def test_every_scenario_runs_by_stock_locust(tmp_path: Path) -> None:
    """Each once, two at a time, in one test: processes of the test run would each make all of them."""
    with mock_server("instant") as url, ThreadPoolExecutor(2) as pool:
        ended = pool.map(lambda name: locust(url, name, tmp_path / name, *_LIVE[name]), _LIVE)
        said = {name: done.stdout + done.stderr for name, done in zip(_LIVE, ended, strict=True)}
    for name, text in said.items():
        run = load_run(open_run(tmp_path / name))
        records = sorted(run.directory.records([]), key=lambda each: each.intended_at)
        assert len(records) == run.manifest.num_planned > 5, text
        assert {each.outcome for each in records} == {"ok"}, name
        assert list(dict.fromkeys(each.phase for each in records)) == _PHASES[name]
        assert run.manifest.duration_s == 1
        # Beside other tests a load process may be late: then the run says so, and that nothing was lost it says above.
        assert any(word in text for word in ("answered", "sent late", "off time")), text
