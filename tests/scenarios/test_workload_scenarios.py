"""Scenarios that mix classes of requests: what each is for can be seen in virtual time, and each runs by stock Locust."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest
from scipy import stats

from harness.records import RequestRecord
from harness.store import open_run
from harness.virtual import Simulation, asked_load, run_in_virtual_time
from tests.conftest import mock_server
from tests.scenarios.running import Ended, locust, rehearse

pytestmark = pytest.mark.realtime  # each starts a process


def _rehearsed(out: Path, deployment: str, scenario: str, *words: str) -> tuple[list[RequestRecord], dict[str, Any]]:
    """Records by number and `stack.json` of a scenario in virtual time."""
    done = rehearse(deployment, scenario, out, "--gaps-of", "0", *words)
    assert done.returncode == 0, done.stderr
    return _records(out), json.loads((out / "stack.json").read_text())


def _records(run: Path) -> list[RequestRecord]:
    return sorted(open_run(run).records([]), key=lambda each: int(each.request_id.rpartition("-")[2]))


def _by(records: Iterable[RequestRecord], key: Callable[[RequestRecord], Any]) -> dict[Any, list[RequestRecord]]:
    found: dict[Any, list[RequestRecord]] = defaultdict(list)
    for record in records:
        found[key(record)].append(record)
    return found


def _ttft(records: Iterable[RequestRecord]) -> list[float]:
    return [each.first_token_at - each.intended_at for each in records if each.first_token_at is not None]


def _is_share(num: int, of: int, share: float) -> bool:
    return bool(stats.binomtest(num, of, share).pvalue > 1e-4)


# -- effects, in virtual time --------------------------------------------------------------------------------


def test_repeats_and_paraphrases_are_answered_by_the_caches(tmp_path: Path) -> None:
    words = ("-r", "5", "-t", "400s", "--repeats", "0.5", "--paraphrases", "0.2", "--questions", "100")
    records, document = _rehearsed(tmp_path / "run", "semantic-cache", "cache_mix", *words)
    of_class = _by(records, lambda each: each.class_name)
    for name, share in (("repeated", 0.5), ("reworded", 0.2), ("new", 0.3)):
        assert _is_share(len(of_class[name]), len(records), share)
    hits = {name: sum(each.cache_outcome == "hit" for each in found) for name, found in of_class.items()}
    # A repeated question misses when it comes for the first time, or again before its first answer is complete.
    num = len(of_class["repeated"])
    shares = [1 / rank / sum(1 / k for k in range(1, 101)) for rank in range(1, 101)]
    num_distinct = sum(1 - (1 - share) ** num for share in shares)
    assert num - 1.5 * num_distinct < hits["repeated"] < num - 0.5 * num_distinct
    assert 0.4 < hits["reworded"] / len(of_class["reworded"]) < 0.95  # two thirds of the wordings are near enough
    assert hits["new"] == 0
    assert document["clients"]["num_wrong_hits"] == 0
    of_outcome = _by(records, lambda each: each.cache_outcome)
    assert median(_ttft(of_outcome["hit"])) < 0.1 * median(_ttft(of_outcome["miss"]))
    assert {each.cost_usd for each in of_outcome["hit"]} == {None}


def test_without_repeats_a_cache_answers_nothing(tmp_path: Path) -> None:
    records, _ = _rehearsed(
        tmp_path / "run", "exact-cache", "cache_mix", "-r", "5", "-t", "60s", "--repeats", "0", "--paraphrases", "0"
    )
    assert {each.class_name for each in records} == {"new"}
    assert {each.cache_outcome for each in records} == {"miss"}


def test_every_layer_of_caches_has_its_share(tmp_path: Path) -> None:
    words = ("-r", "5", "-t", "300s", "--questions", "50", "--askers", "5")
    _, document = _rehearsed(tmp_path / "run", "cache-layers", "cache_mix", *words)
    answered = document["clients"]["answered_by"]
    assert {"assistant", "user_cache", "exact_cache", "semantic_cache"} <= set(answered)
    assert min(answered.values()) > 20


@pytest.mark.parametrize(("model", "cached"), [("own", 2000), ("api", 1920)])
def test_a_shared_beginning_is_read_once(model: str, cached: int, tmp_path: Path) -> None:
    """A prefix of 2,000 tokens is 125 blocks of 16; a provider caches 1,024 tokens and then steps of 128."""
    words = ("-r", "4", "-t", "120s", "--model", model)
    records, _ = _rehearsed(tmp_path / "run", "prompt-cache", "prompt_cache", *words)
    of_class = _by(records, lambda each: each.class_name)
    assert {each.num_prompt_tokens for each in records} == {2100}
    assert {each.num_cached_tokens for each in of_class["own"]} == {0}
    found = Counter(each.num_cached_tokens for each in of_class["shared"])
    assert set(found) == {0, cached}
    assert found[0] < 4 * 5  # each of the four for the first time; a replica, or before the first answer has begun
    warm = [each for each in of_class["shared"] if each.num_cached_tokens]
    if model == "own":
        assert median(_ttft(warm)) < 0.7 * median(_ttft(of_class["own"]))
    else:
        assert mean(each.cost_usd or 0 for each in warm) < 0.6 * mean(each.cost_usd or 0 for each in of_class["own"])


def test_questions_reach_the_model_for_their_difficulty(tmp_path: Path) -> None:
    records, _ = _rehearsed(tmp_path / "run", "complexity-routing", "routing", "-r", "5", "-t", "200s")
    of_class = _by(records, lambda each: each.class_name)
    for name, model in (("easy", "small"), ("medium", "medium"), ("hard", "large")):
        served = Counter(each.model_served for each in of_class[name])
        assert _is_share(served[model], served.total(), 0.92)  # the classifier errs in 8 %
    costs = {name: mean(each.cost_usd or 0 for each in found) for name, found in of_class.items()}
    assert costs["easy"] < costs["medium"] < costs["hard"]


def test_a_tier_keeps_its_model(tmp_path: Path) -> None:
    words = ("-r", "10", "-t", "200s", "--model", "chat", "--paying", "0.25")
    records, _ = _rehearsed(tmp_path / "run", "task-and-tier-routing", "routing", *words)
    of_user = {user: {each.model_served for each in found} for user, found in _by(records, _user).items()}
    assert all(len(models) == 1 for models in of_user.values())
    assert {model for models in of_user.values() for model in models} == {"small", "large"}
    assert _is_share(sum(models == {"large"} for models in of_user.values()), len(of_user), 0.25)


def _user(record: RequestRecord) -> str | None:
    return record.tenant


def test_urgent_requests_pass_the_queue(tmp_path: Path) -> None:
    records, _ = _rehearsed(tmp_path / "run", "priority-queue", "queue_priority", "-r", "12", "-t", "200s")
    of_class = _by(records, lambda each: each.class_name)
    waits = {name: median(_ttft(found)) for name, found in of_class.items()}
    assert waits["P0"] < 1.5
    assert waits["P0"] < waits["P1"] < waits["P2"]
    assert waits["P2"] > 20 * waits["P0"]
    assert {each.outcome for each in of_class["P0"]} == {"ok"}


_QUOTA = """
models: [{name: known, profile: golden}]
stack: [{rate_limits: {user: {requests: 20/min}}}]
"""


def test_beyond_the_quota_some_are_refused_and_the_others_unharmed(tmp_path: Path) -> None:
    """Ten users with 20 requests a minute each may send 3.33/s; the golden profile begins every answer after 200 ms."""
    stack = tmp_path / "quota.yaml"
    stack.write_text(_QUOTA)
    records, _ = _rehearsed(tmp_path / "run", str(stack), "rate_limit", "-r", "3", "-t", "400s")
    of_phase = _by(records, lambda each: each.phase)
    assert len(of_phase) == 4
    assert set(Counter((each.outcome, each.status) for each in records)) == {("ok", 200), ("throttled", 429)}
    throttled = [sum(each.outcome == "throttled" for each in found) / len(found) for found in of_phase.values()]
    assert throttled[0] < 0.01
    assert throttled == sorted(throttled)
    assert throttled[3] == pytest.approx(1 - (20 * 10 / 60) / 12, abs=0.04)
    for found in of_phase.values():
        assert _ttft(found) == pytest.approx([0.2] * len(_ttft(found)), abs=1e-5)


def test_a_ready_stack_degrades_instead_of_refusing(tmp_path: Path) -> None:
    records, _ = _rehearsed(tmp_path / "run", "rate-limits", "rate_limit", "-r", "3", "-t", "160s")
    assert {each.outcome for each in records} == {"ok"}
    small = [
        sum(each.model_served == "small" for each in found) / len(found)
        for found in _by(records, lambda each: each.phase).values()
    ]
    assert small == sorted(small)
    assert small[0] < 0.05
    assert small[3] > 0.5


def test_each_user_meets_one_arm(tmp_path: Path) -> None:
    records, _ = _rehearsed(tmp_path / "run", "ab-test", "model_migration", "-r", "10", "-t", "100s")
    of_user = {user: {each.model_served for each in found} for user, found in _by(records, _user).items()}
    assert all(len(models) == 1 for models in of_user.values())
    assert _is_share(sum(models == {"candidate"} for models in of_user.values()), len(of_user), 0.5)
    tpot = {model: mean(_tpot(found)) for model, found in _by(records, lambda each: each.model_served).items()}
    assert set(tpot) == {"current", "candidate"}
    assert tpot["current"] != pytest.approx(tpot["candidate"], rel=0.05)


def _tpot(records: Iterable[RequestRecord]) -> Iterator[float]:
    for each in records:
        if each.first_token_at is not None and each.last_token_at is not None and (each.num_output_tokens or 0) > 1:
            yield (each.last_token_at - each.first_token_at) / ((each.num_output_tokens or 0) - 1)


def test_a_shadow_is_paid_for_and_never_seen(tmp_path: Path) -> None:
    records, document = _rehearsed(tmp_path / "run", "shadow", "model_migration", "-r", "10", "-t", "100s")
    assert {each.model_served for each in records} == {"current"}
    (stage,) = document["state"]["stages"]
    assert _is_share(stage["state"]["counts"]["copies"], len(records), 0.05)
    assert document["state"]["cost_usd"] > sum(each.cost_usd or 0 for each in records)


def test_a_rollout_grows_and_nobody_goes_back(tmp_path: Path) -> None:
    records, _ = _rehearsed(tmp_path / "run", "rollout", "model_migration", "-r", "2", "-t", "40m")
    of_step = _by(records, lambda each: int(each.intended_at // 600))
    for step, share in enumerate((0.1, 0.25, 0.5, 1.0)):
        users = {user: found[0].model_served for user, found in _by(of_step[step], _user).items()}
        assert len(users) > 400
        assert _is_share(sum(model == "candidate" for model in users.values()), len(users), share)
    for found in _by(records, _user).values():
        models = [each.model_served or "" for each in found]
        assert models == sorted(models, reverse=True)  # current, then candidate


_SPIKE = "arrivals: {gaps: 'gamma:2', rate: 10/s, for: 40s, curve: {kind: spike, factor: 3, at: 10s, for: 5s}}\n"
_MIX = """
classes:
  - {name: chat, weight: 3, users: 20, turns: 3, answer_tokens: 60, prompt_tokens: {least: 10, most: 90}, prefix: {tokens: 200}}
  - {name: agent, tools: {num: 3, tokens: 90}, prompt_tokens: 50, objective: ttft<2s}
