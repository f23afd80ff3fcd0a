"""What clients are told of rate limits: the provider's headers on every answer, its words on a 429, and what its SDK makes
of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from anthropic import Anthropic
from openai import OpenAI

from mockllm.passage import Excess, Quota
from mockllm.wire.errors import error_body, from_refusal
from mockllm.wire.ratelimits import go_duration, rate_limit_headers
from tests.contract.endpoints import BODY_ENDPOINTS
from tests.contract.inside import Inside, instant_app
from tests.contract.sdk import error_of
from tests.contract.server import MockServer, serve

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC).timestamp()

# Go's own: time.Duration(ms * 1e6).String()
GO = [(0, "0s"), (1, "1ms"), (20, "20ms"), (644, "644ms"), (1000, "1s"), (1500, "1.5s"), (18642, "18.642s"), (60000, "1m0s"),
      (360000, "6m0s"), (432120, "7m12.12s"), (3600000, "1h0m0s"), (3661001, "1h1m1.001s"), (86400000, "24h0m0s")]  # fmt: skip


@pytest.mark.parametrize(("num_ms", "text"), GO)
def test_durations_as_go_writes_them(num_ms: int, text: str) -> None:
    assert go_duration(num_ms / 1000) == text


def test_durations_are_rounded_up_so_that_who_waits_them_is_not_early() -> None:
    assert [go_duration(seconds) for seconds in (0.0001, 0.0201, 59.9999, -3.0)] == ["1ms", "21ms", "1m0s", "0s"]


REQUESTS = Quota("requests", 60, 59, 1.0, "organization", 10.0)
TOKENS = Quota("tokens", 150_000, 149_984, 360.0, "organization", 10.0)


def test_openais_headers() -> None:
    """The sample of the rate limits guide; a second has passed since the limit was met."""
    assert rate_limit_headers("openai", [REQUESTS, TOKENS], NOON, 11.0) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "0s",
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "5m59s",
    }


def test_anthropics_headers() -> None:
    """Limits of prompt and answer apart, as in a recorded answer of 2025-08-21: their sum stands beside them."""
    sent = Quota("input_tokens", 80_000, 79_480, 0.39, "organization", 10.0)
    said = Quota("output_tokens", 16_000, 11_904, 15.4, "organization", 10.0)
    assert rate_limit_headers("anthropic", [REQUESTS, sent, said], NOON, 11.0) == {
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "59",
        "anthropic-ratelimit-requests-reset": "2026-11-21T12:00:11Z",
        "anthropic-ratelimit-input-tokens-limit": "80000",
        "anthropic-ratelimit-input-tokens-remaining": "79000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-21T12:00:11Z",
        "anthropic-ratelimit-output-tokens-limit": "16000",
        "anthropic-ratelimit-output-tokens-remaining": "12000",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-21T12:00:26Z",
        "anthropic-ratelimit-tokens-limit": "96000",
        "anthropic-ratelimit-tokens-remaining": "91000",
        "anthropic-ratelimit-tokens-reset": "2026-11-21T12:00:26Z",
    }


def test_of_several_limits_of_a_kind_the_tightest_is_told() -> None:
    tighter = Quota("tokens", 1_000, 10, 59.4, "user", 10.0)
    headers = rate_limit_headers("openai", [TOKENS, tighter], NOON, 10.0)
    assert headers["x-ratelimit-limit-tokens"] == "1000"
    assert headers["x-ratelimit-remaining-tokens"] == "10"
    assert rate_limit_headers("openai", [], NOON, 10.0) == {}


def words(provider: str, **changes: Any) -> str:
    values: dict[str, Any] = {
        "kind": "tokens",
        "limit": 30_000,
        "used": 14_567,
        "requested": 24_754,
        "scope": "organization",
    }
    values |= {"label": "org-X", "model": "gpt-4o", "wait_s": 18.642} | changes
    body = json.loads(error_body(provider, from_refusal(provider, 429, "tokens", "", 1.0, Excess(**values)), "req_1"))
    return str(body["error"]["message"])


def test_the_words_are_those_that_users_have_reported() -> None:
    """semanser/codel#72, TheR1D/shell_gpt#653, OpenBMB/ChatDev#26; anthropics/claude-code#55132, cline/cline#4351."""
    assert words("openai") == (
        "Rate limit reached for gpt-4o in organization org-X on tokens per min (TPM): Limit 30000, Used 14567, Requested "
        "24754. Please try again in 18.642s. Visit https://platform.openai.com/account/rate-limits to learn more."
    )
    assert words("openai", requested=31_538, wait_s=None) == (
        "Request too large for gpt-4o in organization org-X on tokens per min (TPM): Limit 30000, Requested 31538. The input "
        "or output tokens must be reduced in order to run successfully. Visit "
        "https://platform.openai.com/account/rate-limits to learn more."
    )
    assert words("openai", kind="requests", limit=3, used=3, requested=1, wait_s=20.0).startswith(
        "Rate limit reached for gpt-4o in organization org-X on requests per min (RPM): Limit 3, Used 3, Requested 1. Please "
        "try again in 20s. Visit"
    )
    assert words("anthropic", kind="input_tokens", label="9d50", model="claude-sonnet-4-6") == (
        "This request would exceed your organization's rate limit of 30,000 input tokens per minute (org: 9d50, model: "
        "claude-sonnet-4-6). For details, refer to: https://docs.claude.com/en/api/rate-limits. You can see the response "
        "headers for current usage. Please reduce the prompt length or the maximum tokens requested, or try again later. You "
        "may also contact sales at https://claude.com/contact-sales to discuss your options for a rate limit increase."
    )
    assert words("anthropic", kind="concurrency", limit=1, used=1, requested=1, wait_s=None) == (
        "Number of concurrent connections has exceeded your rate limit. Please try again later or contact sales at "
        "https://www.anthropic.com/contact-sales to discuss your options for a rate limit increase."
    )


