"""When it is certain that going on is of no use."""

from __future__ import annotations

import pytest

from harness.records import RequestRecord
from harness.safety.storm import NobodyThere, RefusedKey
from tests.harness.builders import bare_record, record


def _refused(status: int = 401) -> RequestRecord:
    return record(outcome="failed", status=status, error_kind=f"http_{status}")


def _unreachable() -> RequestRecord:
    return bare_record(
        outcome="failed", sent_at=0.0, error_kind="unreachable", error_text="http://127.0.0.1:9: refused"
    )


@pytest.mark.parametrize("status", [401, 403])
def test_five_refused_keys_in_a_row_stop_the_run(status: int) -> None:
    guard = RefusedKey(has_key=True)
    for _ in range(4):
        guard.ended(_refused(status))
        assert guard.stop_reason is None
        assert guard.refusal(bare_record()) is None
    guard.ended(_refused(status))
    assert guard.stop_reason == f"5 answers in a row were {status}: the key in HARNESS_API_KEY was refused"
    assert guard.refusal(bare_record()) == ("key_refused", guard.stop_reason)


def test_a_missing_key_is_called_missing() -> None:
    guard = RefusedKey(has_key=False)
    for _ in range(5):
        guard.ended(_refused())
    assert guard.stop_reason is not None
    assert guard.stop_reason.endswith("the key in HARNESS_API_KEY is missing")


def test_a_server_that_refuses_some_requests_is_data() -> None:
    """A class of requests that this key may not make, among others: never fifty in a row."""
    guard = RefusedKey(has_key=True)
    guard.ended(record())
    for _ in range(100):
        for _ in range(49):
            guard.ended(_refused(403))
        guard.ended(record(status=429, outcome="throttled"))
    assert guard.stop_reason is None


def test_a_key_that_is_revoked_in_the_middle_stops_the_run() -> None:
    guard = RefusedKey(has_key=True)
    guard.ended(record())
    for _ in range(49):
        guard.ended(_refused())
    assert guard.stop_reason is None
    guard.ended(_refused())
    assert guard.stop_reason is not None


def test_requests_without_an_answer_neither_count_nor_interrupt() -> None:
    guard = RefusedKey(has_key=True)
    for _ in range(5):
        guard.ended(_refused())
        guard.ended(_unreachable())
        guard.ended(bare_record(outcome="incomplete"))
    assert guard.stop_reason is not None


def test_nobody_there_stops_only_when_nobody_ever_was() -> None:
    guard, reasons = NobodyThere(num=3), []
    for _ in range(3):
        guard.ended(_unreachable())
        reasons.append(guard.stop_reason)
    assert reasons[:2] == [None, None]
    assert guard.stop_reason is not None
    assert "http://127.0.0.1:9: refused" in guard.stop_reason
    assert guard.refusal(bare_record()) == ("nobody_there", guard.stop_reason)


def test_a_server_that_takes_no_more_is_not_absent() -> None:
    """Those that it took still wait for their answers: no record says so yet."""
    guard = NobodyThere(num=3, connected=lambda: True)
    for _ in range(100):
        guard.ended(_unreachable())
    assert guard.stop_reason is None


@pytest.mark.parametrize(
    "met", [record(), record(status=500, outcome="failed"), bare_record(outcome="failed", connected_at=0.1)]
)
def test_an_outage_is_not_stopped(met: RequestRecord) -> None:
    guard = NobodyThere(num=3)
    guard.ended(met)
    for _ in range(100):
        guard.ended(_unreachable())
    assert guard.stop_reason is None