"""


_LOOKING = "  - {name: looking, images: {width: 300, height: 200}, prompt_tokens: 20}\n"


def test_a_workload_file_is_the_same_in_both_commands(tmp_path: Path) -> None:
    path = tmp_path / "workload.yaml"
    path.write_text(_SPIKE + _MIX)
    records, _ = _rehearsed(tmp_path / "run", "exact-cache", "workload", "--workload", str(path), "--seed", "3")
    load = asked_load(workload=path, trace=None, window=None, speed=None, rate=None, duration_s=None, seed=3)
    simulation = Simulation("exact-cache", load.plan, load.scenario, seed=3, num_with_gaps=0)
    run_in_virtual_time(simulation, tmp_path / "other", lambda *_: None)
    assert records == _records(tmp_path / "other")
    assert {each.phase for each in records} == {"before", "spike", "after"}


@pytest.mark.parametrize(
    ("scenario", "words", "error"),
    [
        ("workload", [], "give one with --workload FILE"),
        ("cache_mix", ["--repeats", "0.9", "--paraphrases", "0.2"], "no more than 1 together"),
    ],
)
def test_options_that_cannot_be(scenario: str, words: list[str], error: str, tmp_path: Path) -> None:
    done = rehearse("golden", scenario, tmp_path / "run", *words)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert error in done.stderr
    assert not (tmp_path / "run").exists()


# -- over HTTP, by stock Locust ------------------------------------------------------------------------------

_SCENARIOS = {
    "cache_mix": ["-r", "30"],
    "prompt_cache": ["-r", "20", "--prefix-tokens", "300"],
    "routing": ["-r", "20"],
    "queue_priority": ["-r", "30"],
    "rate_limit": ["-r", "20", "--retries", "1"],
    "model_migration": ["-r", "20"],
    "workload": ["-r", "20"],
}


def test_stock_locust_runs_each_of_them(tmp_path: Path) -> None:
    """For 2 s, two at a time."""
    (tmp_path / "mix.yaml").write_text(_MIX + _LOOKING)

    def run(name: str) -> Ended:
        file = ["--workload", str(tmp_path / "mix.yaml")] if name == "workload" else []
        return locust(url, name, tmp_path / name, "-t", "2s", *_SCENARIOS[name], *file)

    with mock_server("instant") as url, ThreadPoolExecutor(2) as pool:
        ended = dict(zip(_SCENARIOS, pool.map(run, _SCENARIOS), strict=True))
    for name, done in ended.items():
        assert (tmp_path / name).is_dir(), done.stderr
        records = list(open_run(tmp_path / name).records([]))
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert len(records) == manifest["num_planned"] > 10, name
        assert {each.outcome for each in records} == {"ok"}, done.stdout
        assert [each for each in records if each.num_prompt_tokens != each.planned_prompt_tokens] == [], name
