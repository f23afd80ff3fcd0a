"""Faults by hand: what the admin API takes, what it refuses, and what it does to answers of every dialect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .endpoints import BODY_ENDPOINTS, Endpoint
from .inside import Answer, Ask, Inside, instant_app
from .sdk import error_of

CHAT, FAULTS, TIMELINE = "/v1/chat/completions", "/mock/faults", "/mock/timeline"
ANSWERED = [e for e in BODY_ENDPOINTS if e.path in (CHAT, "/v1/completions", "/v1/responses", "/v1/messages")]
DIALECTS = pytest.mark.parametrize("endpoint", ANSWERED, ids=lambda endpoint: endpoint.path)
# The event that ends an answer, by path.
FINISH = {
    CHAT: b'"finish_reason":"stop"',
    "/v1/completions": b'"finish_reason":"stop"',
    "/v1/responses": b"event: response.completed",
    "/v1/messages": b"event: message_stop",
}


@pytest.fixture(scope="module")
def shared() -> Iterator[Inside]:
    with instant_app() as inside:
        yield inside


@pytest.fixture
def app(shared: Inside) -> Iterator[Inside]:
    yield shared
    assert shared.ask(FAULTS, Ask(method="DELETE")).status == 200


def order(app: Inside, faults: object, method: str = "POST") -> Answer:
    return app.ask(FAULTS, Ask(json.dumps(faults).encode(), method=method))


def listed(app: Inside) -> list[dict[str, Any]]:
    faults: list[dict[str, Any]] = json.loads(app.get(FAULTS).body)["faults"]
    return faults


def chat(app: Inside, number: int = 0, region: str | None = None) -> Answer:
    body = {"model": "instant", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"x-client-request-id": f"fault-{number}"} | ({} if region is None else {"x-mock-region": region})
    return app.post(CHAT, json.dumps(body).encode(), headers)


def payloads(body: bytes) -> list[Any]:
    """The data of every event as JSON, None for what is none."""
    found: list[Any] = []
    for line in body.split(b"\n"):
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            try:
                found.append(json.loads(line[6:]))
            except ValueError:
                found.append(None)
    return found


# -- the API -----------------------------------------------------------------------------------------------------------


def test_faults_are_added_shown_and_taken_back(app: Inside) -> None:
    assert chat(app).status == 200
    one = {"kind": "errors", "status": 500, "for": "1h"}
    added = json.loads(order(app, one).body)["faults"]
    assert [each["id"] for each in added] == ["fault-1"]
    two = [
        {"kind": "cut", "after_tokens": 3, "at": "10h"},
        {"kind": "reset", "model": "instant", "share": 0.25, "at": "11h"},
    ]
    assert [each["id"] for each in json.loads(order(app, two).body)["faults"]] == ["fault-2", "fault-3"]
    assert [each["state"] for each in listed(app)] == ["active", "scheduled", "scheduled"]
    assert listed(app)[1]["fault"] == {"kind": "cut", "after_tokens": 3, "at": "36000s"}
    assert chat(app).status == 500
    assert [each["num_struck"] for each in listed(app)] == [1, 0, 0]
    assert app.ask(f"{FAULTS}/fault-1", Ask(method="DELETE")).status == 200
    assert chat(app).status == 200
    assert [each["id"] for each in listed(app)] == ["fault-2", "fault-3"]
    missing = app.ask(f"{FAULTS}/fault-1", Ask(method="DELETE"))
    assert (missing.status, error_of(missing.body).code) == (404, "fault_not_found")
    assert json.loads(order(app, [one], "PUT").body)["faults"][0]["id"] == "fault-1"
    assert len(listed(app)) == 1
    assert json.loads(app.ask(FAULTS, Ask(method="DELETE")).body)["faults"] == []


def test_a_fault_for_a_while_is_over_by_itself(app: Inside) -> None:
    chat(app)
    order(app, {"kind": "errors", "status": 500, "for": "1ms"})
    while listed(app)[0]["state"] != "over":
        pass
    assert chat(app).status == 200


def test_the_run_begins_anew(app: Inside) -> None:
    chat(app)
    order(app, [{"kind": "errors", "status": 500, "at": "0s", "for": "1h"}], "PUT")
    chat(app)
    before = json.loads(app.get(TIMELINE).body)["run_s"]
    after = json.loads(app.ask(TIMELINE, Ask(method="POST")).body)["run_s"]
    assert 0 <= after < before
    assert listed(app)[0]["num_struck"] == 0
    assert chat(app).status == 500


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"kind": "outgae"}, ["'outgae'", "did you mean outage?"]),
        ({}, ["must name its kind"]),
        ([{"kind": "outage"}, {"kind": "cut"}], ["required"]),
        ({"kind": "outage", "for": 10}, ["10 is not a duration", "90s"]),
        ({"kind": "outage", "at": "soon"}, ["'soon' is not a duration"]),
        ({"kind": "outage", "model": "nobody"}, ["no model 'nobody'", "instant"]),
        ({"kind": "outage", "modle": "instant"}, ["no key that belongs here"]),
        ({"kind": "outage", "model": "instant", "replica": "instant-0"}, ["has no name"]),
        ({"kind": "errors", "status": 500, "share": "all"}, ["'all'"]),
        ({"kind": "errors", "status": "500"}, ["'500'"]),
        (7, ["must name its kind"]),
        (None, ["must name its kind"]),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_body_that_breaks_a_rule_changes_nothing(app: Inside, broken: object, words: list[str], method: str) -> None:
    order(app, {"kind": "stall", "for": "1s", "at": "1d"})
    before = app.get(FAULTS).body
    answer = order(app, broken, method)
    assert answer.status == 400
    error = error_of(answer.body)
    assert error.code == "invalid_fault"
    for word in [*words, "Nothing was changed"]:
        assert word in error.message
    now = json.loads(app.get(FAULTS).body)
    assert now["faults"] == json.loads(before)["faults"]


def test_a_body_that_is_no_json_is_refused(app: Inside) -> None:
    answer = app.ask(FAULTS, Ask(b"{'kind'"))
    assert (answer.status, error_of(answer.body).code) == (400, "invalid_fault")


def test_there_is_an_end_to_how_many_there_may_be(app: Inside) -> None:
    many = [{"kind": "reset", "at": "1d"}] * 600
    assert order(app, many).status == 200
    assert error_of(order(app, many).body).code == "too_many_faults"
    assert len(listed(app)) == 600


def test_only_those_whom_it_concerns_are_struck(app: Inside) -> None:
    """A plain profile, without a word about regions or faults."""
    order(app, {"kind": "errors", "status": 418, "region": "eu"})
    assert chat(app, region="eu").status == 418
    assert chat(app, region="us").status == 200
    assert chat(app).status == 200
    app.ask(FAULTS, Ask(method="DELETE"))
    order(app, {"kind": "errors", "status": 418, "share": 0.3})
    struck = [chat(app, number).status == 418 for number in range(300)]
    assert 50 <= sum(struck) <= 130  # binomial(300, .3): mean 90, standard deviation 7.9
    assert [chat(app, number).status == 418 for number in reversed(range(300))] == struck[::-1]


# -- what it does to answers -------------------------------------------------------------------------------------------


@DIALECTS
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("keys", "status", "retry_after"),
    [
        ({"kind": "outage"}, 503, None),
        ({"kind": "errors", "status": 529, "retry_after": "3s"}, 529, "3"),
        ({"kind": "rate_limit_storm", "retry_after": "2s"}, 429, "2"),
        ({"kind": "reset"}, 502, None),  # inside there is no connection to reset
    ],
    ids=["outage", "errors", "rate_limit_storm", "reset"],
)
def test_a_refusal_is_in_the_words_of_the_provider(
    app: Inside, endpoint: Endpoint, stream: bool, keys: dict[str, Any], status: int, retry_after: str | None
) -> None:
    order(app, keys)
    answer = app.post(endpoint.path, endpoint.body(stream=stream))
    assert (answer.status, answer.headers.get("retry-after")) == (status, retry_after)
    error = json.loads(answer.body)["error"]
    assert error["message"]
    assert error["type"]


@DIALECTS
def test_a_garbled_event_then_it_goes_on(app: Inside, endpoint: Endpoint) -> None:
    good = payloads(app.post(endpoint.path, endpoint.body(stream=True)).body)
    order(app, {"kind": "garbled", "after_tokens": 4})
    answer = app.post(endpoint.path, endpoint.body(stream=True))
    garbled = payloads(answer.body)
    assert (answer.status, answer.cut) == (200, False)
    assert (len(garbled), garbled.count(None), garbled[-1] is None) == (len(good), 1, False)
    assert garbled.index(None) >= 4
    assert FINISH[endpoint.path] in answer.body


@DIALECTS
def test_a_finish_that_comes_twice(app: Inside, endpoint: Endpoint) -> None:
    good = app.post(endpoint.path, endpoint.body(stream=True))
    order(app, {"kind": "duplicate_finish"})
    answer = app.post(endpoint.path, endpoint.body(stream=True))
    finish = FINISH[endpoint.path]
    assert (good.body.count(finish), answer.body.count(finish)) == (1, 2)
    assert answer.body.count(b"[DONE]") == good.body.count(b"[DONE]")
    assert None not in payloads(answer.body)
    whole = app.post(endpoint.path, endpoint.body(stream=False))
    assert json.loads(whole.body)
    assert listed(app)[0]["num_struck"] == 1, "a whole answer has no finish to repeat"


@DIALECTS
def test_a_stream_that_ends_in_order_without_an_end(app: Inside, endpoint: Endpoint) -> None:
    order(app, {"kind": "truncate", "after_tokens": 5})
    answer = app.post(endpoint.path, endpoint.body(stream=True))
    assert (answer.status, answer.cut) == (200, False)
    assert None not in payloads(answer.body)
    assert FINISH[endpoint.path] not in answer.body
    assert b"[DONE]" not in answer.body
    entry = json.loads(app.get("/mock/ledger").body.splitlines()[-1])
    assert (entry["outcome"], entry["num_output_tokens"], entry["notes"]) == ("cut", 5, ["faults: truncate (fault-1)"])


@DIALECTS
def test_an_error_in_the_stream(app: Inside, endpoint: Endpoint) -> None:
    order(app, {"kind": "in_band_error", "after_tokens": 5})
    answer = app.post(endpoint.path, endpoint.body(stream=True))
    assert (answer.status, answer.cut) == (200, False)
    assert b'"error"' in answer.body
    assert FINISH[endpoint.path] not in answer.body
    assert app.post(endpoint.path, endpoint.body(stream=False)).status == 500


@DIALECTS
def test_a_connection_that_is_cut(app: Inside, endpoint: Endpoint) -> None:
    order(app, {"kind": "cut", "after_tokens": 5})
    answer = app.post(endpoint.path, endpoint.body(stream=True))
    assert (answer.status, answer.cut) == (200, True)
    assert FINISH[endpoint.path] not in answer.body
    whole = app.post(endpoint.path, endpoint.body(stream=False))
    assert (whole.status, whole.cut) == (200, True)
    assert int(whole.headers["content-length"]) > len(whole.body)


@DIALECTS
@pytest.mark.parametrize("kind", ["garbled", "truncate"])
def test_a_whole_answer_that_is_no_json(app: Inside, endpoint: Endpoint, kind: str) -> None:
    order(app, {"kind": kind, "after_tokens": 5})
    answer = app.post(endpoint.path, endpoint.body(stream=False))
    assert (answer.status, answer.cut) == (200, False)
    assert int(answer.headers["content-length"]) == len(answer.body)
    with pytest.raises(ValueError, match="line 1 column"):
        json.loads(answer.body)
