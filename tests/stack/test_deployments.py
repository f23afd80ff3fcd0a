"""The ready stacks: each is whole, says what it does, and shows in virtual time what it is there for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from math import sqrt
from typing import NamedTuple

import pytest

from mockllm import (
    Cut,
    Emission,
    Finished,
    Refused,
    Request,
    Tokens,
    build_engine,
    bundled_deployments,
    load_deployment,
    simulate,
)
from mockllm.building import build_stack
from mockllm.explain import explained
from mockllm.model import Began
from mockllm.passage import Query, Tenant, Urgency
from mockllm.stack.stack import Stack
from mockllm.streams import Streams

_LUCK = Streams(11)
_URGENCIES: tuple[Urgency, ...] = ("P0", "P1", "P2")
_REGIONS, _TIERS, _TASKS = ("eu", "us", "apac"), ("free", "pro"), ("code", "summarization", "question")


class Run(NamedTuple):
    """What came of a load: the serving, and each request's arrival and end."""

    serving: Stack
    began_at: dict[str, float]
    ends: dict[str, Finished | Refused | Cut]
    first_at: dict[str, float]

    def between(self, start: float, end: float) -> list[Finished | Refused | Cut]:
        return [self.ends[name] for name, at in self.began_at.items() if start <= at < end]

    def served(self, kind: type = Finished) -> int:
        return sum(isinstance(end, kind) for end in self.ends.values())


def requests(
    model: str, num: int, *, rate: float, repeats: float = 0.0, prompt: int = 300
) -> list[tuple[float, Request]]:
    """Poisson arrivals of 30 users; a share of the questions was asked before."""
    gaps = _LUCK.generator("gaps", model).exponential(1 / rate, num)
    load: list[tuple[float, Request]] = []
    asked: list[int] = []
    for number, at in enumerate(accumulate(gaps.tolist())):
        old = number > 0 and _LUCK.uniform("repeat", str(number)) < repeats
        asked.append(asked[_LUCK.integer("which", str(number)) % number] if old else number)
        name, user = str(asked[-1]), f"u{number % 30}"
        query = Query(name, f"question {name}", "context", "parameters", intent=name, task=_TASKS[number % 3])
        tenant = Tenant(user=user, region=_REGIONS[number % 3], tier=_TIERS[number % 2], session=user)
        request = Request(f"r{number}", f"k{number}", model, prompt, tenant=tenant, query=query, tell_first=True)
        load.append((at, replace(request, urgency=_URGENCIES[number % 3])))
    return load


def run(name: str, load: list[tuple[float, Request]]) -> Run:
    serving = build_stack(load_deployment(name), every_token=False)
    ends: dict[str, Finished | Refused | Cut] = {}
    first_at: dict[str, float] = {}
    for emission in simulate(serving, load):
        _note(emission, ends, first_at)
    return Run(serving, {request.request_id: at for at, request in load}, ends, first_at)


def _note(emission: Emission, ends: dict[str, Finished | Refused | Cut], first_at: dict[str, float]) -> None:
    if isinstance(emission, Began):
        first_at.setdefault(emission.request_id, emission.at)
    elif not isinstance(emission, Tokens):
        ends[emission.request_id] = emission


@pytest.mark.parametrize("name", bundled_deployments())
def test_every_ready_stack_says_what_it_is_and_serves(name: str) -> None:
    deployment = load_deployment(name)
    assert deployment.summary
    text = explained(deployment)
    for stage in deployment.stages:
        assert f" {stage.name} " in text + " "
    model = deployment.names[-1]
    serving = build_engine(deployment, every_token=False)
    load = requests(model, 60, rate=3.0, repeats=0.3)
    ends: dict[str, Finished | Refused | Cut] = {}
    for emission in simulate(serving, load):
        _note(emission, ends, {})
    counts = serving.counts
    assert len(ends) == counts.num_submitted == 60
    assert counts.num_finished + counts.num_refused + counts.num_cut == 60
    assert serving.idle


