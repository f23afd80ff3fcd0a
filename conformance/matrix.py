"""From the outcomes of tests to the rows of the matrix."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from conformance.suites import NOT_SERVED

__all__ = ["Row", "rows"]

_TEST = re.compile(r"tests/api_resources/(?P<file>.+)\.py::\w+::test_(?P<name>\w+)")
_KIND = re.compile(r"^(method|raw_response|streaming_response|path_params)_")
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
    result: Literal["passed", "failed", "not served", "not asked"]
    num_asked: int
    num_passed: int
    num_alone: int
    stand_ins: tuple[str, ...]
    reason: str


def rows(sdk: str, outcomes: Sequence[dict[str, Any]]) -> list[Row]:
    """The rows of one SDK, by resource and in the order of the suite."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for outcome in outcomes:
        groups[_place(outcome["test"])].append(outcome)
    return [_row(sdk, *place, tests) for place, tests in sorted(groups.items())]


def _place(test: str) -> tuple[str, str]:
    """Resource and method of a test: `chat/test_completions.py`, `test_raw_response_create_overload_2` -> `create
    (stream)` of `chat.completions`. The second overload of a method is its stream, in both suites."""
    found = _TEST.match(test)
    if found is None:
        return "?", test
    resource = found["file"].replace("/test_", "/").removeprefix("test_").replace("/", ".")
    name = _KIND.sub("", found["name"])
    overload = _OVERLOAD.search(name)
    name = _OVERLOAD.sub("", name).removesuffix("_with_all_params")
    return resource, f"{name} (stream)" if overload and overload[1] == "2" else name


def _row(sdk: str, resource: str, method: str, tests: Sequence[dict[str, Any]]) -> Row:
    asked = [test for test in tests if test["statuses"] or (test["outcome"] == "failed")]
    passed = [test for test in asked if test["outcome"] == "passed"]
    reason = NOT_SERVED.get((sdk, resource, method), "")
    if reason:
        result, reason = _refused(asked, reason)
    else:
        failed = [test for test in asked if test["outcome"] == "failed"]
        result = "failed" if failed else "passed" if passed else "not asked"
        reason = failed[0]["message"] if failed else "" if passed else "the suite answers its own requests"
    names = tuple(dict.fromkeys(name for test in tests for name in test["stand_ins"]))
    num_alone = len(tests) - len(asked)
    return Row(sdk, resource, method, result, len(asked), len(passed), num_alone, names, reason)


def _refused(asked: Sequence[dict[str, Any]], reason: str) -> tuple[Literal["failed", "not served"], str]:
    """Whether every request for something that is not served was refused, as a client can tell."""
    for test in asked:
        if test["outcome"] == "passed":
            return "failed", f"is listed as not served ({reason}), and {test['test']} passes"
        if not test["statuses"] or not all(400 <= status <= 499 for status in test["statuses"]):
            return "failed", f"is listed as not served ({reason}), and is not refused: {test['message']}"
    return "not served", reason
