"""What holds for every stack, however policies, pools, limits and faults are combined, under either clock."""

from __future__ import annotations

import gc
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mockllm import Began, Cut, Emission, Finished, ManualClock, Refused, Tokens
from mockllm.building import build_stack
from mockllm.engine.hosted import HostedReplica
from mockllm.engine.kv_cache import KvCache
from mockllm.model import chunks_of
from mockllm.server.driver import Driver
from mockllm.stack.breaker import Breaker
from mockllm.stack.pool import Pool
from mockllm.stack.quotas import Account
from mockllm.stack.stack import Stack
from mockllm.stack.stage import Flight
from tests.stack.any_deployment import deployments, load_written, stages_without_memory
from tests.stack.any_load import Load, any_load

LONG_AFTER_S = 600.0  # the last timers of a stack that nobody asks any more have run down
NUM_EXAMPLES = 100
_PASSAGE = (
    "model",
    "source",
    "replica",
    "cache_outcome",
    "num_attempts",
    "waited_s",
    "notes",
    "cost_usd",
    "saved_usd",
    "damage",
)  # what both clocks must agree on
LOADS = st.tuples(st.integers(0, 10**6), st.integers(30, 80), st.sampled_from([0.0, 10.0, 60.0, 120.0]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@settings(max_examples=NUM_EXAMPLES, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(keys=deployments(), load=LOADS)
def test_any_stack_keeps_the_laws_under_both_clocks(
    folder: Path, keys: dict[str, Any], load: tuple[int, int, float]
) -> None:
    check_laws(keys, any_load(*load, load_written(keys, folder).names), folder)


def check_laws(keys: dict[str, Any], load: Load, folder: Path) -> None:
    deployment = load_written(keys, folder)
    virtual, real = build_stack(deployment, every_token=False), build_stack(deployment, every_token=True)
    in_virtual, in_real = _in_virtual_time(virtual, load), _in_real_time(real, load)
    for stack, out in ((virtual, in_virtual), (real, in_real)):
        _check_answers(stack, load, out)
        _check_books(stack)
    _check_same(_facts(in_virtual), _facts(in_real))
    assert virtual.cost_usd == pytest.approx(real.cost_usd, rel=1e-9)
    for first, second in zip(virtual.stages, real.stages, strict=True):
        _check_same(first.state(LONG_AFTER_S), second.state(LONG_AFTER_S))


@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(keys=deployments(stages_without_memory, hosted=True), load=LOADS, extra=st.integers(0, 10**6))
def test_what_others_ask_changes_nobodys_luck(
    folder: Path, keys: dict[str, Any], load: tuple[int, int, float], extra: int
) -> None:
    """Where nothing is shared, a request meets the same arm, route, fault and latency among others as without them."""
    deployment = load_written(keys, folder)
    alone = any_load(*load, deployment.names)
    alone.arrivals[:] = [(at, replace(request, block_hashes=())) for at, request in alone.arrivals]  # no prompt cache
    first_at = alone.arrivals[0][0]
    others = [
        (
            first_at + at,
            replace(request, request_id=f"other {request.request_id}", key=f"other {request.key}", block_hashes=()),
        )
        for at, request in any_load(extra, load[1], load[2], deployment.names).arrivals
    ]
    crowd = Load(sorted([*alone.arrivals, *others], key=lambda each: each[0]), alone.leaves)
    expected = _facts(_in_virtual_time(build_stack(deployment, every_token=False), alone))
    met = _facts(_in_virtual_time(build_stack(deployment, every_token=False), crowd))
    _check_same(expected, {name: met[name] for name in expected})


# -- the two clocks ----------------------------------------------------------------------------------


def _in_virtual_time(stack: Stack, load: Load) -> list[Emission]:
    """From event to event, as `mockllm.simulate`, with clients that go away."""
    out: list[Emission] = []
    for at, act in _script(load, stack.submit, stack.cancel):
        while (due := stack.due()) <= at:
            out += stack.advance(due)
        act(at)
    out += _until_idle(stack)
    assert stack.advance(LONG_AFTER_S) == []
    assert _until_idle(stack) == []  # of a health check nobody hears
    return out


def _until_idle(stack: Stack) -> list[Emission]:
    out: list[Emission] = []
    while not stack.idle:
        assert stack.due() < inf, "somebody waits, and nothing will ever happen"
        out += stack.advance(stack.due())
    return out


def _in_real_time(stack: Stack, load: Load) -> list[Emission]:
    """Through the driver, which is rung late, and looked at whenever a client comes or goes."""
    clock, out = ManualClock(), list[Emission]()
    driver = Driver(stack, clock, _NoTimer())
    submit = lambda request, _: driver.submit(request, lambda emission, _: out.append(emission))  # noqa: E731
    for at, act in _script(load, submit, lambda name, _: driver.cancel(name)):
        clock.move_to(at)
        act(at)
        _check_shown(stack, at)
    clock.move_to(LONG_AFTER_S)
    driver.ring()
    _check_shown(stack, LONG_AFTER_S)
    while not stack.idle:  # a health check
        clock.move_to(stack.due())
        driver.ring()
    return out


class _NoTimer:
    def arm(self, at: float, ring: Callable[[], None]) -> None: ...
    def disarm(self) -> None: ...


def _script(
    load: Load, submit: Callable[[Any, float], Any], cancel: Callable[[str, float], Any]
) -> Iterator[tuple[float, Callable[[float], Any]]]:
    """What clients do, in order of time; at one instant they come before they go."""
    todo = [(at, 0, lambda now, request=request: submit(request, now)) for at, request in load.arrivals]
    todo += [(at, 1, lambda now, name=name: cancel(name, now)) for at, name in load.leaves]
    for at, _, act in sorted(todo, key=lambda each: each[:2]):
        yield at, act


def _check_shown(stack: Stack, now: float) -> None:
    """What is shown is plain, at any time."""
    shown = [(stage.describe(), stage.state(now)) for stage in stack.stages]
    pools = [model.replica for model in stack.backends.values() if isinstance(model.replica, Pool)]
    json.dumps(
        [shown, [(pool.describe(), pool.state(now)) for pool in pools], stack.faults.state(now)], allow_nan=False
    )
    assert all(words for words, _ in shown)


# -- the laws ----------------------------------------------------------------------------------------


def _check_answers(stack: Stack, load: Load, out: list[Emission]) -> None:
    """Each request ends once, or its client went away; tokens are counted, in order, and nothing follows the end."""
    came = {request.request_id: at for at, request in load.arrivals}
    ends: dict[str, Finished | Refused | Cut] = {}
    num_tokens: dict[str, int] = defaultdict(int)
    assert [each.at for each in out] == sorted(each.at for each in out)
    for each in out:
        name = each.request_id
        assert name in came
        assert name not in ends, f"{each} after {ends.get(name)}"
        assert each.at >= came[name]
        if isinstance(each, Tokens):
            assert each.first == num_tokens[name]
            chunks = list(chunks_of(each))
            assert [chunk.at for chunk in chunks] == sorted(chunk.at for chunk in chunks)
            assert sum(chunk.num for chunk in chunks) == each.num
            num_tokens[name] += each.num
        elif not isinstance(each, Began):
            ends[name] = each
            assert num_tokens[name] == (0 if isinstance(each, Refused) else each.num_output_tokens), each
    counts, gone = stack.counts, {name for _, name in load.leaves}
    assert counts.num_cancelled == len(came) - len(ends)
    assert set(came) - set(ends) <= gone
    assert counts.num_submitted == len(came)
    for num, kind in ((counts.num_finished, Finished), (counts.num_refused, Refused), (counts.num_cut, Cut)):
        assert num == sum(isinstance(end, kind) for end in ends.values())
    assert counts.num_output_tokens == sum(num_tokens.values())
    passages = [end.passage for end in ends.values() if end.passage is not None]
    assert len(passages) == len(ends)
    assert stack.cost_usd >= sum(passage.cost_usd or 0.0 for passage in passages) - 1e-9
    assert all(seconds >= 0 for passage in passages for seconds in passage.waited_s.values())


def _check_books(stack: Stack) -> None:
    """Nobody is on the way any more, and nothing of theirs is left anywhere."""
    assert stack.idle
    assert stack.engine.idle
    for stage in stack.stages:
        for key in ("in_flight", "waiting", "busy"):
            num = stage.state(LONG_AFTER_S).get(key, 0)
            assert not (any(num.values()) if isinstance(num, dict) else num), (stage.name, key, num)
    for each in _reachable(stack):
        assert not isinstance(each, Flight), each
        if isinstance(each, KvCache):
            assert each.usage == pytest.approx(0.0)
        elif isinstance(each, HostedReplica):
            assert each.num_running == 0
        elif isinstance(each, Account):
            assert each.num_in_flight == 0
        elif isinstance(each, Breaker):
            assert each._num_probing == 0
        elif isinstance(each, Pool):
            shown = each.state(LONG_AFTER_S)
            assert shown["waiting"] == 0
            assert not any(member["requests"] or member["tokens"] for member in shown["members"])  # type: ignore[attr-defined]


def _reachable(stack: Stack) -> Iterator[object]:
    """Every object that a stack holds, through attributes and containers."""
    seen: set[int] = set()
    todo: list[object] = [stack]
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(each, type | ModuleType | str | int | float):
            continue
        seen.add(id(each))
        yield each
        if hasattr(each, "__iter__") or type(each).__module__.startswith("mockllm."):
            todo += gc.get_referents(each)


def _facts(out: list[Emission]) -> dict[str, Any]:
    """How each request ended, when, with what, by whom, and the instant of its first token."""
    firsts: dict[str, float] = {}
    facts: dict[str, Any] = {}
    for each in out:
        if isinstance(each, Tokens):
            firsts.setdefault(each.request_id, next(iter(chunks_of(each))).at)
        elif not isinstance(each, Began):
            passage = each.passage
            assert passage is not None
            facts[each.request_id] = {
                "end": each._replace(passage=None, at=0.0)._asdict() if not isinstance(each, Finished) else each.reason,
                "kind": type(each).__name__,
                "at": each.at,
                "first": firsts.get(each.request_id),
                "num_tokens": None if isinstance(each, Refused) else each.num_output_tokens,
                "passage": {name: getattr(passage, name) for name in _PASSAGE},
            }
    return facts


def _check_same(one: Any, other: Any, where: str = "") -> None:
    """Equal, but for rounding of floats."""
    assert type(one) is type(other), (where, one, other)
    if isinstance(one, dict):
        assert list(one) == list(other) if where else set(one) == set(other), (where, one, other)
        for key in one:
            _check_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), (where, one, other)
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            _check_same(left, right, f"{where}[{index}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-9), (where, one, other)
    else:
        assert one == other, (where, one, other)
