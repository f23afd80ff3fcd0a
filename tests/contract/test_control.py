"""Orders to the mock: headers for one request, settings for all. A typo is refused, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .endpoints import BODY_ENDPOINTS
from .inside import Answer, Ask, Inside, instant_app
from .sdk import error_of, event_data

CHAT, SETTINGS = "/v1/chat/completions", "/mock/settings"
ANSWERED = [e for e in BODY_ENDPOINTS if e.path in (CHAT, "/v1/completions", "/v1/responses", "/v1/messages")]


@pytest.fixture(scope="module")
def shared() -> Iterator[Inside]:
    with instant_app() as inside:
        yield inside


@pytest.fixture
def app(shared: Inside) -> Iterator[Inside]:
    yield shared
    assert shared.ask(SETTINGS, Ask(method="DELETE")).status == 200


def chat(app: Inside, number: int = 0, *, stream: bool = False, **orders: str) -> Answer:
    headers = {f"X-Mock-{name.replace('_', '-')}": value for name, value in orders.items()}
    body = {"model": "instant", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    return app.post(CHAT, json.dumps(body).encode(), {"x-client-request-id": f"control-{number}", **headers})


def change(app: Inside, settings: object, method: str = "PATCH") -> Answer:
    return app.ask(SETTINGS, Ask(json.dumps(settings).encode(), method=method))


def current(app: Inside) -> Any:
    return json.loads(app.get(SETTINGS).body)


# -- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [1, 5, 300])
def test_an_answer_of_so_many_tokens(app: Inside, num: int) -> None:
    usage = json.loads(chat(app, Output_Tokens=str(num)).body)["usage"]
    assert usage["completion_tokens"] == num


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 429, 500, 503, 529])
@pytest.mark.parametrize("endpoint", ANSWERED, ids=lambda endpoint: endpoint.path)
def test_a_status_on_demand(app: Inside, endpoint: Any, status: int) -> None:
    for stream in (False, True):
        headers = {"X-Mock-Error": str(status), "X-Mock-Retry-After-S": "7"}
        answer = app.post(endpoint.path, endpoint.body(stream=stream), headers)
        assert answer.status == status
        assert answer.headers["retry-after"] == "7"
        if endpoint.provider == "openai":
            assert error_of(answer.body).message
        else:
            assert set(json.loads(answer.body)) == {"type", "error", "request_id"}


@pytest.mark.parametrize("num", [1, 4])
def test_a_stream_that_breaks_after_so_many_tokens(app: Inside, num: int) -> None:
    answer = chat(app, stream=True, Cut_After_Tokens=str(num))
    assert (answer.status, answer.cut) == (200, True)
    deltas = [json.loads(data)["choices"][0]["delta"].get("content") for data in event_data(answer.body)]
    assert len([text for text in deltas if text]) == num
    assert b"[DONE]" not in answer.body


def test_a_stream_that_ends_with_an_error(app: Inside) -> None:
    answer = chat(app, stream=True, Error_After_Tokens="3")
    *deltas, last = event_data(answer.body)
    assert (answer.status, answer.cut) == (200, False)
    assert error_of(last).type == "server_error"
    assert len([d for d in deltas if json.loads(d)["choices"][0]["delta"].get("content")]) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Outptu_Tokens", "5"), ("Output_Tokens", "0"), ("Output_Tokens", "five"), ("Output_Tokens", "-1"), ("Error", "200"),
        ("Error", "600"), ("TTFT_MS", "-1"), ("TTFT_MS", "nan"), ("TTFT_MS", "1e999"), ("ITL", "5"), ("Cut_After_Tokens", "x"),
    ],
)  # fmt: skip
def test_an_order_that_is_none_is_refused(app: Inside, name: str, value: str) -> None:
    answer = chat(app, 0, stream=False, **{name: value})
    assert answer.status == 400
    error = error_of(answer.body)
    assert error.code == "invalid_control_header"
    assert name.lower().replace("_", "-") in error.message
    assert "x-mock-output-tokens" in error.message, "it says which there are"


# -- settings --------------------------------------------------------------------------------------------------------


def test_settings_are_patched_replaced_and_reset(app: Inside) -> None:
    start = current(app)
    assert change(app, {"models": {"*": {"output_tokens": 3, "error_rate": 0.5}}}).status == 200
    assert change(app, {"models": {"*": {"error_rate": None}}}).status == 200  # RFC 7396: null takes away
    assert current(app)["models"]["*"]["output_tokens"] == 3
    assert current(app)["models"]["*"]["error_rate"] == 0
    assert json.loads(chat(app).body)["usage"]["completion_tokens"] == 3
    assert change(app, {"ready": False}, "PUT").status == 200
    assert current(app)["models"] == {}
    assert app.get("/health").status == 503
    assert json.loads(app.ask(SETTINGS, Ask(method="DELETE")).body) == start
    assert app.get("/health").status == 200


@pytest.mark.parametrize(
    "broken",
    [
        {"models": {"*": {"output_tokens": 3, "eror_rate": 1}}},
        {"models": {"*": {"output_tokens": 3, "error_rate": 1.5}}},
        {"models": {"*": {"output_tokens": 3}, "no-such": {}}},
        {"models": {"*": {"output_tokens": 0}}},
        {"raedy": False},
        {"ready": "no"},
        [],
        None,
    ],
)
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_settings_change_as_a_whole_or_not_at_all(app: Inside, broken: object, method: str) -> None:
    change(app, {"models": {"instant": {"output_tokens": 9}}})
    before = current(app)
    answer = change(app, broken, method)
    assert answer.status == 400
    assert error_of(answer.body).message
    assert current(app) == before


def test_a_rate_strikes_its_share_and_the_same_requests_again(app: Inside) -> None:
    change(app, {"models": {"*": {"error_rate": 0.3, "error_status": 429, "retry_after_s": 2}}})
    first = [chat(app, number).status for number in range(400)]
    assert set(first) == {200, 429}
    # Binomial(400, .3): mean 120, standard deviation 9.2; five of them to either side.
    assert 74 <= first.count(429) <= 166
    backwards = [chat(app, number).status for number in reversed(range(400))]
    assert backwards[::-1] == first, "luck hangs on the request's name, not on its turn"
    change(app, {"models": {"*": {"error_rate": 0.6}}})
    more = [chat(app, number).status for number in range(400)]
    assert all(later == 429 for earlier, later in zip(first, more, strict=True) if earlier == 429)


def test_a_header_goes_before_a_setting(app: Inside) -> None:
    change(app, {"models": {"*": {"output_tokens": 3}}})
    assert json.loads(chat(app, Output_Tokens="5").body)["usage"]["completion_tokens"] == 5


def test_a_models_own_settings_go_before_everybodys(app: Inside) -> None:
    change(app, {"models": {"*": {"output_tokens": 3}, "instant": {"output_tokens": 4}}})
    assert json.loads(chat(app).body)["usage"]["completion_tokens"] == 4
