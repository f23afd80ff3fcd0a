"""What forbids a comparison, what is only said, and what is not worth a word."""

from __future__ import annotations

from typing import Any

import pytest

from harness.gate.comparable import differences, remarks
from harness.objectives import Objective
from harness.store import machine
from tests.harness.builders import manifest

_MACHINE = {
    "host": "a", "system": "Linux 6.1", "architecture": "x86_64", "cpu": "EPYC", "num_cpus": 8, "memory_bytes": 32 * 2**30,
}  # fmt: skip
_PLAN = {
    "arrivals": "poisson",
    "pieces": [[0.0, 60.0, 10.0, "steady", None]],
    "ways": {"times": {"seed": 1, "rate": 5}},
    "seed": 1,
}


def _one(**changes: Any) -> Any:
    return manifest(**({"machine": _MACHINE, "plan": _PLAN, "options": {"whole": False}} | changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"scenario": "ramp"}, ["scenario: burst and ramp"]),
        ({"plan": {**_PLAN, "arrivals": "equal"}}, ["plan.arrivals: poisson and equal"]),
        ({"plan": {**_PLAN, "ways": {"times": {"seed": 1, "rate": 6}}}}, ["plan.ways.times.rate: 5 and 6"]),
        ({"duration_s": 20.0}, ["duration_s: 10.0 and 20.0"]),
        ({"warmup_s": 2.0}, ["warmup_s: 0.0 and 2.0"]),
        ({"model": "other"}, ["model: mock and other"]),
        ({"max_in_flight": 7}, ["max_in_flight: 100 and 7"]),
        ({"num_workers": 2}, ["num_workers: 1 and 2"]),
        ({"objectives": {"": Objective(ttft_s=1.0)}}, ["objectives.: nothing and {'ttft_s': 1.0, 'tpot_s': None, 'e2e_s': None}"]),
        ({"options": {"protocol": "openai-responses"}}, ["options.protocol: nothing and openai-responses"]),
        ({"options": {"prompts": "same", "retries": 3}}, ["options.prompts: nothing and same", "options.retries: nothing and 3"]),
        ({"machine": {**_MACHINE, "cpu": "Xeon", "num_cpus": 2}}, ["machine.cpu: EPYC and Xeon", "machine.num_cpus: 8 and 2"]),
        ({"machine": {**_MACHINE, "memory_bytes": 30 * 2**30}}, [f"machine.memory_bytes: {32 * 2**30} and {30 * 2**30}"]),
    ],
)  # fmt: skip
def test_fields_that_must_be_the_same_are_named_with_both_values(changes: dict[str, Any], named: list[str]) -> None:
    assert differences(_one(), _one(**changes)) == named


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2, "plan": {**_PLAN, "seed": 2, "ways": {"times": {"seed": 2, "rate": 5}}}},
        {"machine": {**_MACHINE, "host": "b", "memory_bytes": int(31.8 * 2**30)}},
        {"options": {"whole": False, "out": "runs/x", "seed": 2, "label": ["a=b"], "prices": "openai", "budget": 3.0}},
        {"options": {"new_option": False, "another": None, "list": []}},
        {"plan": {**_PLAN, "pieces": ((0.0, 60.0, 10.0, "steady", None),)}},
    ],
)
def test_seeds_hosts_places_and_options_that_are_off_do_not_matter(changes: dict[str, Any]) -> None:
    assert differences(_one(), _one(**changes)) == []


def test_a_virtual_run_does_not_depend_on_the_machine() -> None:
    other = {**_MACHINE, "cpu": "Xeon"}
    assert differences(_one(clock="virtual"), _one(clock="virtual", machine=other)) == []
    assert differences(_one(), _one(clock="virtual", machine=other)) == ["clock: real and virtual"]


def test_what_one_tests_may_differ_and_is_said() -> None:
    changed = _one(target="http://127.0.0.1:9", versions={"numpy": "3"}, labels={"commit": "abc"})
    assert differences(_one(), changed) == []
    assert remarks(_one(), changed) == [
        "labels.commit: nothing and abc",
        "target: http://127.0.0.1:8000 and http://127.0.0.1:9",
        "versions.numpy: nothing and 3",
    ]


def test_this_machine_is_comparable_with_itself() -> None:
    assert differences(_one(machine=machine()), _one(machine=machine())) == []
