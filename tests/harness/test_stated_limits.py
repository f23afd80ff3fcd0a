"""What providers' headers say, as their documentation and their users show them."""

from __future__ import annotations

import pytest

from harness.headers import retry_after_s
from harness.reactive.stated_limits import StatedLimits, stated_limits


@pytest.mark.parametrize(
    ("headers", "stated"),
    [
        # OpenAI, Rate limits guide
        (
            {
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-limit-tokens": "150000",
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-remaining-tokens": "149984",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-reset-tokens": "6ms",
            },
            StatedLimits(60, 150_000),
        ),
        # ten thousand a day: one comes back in 8.64 s
        (
            {
                "x-ratelimit-limit-requests": "10000",
                "x-ratelimit-remaining-requests": "9999",
                "x-ratelimit-reset-requests": "8.64s",
            },
            StatedLimits(10_000 / 1440, None),
        ),
        # nothing used, or no reset: as it stands
        ({"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "500"}, StatedLimits(500, None)),
        # Anthropic
        (
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-input-tokens-limit": "30000",
                "anthropic-ratelimit-output-tokens-limit": "8000",
                "anthropic-ratelimit-tokens-limit": "38000",
            },
            StatedLimits(50, 30_000),
        ),
        ({"x-ratelimit-limit-requests": "many", "anthropic-ratelimit-tokens-limit": "-1"}, StatedLimits()),
        ({}, StatedLimits()),
    ],
)
def test_limits_a_minute(headers: dict[str, str], stated: StatedLimits) -> None:
    assert stated_limits(headers) == stated


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "20"}, 20.0),
        ({"retry-after-ms": "1250", "retry-after": "2"}, 1.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-3"}, None),
        ({}, None),
    ],
)
def test_how_long_a_refusal_asks_to_wait(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers) == wait_s