def test_the_hierarchy_serves_forty_thirtyfive_twenty_five() -> None:
    num = 4000
    after = run("hierarchy", requests("assistant", num, rate=4.0, repeats=0.4))
    served = Counter(
        end.passage.source if end.passage.source != "model" else end.passage.model
        for end in after.ends.values()
        if end.passage
    )
    for who, share in {"exact_cache": 0.40, "small": 0.35, "medium": 0.20, "large": 0.05}.items():
        # A question that is asked again before its first answer is complete is no hit: up to 1.5 points here.
        assert served[who] / num == pytest.approx(share, abs=4 * sqrt(share * (1 - share) / num) + 0.015), served


def test_the_outage_of_the_first_provider_is_nobodys_loss() -> None:
    after = run("failover", requests("assistant", 1200, rate=2.0))
    assert after.served(Refused) == 0
    # What had begun when the outage came cannot be given by another provider.
    assert {end.at for end in after.ends.values() if isinstance(end, Cut)} == {after.began_at["r0"] + 180.0}
    assert after.served(Cut) < 20
    during = Counter(end.passage.model for end in after.between(180, 300) if end.passage)
    assert during["first"] == 0
    assert during["second"] > 200


_BAD_DAY: list[tuple[float, float, Callable[[Finished | Refused | Cut], bool], float]] = [
    # from, to (s), what a struck request ends like, and the share that must
    (0, 59, lambda end: not isinstance(end, Finished), 0.0),
    (120, 150, lambda end: isinstance(end, Refused) and end.status == 500, 0.2),
    (180, 210, lambda end: isinstance(end, Refused) and end.status == 429, 0.5),
    (360, 390, lambda end: isinstance(end, Cut) and not end.in_band, 0.2),
    (390, 420, lambda end: isinstance(end, Cut) and end.in_band, 0.2),
    (480, 510, lambda end: isinstance(end, Refused) and end.status == 0, 0.2),
    (600, 630, lambda end: isinstance(end, Refused) and end.status == 503, 1.0),
    (640, 700, lambda end: not isinstance(end, Finished), 0.0),
]


def test_the_bad_day_strikes_when_it_says() -> None:
    after = run("bad-day", requests("assistant", 3600, rate=5.0))
    for start, end, struck, share in _BAD_DAY:
        window = after.between(start, end)
        num = len(window)
        found = sum(struck(each) for each in window) / num
        # Answers in progress when the whole model goes down break off: not those that begin 40 s before.
        assert found == pytest.approx(share, abs=4.5 * sqrt(share * (1 - share) / num) + 1e-9), (start, found, num)


def test_a_cold_start_is_what_the_first_request_waits_for() -> None:
    after = run("scale-to-zero", requests("assistant", 3, rate=0.0005))
    waits = [after.first_at[name] - at for name, at in after.began_at.items()]
    # 1 s to decide, weights from the page cache at 0.5 GB/s and 35 s of initialisation: nobody is there at first.
    assert waits[0] > 35
    assert all(gap > 700 for gap in [after.began_at["r1"], after.began_at["r2"] - after.began_at["r1"]])
    assert all(wait > 35 for wait in waits)  # and ten quiet minutes lie between each


def test_batches_wait_and_real_time_does_not() -> None:
    after = run("priority-queue", requests("assistant", 3000, rate=12.0, prompt=1500))
    waits: dict[str, list[float]] = {"P0": [], "P2": []}
    for number, name in enumerate(after.began_at):
        kind = _URGENCIES[number % 3]
        end = after.ends[name]
        if kind in waits and isinstance(end, Finished) and end.passage:
            waits[kind].append(end.passage.waited_s.get("priority_queue", 0.0))
    assert sorted(waits["P0"])[int(0.99 * len(waits["P0"]))] < 2.0
    assert max(waits["P2"]) > 10.0