def test_limits_that_no_provider_has_are_told_in_the_same_way() -> None:
    assert " for gpt-4o in user alice on " in words("openai", scope="user", label="alice")
    assert " for gpt-4o in feature none on " in words("openai", scope="feature", label=None)
    assert " in organization org-mock on " in words("openai", scope="model", label="gpt-4o")
    assert "exceed your user's rate limit of" in words("anthropic", scope="user", label="alice")
    concurrent = words("openai", kind="concurrency", limit=2, used=2, requested=1, wait_s=None)
    assert " on concurrent requests: Limit 2, Used 2, Requested 1. Visit" in concurrent


# -- over HTTP -------------------------------------------------------------------------------------------------------

DEPLOYMENT = """\
models:
  - name: instant
    profile: instant
    limits: {requests: 300/min, input_tokens: 60000/min, output_tokens: 30000/min}
stack:
  - rate_limits:
      key: {requests: 3/min}
      user: {tokens: 20000/min}
"""


def write(folder: Path) -> str:
    path = folder / "limited.yaml"
    path.write_text(DEPLOYMENT)
    return str(path)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Inside]:
    with instant_app(write(tmp_path)) as inside:
        yield inside


ANSWERED = [
    each for each in BODY_ENDPOINTS if each.model and each.path.endswith(("/completions", "/messages", "/responses"))
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", ANSWERED, ids=lambda endpoint: endpoint.path)
def test_every_answer_of_every_dialect_has_the_headers(app: Inside, endpoint: Any, stream: bool) -> None:
    answers = [app.post(endpoint.path, endpoint.body(stream=stream), {"x-api-key": "sk-1"}) for _ in range(4)]
    answers.append(app.post(endpoint.path, endpoint.body(stream=stream), {"x-mock-error": "500", "x-api-key": "sk-2"}))
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 500]
    prefix = "anthropic-ratelimit-requests-" if endpoint.provider == "anthropic" else "x-ratelimit-"
    suffix = "" if endpoint.provider == "anthropic" else "-requests"
    told = [
        (answer.headers[f"{prefix}limit{suffix}"], answer.headers[f"{prefix}remaining{suffix}"]) for answer in answers
    ]
    assert told == [("3", "2"), ("3", "1"), ("3", "0"), ("3", "0"), ("3", "2")]
    assert 10 < int(answers[3].headers["retry-after"]) <= 20
    assert ("retry-after-ms" in answers[3].headers) == (endpoint.provider == "openai")
    assert "retry-after" not in answers[0].headers
    if endpoint.provider == "openai":
        error = error_of(answers[3].body)
        assert (error.type, error.code, error.param) == ("requests", "rate_limit_exceeded", None)
        assert re.search(r"Limit 3, Used 3, Requested 1\. Please try again in [12]\d(\.\d+)?s\.", error.message)
    else:
        assert json.loads(answers[3].body)["error"]["type"] == "rate_limit_error"


def test_a_request_that_never_fits_is_not_told_when_to_come_back(app: Inside) -> None:
    body = {"model": "instant", "max_tokens": 20_000, "messages": [{"role": "user", "content": "hi"}]}
    answer = app.post("/v1/chat/completions", json.dumps(body).encode())
    assert answer.status == 429
    assert error_of(answer.body).message.startswith(
        "Request too large for instant in user none on tokens per min (TPM)"
    )
    assert "retry-after" not in answer.headers


