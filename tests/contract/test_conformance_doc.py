"""The published matrix: of the SDKs that are installed, without a failure, and judged as it says."""

from __future__ import annotations

import re
from datetime import date
from importlib.metadata import version
from typing import Any

import pytest

from conformance.document import document
from conformance.matrix import Row, rows
from conformance.objects import Objects
from conformance.stand_ins import STAND_INS, Ask
from conformance.suites import NOT_SERVED, SUITES
from tests.conftest import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "conformance.md").read_text()
RESULTS = {"passed", "not served", "not asked"}


def published() -> list[tuple[str, list[str]]]:
    """The rows of the tables: the SDK, and the cells."""
    found, sdk = [], ""
    for line in DOCUMENT.splitlines():
        if heading := re.match(r"## .*: `(\w+)`", line):
            sdk = heading[1]
        elif line.startswith("## "):
            sdk = ""
        elif sdk and line.startswith("| ") and not line.startswith("| resource"):
            found.append((sdk, [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]))
    return found


@pytest.mark.parametrize("sdk", [suite.sdk for suite in SUITES])
def test_names_the_installed_version(sdk: str) -> None:
    assert f"{sdk} {version(sdk)}" in DOCUMENT.splitlines()[2], "run `make conformance` again"
    assert f"`{sdk}` {version(sdk)}\n" in DOCUMENT


def test_no_row_has_failed() -> None:
    shown = published()
    assert len(shown) > 40
    assert {cells[2] for _, cells in shown} <= RESULTS
    for sdk, (resource, method, result, tests, *_) in shown:
        if result == "passed":
            num_passed, num_asked = map(int, tests.split("/"))
            assert num_passed == num_asked > 0, (sdk, resource, method)


def test_shows_everything_that_is_not_served() -> None:
    shown = {(sdk, cells[0], cells[1]): cells[-1] for sdk, cells in published() if cells[2] == "not served"}
    assert shown == NOT_SERVED


@pytest.mark.parametrize(
    ("sdk", "resource"), [("openai", "files"), ("openai", "batches"), ("anthropic", "messages.batches")]
)
@pytest.mark.parametrize("method", ["create", "retrieve", "list"])
def test_files_and_batches_pass(sdk: str, resource: str, method: str) -> None:
    results = {(where, *cells[:2]): cells[2] for where, cells in published()}
    assert results[sdk, resource, method] == "passed"


def outcome(
    test: str, result: str, *statuses: int, message: str = "", stand_ins: tuple[str, ...] = ()
) -> dict[str, Any]:
    name = f"tests/api_resources/{test}"
    return {"test": name, "outcome": result, "statuses": statuses, "message": message, "stand_ins": list(stand_ins)}


def judged(*outcomes: dict[str, Any]) -> Row:
    (row,) = rows("openai", outcomes)
    return row


def test_a_row_is_a_method_of_a_resource() -> None:
    names = [
        "chat/test_completions.py::TestCompletions::test_method_create_overload_1[loose]",
        "chat/test_completions.py::TestAsyncCompletions::test_raw_response_create_overload_1[strict]",
        "chat/test_completions.py::TestCompletions::test_method_create_with_all_params_overload_2[loose]",
        "test_files.py::TestFiles::test_path_params_retrieve[loose]",
        "test_files.py::TestFiles::test_streaming_response_retrieve[loose]",
        "responses/test_input_items.py::TestInputItems::test_method_list_with_all_params[aiohttp]",
    ]
    found = rows("openai", [outcome(name, "passed", 200) for name in names])
    assert [(row.resource, row.method, row.num_asked) for row in found] == [
        ("chat.completions", "create", 2),
        ("chat.completions", "create (stream)", 1),
        ("files", "retrieve", 2),
        ("responses.input_items", "list", 1),
    ]


def test_one_failure_fails_the_row_and_says_why() -> None:
    name = "test_files.py::TestFiles::test_method_create[loose]"
    row = judged(outcome(name, "passed", 200), outcome(name, "failed", 400, message="no such thing"))
    assert (row.result, row.num_passed, row.num_asked, row.reason) == ("failed", 1, 2, "no such thing")


def test_a_failure_before_any_answer_counts() -> None:
    row = judged(outcome("test_files.py::TestFiles::test_method_create[loose]", "failed", message="connection refused"))
    assert (row.result, row.num_asked) == ("failed", 1)


def test_tests_that_never_ask_prove_nothing() -> None:
    row = judged(outcome("test_files.py::TestFiles::test_method_content[loose]", "passed"))
    assert (row.result, row.num_asked, row.num_alone) == ("not asked", 0, 1)


