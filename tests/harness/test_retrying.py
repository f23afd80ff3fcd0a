"""Whether and when a refused request is asked again: a table, the laws of a retry, and OpenAI's SDK as the oracle."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.retrying import LONGEST_WAIT_S, wait_before_retry
from tests.harness.builders import LAW

_WALL = 1_763_700_000.0


def _wait(status: int | None, headers: dict[str, str], attempt: int = 0, num_retries: int = 3) -> float | None:
    return wait_before_retry(status, headers, attempt, num_retries=num_retries, wall=_WALL)


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        # HAPPY PATH
        (429, {"retry-after": "2"}, 2.0),
        (429, {"retry-after": "0"}, 0.0),
        (429, {"retry-after": "1.5"}, 1.5),  # not of the RFC, but of some gateways
        (503, {"retry-after": "2"}, 2.0),
        (529, {"retry-after": "2"}, 2.0),
        (429, {"retry-after-ms": "250"}, 0.25),
        (429, {"retry-after-ms": "250", "retry-after": "1"}, 0.25),  # the finer one
        (429, {"retry-after": formatdate(_WALL + 30, usegmt=True)}, 30.0),
        (429, {"retry-after": formatdate(_WALL - 30, usegmt=True)}, 0.0),  # already over
        (500, {"x-should-retry": "true", "retry-after": "1"}, 1.0),
        (502, {"x-should-retry": "true"}, 0.5),
        (408, {"x-should-retry": " True "}, 0.5),
        (429, {"x-should-retry": "true"}, 0.5),
        (429, {"retry-after": "120"}, 120.0),
        # SAD PATH
        (429, {}, None),  # nobody asked for it
        (503, {}, None),
        (429, {"x-should-retry": "false", "retry-after": "1"}, None),
        (500, {"retry-after": "1"}, None),
        (500, {}, None),
        (400, {"x-should-retry": "true", "retry-after": "1"}, None),
        (401, {"retry-after": "1"}, None),
        (200, {"retry-after": "1"}, None),
        (None, {"retry-after": "1"}, None),  # no answer at all
        (429, {"retry-after": "121"}, None),
        (429, {"retry-after": "soon"}, None),
        (429, {"retry-after": "-1"}, None),
        (429, {"retry-after": "nan"}, None),
        (429, {"retry-after": "inf"}, None),
        (429, {"retry-after-ms": "x", "retry-after": "3"}, 3.0),
        (429, {"retry-after": formatdate(_WALL + 3600, usegmt=True)}, None),
    ],
)
def test_wait(status: int | None, headers: dict[str, str], expected: float | None) -> None:
    assert _wait(status, headers) == expected


def test_told_to_retry_but_not_when_we_wait_longer_each_time() -> None:
    waits = [_wait(429, {"x-should-retry": "true"}, attempt, 10) for attempt in range(7)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


@pytest.mark.parametrize(
    ("attempt", "num_retries", "again"), [(0, 0, False), (0, 1, True), (1, 1, False), (1, 2, True)]
)
def test_no_more_often_than_allowed(attempt: int, num_retries: int, again: bool) -> None:
    assert (_wait(429, {"retry-after": "1"}, attempt, num_retries) is not None) is again


_HEADER_VALUES = st.one_of(
    st.floats(0.001, 200).map(lambda seconds: f"{seconds:.3f}"),
    st.integers(1, 300).map(str),
    st.integers(1, 300).map(lambda ahead: formatdate(_WALL + ahead, usegmt=True)),
    st.sampled_from(["soon", ""]),
)
_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "retry-after": _HEADER_VALUES,
        "retry-after-ms": st.one_of(st.integers(1, 200_000).map(str), st.just("x")),
        "x-should-retry": st.sampled_from(["true", "false"]),
    },
)


@LAW
@given(st.sampled_from([200, 400, 401, 408, 409, 429, 500, 502, 503, 504, 529]), _HEADERS)
def test_what_we_ask_again_the_sdk_asks_again_after_the_same_wait(status: int, headers: dict[str, str]) -> None:
    """The other way round does not hold: the SDK also retries what nobody asked it to."""
    wait = _wait(status, headers)
    if wait is None:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("openai._base_client.time.time", lambda: _WALL)
        client: Any = openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9")
        assert client._should_retry(httpx2.Response(status, headers=headers))
        told = client._parse_retry_after_header(httpx2.Headers(headers))
    if told is None:
        assert wait == 0.5
    else:
        assert wait == pytest.approx(told, abs=1e-6)
        assert wait <= LONGEST_WAIT_S