def test_of_several_answers_to_one_request_the_prompt_counts_once(tmp_path: Path) -> None:
    limits = "requests: 1440/d, tokens: 1440/d, burst: 1d"  # nothing to speak of comes in meanwhile
    (tmp_path / "bare.yaml").write_text(f"models: [{{name: instant, profile: instant, limits: {{{limits}}}}}]")
    body = {"model": "instant", "n": 3, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    with instant_app(str(tmp_path / "bare.yaml")) as app:
        usage = json.loads(app.post("/v1/chat/completions", json.dumps(body).encode()).body)["usage"]
        headers = app.post("/v1/chat/completions", json.dumps(body | {"n": 1}).encode()).headers
    assert usage["completion_tokens"] == 15
    used = usage["total_tokens"] + usage["prompt_tokens"] + 5
    assert int(headers["x-ratelimit-remaining-tokens"]) == 1440 - used
    assert int(headers["x-ratelimit-remaining-requests"]) == 1438


def test_a_models_own_limits_are_told_without_any_policy(tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text(DEPLOYMENT.partition("stack:")[0])
    body = {"model": "instant", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    with instant_app(str(tmp_path / "bare.yaml")) as app:
        answer = app.post("/v1/messages", json.dumps(body).encode())
    names = {name for name in answer.headers if name.startswith("anthropic-ratelimit-")}
    kinds, parts = ("requests", "tokens", "input-tokens", "output-tokens"), ("limit", "remaining", "reset")
    assert names == {f"anthropic-ratelimit-{kind}-{part}" for kind in kinds for part in parts}
    assert answer.headers["anthropic-ratelimit-tokens-limit"] == "90000"


# -- with the providers' own clients -----------------------------------------------------------------------------------


@contextmanager
def served(folder: Path) -> Iterator[MockServer]:
    with serve(write(folder)) as server:
        yield server


@pytest.mark.realtime
def test_openais_client_reads_them_on_success_and_on_refusal(tmp_path: Path) -> None:
    with served(tmp_path) as server, OpenAI(api_key="sk-1", base_url=f"{server.url}/v1", max_retries=0) as client:
        for left in ("2", "1", "0"):
            raw = client.chat.completions.with_raw_response.create(
                model="instant", messages=[{"role": "user", "content": "hi"}], max_tokens=100
            )
            assert raw.headers["x-ratelimit-remaining-requests"] == left
            assert int(raw.headers["x-ratelimit-remaining-tokens"]) <= 20_000 - 100
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="instant", messages=[{"role": "user", "content": "hi"}])
    headers = caught.value.response.headers
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert 18_000 < int(headers["retry-after-ms"]) <= 20_000
    assert (caught.value.type, caught.value.code) == ("requests", "rate_limit_exceeded")


@pytest.mark.realtime
def test_anthropics_client_reads_them_on_success_and_on_refusal(tmp_path: Path) -> None:
    with served(tmp_path) as server, Anthropic(api_key="sk-1", base_url=server.url, max_retries=0) as client:
        for left in ("2", "1", "0"):
            raw = client.messages.with_raw_response.create(
                model="instant", messages=[{"role": "user", "content": "hi"}], max_tokens=100
            )
            assert raw.headers["anthropic-ratelimit-requests-remaining"] == left
            reset = datetime.fromisoformat(raw.headers["anthropic-ratelimit-requests-reset"])
            told_at = datetime.strptime(raw.headers["date"], "%a, %d %b %Y %H:%M:%S %Z").replace(tzinfo=UTC)
            assert abs(reset - told_at - timedelta(seconds=20 * (3 - int(left)))) < timedelta(seconds=4)
        with pytest.raises(anthropic.RateLimitError) as caught:
            client.messages.create(model="instant", messages=[{"role": "user", "content": "hi"}], max_tokens=100)
    assert 18 <= int(caught.value.response.headers["retry-after"]) <= 20


@pytest.mark.realtime
def test_openais_client_comes_back_when_it_is_told_to_and_is_let_in(tmp_path: Path) -> None:
    """With the retries that it does by itself: one is enough."""
    (tmp_path / "limited.yaml").write_text(DEPLOYMENT.partition("stack:")[0].replace("300/min", "30/min, burst: 2s"))
    with serve(str(tmp_path / "limited.yaml")) as server:
        with OpenAI(api_key="sk-1", base_url=f"{server.url}/v1", max_retries=1) as client:
            for _ in range(3):
                client.chat.completions.create(
                    model="instant", messages=[{"role": "user", "content": "hi"}], max_tokens=100
                )
        statuses = [entry["status"] for entry in server.ledger()]
    assert statuses.count(200) == 3
    assert 429 in statuses
    assert all(after == 200 for before, after in pairwise(statuses) if before == 429)