@pytest.mark.parametrize(
    ("result", "statuses", "expected"),
    [
        ("failed", (404,), "not served"),
        ("failed", (405,), "not served"),
        ("passed", (200,), "failed"),  # it is served, and the list is out of date
        ("failed", (500,), "failed"),
        ("failed", (200,), "failed"),  # an answer that the SDK could not read
        ("failed", (), "failed"),
    ],
)
def test_not_served_means_refused(result: str, statuses: tuple[int, ...], expected: str) -> None:
    row = judged(outcome("test_models.py::TestModels::test_method_delete[loose]", result, *statuses))
    assert row.result == expected


def test_the_document_shows_a_failure() -> None:
    name = "test_files.py::TestFiles::test_method_create[loose]"
    row = judged(outcome(name, "failed", 400, message="expected a | b", stand_ins=("limit",)))
    lines = document([row], {"openai": "1.2.3"}, date(2026, 11, 21)).splitlines()
    assert "| OpenAI | 0 | 1 | 0 | 0 | 0 of 1 |" in lines
    assert r"| files | create | failed | 0/1 |  | limit | expected a \| b |" in lines


class Made(Objects):
    """Names objects without asking a server."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")

    def file(self) -> str:
        return "file-1"

    def running_batch(self) -> str:
        return "batch-running"

    def batch(self) -> str:
        return "batch-1"

    def response(self) -> str:
        return "resp-1"

    def running_response(self) -> str:
        return "resp-running"

    def streamed_response(self) -> str:
        return "resp-streamed"

    def listed(self, path: str) -> str:
        return "first of " + path


def stood_in(ask: Ask) -> set[str]:
    return {each.name for each in STAND_INS["openai"] if each.apply(ask, Made())}


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/files/file_id/content", "/files/file-1/content"),
        ("GET", "/batches/batch_id", "/batches/batch-1"),
        ("POST", "/batches/batch_id/cancel", "/batches/batch-running/cancel"),
        ("GET", "/responses/response_id/input_items", "/responses/resp-1/input_items"),
        ("POST", "/responses/response_id/cancel", "/responses/resp-running/cancel"),
        ("GET", "/files/file-77", "/files/file-77"),
    ],
)
def test_made_up_ids_become_real_ones(method: str, path: str, expected: str) -> None:
    ask = Ask(method, path, [], None, strict=True)
    assert stood_in(ask) == ({"object"} if path != expected else set())
    assert ask.path == expected


@pytest.mark.parametrize(("stream", "expected"), [("true", "resp-streamed"), ("false", "resp-1")])
def test_what_is_streamed_again_was_streamed(stream: str, expected: str) -> None:
    ask = Ask("GET", "/responses/resp_677efb5139a88190b512bc3fef8e535d", [("stream", stream)], None, strict=True)
    assert stood_in(ask) == {"object"}
    assert ask.path == f"/responses/{expected}"


def test_a_list_is_asked_within_its_bounds() -> None:
    ask = Ask("GET", "/files", [("after", "after"), ("limit", "0"), ("purpose", "purpose")], None, strict=False)
    assert stood_in(ask) == {"cursor", "limit"}
    assert ask.query == [("after", "file-1"), ("limit", "1"), ("purpose", "batch")]


def test_a_prompt_is_left_out_of_responses_only() -> None:
    for path, expected in (("/responses", {"no stored prompt"}), ("/completions", set[str]())):
        body = {"model": "m", "input": "hi", "prompt": "hi", "background": True}
        ask = Ask("POST", path, [], body, strict=True)
        assert stood_in(ask) == expected
        assert ("prompt" in body) == (path == "/completions")
        assert body["background"] is True


@pytest.mark.parametrize(("strict", "expected"), [(True, "float"), (False, "base64")])
def test_only_the_strict_client_is_given_floats(strict: bool, expected: str) -> None:
    ask = Ask("POST", "/embeddings", [], {"input": "hi", "encoding_format": "base64"}, strict)
    stood_in(ask)
    assert ask.body is not None
    assert ask.body["encoding_format"] == expected


def test_whole_requests_are_left_alone() -> None:
    body = {"model": "m", "messages": [], "max_tokens": 5, "stream": True, "stream_options": {"include_usage": True}}
    ask = Ask("POST", "/chat/completions", [("limit", "5")], dict(body), strict=True)
    assert stood_in(ask) == set()
    assert (ask.body, ask.query) == (body, [("limit", "5")])
