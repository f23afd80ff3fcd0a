"""What a server says of itself in its headers: the words of each gateway, and what nobody should believe."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records import RequestRecord
from harness.safety.secrets import Scrubber
from harness.served import cache_outcome, note_served, queue_s, replica
from mockllm.passage import Passage
from mockllm.server.replies import passage_headers
from tests.harness.builders import LAW, bare_record, record


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-mock-cache": "hit"}, "hit"),
        ({"x-mock-cache": "stale"}, "stale"),
        ({"x-mock-cache": "miss"}, "miss"),
        ({"x-portkey-cache-status": "HIT"}, "hit"),
        ({"x-portkey-cache-status": "SEMANTIC HIT"}, "hit"),
        ({"x-portkey-cache-status": "SEMANTIC MISS"}, "miss"),
        ({"x-portkey-cache-status": "DISABLED"}, None),
        ({"x-portkey-cache-status": "REFRESH"}, "miss"),
        ({"helicone-cache": "HIT"}, "hit"),
        ({"helicone-cache": "miss"}, "miss"),
        ({"cf-aig-cache-status": "MISS"}, "miss"),
        ({"x-openrouter-cache-status": "HIT"}, "hit"),
        ({"x-cache-status": "Hit"}, "hit"),
        ({"x-cache-status": "Bypass"}, None),
        ({"x-cache-status": "EXPIRED"}, "miss"),
        ({"x-cache-status": "UPDATING"}, "stale"),
        ({"x-litellm-call-id": "1", "x-litellm-cache-key": "d41d8c"}, "hit"),
        ({"x-litellm-call-id": "1"}, "miss"),
        ({"x-mock-cache": " hit "}, "hit"),
        ({"x-mock-cache": "hit; drop table"}, None),
        ({"x-mock-cache": ""}, None),
        ({"cf-cache-status": "DYNAMIC", "x-cache": "MISS from cdn"}, None),  # of the way, not of answers
    ],
)
def test_caches_say_one_of_three_words(headers: dict[str, str], expected: str | None) -> None:
    assert cache_outcome(headers) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-mock-waited-ms": "1250.500"}, 1.2505),
        ({"x-mock-waited-ms": "0.000"}, None),
        ({"x-queue-time": "40", "x-compute-type": "gpu+optimized"}, 0.04),
        ({"x-queue-time": "0", "x-compute-type": "gpu+optimized"}, 0.0),
        ({"x-queue-time": "0.4"}, None),  # whose, and in what unit?
        ({"openai-processing-ms": "900", "x-envoy-upstream-service-time": "900"}, None),
        ({"x-mock-waited-ms": "nan"}, None),
        ({"x-mock-waited-ms": "inf"}, None),
        ({"x-mock-waited-ms": "1e300"}, None),
        ({"x-mock-waited-ms": "-5"}, None),
        ({"x-mock-waited-ms": "5 ms"}, None),
        ({"x-mock-waited-ms": "9" * 5000}, None),
    ],
)
def test_a_wait_is_a_wait(headers: dict[str, str], expected: float | None) -> None:
    assert queue_s(headers) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-mock-replica": "large-0"}, "large-0"),
        ({"x-litellm-model-id": "deployment-sha"}, "deployment-sha"),
        ({"x-inference-pod": "vllm-7f9c"}, "vllm-7f9c"),
        ({"target-pod": "10.0.0.1:8000"}, "10.0.0.1:8000"),
        ({"x-mock-replica": " ", "target-pod": "10.0.0.1:8000"}, "10.0.0.1:8000"),
        ({"x-mock-replica": "a\x1b[31m\nb"}, "a\ufffd[31m\ufffdb"),
        ({"x-mock-replica": "r" * 300_000}, "r" * 127 + "…"),
    ],
)
def test_a_replica_is_a_short_printable_name(headers: dict[str, str], expected: str | None) -> None:
    assert replica(headers) == expected


def test_a_body_that_names_its_model_goes_before_a_header() -> None:
    headers = {"x-mock-model": "small", "x-request-id": "req-1"}
    for given_, outcome, expected in ((None, "ok", "small"), ("large", "ok", "large"), (None, "throttled", None)):
        each = bare_record(outcome=outcome, model_served=given_)
        note_served(each, headers)
        assert (each.model_served, each.server_request_id) == (expected, "req-1")


def test_what_a_server_says_back_is_scrubbed_also_where_it_was_cut() -> None:
    """The key of the run, at the very place where the name is cut."""
    secret = "correct-horse-battery-staple"
    each = record()
    note_served(each, {"x-mock-replica": "r" * 115 + secret, "x-request-id": f"id {secret}"})
    Scrubber([secret]).record(each)
    assert "correct" not in (each.replica or "") + (each.server_request_id or "")


_OUTCOMES = (None, "hit", "stale", "miss")
_HEADERS = st.dictionaries(
    st.sampled_from(
        ["x-mock-cache", "x-mock-replica", "x-mock-waited-ms", "x-mock-model", "x-request-id", "x-queue-time", "x-compute-type",
         "helicone-cache", "x-litellm-call-id", "x-litellm-model-id"]
    ),
    st.one_of(st.text(max_size=300), st.sampled_from(["hit", "1.5", "1e999", "-0", "\ud800", "٣"])),
)  # fmt: skip


@LAW
@given(_HEADERS)
def test_no_header_makes_a_record_that_cannot_be_kept(headers: dict[str, str]) -> None:
    each = record(model_served=None)
    note_served(each, headers)
    assert msgspec.json.decode(msgspec.json.encode(each), type=RequestRecord) == each
    for name in (each.replica, each.model_served, each.server_request_id):
        assert name is None or (0 < len(name) <= 128 and name.isprintable())
    assert each.cache_outcome in _OUTCOMES
    assert each.queue_s is None or 0 <= each.queue_s <= 86_400


@LAW
@given(
    st.sampled_from(_OUTCOMES),
    st.one_of(st.none(), st.sampled_from(["large-0", "small-3"])),
    st.dictionaries(st.sampled_from(["rate_limits", "priority_queue"]), st.floats(0.001, 50.0)),
)
def test_what_the_mock_says_is_what_its_passage_holds(
    outcome: str | None, name: str | None, waited_s: dict[str, float]
) -> None:
    """The same words as in virtual time, which takes them from the passage itself."""
    passage = Passage("large", replica=name, cache_outcome=outcome, waited_s=waited_s)
    each = record(model_served=None)
    note_served(each, passage_headers("openai", passage, 0.0, 0.0))
    assert (each.cache_outcome, each.replica, each.model_served) == (outcome, name, "large")
    assert each.queue_s == (pytest.approx(sum(waited_s.values()), abs=1e-6) if waited_s else None)
