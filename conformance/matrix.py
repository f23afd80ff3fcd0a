"""From the outcomes of tests to the rows of the matrix."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from conformance.suites import NOT_SERVED, PARTLY_SERVED

__all__ = ["Row", "rows"]

_Result = Literal["passed", "failed", "not served", "not asked"]
_TEST = re.compile(r"tests/api_resources/(?P<file>.+)\.py::\w+::test_(?P<name>\w+)")
_KIND = re.compile(r"^(method|raw_response|streaming_response|path_params)_")
_ALL = "_with_all_params"
_OVERLOAD = re.compile(r"_overload_(\d)$")


@dataclass(frozen=True, slots=True)
class Row:
    """One method of one resource.

    `num_asked` of its tests got an answer from the server; of these `num_passed` passed. `num_alone` never asked it: they
    check the client, or the suite answers itself. `stand_ins` are those that any of the tests met.
    """

    sdk: str
    resource: str
    method: str
    result: _Result
    num_asked: int
    num_passed: int
    num_alone: int
    stand_ins: tuple[str, ...]
    reason: str


def rows(sdk: str, outcomes: Sequence[dict[str, Any]]) -> list[Row]:
    """The rows of one SDK, by resource and in the order of the suite."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for outcome in outcomes:
        groups[_place(sdk, outcome["test"])].append(outcome)
    return [_row(sdk, *place, tests) for place, tests in sorted(groups.items())]


def _place(sdk: str, test: str) -> tuple[str, str]:
    """Resource and method of a test: `chat/test_completions.py`, `test_raw_response_create_overload_2` -> `create
    (stream)` of `chat.completions`. The second overload of a method is its stream, in both suites."""
    found = _TEST.match(test)
    if found is None:
        return "?", test
    resource = found["file"].replace("/test_", "/").removeprefix("test_").replace("/", ".")
    name = _KIND.sub("", found["name"])
    overload = _OVERLOAD.search(name)
    bare = _OVERLOAD.sub("", name)
    method = bare.removesuffix(_ALL)
    method = f"{method} (stream)" if overload and overload[1] == "2" else method
    whole = f"{method}, all parameters"
    return resource, whole if bare.endswith(_ALL) and (sdk, resource, whole) in NOT_SERVED else method


def _row(sdk: str, resource: str, method: str, tests: Sequence[dict[str, Any]]) -> Row:
    asked = [test for test in tests if test["statuses"] or (test["outcome"] == "failed")]
    passed = [test for test in asked if test["outcome"] == "passed"]
    unserved = NOT_SERVED.get((sdk, resource, method))
    result, reason = _judged(asked) if unserved is None else _refused(asked, unserved)
    if result == "passed":
        reason = PARTLY_SERVED.get((sdk, resource, method), "")
    names = tuple(dict.fromkeys(name for test in tests for name in test["stand_ins"]))
    num_alone = len(tests) - len(asked)
    return Row(sdk, resource, method, result, len(asked), len(passed), num_alone, names, reason)


def _judged(asked: Sequence[dict[str, Any]]) -> tuple[_Result, str]:
    """The result of what is served, and why if it has not passed."""
    if not asked:
        return "not asked", "the suite answers its own requests"
    failed = next((test for test in asked if test["outcome"] == "failed"), None)
    return ("passed", "") if failed is None else ("failed", failed["message"])


def _refused(asked: Sequence[dict[str, Any]], reason: str) -> tuple[_Result, str]:
    """Whether every request for something that is not served was refused, as a client can tell."""
    for test in asked:
        if test["outcome"] == "passed":
            return "failed", f"is listed as not served ({reason}), and {test['test']} passes"
        if not test["statuses"] or not all(400 <= status <= 499 for status in test["statuses"]):
            return "failed", f"is listed as not served ({reason}), and is not refused: {test['message']}"
    return "not served", reason
